//! The runner's side of what agents ask: each attempt under way has an entry here, and its own token.

mod routes;

use crate::archive::Bounds;
use crate::attempt::Attempt;
use crate::protocol::{LOG_SLACK, Progress, Report, TAIL, Work};
pub(crate) use routes::reports_alone;
pub use routes::router;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// More files than this in one job's output are an error.
const MAX_FILES: usize = 10_000;

/// Who wants to know how an attempt goes.
pub trait Follower: Send + Sync + 'static {
    /// It has not begun, and why.
    fn waiting(&self, reason: &str);
    /// Its script runs.
    fn started(&self, pid: u32);
    /// It runs without the vGPU that it would rather have had.
    fn without_gpu(&self);
    /// More output; never more than the attempt's limit and a line.
    fn log(&self, bytes: &[u8]);
}

/// What an attempt's agent has said.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub started: Option<Instant>,
    /// The outputs are here, whole.
    pub has_outputs: bool,
    /// Why they were not taken.
    pub refused: Option<String>,
    pub ended: Option<Report>,
}

/// One attempt that an agent may ask about.
pub(crate) struct Entry {
    token: blake3::Hash,
    /// Which of the attempt's agents is listened to.
    agent: Mutex<Option<String>>,
    work: Work,
    folder: Arc<OwnedFd>,
    files: Vec<String>,
    bounds: Bounds,
    /// Bytes of the log that are there.
    log: Mutex<u64>,
    log_limit: u64,
    /// The script is to end.
    is_stopping: AtomicBool,
    /// Counts what has been begun to be sent; only the last counts.
    uploads: Mutex<u64>,
    follower: Arc<dyn Follower>,
    said: watch::Sender<Said>,
}

/// All attempts under way.
#[derive(Default)]
pub struct Desk {
    attempts: Mutex<HashMap<String, Arc<Entry>>>,
}

/// An attempt's entry, for as long as this lives.
pub struct Open {
    desk: Arc<Desk>,
    name: String,
    pub said: watch::Receiver<Said>,
}

impl Open {
    /// Tells the agent, when it is next heard of, to end the script. Kubelet should; it may be slow, or out of reach.
    pub fn stop(&self) {
        if let Some(entry) = self.desk.get(&self.name) {
            entry.is_stopping.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.desk.attempts().remove(&self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

impl Desk {
    fn attempts(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        lock(&self.attempts)
    }

    /// The names of all attempts under way.
    pub fn names(&self) -> HashSet<String> {
        self.attempts().keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Option<Arc<Entry>> {
        self.attempts().get(name).cloned()
    }

    /// Lets the agent that shows `token` ask about an attempt.
    pub fn open(
        self: &Arc<Self>,
        attempt: &Attempt,
        token: &str,
        max_output: u64,
        follower: Arc<dyn Follower>,
    ) -> Open {
        let (sender, said) = watch::channel(Said::default());
        let entry = Entry {
            token: blake3::hash(token.as_bytes()),
            agent: Mutex::new(None),
            work: Work {
                argv: attempt.argv.clone(),
                environment: attempt.environment.clone(),
                secrets: attempt
                    .secrets
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect(),
                log_limit: attempt.log_limit,
                timeout_ms: u64::try_from(attempt.timeout.as_millis()).unwrap_or(u64::MAX),
                term_grace_ms: u64::try_from(attempt.term_grace.as_millis()).unwrap_or(u64::MAX),
            },
            folder: attempt.folder.clone(),
            files: attempt.files.clone(),
            bounds: Bounds {
                bytes: max_output,
                // Folders, too.
                entries: 2 * MAX_FILES,
            },
            log: Mutex::new(0),
            log_limit: attempt.log_limit,
            is_stopping: AtomicBool::new(false),
            uploads: Mutex::new(0),
            follower,
            said: sender,
        };
        self.attempts().insert(attempt.name(), Arc::new(entry));
        Open {
            desk: self.clone(),
            name: attempt.name(),
            said,
        }
    }
}

/// What an agent is told that asks for what is no longer wanted, or never was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Another agent has this attempt.
    Gone,
    /// Something must come before it.
    TooEarly(&'static str),
}

impl Entry {
    fn is_token(&self, token: &str) -> bool {
        // Compares in constant time.
        blake3::hash(token.as_bytes()) == self.token
    }

    /// An agent wants to begin. A pod that is made anew before the script runs has a new one; afterwards there is no second.
    fn begin(&self, agent: &str) -> Result<(), Refusal> {
        let mut current = lock(&self.agent);
        if current.as_deref() != Some(agent) {
            if self.said.borrow().started.is_some() {
                return Err(Refusal::Gone);
            }
            *current = Some(agent.to_owned());
        }
        Ok(())
    }

    fn is_current(&self, agent: &str) -> Result<(), Refusal> {
        match lock(&self.agent).as_deref() == Some(agent) {
            true => Ok(()),
            false => Err(Refusal::Gone),
        }
    }

    fn started(&self, agent: &str, pid: u32, now: Instant) -> Result<(), Refusal> {
        let current = lock(&self.agent);
        if current.as_deref() != Some(agent) {
            return Err(Refusal::Gone);
        }
        let is_new = self.said.send_if_modified(|said| {
            let is_new = said.started.is_none();
            said.started.get_or_insert(now);
            is_new
        });
        drop(current);
        if is_new {
            self.follower.started(pid);
        }
        Ok(())
    }

    /// Takes the part of a piece that is new. The error is where it should begin.
    fn append(&self, offset: u64, piece: &[u8]) -> Result<Progress, Progress> {
        let stop = self.is_stopping.load(Ordering::Relaxed);
        let mut next = lock(&self.log);
        if offset > *next {
            return Err(Progress { next: *next, stop });
        }
        let known = usize::try_from(*next - offset).unwrap_or(usize::MAX);
        let new = piece.get(known..).unwrap_or_default();
        let room = (self.log_limit + LOG_SLACK).saturating_sub(*next);
        let new = &new[..new.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if !new.is_empty() {
            self.follower.log(new);
            *next += new.len() as u64;
        }
        // What is beyond the limit counts as taken: nothing of it is wanted.
        Ok(Progress {
            next: (*next).max(offset + piece.len() as u64),
            stop,
        })
    }

    fn ended(&self, mut report: Report) -> Result<(), Refusal> {
        {
            let said = self.said.borrow();
            let must_have = report.is_success() && report.outputs_error.is_none();
            if must_have && !said.has_outputs && said.refused.is_none() {
                return Err(Refusal::TooEarly("the outputs have not come yet"));
            }
        }
        if report.tail.len() > TAIL {
            let mut from = report.tail.len() - TAIL;
            while !report.tail.is_char_boundary(from) {
                from += 1;
            }
            report.tail.drain(..from);
        }
        self.said.send_if_modified(|said| {
            let is_new = said.ended.is_none();
            if is_new {
                if let (Some(refused), true) = (&said.refused, report.is_success()) {
                    report.outputs_error.get_or_insert(refused.clone());
                }
                said.ended = Some(report);
            }
            is_new
        });
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
