//! One attempt of one job: its folder, its process, its end. What follows from the end is the service's business.

pub mod environment;
mod fetch;
pub mod gpu;
mod input;
pub mod log;
pub mod processes;
pub(crate) mod publish;
mod secrets;
pub mod supervise;

use crate::beneath;
use crate::config::Config;
use crate::function::{Function, Script};
use crate::journal::{Job, Journal, JournalError, Outcome};
use crate::outputs::PHASES_FILE;
use crate::payloads::Payloads;
use crate::stores::Stores;
use crate::time::Timestamp;
use environment::{Folder, Given};
use gpu::Devices;
pub(crate) use input::is_file_name;
use rustix::fs::Mode;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervise::{Report, Spec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;

/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
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
    pub stores: Arc<Stores>,
    /// The function whose outputs are this one's inputs.
    pub maker: Option<Arc<Function>>,
}

impl Task {
    fn folder(&self) -> Folder {
        Folder {
            root: self.config.attempt_folder(&self.job.id, self.attempt),
        }
    }

    /// What the attempt says of itself: phases and statistics.
    fn reports(&self) -> (Option<String>, Option<String>) {
        let folder = self.folder();
        let read = |path: &Path| read_report(&open_folder(&folder.root).ok()?, path);
        (
            read(&Path::new(Folder::OUTPUT).join(PHASES_FILE)),
            read(Path::new(Folder::STATS)),
        )
    }
}

/// Runs one attempt. Whatever the end, its processes and its folder are gone when this returns.
pub async fn run(task: Task, stop: watch::Receiver<Option<Stop>>) -> Result<End, JournalError> {
    let end = run_in_folder(&task, stop).await;
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
    // First of all, so that a job that waits for a GPU holds nothing else meanwhile.
    let access = match gpu::ask(task, &mut stop).await {
        Ok(Ok(access)) => access,
        Ok(Err(NotPrepared { reason, retry })) => return Ok(failed(reason, retry)),
        Err(why) => return stopped(why),
    };
    if let Some(device) = access.device() {
        task.journal.note_device(&task.job.id, device)?;
    }
    let (preparing, variables, stopping) = (task.clone(), access.variables(), stop.clone());
    let prepared = blocking(move || prepare(&preparing, variables, &stopping)).await;
    if let Some(why) = *stop.borrow_and_update() {
        return stopped(why);
    }
    let spec = match prepared {
        Ok(Ok(spec)) => spec,
        Ok(Err(NotPrepared { reason, retry })) => return Ok(failed(reason, retry)),
        Err(error) => return Ok(failed(error.to_string(), true)),
    };
    let (report, forced) = match execute(task, &spec, &mut stop).await? {
        Ok(done) => done,
        Err(error) => {
            return Ok(failed(
                format!("the job's supervisor could not be used: {error}"),
                true,
            ));
        }
    };
    let (phases, stats) = task.reports();
    let (exit_code, signal, over_memory, tail) = match report {
        Some(Report::Ended {
            exit_code,
            signal,
            over_memory,
            tail,
        }) => (exit_code, signal, over_memory, tail),
        Some(Report::NotStarted { message }) => return Ok(failed(message, true)),
        Some(Report::Started { .. }) | None => {
            sweep(&task.job.id).await;
            return Ok(failed(
                "the job's supervisor was killed; its processes were ended",
                true,
            ));
        }
    };
    if matches!(task.function.log_level.as_str(), "DEBUG" | "NOTSET") {
        tracing::info!(output = %tail, "last output");
    }
    let outcome = |reason| Outcome {
        reason,
        exit_code,
        signal,
        phases: phases.clone(),
        stats: stats.clone(),
    };
    let because = |reason: String| outcome(Some(with_tail(reason, &tail)));
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
        None => match (over_memory, exit_code, signal) {
            (Some(used), ..) => End::Failed {
                outcome: because(format!(
                    "memory limit exceeded: {} MiB in use, {} MiB allowed",
                    used >> 20,
                    task.function.memory.unwrap_or(0) >> 20
                )),
                retry: true,
            },
            (None, Some(0), _) => publish::publish(task, outcome(None), &mut stop).await?,
            (None, Some(code), _) => End::Failed {
                outcome: because(exit_reason(code)),
                retry: true,
            },
            (None, None, Some(signal)) => End::Failed {
                outcome: because(format!("killed by signal {signal}{}", signal_name(signal))),
                retry: true,
            },
            (None, None, None) => End::Failed {
                outcome: because("the process ended in an unknown way".into()),
                retry: true,
            },
        },
    })
}

enum Forced {
    Stop(Stop),
    Timeout,
}

/// Starts the supervisor and follows it to the end. The inner error is of the supervisor, the outer of the journal.
async fn execute(
    task: &Task,
    spec: &Spec,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<io::Result<(Option<Report>, Option<Forced>)>, JournalError> {
    let spawned = tokio::process::Command::new(&task.config.supervisor)
        .arg("supervise")
        .env_clear()
        .env("JOB_UUID", &task.job.id)
        .current_dir("/")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut supervisor = match spawned {
        Ok(child) => child,
        Err(error) => return Ok(Err(error)),
    };
    let (Some(input), Some(output)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
        return Ok(Err(io::Error::other("no pipes")));
    };
    // However this ends, it lets go of the supervisor's input, upon which the supervisor ends what still runs, and itself.
    let followed = follow(task, spec, stop, input, output).await;
    let _ = supervisor.wait().await;
    if !matches!(followed, Ok(Ok(_))) {
        sweep(&task.job.id).await;
    }
    followed
}

/// Tells the supervisor what to run, and follows its reports to the last.
async fn follow(
    task: &Task,
    spec: &Spec,
    stop: &mut watch::Receiver<Option<Stop>>,
    mut input: ChildStdin,
    output: ChildStdout,
) -> Result<io::Result<(Option<Report>, Option<Forced>)>, JournalError> {
    let bytes = match supervise::write_spec(spec) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.into())),
    };
    if let Err(error) = input.write_all(&bytes).await {
        return Ok(Err(error));
    }
    let mut lines = BufReader::new(output).lines();
    let deadline = tokio::time::sleep(task.function.timeout);
    tokio::pin!(deadline);
    let mut forced = None;
    let mut last = None;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                let report = match serde_json::from_str(&line) {
                    Ok(report) => report,
                    Err(error) => return Ok(Err(error.into())),
                };
                if let Report::Started { pid } = report {
                    task.journal.running(&task.job.id, pid, Timestamp::now())?;
                    tracing::info!(pid, attempt = task.attempt, "running");
                }
                last = Some(report);
            }
            () = &mut deadline, if forced.is_none() => {
                forced = Some(Forced::Timeout);
                let _ = input.write_all(b"stop\n").await;
            }
            Ok(()) = stop.changed(), if forced.is_none() => {
                let asked = *stop.borrow_and_update();
                if let Some(why) = asked {
                    forced = Some(Forced::Stop(why));
                    let _ = input.write_all(b"stop\n").await;
                }
            }
        }
    }
    Ok(Ok((last, forced)))
}

struct NotPrepared {
    reason: String,
    retry: bool,
}

impl From<io::Error> for NotPrepared {
    fn from(error: io::Error) -> Self {
        NotPrepared {
            reason: format!("the job's folder could not be prepared: {error}"),
            retry: true,
        }
    }
}

/// Makes the folder, brings the input, and describes what is to be run. `gpu`: the variables that tell of the GPU.
fn prepare(
    task: &Task,
    gpu: Vec<(&'static str, std::ffi::OsString)>,
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<Spec, NotPrepared> {
    let Task {
        config,
        function,
        job,
        attempt,
        ..
    } = task;
    let folder = task.folder();
    remove_folder(&folder.root)?;
    let (work, name) = place(&folder.root)?;
    let root = beneath::make_folder(work, Path::new(name))?;
    for inside in [Folder::OUTPUT, Folder::TEMPORARY] {
        beneath::make_folder(&root, Path::new(inside))?;
    }
    beneath::make_folder(&root, Path::new(Folder::INPUT))?;
    let brought = input::bring(task, &root, stop)?;
    let given = Given {
        input: brought.input.map(|name| folder.input().join(name)),
        event: brought.event,
        group_file: brought.group_file.map(|name| folder.root.join(name)),
        secrets: secrets::read(config, function)?,
        gpu,
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
    Ok(Spec {
        argv,
        environment: environment::environment(config, function, job, &folder, given),
        folder: folder.root.into(),
        data: config.data.clone().into(),
        log: Config::log(&function.name, &job.id, *attempt).into(),
        log_limit: config.log_limit,
        memory: function.memory,
        nice: task.nice,
        term_grace_ms: TERM_GRACE.as_millis() as u64,
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

/// An attempt's folder.
pub(crate) fn open_folder(root: &Path) -> io::Result<OwnedFd> {
    let (work, name) = place(root)?;
    beneath::folder(work, Path::new(name))
}

/// Removes an attempt's folder, also when the script took away its own permissions.
pub fn remove_folder(root: &Path) -> io::Result<()> {
    let (work, name) = place(root)?;
    beneath::remove(work, Path::new(name))
}

async fn sweep(job: &str) {
    let id = job.to_owned();
    if !matches!(
        blocking(move || processes::sweep(&id, Duration::ZERO)).await,
        Ok(true)
    ) {
        tracing::error!("a process of the job could not be ended");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| io::Error::other(format!("an internal error: {error}")))
}

fn exit_reason(code: i32) -> String {
    match code {
        129..=192 => format!(
            "exit code {code} (as shells report a command killed by signal {}{})",
            code - 128,
            signal_name(code - 128)
        ),
        126 => "exit code 126 (a command cannot be executed)".into(),
        127 => "exit code 127 (a command was not found)".into(),
        _ => format!("exit code {code}"),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// The reason with the last ten lines of output, as an error message is usually there.
fn with_tail(reason: String, tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n");
    if last.trim().is_empty() {
        return reason;
    }
    format!("{reason}; last output:\n{last}")
}
