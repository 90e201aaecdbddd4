//! Supervisors, started and in control groups of their own before there is a job for them: both take longer than most programs' start.

use super::groups::{Group, Groups};
use crate::config::Config;
use crate::function::Function;
use crate::runner::supervise::{self, Spec};
use crate::runner::{blocking, processes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How many wait. Where more jobs start at a time, the others' supervisors are started for them.
const READY: usize = 2;
/// How long a program is given to begin before the next one's supervisor is started, which would be in its way.
const BEGINNING: Duration = Duration::from_millis(25);
/// A variable of supervisors, that says which data folder they are for.
const MARK: &str = "RGPU_FAAS_SUPERVISOR";

/// Where supervisors come from.
#[derive(Debug)]
pub struct Ready {
    config: Arc<Config>,
    /// Limits that the kernel keeps.
    groups: Option<Groups>,
    waiting: Mutex<Vec<Supervisor>>,
    filling: Mutex<()>,
}

/// One, whether or not it has been told what to run. When its input is let go of, it ends everything, and itself.
#[derive(Debug)]
pub struct Supervisor {
    pub child: Child,
    pub input: ChildStdin,
    pub output: ChildStdout,
    /// To be dropped when everything in it has ended.
    pub(super) group: Option<Group>,
}

impl Ready {
    /// Of jobs whose limits the kernel does not keep.
    pub fn new(config: Arc<Config>) -> Ready {
        Ready::limited(config, None)
    }

    /// Of jobs whose limits the kernel keeps by these groups.
    pub(super) fn limited(config: Arc<Config>, groups: Option<Groups>) -> Ready {
        Ready {
            config,
            groups,
            waiting: Mutex::default(),
            filling: Mutex::default(),
        }
    }

    /// A supervisor that has been told what to run.
    pub async fn begin(&self, function: &Function, mut spec: Spec) -> io::Result<Supervisor> {
        loop {
            let waiting = self.waiting().pop();
            let is_new = waiting.is_none();
            let mut supervisor = match waiting {
                Some(supervisor) => supervisor,
                None => self.start()?,
            };
            match supervisor.tell(function, &mut spec).await {
                // Someone has ended it while it waited.
                Err(error) if !is_new && error.kind() == io::ErrorKind::BrokenPipe => {}
                told => return told.map(|()| supervisor),
            }
        }
    }

    /// One for an instance of a warm function.
    pub async fn begin_instance(
        &self,
        function: &Function,
        mut spec: Spec,
        mark: (&str, &str),
    ) -> io::Result<Supervisor> {
        let mut command = self.command();
        command.arg("--warm").env(mark.0, mark.1).kill_on_drop(true);
        let mut supervisor = self.launch(command)?;
        supervisor.tell(function, &mut spec).await?;
        Ok(supervisor)
    }

    /// Starts in a moment what is missing among those that wait.
    pub fn fill(self: &Arc<Self>) {
        if self.waiting().len() < READY {
            let ready = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(BEGINNING).await;
                let _ = tokio::task::spawn_blocking(move || ready.fill_now()).await;
            });
        }
    }

    fn fill_now(&self) {
        let _filling = match self.filling.try_lock() {
            Ok(filling) => filling,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            // Someone else is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        while self.waiting().len() < READY {
            match self.start() {
                Ok(supervisor) => self.waiting().push(supervisor),
                Err(error) => {
                    tracing::warn!(%error, "no supervisor can be started ahead of its job");
                    return;
                }
            }
        }
    }

    /// Lets go of those that wait, and waits for their end.
    pub async fn end(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        for supervisor in waiting {
            supervisor.end().await;
        }
    }

    /// Removes the groups that an earlier runner left, when what was in them has ended.
    pub fn clear(&self) {
        if let Some(groups) = &self.groups {
            groups.clear();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Supervisor>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> io::Result<Supervisor> {
        self.launch(self.command())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.config.supervisor);
        command
            .arg("supervise")
            .env_clear()
            .envs(identity(&self.config).map(|id| (MARK, id)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    fn launch(&self, mut command: Command) -> io::Result<Supervisor> {
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let pid = child.id();
        let taken = self.groups.as_ref().zip(pid).map(|(groups, pid)| {
            let group = groups.make(pid)?;
            group.add(pid).map(|()| group)
        });
        Ok(Supervisor {
            child,
            input,
            output,
            group: kept(taken.transpose()).flatten(),
        })
    }
}

impl Supervisor {
    /// Says what to run, within the function's limits.
    async fn tell(&mut self, function: &Function, spec: &mut Spec) -> io::Result<()> {
        if let Some(group) = &self.group {
            kept(group.limit(function));
        }
        let group = self.group.as_ref().and_then(Group::processes);
        spec.group = group.map(|folder| folder.to_owned().into());
        let spec = supervise::write_spec(spec).map_err(io::Error::from)?;
        self.input.write_all(&spec).await
    }

    /// Lets go of it, and waits for its end. One that was killed may have left something in its group.
    pub async fn end(mut self) {
        drop(self.input);
        let _ = self.child.wait().await;
        let Some(group) = self.group else {
            return;
        };
        if let Err(error) = blocking(move || group.kill()).await {
            tracing::error!(%error, "what a supervisor left could not be ended");
        }
    }

    /// Whether the kernel ended something for its memory.
    pub fn was_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Group::was_out_of_memory)
    }
}

/// Jobs run also where the kernel does not keep their limits.
fn kept<T>(done: io::Result<T>) -> Option<T> {
    done.inspect_err(|error| tracing::warn!(%error, "the kernel does not keep a job's limits"))
        .ok()
}

/// Of the data folder: another's may have the same name where another root is.
fn identity(config: &Config) -> Option<String> {
    let folder = std::fs::metadata(&config.data).ok()?;
    Some(format!("{}:{}", folder.dev(), folder.ino()))
}

/// Waits for the end of the supervisors that a runner of this data folder, which died, has left, for so long; then ends them.
pub fn sweep(config: &Config, patience: Duration) {
    let mark = identity(config).map(|id| format!("{MARK}={id}"));
    if mark.is_some_and(|mark| !processes::sweep_carrying(&mark, patience)) {
        tracing::error!("a supervisor of an earlier runner could not be ended");
    }
}
