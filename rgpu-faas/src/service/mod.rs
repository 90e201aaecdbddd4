//! What ties the parts together: registration, submission, the choice of what runs next, and what follows its end.

mod dispatch;
mod register;
mod submit;
#[cfg(test)]
mod tests;
mod tidy;

use crate::config::Config;
use crate::event;
use crate::fdl::FdlError;
use crate::function::Mode;
use crate::journal::{Filter, Follower, Job, Journal, JournalError, Next, Outcome};
use crate::payloads::{PayloadError, Payloads};
use crate::registry::Registry;
use crate::runner::Stop;
use crate::runner::engine::{Engine, Engines};
use crate::runner::gpu::Devices;
use crate::state::JobState;
use crate::stores::Stores;
use crate::time::Timestamp;
use crate::warm::Warm;
use dispatch::Queues;
pub use register::read_definition;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
pub use submit::Waiter;
use tokio::sync::{Notify, watch};

/// The states of jobs that have not begun.
const WAITING: [JobState; 2] = [JobState::Submitted, JobState::Queued];
const REMOVED: &str = "the function was removed";
/// Jobs looked at for one function in one round; more wait for the next.
const ROUND: u32 = 1024;
/// So many levels of functions that depend on one another; more are a circle.
const MAX_CHAIN: usize = 32;

/// The service's failures, as its callers tell them apart.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Definition(#[from] FdlError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("there is no function {0}")]
    NoSuchFunction(String),
    #[error("{0}")]
    Conflict(String),
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Refused(String),
    /// Too much at once; later it may go.
    #[error("{0}")]
    Busy(String),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
}

type Result<T, E = ServiceError> = std::result::Result<T, E>;

struct Running {
    function: String,
    nice: u8,
    stop: watch::Sender<Option<Stop>>,
}

/// The runner's state.
pub struct Service {
    pub config: Arc<Config>,
    pub journal: Arc<Journal>,
    pub registry: Registry,
    /// The attempts that are STARTING or RUNNING, by their jobs. Held while a job becomes so or ceases to be, so that whoever holds
    /// it can tell: a job has an attempt that can be stopped, or none and cannot get one.
    running: Mutex<HashMap<String, Running>>,
    publishing: Arc<Mutex<()>>,
    /// Bodies of events.
    pub payloads: Arc<Payloads>,
    devices: Arc<Devices>,
    /// Where jobs run.
    pub engines: Arc<Engines>,
    /// Instances of functions that are kept warm.
    pub warm: Warm,
    queues: Mutex<Queues>,
    /// One registration at a time, so that versions and what is registered agree.
    registering: Mutex<()>,
    /// Calls that wait for a function's jobs, by function.
    waiters: Arc<Mutex<HashMap<String, u32>>>,
    cores: usize,
    /// Something may have become startable.
    wake: Notify,
    /// The functions have changed: their folders must be scanned.
    pub functions_changed: Box<dyn Fn() + Send + Sync>,
    /// The same, for whoever subscribes.
    pub changed: watch::Sender<u64>,
    pub stores: Arc<Stores>,
}

impl Service {
    /// With the places of this machine.
    pub fn new(
        config: Arc<Config>,
        journal: Arc<Journal>,
        functions_changed: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Service> {
        Service::with_places(config, journal, functions_changed, Vec::new())
    }

    /// `places`: where jobs may run beside this machine.
    pub fn with_places(
        config: Arc<Config>,
        journal: Arc<Journal>,
        functions_changed: Box<dyn Fn() + Send + Sync>,
        places: Vec<Arc<dyn Engine>>,
    ) -> Result<Service> {
        let in_folder = |error| ServiceError::Io {
            what: format!("the folder {}", config.payloads().display()),
            error,
        };
        let payloads = Payloads::open(
            config.payloads(),
            config.max_body,
            config.max_payloads,
            |id| journal.needs_payload(id).map_err(std::io::Error::other),
        );
        let queues = Mutex::new(Queues::from_earlier(&journal)?);
        let engines = Engines::find(&config, places).map_err(ServiceError::Refused)?;
        let engines = Arc::new(engines);
        let devices: Arc<Devices> = Arc::default();
        Ok(Service {
            warm: Warm::new(config.clone(), devices.clone(), engines.clone()),
            payloads: payloads.map_err(in_folder)?,
            changed: watch::Sender::new(0),
            stores: Arc::new(Stores::new(&config)),
            queues,
            config,
            journal,
            registry: Registry::default(),
            running: Mutex::default(),
            publishing: Arc::default(),
            devices,
            engines,
            registering: Mutex::default(),
            waiters: Arc::default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            wake: Notify::new(),
            functions_changed,
        })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Ends the jobs of a function that is no more.
    fn cancel_all(&self, function: &str) -> Result<()> {
        let outcome = Outcome::because(REMOVED);
        loop {
            // Locked until these are final, so that none of them begins meanwhile.
            let running = self.running();
            for job in running.values().filter(|job| job.function == function) {
                job.stop.send_replace(Some(Stop::Cancel));
            }
            let waiting = self.waiting(Some(function.to_owned()), &WAITING)?;
            if waiting.is_empty() {
                return Ok(());
            }
            for job in waiting {
                let next = self.next(function, &job.id, JobState::Cancelled)?;
                self.finish(&job.id, JobState::Cancelled, &outcome, &next)?;
            }
        }
    }

    /// Ends the jobs that wait for functions which nothing defines any more. To be called at the start, with everything registered.
    pub fn cancel_orphans(&self) -> Result<()> {
        for function in self.journal.awaited_functions()? {
            if self.registry.get(&function).is_none() {
                tracing::warn!(%function, "no longer defined; its waiting jobs are cancelled");
                self.cancel_all(&function)?;
            }
        }
        Ok(())
    }

    /// Whether any function wants a file with this key.
    pub fn wants(&self, key: &Path) -> bool {
        self.registry.all().iter().any(|entry| {
            let mut inputs = entry.function.input.iter();
            inputs.any(|it| it.is_embedded() && event::matches(it, key))
        })
    }

    /// Asks for a job's end. The state that it has now: CANCELLED, or still STARTING or RUNNING for a moment.
    pub fn cancel(&self, id: &str) -> Result<JobState> {
        // Locked to the end, so that a waiting job does not begin meanwhile.
        let running = self.running();
        if let Some(running) = running.get(id) {
            running.stop.send_replace(Some(Stop::Cancel));
            return Ok(JobState::Running);
        }
        let outcome = Outcome::because("cancelled on request");
        let job = self.journal.job(id)?;
        let function = job.map(|job| job.function).unwrap_or_default();
        let next = self.next(&function, id, JobState::Cancelled)?;
        self.finish(id, JobState::Cancelled, &outcome, &next)?;
        tracing::info!(job = %id, "cancelled");
        Ok(JobState::Cancelled)
    }

    /// What follows the end of a job of this function: nothing, unless other functions depend on it.
    pub(crate) fn next(&self, function: &str, id: &str, to: JobState) -> Result<Next> {
        let followers = |function: &str, mode| {
            let all = self.registry.all().into_iter();
            let of = all.filter(|entry| {
                let on = entry.function.depends_on.as_ref();
                on.is_some_and(|on| on.function == function && on.mode == mode)
            });
            of.map(|entry| Follower {
                function: entry.function.name.clone(),
                priority: entry.function.priority,
                all: Vec::new(),
            })
            .collect::<Vec<_>>()
        };
        let mut next = Next {
            all: followers(function, Mode::WhenAll),
            ..Next::default()
        };
        if to == JobState::Succeeded {
            next.each = followers(function, Mode::EachFile);
        }
        for each in &mut next.each {
            each.all = followers(&each.function, Mode::WhenAll);
        }
        if !next.each.is_empty() {
            let keys = self.journal.outputs_of(id)?;
            next.files = crate::outputs::fingerprints(&self.config.storage(), keys);
            next.objects = self.journal.objects_of(id)?;
        }
        Ok(next)
    }

    /// Ends a job, and has what follows considered.
    pub(crate) fn finish(
        &self,
        id: &str,
        to: JobState,
        outcome: &Outcome,
        next: &Next,
    ) -> Result<(), JournalError> {
        let made = self
            .journal
            .finish_with(id, to, outcome, next, Timestamp::now())?;
        if made > 0 {
            tracing::info!(job = %id, jobs = made, "others follow");
            self.wake.notify_one();
        }
        Ok(())
    }

    fn waiting(&self, function: Option<String>, states: &[JobState]) -> Result<Vec<Job>> {
        Ok(self.journal.jobs(&Filter {
            function,
            states: states.to_vec(),
            limit: ROUND,
            ..Filter::default()
        })?)
    }

    /// Waits until nothing runs, at most for `grace`, then ends what still does and waits for that.
    pub async fn drain(&self, grace: Duration) {
        let idle = self.idle();
        if tokio::time::timeout(grace, idle).await.is_ok() {
            return;
        }
        for (job, running) in self.running().iter() {
            tracing::info!(%job, function = %running.function, "ending, as the runner stops");
            running.stop.send_replace(Some(Stop::Shutdown));
        }
        self.idle().await;
    }

    async fn idle(&self) {
        let mut changes = self.journal.changes();
        loop {
            changes.mark_unchanged();
            if self.running().is_empty() || changes.changed().await.is_err() {
                return;
            }
        }
    }
}
