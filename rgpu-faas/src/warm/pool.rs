//! The instances of one version of a function: what the choice decides is done here.

use super::choice::{Action, Choice, Failure, Id, State as Is, Ticket};
use super::instance::{Instance, Order};
use crate::config::Config;
use crate::event::Fingerprint;
use crate::function::{Function, Runs, Script, Warm};
use crate::registry::{Entry, Source};
use crate::runner::engine::Engines;
use crate::runner::gpu::Devices;
use crate::time::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};

type Given = Result<Arc<Instance>, Failure>;

/// The handler's file as it was: another one is another version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<Fingerprint>);

impl Stamp {
    pub fn of(function: &Function) -> Stamp {
        let Some(Warm {
            runs: Runs::Handler(Script::File(path)),
            ..
        }) = &function.warm
        else {
            return Stamp(None);
        };
        Stamp(path.metadata().ok().map(|found| Fingerprint::of(&found)))
    }
}

/// What instances are made with.
#[derive(Clone)]
pub(super) struct Means {
    pub config: Arc<Config>,
    pub devices: Arc<Devices>,
    pub engines: Arc<Engines>,
}

pub(super) struct Pool {
    /// Whoever registers a function may be a thread that runs no tasks.
    pub(super) runtime: Handle,
    pub(super) means: Means,
    /// Whether the function is defined by a file of this machine.
    pub(super) is_from_file: bool,
    function: Arc<Function>,
    home: String,
    stamp: Stamp,
    /// The choice's times are since then.
    begun: Instant,
    state: Mutex<State>,
    /// The choice may want to be asked at another time.
    changed: Notify,
    over: watch::Sender<bool>,
}

struct State {
    choice: Choice,
    waiting: HashMap<Ticket, oneshot::Sender<Given>>,
    instances: HashMap<Id, Arc<Instance>>,
}

impl Pool {
    pub fn start(
        runtime: Handle,
        means: Means,
        entry: &Entry,
        warm: &Warm,
        stamp: Stamp,
    ) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            runtime,
            means,
            is_from_file: matches!(entry.source, Source::File(_)),
            function: entry.function.clone(),
            home: entry.owner.clone(),
            stamp,
            begun: Instant::now(),
            state: Mutex::new(State {
                choice: Choice::new(warm.policy(), &entry.owner),
                waiting: HashMap::new(),
                instances: HashMap::new(),
            }),
            changed: Notify::new(),
            over: watch::Sender::new(false),
        });
        pool.runtime.spawn(pool.clone().tend());
        pool
    }

    pub fn function(&self) -> &Arc<Function> {
        &self.function
    }

    pub fn is_of(&self, function: &Function, owner: &str, stamp: &Stamp) -> bool {
        *self.function == *function && self.home == owner && self.stamp == *stamp
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells the choice something, and does what it says.
    fn tell<T>(self: &Arc<Self>, what: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state();
        let value = what(&mut state, self.now());
        self.act(&mut state);
        drop(state);
        self.changed.notify_one();
        value
    }

    fn act(self: &Arc<Self>, state: &mut State) {
        loop {
            let actions = state.choice.decide(self.now());
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Start { id, owner } => {
                        let instance = Instance::start(self, id);
                        tracing::info!(function = %self.function.name, instance = %instance.name, %owner, "an instance is started");
                        state.instances.insert(id, instance);
                    }
                    Action::Assign { ticket, id } => {
                        let waiting = state.waiting.remove(&ticket);
                        let given = match (waiting, state.instances.get(&id)) {
                            (Some(waiting), Some(instance)) => {
                                waiting.send(Ok(instance.clone())).is_ok()
                            }
                            _ => false,
                        };
                        // Whoever waited for it has gone away.
                        if !given {
                            state.choice.give_back(id, self.now());
                        }
                    }
                    Action::End { id } => {
                        if let Some(instance) = state.instances.get(&id) {
                            instance.order(Order::End);
                        }
                    }
                    Action::Refuse { ticket, failure } => {
                        if let Some(waiting) = state.waiting.remove(&ticket) {
                            let _ = waiting.send(Err(failure));
                        }
                    }
                }
            }
        }
    }

    /// Asks the choice again when it wants that, until nothing is left to do.
    async fn tend(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.state();
                self.act(&mut state);
                if state.choice.is_over() {
                    break;
                }
                state.choice.wake_at(self.now())
            };
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep(due.saturating_sub(self.now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.changed.notified() => {}
            }
        }
        self.over.send_replace(true);
    }

    pub fn drain(self: &Arc<Self>) {
        self.tell(|state, _| state.choice.drain());
    }

    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    pub async fn over(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// An instance can take jobs.
    pub fn ready(self: &Arc<Self>, id: Id) {
        self.tell(|state, now| state.choice.ready(id, now));
    }

    /// An instance that works is asked to end.
    pub fn ending(self: &Arc<Self>, id: Id) {
        self.tell(|state, now| state.choice.ending(id, now));
    }

    /// An instance has answered.
    pub fn done(self: &Arc<Self>, id: Id, is_well: bool) {
        self.tell(|state, now| state.choice.done(id, is_well, now));
    }

    /// An instance is gone.
    pub fn ended(self: &Arc<Self>, id: Id, failure: Failure) {
        self.tell(|state, now| {
            state.instances.remove(&id);
            state.choice.ended(id, failure, now);
        });
    }

    pub fn describe(&self) -> Vec<Value> {
        let state = self.state();
        let (now, clock) = (self.now(), Timestamp::now());
        let all = state.choice.instances().iter().map(|(id, it)| {
            let instance = state.instances.get(id);
            let age = now.saturating_sub(it.since).as_micros();
            let since = clock.0 - i64::try_from(age).unwrap_or(0);
            json!({
                "name": instance.map(|it| it.name.as_str()),
                "state": match it.state {
                    Is::Starting => "starting",
                    Is::Idle => "idle",
                    Is::Busy => "busy",
                    Is::Ending => "ending",
                },
                "since": Timestamp(since),
                "jobs": it.jobs,
                "pid": instance.and_then(|it| it.pid()),
                "device": instance.and_then(|it| it.device()),
            })
        });
        all.collect()
    }
}

/// A job's place among those that wait.
pub(crate) struct Place {
    pool: Arc<Pool>,
    ticket: Ticket,
    given: Option<oneshot::Receiver<Given>>,
}

impl Place {
    /// From now on an instance may be started for it.
    pub(super) fn take(pool: &Arc<Pool>, owner: &str, backlog: usize) -> Place {
        let (sender, given) = oneshot::channel();
        let ticket = pool.tell(|state, now| {
            let ticket = state.choice.arrive(owner, backlog, now);
            state.waiting.insert(ticket, sender);
            ticket
        });
        Place {
            pool: pool.clone(),
            ticket,
            given: Some(given),
        }
    }

    /// The input is there: an instance can be given to it.
    pub fn prepared(&self) {
        self.pool
            .tell(|state, _| state.choice.prepared(self.ticket));
    }

    /// Waits for an instance. If this is dropped, the place is given up.
    pub async fn instance(mut self) -> Result<Lease, Failure> {
        let given = match self.given.as_mut() {
            Some(given) => given.await,
            None => return Err(lost()),
        };
        self.given = None;
        let lease = |instance| Lease {
            pool: self.pool.clone(),
            instance,
            is_used: false,
        };
        given.unwrap_or_else(|_| Err(lost())).map(lease)
    }
}

fn lost() -> Failure {
    Failure {
        reason: "an internal error: the place in the queue for an instance was lost".into(),
        retry: true,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(mut given) = self.given.take() else {
            return;
        };
        given.close();
        let instance = given.try_recv().ok().and_then(Result::ok);
        let ticket = self.ticket;
        self.pool.tell(|state, now| {
            state.waiting.remove(&ticket);
            state.choice.leave(ticket);
            if let Some(instance) = instance {
                state.choice.give_back(instance.id, now);
            }
        });
    }
}

/// An instance that works for one job, until it has answered or ended.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    pub instance: Arc<Instance>,
    is_used: bool,
}

impl Lease {
    /// Gives it the job. What becomes of that comes later; the instance is another's as soon as it has answered.
    pub fn give(
        &mut self,
        job: &str,
        log: std::ffi::OsString,
        line: String,
    ) -> oneshot::Receiver<super::Answer> {
        let (reply, answer) = oneshot::channel();
        self.is_used = true;
        self.instance.order(Order::Job {
            id: job.to_owned(),
            log,
            line,
            reply,
        });
        answer
    }

    /// Ends it, if it is still at work for this job.
    pub fn stop(&self, job: &str) {
        self.instance.order(Order::Stop(Some(job.to_owned())));
    }

    /// Ends it before it has got the job: it is of no use to anyone.
    pub fn discard(mut self) {
        self.is_used = true;
        self.pool.ending(self.instance.id);
        self.instance.order(Order::Stop(None));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_used {
            let id = self.instance.id;
            self.pool.tell(|state, now| state.choice.give_back(id, now));
        }
    }
}
