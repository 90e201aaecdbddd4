//! What ties the parts together: registration, submission, the choice of what runs next, and what follows its end.

use crate::apply;
use crate::beneath;
use crate::config::Config;
use crate::event::{self, FileEvent};
use crate::fdl::FdlError;
use crate::function::{self, Function};
use crate::journal::{Filter, Job, Journal, JournalError, Outcome, Submitted};
use crate::precedence::nice_beside;
use crate::registry::{Registered, Registry, Source};
use crate::retry::Decision;
use crate::runner::{self, End, Stop, Task};
use crate::state::JobState;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tracing::Instrument;

/// The states of jobs that have not begun.
const WAITING: [JobState; 2] = [JobState::Submitted, JobState::Queued];
const REMOVED: &str = "the function was removed";
/// Jobs looked at for one function in one round; more wait for the next.
const ROUND: u32 = 1024;

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
    cores: usize,
    /// Something may have become startable.
    wake: Notify,
    /// The functions have changed: their folders must be scanned.
    pub functions_changed: Box<dyn Fn() + Send + Sync>,
}

impl Service {
    pub fn new(
        config: Arc<Config>,
        journal: Arc<Journal>,
        functions_changed: Box<dyn Fn() + Send + Sync>,
    ) -> Service {
        Service {
            config,
            journal,
            registry: Registry::default(),
            running: Mutex::default(),
            publishing: Arc::default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            wake: Notify::new(),
            functions_changed,
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Registers the functions of a request and keeps them; all or none.
    pub fn register_request(&self, text: &str) -> Result<Vec<Arc<Function>>> {
        let functions = function::parse(text, "request", None)?;
        self.prepare(&functions, &Source::Request)?;
        // Each by itself: what came together is replaced and removed one by one.
        let mut kept = Vec::new();
        for function in &functions {
            let definition = apply::definition(function);
            // As written here it may be longer than what came, and too long to be read.
            function::parse(&definition, &function.name, None)?;
            kept.push((function.name.clone(), definition));
        }
        self.journal.save_functions(&kept)?;
        Ok(self.register(functions, "request", Source::Request))
    }

    /// Registers a function that an earlier run kept.
    pub fn register_kept(&self, name: &str, text: &str) -> Result<()> {
        let mut functions = function::parse(text, "journal", None)?;
        // Earlier versions kept all functions of a request with each.
        functions.retain(|function| function.name == name);
        self.prepare(&functions, &Source::Request)?;
        self.register(functions, "journal", Source::Request);
        Ok(())
    }

    /// Checks that the functions may come from this source, and makes their folders.
    fn prepare(&self, functions: &[Function], source: &Source) -> Result<()> {
        for function in functions {
            if let Some(entry) = self.registry.get(&function.name)
                && entry.source != *source
                && let Source::File(path) = entry.source
                // Unless the file has been renamed.
                && path.exists()
            {
                return Err(ServiceError::Conflict(format!(
                    "the function {} is defined by {}; change it there",
                    function.name,
                    path.display()
                )));
            }
            for channel in function.input.iter().chain(&function.output) {
                let storage = self.config.storage();
                std::fs::create_dir_all(&storage)
                    .and_then(|()| beneath::root(&storage))
                    .and_then(|root| beneath::make_folder(root, Path::new(&channel.path)))
                    .map_err(|error| ServiceError::Io {
                        what: format!("cannot make the folder in {}", storage.display()),
                        error,
                    })?;
            }
        }
        Ok(())
    }

    fn register(
        &self,
        functions: Vec<Function>,
        origin: &str,
        source: Source,
    ) -> Vec<Arc<Function>> {
        let mut names = Vec::new();
        let mut changed = false;
        for function in functions {
            names.push(function.name.clone());
            let (name, warnings) = (function.name.clone(), function.warnings.clone());
            let done = self.registry.put(function, source.clone());
            if done != Registered::Unchanged {
                changed = true;
                tracing::info!(function = %name, %origin, ?done, "function registered");
                for warning in warnings {
                    tracing::warn!(function = %name, "{warning}");
                }
            }
        }
        if changed {
            (self.functions_changed)();
            self.wake.notify_one();
        }
        names
            .iter()
            .filter_map(|name| Some(self.registry.get(name)?.function))
            .collect()
    }

    /// Reads a definition file. What it no longer defines is unregistered.
    pub fn register_file(&self, path: &Path) -> Result<Vec<Arc<Function>>> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = read_definition(&absolute)?;
        let origin = path.display().to_string();
        let source = Source::File(absolute.clone());
        let before = self.registry.from_file(&absolute);
        let functions = function::parse(&text, &origin, absolute.parent())?;
        self.prepare(&functions, &source)?;
        let functions = self.register(functions, &origin, source);
        for name in before {
            if functions.iter().all(|function| function.name != name) {
                self.unregister(&name)?;
            }
        }
        Ok(functions)
    }

    /// Takes a function out; its waiting jobs are cancelled, running ones too.
    pub fn unregister(&self, name: &str) -> Result<()> {
        if self.registry.remove(name).is_none() {
            return Err(ServiceError::NoSuchFunction(name.to_owned()));
        }
        self.journal.forget_function(name)?;
        tracing::info!(function = %name, "function removed");
        self.cancel_all(name)
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
                self.journal
                    .finish(&job.id, JobState::Cancelled, &outcome, Timestamp::now())?;
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

    /// Makes a job for every function that wants this file and has none for it yet.
    pub fn submit(&self, event: &FileEvent) -> Result<()> {
        for entry in self.registry.all() {
            let function = &entry.function;
            let key = Path::new(&event.key);
            if !function.input.iter().any(|c| event::matches(c, key)) {
                continue;
            }
            let id = new_id()?;
            if let Submitted::New(job) =
                self.journal
                    .submit(&id, &function.name, event, Timestamp::now())?
            {
                tracing::info!(%job, function = %function.name, input = ?event.key.to_string_lossy(), "submitted");
                // Whoever removed the function meanwhile may not have seen this job.
                if self.registry.get(&function.name).is_none() {
                    self.cancel_all(&function.name)?;
                }
                self.wake.notify_one();
            }
        }
        Ok(())
    }

    /// Whether any function wants a file with this key.
    pub fn wants(&self, key: &Path) -> bool {
        self.registry.all().iter().any(|entry| {
            let mut inputs = entry.function.input.iter();
            inputs.any(|channel| event::matches(channel, key))
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
        self.journal
            .finish(id, JobState::Cancelled, &outcome, Timestamp::now())?;
        tracing::info!(job = %id, "cancelled");
        Ok(JobState::Cancelled)
    }

    /// Starts jobs as they become ready, until told to stop.
    pub async fn dispatch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        loop {
            let next = match self.start_ready() {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "no job can be started; trying again in 1 s");
                    Some(Duration::from_secs(1))
                }
            };
            let pause = async {
                match next {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                () = self.wake.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Starts what can be started, oldest first; how long until a waiting retry is due.
    fn start_ready(self: &Arc<Self>) -> Result<Option<Duration>> {
        for job in self.waiting(None, &[JobState::Submitted])? {
            self.journal.queue(&job.id, Timestamp::now())?;
        }
        let mut candidates = Vec::new();
        for entry in self.registry.all() {
            let name = entry.function.name.clone();
            for job in self.waiting(Some(name), &[JobState::Queued])? {
                candidates.push((entry.function.clone(), job));
            }
        }
        candidates.sort_by_key(|(_, job)| job.t_submitted);
        let now = Timestamp::now();
        let mut next: Option<Duration> = None;
        for (function, job) in candidates {
            if job.not_before > now {
                let wait = job.not_before.since(now);
                next = Some(next.map_or(wait, |least| least.min(wait)));
                continue;
            }
            let (all, of_function) = {
                let running = self.running();
                let of_function = running
                    .values()
                    .filter(|r| r.function == function.name)
                    .count();
                (running.len(), of_function)
            };
            if all >= self.config.max_jobs {
                break;
            }
            if of_function < function.concurrency as usize {
                self.start(function, job)?;
            }
        }
        Ok(next)
    }

    fn waiting(&self, function: Option<String>, states: &[JobState]) -> Result<Vec<Job>> {
        Ok(self.journal.jobs(&Filter {
            function,
            states: states.to_vec(),
            limit: ROUND,
            ..Filter::default()
        })?)
    }

    fn start(self: &Arc<Self>, function: Arc<Function>, job: Job) -> Result<()> {
        let (stop, stopped) = watch::channel(None);
        let mut running = self.running();
        let attempt = match self.journal.start(&job.id, Timestamp::now()) {
            Ok(attempt) => attempt,
            // Cancelled since it was listed.
            Err(JournalError::IllegalChange { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let nice = nice_beside(running.values().map(|job| job.nice), self.cores);
        running.insert(
            job.id.clone(),
            Running {
                function: function.name.clone(),
                nice,
                stop,
            },
        );
        drop(running);
        let span = tracing::info_span!("job", job = %job.id, function = %function.name, attempt);
        let service = self.clone();
        let id = job.id.clone();
        let task = Task {
            config: self.config.clone(),
            journal: self.journal.clone(),
            function,
            job,
            attempt,
            nice,
            publishing: self.publishing.clone(),
        };
        let run = async move {
            let end = runner::run(task.clone(), stopped).await;
            {
                let mut running = service.running();
                let asked = running.remove(&id).and_then(|job| *job.stop.borrow());
                if let Err(error) = end.and_then(|end| service.settle(&task, end, asked)) {
                    tracing::error!(%error, "the journal could not be written; the next start will settle this job");
                }
            }
            service.wake.notify_one();
            // Those who wait for the map to become empty watch the journal.
            service.journal.touch();
        };
        tokio::spawn(run.instrument(span));
        Ok(())
    }

    /// Writes how an attempt ended and what follows. `asked`: a stop that may have come too late for the attempt.
    fn settle(&self, task: &Task, end: End, asked: Option<Stop>) -> Result<(), JournalError> {
        let end = match end {
            End::Failed {
                outcome,
                retry: true,
            } if asked == Some(Stop::Cancel) => End::Stopped {
                why: Stop::Cancel,
                outcome,
            },
            end => end,
        };
        let (id, now) = (&task.job.id, Timestamp::now());
        match end {
            End::Succeeded(outcome) => {
                self.journal
                    .finish(id, JobState::Succeeded, &outcome, now)?;
                tracing::info!("succeeded");
            }
            End::Stopped {
                why: Stop::Cancel,
                outcome,
            } => {
                let reason = match self.registry.get(&task.function.name) {
                    Some(_) => "cancelled on request",
                    None => REMOVED,
                };
                let outcome = Outcome {
                    reason: Some(reason.into()),
                    ..outcome
                };
                self.journal
                    .finish(id, JobState::Cancelled, &outcome, now)?;
                tracing::info!("cancelled");
            }
            End::Stopped {
                why: Stop::Shutdown,
                outcome,
            } => {
                let outcome = Outcome {
                    reason: Some("the runner stopped".into()),
                    ..outcome
                };
                self.journal.requeue(id, &outcome, false, now, now)?;
                tracing::info!("back in the queue: the runner stops");
            }
            End::Failed { outcome, retry } => {
                // The first line: the script's output, which follows it, is for the journal.
                let reason = outcome.reason.as_deref().and_then(|r| r.lines().next());
                let reason = reason.unwrap_or_default().to_owned();
                let policy = &task.function.retry;
                match policy.after_failure(task.job.failures + 1, now) {
                    Decision::RetryAt(at) if retry => {
                        tracing::warn!(%reason, wait = ?at.since(now), "failed; will be tried again");
                        self.journal.requeue(id, &outcome, true, at, now)?;
                    }
                    _ => {
                        tracing::error!(%reason, "failed");
                        self.journal.finish(id, JobState::Failed, &outcome, now)?;
                    }
                }
            }
        }
        Ok(())
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

/// Reads a definition file, bounded.
pub fn read_definition(path: &Path) -> Result<String> {
    let failed = |error| ServiceError::Io {
        what: format!("cannot read {}", path.display()),
        error,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > crate::fdl::MAX_DEFINITION as u64 {
        return Err(failed(std::io::Error::other(format!(
            "{length} bytes; a definition has at most {}",
            crate::fdl::MAX_DEFINITION
        ))));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// A random UUID (version 4).
fn new_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).map_err(|error| {
            ServiceError::Io {
                what: "no random bytes".into(),
                error: error.into(),
            }
        })?;
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Gpu;
    use crate::event::Fingerprint;

    /// The attempt fails by itself, and before that is written someone asks for the job's end.
    #[test]
    fn a_stop_that_comes_too_late_for_the_attempt_ends_the_job() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data: folder.path().to_owned(),
            gpu: Gpu::None,
            variables: Vec::new(),
            max_jobs: 1,
            grace: Duration::ZERO,
            log_limit: 0,
            settle: Duration::ZERO,
            rescan: Duration::ZERO,
            supervisor: "/nonexistent".into(),
        };
        let journal = Journal::open(&config.journal()).unwrap();
        let service = Service::new(config.into(), journal.into(), Box::new(|| {}));
        let definition = "name: f\ncommand: [x]\ninput: [{ path: b/in }]";
        let function = service.register_request(definition).unwrap().remove(0);
        let begin = |name: &str| {
            let event = FileEvent {
                key: format!("b/in/{name}").into(),
                fingerprint: Fingerprint {
                    inode: 1,
                    mtime: 1,
                    size: 1,
                },
                time: Timestamp(1),
            };
            service.submit(&event).unwrap();
            let job = service.waiting(None, &WAITING).unwrap().remove(0);
            service.journal.queue(&job.id, Timestamp(1)).unwrap();
            let attempt = service.journal.start(&job.id, Timestamp(1)).unwrap();
            Task {
                config: service.config.clone(),
                journal: service.journal.clone(),
                function: function.clone(),
                job,
                attempt,
                nice: 0,
                publishing: Arc::default(),
            }
        };
        let settle = |task: &Task, retry, asked| {
            let outcome = Outcome::because("exit code 1");
            service
                .settle(task, End::Failed { outcome, retry }, asked)
                .unwrap();
            let job = service.journal.job(&task.job.id).unwrap().unwrap();
            (job.state, job.reason.unwrap())
        };
        let cancelled = |reason: &str| (JobState::Cancelled, reason.to_owned());
        let ask = Some(Stop::Cancel);
        assert_eq!(settle(&begin("a"), true, None).0, JobState::Queued);
        service.cancel_all("f").unwrap();
        assert_eq!(settle(&begin("b"), false, ask).0, JobState::Failed);
        assert_eq!(
            settle(&begin("c"), true, ask),
            cancelled("cancelled on request")
        );
        let task = begin("d");
        service.unregister("f").unwrap();
        assert_eq!(settle(&task, true, ask), cancelled(REMOVED));
        assert!(service.waiting(None, &WAITING).unwrap().is_empty());
    }
}
