//! The execution slot of a device: processes that have kernels to run take it in turns, as a GPU without MPS does.
//!
//! The queue is in the ledger: a waiter draws a ticket and sleeps on its own word; who releases hands the slot to the
//! lowest ticket directly. A holder that died or was stopped is noticed by its waiters, which time out now and then
//! *while they wait*; nobody polls otherwise, and a process with nothing to run holds nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::futex::{self, Scope};
use crate::ledger::{ENTRIES, Ledger, Slot};

/// How long a holder keeps the slot while others wait.
pub const SLICE: Duration = Duration::from_millis(2);
/// Patience before a waiter looks whether the holder is dead, and before it looks whether it is stopped.
const DEAD_AFTER: Duration = Duration::from_millis(8);
const STOPPED_AFTER: Duration = Duration::from_millis(200);

/// The raw slot of one device, across processes.
pub struct SharedSlot {
    ledger: Arc<Ledger>,
    device: usize,
}

impl SharedSlot {
    pub fn new(ledger: Arc<Ledger>, device: usize) -> SharedSlot {
        SharedSlot { ledger, device }
    }

    /// Blocks until this process holds the slot; returns the grant. One thread of the process at a time.
    pub fn acquire(&self) -> u64 {
        let slot = &self.ledger.shared().slots[self.device];
        let mine = self.ledger.mine();
        let me = self.ledger.me;
        let mut waited_for = (0u64, Instant::now());
        loop {
            let wake = mine.wake[self.device].load(SeqCst);
            let holder = slot.holder.load(SeqCst);
            if owner(holder) == Some(me) {
                mine.ticket[self.device].store(0, SeqCst);
                return holder;
            }
            // Not in the queue: just come, or struck off it while stopped.
            if mine.ticket[self.device].load(SeqCst) == 0 {
                let ticket = slot.next_ticket.fetch_add(1, SeqCst).wrapping_add(1).max(1);
                mine.ticket[self.device].store(ticket, SeqCst);
                // The holder that we saw may have left since, and found no ticket.
                continue;
            }
            if owner(holder).is_none() {
                // Free (or nonsense from a damaged file): give it to whoever is first, perhaps us.
                self.pass_on(holder);
                continue;
            }
            if waited_for.0 != holder {
                waited_for = (holder, Instant::now());
            }
            futex::wait(
                &mine.wake[self.device],
                wake,
                Some(DEAD_AFTER),
                Scope::Shared,
            );
            let waited = waited_for.1.elapsed();
            if waited >= DEAD_AFTER && slot.holder.load(SeqCst) == holder {
                let entry = owner(holder).unwrap_or(0);
                if !self.ledger.alive(entry) {
                    self.pass_on(holder);
                } else if waited >= STOPPED_AFTER && self.stopped(entry) {
                    // Perhaps it was stopped in the queue: it must not be next again.
                    self.ledger.shared().entries[entry].ticket[self.device].store(0, SeqCst);
                    self.pass_on(holder);
                }
            }
        }
    }

    /// Ends the turn that began with `grant`. Does nothing when it was taken away meanwhile.
    pub fn release(&self, grant: u64) {
        self.pass_on(grant);
    }

    /// Is the turn still ours? False after others found us stopped.
    pub fn holds(&self, grant: u64) -> bool {
        self.ledger.shared().slots[self.device].holder.load(Relaxed) == grant
    }

    /// Does another process wait?
    pub fn contended(&self) -> bool {
        let me = self.ledger.me;
        let entries = self.ledger.entries();
        entries
            .iter()
            .enumerate()
            .any(|(i, e)| i != me && e.ticket[self.device].load(Relaxed) != 0)
    }

    /// Moves the slot from `from` to the first living waiter, or leaves it free.
    fn pass_on(&self, from: u64) {
        let slot = &self.ledger.shared().slots[self.device];
        let mut from = from;
        loop {
            let next = self.first_waiter();
            let to = next.map_or(0, |entry| grant_after(from, entry));
            // A free slot with the grant number kept is "free" as well: `owner` looks at the lower half alone.
            let to = if to == 0 {
                (from >> 32).wrapping_add(1) << 32
            } else {
                to
            };
            if slot
                .holder
                .compare_exchange(from, to, SeqCst, SeqCst)
                .is_err()
            {
                return;
            }
            if let Some(entry) = next {
                let wake = &self.ledger.shared().entries[entry].wake[self.device];
                wake.fetch_add(1, SeqCst);
                futex::wake(wake, i32::MAX, Scope::Shared);
                return;
            }
            // Free now. Who drew a ticket between our look and the exchange saw us hold the slot and sleeps: look again.
            if self.first_waiter().is_none() {
                return;
            }
            from = to;
        }
    }

    fn first_waiter(&self) -> Option<usize> {
        loop {
            let entries = self.ledger.entries();
            let first = entries
                .iter()
                .enumerate()
                .map(|(i, e)| (e.ticket[self.device].load(SeqCst), i))
                .filter(|(ticket, _)| *ticket != 0)
                .min()?;
            if self.ledger.alive(first.1) {
                // The one who lives may be another than the one who drew the ticket.
                if entries[first.1].ticket[self.device].load(SeqCst) == first.0 {
                    return Some(first.1);
                }
                continue;
            }
            // Its memory is reclaimed by the next look at the ledger; here only its place in the queue goes.
            let _ =
                entries[first.1].ticket[self.device].compare_exchange(first.0, 0, SeqCst, SeqCst);
        }
    }

    fn stopped(&self, entry: usize) -> bool {
        let Some(pid) = self.ledger.pid(entry) else {
            return true;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state follows the last ')': the program's name may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, rest)| {
            matches!(rest.trim_start().as_bytes().first(), Some(b'T' | b't'))
        })
    }
}

impl Slot {
    /// A new process has this entry: a turn that its last owner died in is not the new one's, which may never ask for one.
    pub fn take_from(&self, entry: usize) {
        let holder = self.holder.load(SeqCst);
        if owner(holder) == Some(entry) {
            let free = (holder >> 32).wrapping_add(1) << 32;
            // Whoever was quicker has passed it on.
            let _ = self.holder.compare_exchange(holder, free, SeqCst, SeqCst);
        }
    }
}

fn owner(holder: u64) -> Option<usize> {
    let low = (holder & 0xffff_ffff) as usize;
    (1..=ENTRIES).contains(&low).then(|| low - 1)
}

fn grant_after(previous: u64, entry: usize) -> u64 {
    ((previous >> 32).wrapping_add(1) << 32) | (entry as u64 + 1)
}

/// The slot as the threads of one process use it: all of them run during the process's turn, none outside it.
pub struct Gate {
    slot: SharedSlot,
    state: Mutex<GateState>,
    changed: Condvar,
    /// The turn is over: every thread leaves at its next check.
    revoked: AtomicBool,
    running: AtomicU32,
    /// Nanoseconds of finished turns.
    used: AtomicU64,
}

#[derive(Default)]
struct GateState {
    grant: Option<u64>,
    acquiring: bool,
    since: Option<Instant>,
}

impl Gate {
    pub fn new(slot: SharedSlot) -> Gate {
        Gate {
            slot,
            state: Mutex::default(),
            changed: Condvar::new(),
            revoked: AtomicBool::new(false),
            running: AtomicU32::new(0),
            used: AtomicU64::new(0),
        }
    }

    /// Waits for the process's turn and joins it. Pair with [`Gate::leave`]. Returns when the turn began.
    pub fn enter(&self) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if state.grant.is_some() && !self.revoked.load(Acquire) {
                self.running.fetch_add(1, AcqRel);
                return *state.since.get_or_insert_with(Instant::now);
            }
            if state.grant.is_none() && !state.acquiring {
                state.acquiring = true;
                drop(state);
                let grant = self.slot.acquire();
                state = self.state.lock().unwrap_or_else(|e| e.into_inner());
                state.acquiring = false;
                state.grant = Some(grant);
                state.since = Some(Instant::now());
                self.revoked.store(false, Release);
                self.changed.notify_all();
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    pub fn leave(&self) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if self.running.fetch_sub(1, AcqRel) == 1 {
            if let Some(grant) = state.grant.take() {
                self.slot.release(grant);
            }
            if let Some(since) = state.since.take() {
                self.used
                    .fetch_add(since.elapsed().as_nanos() as u64, Relaxed);
            }
            self.changed.notify_all();
        }
    }

    /// How long this process held the device, the current turn included.
    pub fn used(&self) -> Duration {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let current = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        Duration::from_nanos(self.used.load(Relaxed)) + current
    }

    /// Must the thread leave now? Cheap enough to ask after every few hundred microseconds of work.
    pub fn over(&self, turn: Instant, now: Instant) -> bool {
        if self.revoked.load(Relaxed) {
            return true;
        }
        if now.duration_since(turn) < SLICE {
            return false;
        }
        let lost = || {
            let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
            state.grant.is_none_or(|grant| !self.slot.holds(grant))
        };
        if self.slot.contended() || lost() {
            self.revoked.store(true, Release);
            return true;
        }
        false
    }
}
