//! Who waits for a place, and who is next: classes in their order, and within a class the tenants in turn, each of which has its sessions served as they
//! came. (Start-time fair queueing: a session's turn is one later than its tenant's last, and none lies before the turn that was served last.)

use std::cmp::Reverse;
use std::collections::HashMap;

use rgpu_proto::control::Priority;

use crate::profile::{Denied, Lacks};

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub all: usize,
    pub of_tenant: usize,
}

/// One that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiter {
    ticket: u64,
    tenant: String,
    priority: Priority,
    turn: u64,
}

/// What those ahead wait for: nobody behind them gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    pub place: bool,
    pub room: bool,
}

/// Why a session may not even wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    #[error("{0} of the tenant's sessions wait already, as many as may")]
    OfTenant(usize),
    #[error("{0} sessions wait already, as many as may")]
    All(usize),
}

#[derive(Debug, Default)]
pub struct Queue {
    waiters: Vec<Waiter>,
    /// The turn of whom was served last, by class.
    now: HashMap<Priority, u64>,
    next: u64,
}

impl Queue {
    /// Puts a session of the tenant at its place; its ticket. It may be more than may wait until it has been tried: see [`Queue::check`].
    pub fn join(&mut self, tenant: &str, priority: Priority) -> u64 {
        self.next += 1;
        let last = self.of(tenant, priority).map(|it| it.turn + 1).max();
        let now = self.now.get(&priority).copied().unwrap_or(0);
        // Who was served just now has had its turn.
        let turn = last.unwrap_or(0).max(now);
        self.waiters.push(Waiter {
            ticket: self.next,
            tenant: tenant.to_owned(),
            priority,
            turn,
        });
        self.next
    }

    fn of<'a>(&'a self, tenant: &'a str, priority: Priority) -> impl Iterator<Item = &'a Waiter> {
        let of = move |it: &&Waiter| it.tenant == tenant && it.priority == priority;
        self.waiters.iter().filter(of)
    }

    /// Whether so many may wait.
    pub fn check(&self, tenant: &str, bounds: Bounds) -> Result<(), QueueFull> {
        let of_tenant = self.waiters.iter().filter(|it| it.tenant == tenant).count();
        if of_tenant > bounds.of_tenant {
            return Err(QueueFull::OfTenant(bounds.of_tenant));
        }
        if self.waiters.len() > bounds.all {
            return Err(QueueFull::All(bounds.all));
        }
        Ok(())
    }

    /// It does not wait any more; its tenant's others move up.
    pub fn leave(&mut self, ticket: u64) {
        let Some(at) = self.waiters.iter().position(|it| it.ticket == ticket) else {
            return;
        };
        let gone = self.waiters.remove(at);
        let now = self.now.get(&gone.priority).copied().unwrap_or(0);
        let of = |it: &&mut Waiter| it.tenant == gone.tenant && it.priority == gone.priority;
        for other in self.waiters.iter_mut().filter(of) {
            if other.turn > gone.turn {
                other.turn = (other.turn - 1).max(now);
            }
        }
    }

    /// The tickets, who is next first.
    pub fn order(&self) -> Vec<u64> {
        let mut order: Vec<&Waiter> = self.waiters.iter().collect();
        order.sort_by_key(|it| (Reverse(it.priority), it.turn, it.ticket));
        order.into_iter().map(|it| it.ticket).collect()
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Tries all in their order. Who is admitted, or never can be, waits no more, and is returned. What one lacks that is everybody's, those behind do not
    /// get; what only its tenant lacks holds nobody else up.
    pub fn serve<G>(
        &mut self,
        mut admit: impl FnMut(u64, Ahead) -> Result<G, Denied>,
    ) -> Vec<(u64, Result<G, Denied>)> {
        let mut done = Vec::new();
        let mut ahead = Ahead::default();
        for ticket in self.order() {
            match admit(ticket, ahead) {
                Ok(grant) => {
                    self.served(ticket);
                    done.push((ticket, Ok(grant)));
                }
                Err(denied) => match denied.lacks() {
                    Lacks::Own => {}
                    Lacks::Place => ahead.place = true,
                    Lacks::Room => ahead.room = true,
                    Lacks::Sense => {
                        self.leave(ticket);
                        done.push((ticket, Err(denied)));
                    }
                },
            }
        }
        done
    }

    fn served(&mut self, ticket: u64) {
        let Some(at) = self.waiters.iter().position(|it| it.ticket == ticket) else {
            return;
        };
        let gone = self.waiters.remove(at);
        let now = self.now.entry(gone.priority).or_default();
        *now = (*now).max(gone.turn);
        let mut of = self.waiters.iter();
        if !of.any(|it| it.priority == gone.priority) {
            // Nobody waits: nobody has had more turns than others.
            self.now.remove(&gone.priority);
        }
    }
}
