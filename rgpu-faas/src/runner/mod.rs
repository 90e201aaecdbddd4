//! One attempt of one job: its folder, its process, its end. What follows from the end is the service's business.

pub mod engine;
pub mod environment;
mod fetch;
pub mod gpu;
mod input;
pub(crate) mod limits;
pub mod log;
pub mod processes;
pub(crate) mod publish;
pub(crate) mod reasons;
pub(crate) mod secrets;
pub(crate) mod sight;
pub mod supervise;
mod warm;

use crate::beneath;
use crate::config::Config;
use crate::function::{Function, Script};
use crate::journal::{Job, Journal, JournalError, Outcome};
use crate::outputs::PHASES_FILE;
use crate::payloads::Payloads;
use crate::stores::Stores;
use crate::time::Timestamp;
use crate::trace;
use crate::warm::Claim;
use engine::{Engines, Failure, Following, Forced, Kind, Note, Program, Ran};
use environment::{Folder, Given};
use gpu::{Access, Devices};
use input::Brought;
pub(crate) use input::is_file_name;
use rustix::fs::Mode;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Longer statistics or phase reports are not kept, in bytes.
const MAX_REPORT: u64 = 256 << 10;

/// Why a running attempt is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Someone asked for it: the job becomes CANCELLED.
    Cancel,
    /// The runner stops: the job goes back into the queue.
    Shutdown,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    /// The script ended with 0 and its outputs are published.
    Succeeded(Outcome),
    /// It failed; `retry`: whether another try could help.
    Failed { outcome: Outcome, retry: bool },
    /// It was ended from outside.
    Stopped { why: Stop, outcome: Outcome },
}

fn failed(reason: impl Into<String>, retry: bool) -> End {
    End::Failed {
        outcome: Outcome::because(reason),
        retry,
    }
}

/// What an attempt works with.
#[derive(Clone)]
pub struct Task {
    pub config: Arc<Config>,
    pub journal: Arc<Journal>,
    pub function: Arc<Function>,
    /// The job as it was when the attempt began.
    pub job: Job,
    pub attempt: u32,
    /// The nice value of its processes.
    pub nice: u8,
    /// Held from the choice of outputs' names until the last has its name, so that jobs publish in the order in which they chose.
    pub publishing: Arc<Mutex<()>>,
    pub payloads: Arc<Payloads>,
    /// Which devices jobs use that asked for a number of them.
    pub devices: Arc<Devices>,
    /// Whether its function is defined by a file of this machine, whose writer may show jobs what they like.
    pub is_from_file: bool,
    /// Where it may run.
    pub engines: Arc<Engines>,
    /// Who runs it, if its function is kept warm.
    pub warm: Option<Claim>,
    /// The attempt's folder, where that is not its usual place.
    pub moved: Option<PathBuf>,
    pub stores: Arc<Stores>,
    /// The function whose outputs are this one's inputs.
    pub maker: Option<Arc<Function>>,
}

impl Task {
    fn folder(&self) -> Folder {
        let usual = || self.config.attempt_folder(&self.job.id, self.attempt);
        Folder {
            root: self.moved.clone().unwrap_or_else(usual),
        }
    }

    fn open_folder(&self) -> io::Result<OwnedFd> {
        open_folder(&self.config.data, &self.folder().root)
    }

    /// What the attempt says of itself: phases and statistics.
    fn reports(&self) -> (Option<String>, Option<String>) {
        let read = |path: &Path| read_report(&self.open_folder().ok()?, path);
        (
            read(&Path::new(Folder::OUTPUT).join(PHASES_FILE)),
            read(Path::new(Folder::STATS)),
        )
    }
}

/// Runs one attempt. Whatever the end, its processes and its folder are gone when this returns.
pub async fn run(task: Task, stop: watch::Receiver<Option<Stop>>) -> Result<End, JournalError> {
    let end = match (&task.warm, &task.function.warm) {
        (Some(claim), _) => warm::run(&task, claim, stop).await,
        (None, Some(_)) => Ok(failed(
            "no instance is started any more: the runner stops",
            true,
        )),
        (None, None) => run_in_folder(&task, stop).await,
    };
    let root = task.folder().root;
    if let Err(error) = blocking(move || remove_folder(&root)).await {
        tracing::warn!(%error, "the job's folder could not be removed");
    }
    end
}

async fn run_in_folder(
    task: &Task,
    mut stop: watch::Receiver<Option<Stop>>,
) -> Result<End, JournalError> {
    let stopped = |why| {
        Ok(End::Stopped {
            why,
            outcome: Outcome::default(),
        })
    };
    let engine = match task.engines.of(&task.function) {
        Ok(engine) => engine,
        Err(reason) => return Ok(failed(reason, false)),
    };
    // First of all, so that a job that waits for a GPU holds nothing else meanwhile. In a cluster its device plugin does that.
    let access = match engine.kind() {
        Kind::Kubernetes => Access::Open,
        _ => match gpu::ask(task, &mut stop).await {
            Ok(Ok(access)) => access,
            Ok(Err(NotPrepared { reason, retry })) => return Ok(failed(reason, retry)),
            Err(why) => return stopped(why),
        },
    };
    if let Some(device) = access.device() {
        task.journal.note_device(&task.job.id, device)?;
    }
    let (preparing, variables, stopping) = (task.clone(), access.variables(), stop.clone());
    let prepared = blocking(move || prepare(&preparing, variables, &stopping)).await;
    if let Some(why) = *stop.borrow_and_update() {
        return stopped(why);
    }
    let program = match prepared {
        Ok(Ok(program)) => program,
        Ok(Err(NotPrepared { reason, retry })) => return Ok(failed(reason, retry)),
        Err(error) => return Ok(failed(error.to_string(), true)),
    };
    let following = Following {
        timeout: Some(task.function.timeout),
        stop: &mut stop,
        started: &|pid| {
            let now = Timestamp::now();
            task.journal.running(&task.job.id, pid.unwrap_or(0), now)?;
            tracing::info!(pid, attempt = task.attempt, "running");
            Ok(())
        },
        note: &|note| match note {
            Note::Waiting(reason) => task.journal.note_waiting(&task.job.id, reason),
            Note::WithoutGpu => task.journal.note_device(&task.job.id, "cpu"),
        },
    };
    let ran = match engine.run(&program, following).await {
        Ok(ran) => ran,
        Err(Failure::Journal(error)) => return Err(error),
        Err(Failure::Place(error)) => {
            return Ok(failed(
                format!("the job's supervisor could not be used: {error}"),
                true,
            ));
        }
    };
    let (phases, stats) = task.reports();
    let (exit_code, signal, excess, tail, forced) = match ran {
        Ran::Ended {
            exit_code,
            signal,
            excess,
            tail,
            forced,
        } => (exit_code, signal, excess, tail, forced),
        Ran::NotStarted { reason, retry } => return Ok(failed(reason, retry)),
        Ran::Stopped(why) => return stopped(why),
        Ran::Lost => {
            return Ok(failed(
                "the job's supervisor was killed; its processes were ended",
                true,
            ));
        }
    };
    if matches!(task.function.log_level.as_str(), "DEBUG" | "NOTSET") {
        tracing::info!(output = ?tail, "last output");
    }
    let outcome = |reason| Outcome {
        reason,
        exit_code,
        signal,
        phases: phases.clone(),
        stats: stats.clone(),
    };
    let because = |reason: String| outcome(Some(reasons::with_tail(reason, &tail)));
    Ok(match forced {
        Some(Forced::Stop(why)) => End::Stopped {
            why,
            outcome: outcome(None),
        },
        Some(Forced::Timeout) => End::Failed {
            outcome: because(format!(
                "time limit of {:?} exceeded",
                task.function.timeout
            )),
            retry: true,
        },
        None => match (excess, exit_code, signal) {
            (Some(excess), ..) => End::Failed {
                outcome: because(reasons::of_excess(excess, &task.function)),
                retry: true,
            },
            (None, Some(0), _) => publish::publish(task, outcome(None), &mut stop).await?,
            (None, Some(code), _) => End::Failed {
                outcome: because(reasons::of_exit(code, engine.kind())),
                retry: true,
            },
            (None, None, Some(signal)) => End::Failed {
                outcome: because(format!(
                    "killed by signal {signal}{}",
                    reasons::signal_name(signal)
                )),
                retry: true,
            },
            (None, None, None) => End::Failed {
                outcome: because("the process ended in an unknown way".into()),
                retry: true,
            },
        },
    })
}

pub(crate) struct NotPrepared {
    pub reason: String,
    pub retry: bool,
}

impl From<io::Error> for NotPrepared {
    fn from(error: io::Error) -> Self {
        NotPrepared {
            reason: format!("the folder could not be prepared: {error}"),
            retry: true,
        }
    }
}

/// Makes the folder and brings the input.
fn furnish(
    task: &Task,
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<(OwnedFd, Brought), NotPrepared> {
    let folder = task.folder();
    remove_folder(&folder.root)?;
    let (work, name) = place(&folder.root)?;
    let root = beneath::make_folder(work, Path::new(name))?;
    for inside in [Folder::OUTPUT, Folder::TEMPORARY, Folder::INPUT] {
        beneath::make_folder(&root, Path::new(inside))?;
    }
    let brought = input::bring(task, &root, stop)?;
    Ok((root, brought))
}

/// Makes the folder, brings the input, and describes what is to be run. `gpu`: the variables that tell of the GPU.
fn prepare(
    task: &Task,
    gpu: Vec<(&'static str, std::ffi::OsString)>,
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<Program, NotPrepared> {
    let Task {
        config,
        function,
        job,
        attempt,
        ..
    } = task;
    let folder = task.folder();
    let (root, brought) = furnish(task, stop)?;
    let given = Given {
        secrets: secrets::read(config, function)?,
        trace: match config.traces {
            true => trace::parent_of_attempt(&task.journal, job, *attempt).ok(),
            false => None,
        },
        gpu,
        ..brought.given(&folder)
    };

    let mut argv: Vec<std::ffi::OsString> = function.command.iter().map(Into::into).collect();
    if argv.is_empty() {
        argv.push("/bin/sh".into());
    } else if let Some(directory) = &function.directory
        && function.command[0].contains('/')
    {
        argv[0] = directory.join(&function.command[0]).into();
    }
    match &function.script {
        Some(Script::File(path)) => argv.push(path.into()),
        Some(Script::Inline(text)) => {
            let name = OsStr::new(Folder::SCRIPT);
            beneath::create(&root, name, Mode::from(0o666))?.write_all(text.as_bytes())?;
            argv.push(folder.script().into());
        }
        None => {}
    }
    let sight = sight::of(config, function, task.is_from_file);
    Ok(Program {
        name: format!("{}-{attempt}", job.id),
        job: job.id.clone(),
        function: function.clone(),
        argv,
        environment: environment::environment(config, function, job, &folder, given),
        folder: folder.root,
        reads: sight.reads,
        writes: sight.writes,
        library: sight.library,
        log: Config::log(&function.name, &job.id, *attempt),
        nice: task.nice,
    })
}

/// A small JSON file that the job wrote, if it is one.
fn read_report(folder: &OwnedFd, path: &Path) -> Option<String> {
    let mut text = String::new();
    beneath::open(folder, path)
        .ok()?
        .take(MAX_REPORT + 1)
        .read_to_string(&mut text)
        .ok()?;
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    if text.len() as u64 > MAX_REPORT || !is_json {
        tracing::warn!(file = %path.display(), "not kept: no JSON, or more than {MAX_REPORT} bytes");
        return None;
    }
    Some(text)
}

/// The folder of all attempts, and the name of this one's there. Only what lies above the former is the operator's.
fn place(root: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(work), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let (Some(data), Some(work)) = (work.parent(), work.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let work = beneath::make_folder(beneath::root(data)?, Path::new(work))?;
    Ok((work, name))
}

/// Opens an attempt's folder. What lies above the data folder is the operator's, and nothing below it is followed if it is a link.
fn open_folder(data: &Path, folder: &Path) -> io::Result<OwnedFd> {
    let inside = folder.strip_prefix(data).map_err(io::Error::other)?;
    beneath::folder(beneath::root(data)?, inside)
}

/// Removes an attempt's folder, also when the script took away its own permissions.
pub fn remove_folder(root: &Path) -> io::Result<()> {
    let (work, name) = place(root)?;
    beneath::remove(work, Path::new(name))
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| io::Error::other(format!("an internal error: {error}")))
}
