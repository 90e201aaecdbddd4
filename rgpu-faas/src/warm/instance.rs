//! One instance, followed from the runner: its folder, its supervisor, its jobs, its end.

use super::choice::{Failure, Id};
use super::pool::Pool;
use super::protocol::{Command, MARK, Report};
use crate::beneath;
use crate::config::Config;
use crate::function::{Function, Runs, Script};
use crate::runner::engine::{Excess, NotReady, Program, Supervisor};
use crate::runner::environment::{Client, Folder, of_function};
use crate::runner::gpu::{Asker, ask_for};
use crate::runner::{NotPrepared, blocking, processes, reasons, secrets, sight};
use rustix::fs::Mode;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

/// What keeps a Python handler alive.
const BOOTSTRAP: &str = include_str!("bootstrap.py");
/// Its file and that of an inlined handler, in the instance's folder.
const BOOTSTRAP_FILE: &str = "rgpu_warm.py";
const HANDLER_FILE: &str = "handler.py";
/// Where the folder of the job is that it has.
const JOBS: &str = "jobs";

/// What an instance is told.
pub(super) enum Order {
    Job {
        id: String,
        log: OsString,
        line: String,
        reply: oneshot::Sender<Answer>,
    },
    /// To end by itself.
    End,
    /// To end at once; if a job is named, only if it is at work for that.
    Stop(Option<String>),
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Answer {
    Given {
        /// None: it went well.
        error: Option<String>,
        exit_code: Option<i32>,
        tail: String,
    },
    /// The instance ended before it answered.
    Lost(Lost),
}

/// How an instance ended.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub excess: Option<Excess>,
    pub fault: Option<String>,
    pub tail: String,
}

impl Lost {
    fn because(fault: impl Into<String>) -> Lost {
        Lost {
            fault: Some(fault.into()),
            ..Lost::default()
        }
    }

    /// In words.
    pub fn reason(&self, function: &Function) -> String {
        match self {
            Lost {
                excess: Some(excess),
                ..
            } => reasons::of_excess(*excess, function),
            Lost {
                fault: Some(fault), ..
            } => fault.clone(),
            Lost {
                exit_code: Some(code),
                ..
            } => format!("it ended with exit code {code}"),
            Lost {
                signal: Some(signal),
                ..
            } => format!(
                "it was killed by signal {signal}{}",
                reasons::signal_name(*signal)
            ),
            _ => "it ended in an unknown way".into(),
        }
    }
}

/// What the pool and jobs know of an instance.
pub(crate) struct Instance {
    pub(super) id: Id,
    /// Of its folder, its vGPU, and in the environment of its processes, by which they are found after a crash.
    pub(super) name: String,
    folder: PathBuf,
    orders: mpsc::UnboundedSender<Order>,
    pid: OnceLock<u32>,
    device: OnceLock<&'static str>,
}

impl Instance {
    /// Starts one. What becomes of it the pool is told.
    pub(super) fn start(pool: &Arc<Pool>, id: Id) -> Arc<Instance> {
        let (orders, received) = mpsc::unbounded_channel();
        // Without random bytes no name is like no other; the folder that cannot be made says so.
        let name = crate::id::new().map_or_else(|_| "warm".into(), |id| format!("{PREFIX}{id}"));
        let instance = Arc::new(Instance {
            id,
            folder: pool.means.config.work().join(&name),
            name,
            orders,
            pid: OnceLock::new(),
            device: OnceLock::new(),
        });
        let span = tracing::info_span!(parent: None, "instance", function = %pool.function().name, instance = %instance.name);
        let keeper = Keeper {
            pool: pool.clone(),
            instance: instance.clone(),
            job: None,
            is_ready: false,
        };
        pool.runtime.spawn(keeper.keep(received).instrument(span));
        instance
    }

    pub(super) fn order(&self, order: Order) {
        // One that is gone has told the pool, and drops the job's reply.
        let _ = self.orders.send(order);
    }

    pub fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// What it runs on, if servers were asked.
    pub fn device(&self) -> Option<&'static str> {
        self.device.get().copied()
    }

    /// Where the folders of its jobs belong.
    pub fn jobs(&self) -> PathBuf {
        self.folder.join(JOBS)
    }
}

/// What the names of instances begin with.
pub(crate) const PREFIX: &str = "warm-";

/// Ends what instances of a runner that died have left. To be called before anything runs.
pub(crate) fn sweep(config: &Config, patience: Duration) {
    let folders = std::fs::read_dir(config.work())
        .into_iter()
        .flatten()
        .flatten();
    for name in folders.filter_map(|folder| folder.file_name().into_string().ok()) {
        if name.starts_with(PREFIX) && !sweep_one(&name, patience) {
            tracing::error!(instance = %name, "a process of the instance could not be ended");
        }
    }
}

/// Where a runner that died has left the folder of an attempt that an instance of its did.
pub(crate) fn folder_left(config: &Config, attempt: &OsStr) -> Option<PathBuf> {
    let folders = std::fs::read_dir(config.work()).into_iter().flatten();
    let mut found = folders
        .flatten()
        .filter(|folder| {
            folder
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
        })
        .map(|folder| folder.path().join(JOBS).join(attempt));
    found.find(|folder| folder.is_dir())
}

fn sweep_one(name: &str, patience: Duration) -> bool {
    processes::sweep_carrying(&format!("{MARK}={name}"), patience)
}

struct Keeper {
    pool: Arc<Pool>,
    instance: Arc<Instance>,
    /// The job that it has.
    job: Option<(String, oneshot::Sender<Answer>)>,
    is_ready: bool,
}

impl Keeper {
    async fn keep(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let failure = match self.live(&mut orders).await {
            Ok(lost) => {
                let reason = reasons::with_tail(lost.reason(self.pool.function()), &lost.tail);
                if let Some((_, reply)) = self.job.take() {
                    let _ = reply.send(Answer::Lost(lost));
                }
                not_started(&reason, true)
            }
            Err(NotPrepared { reason, retry }) => not_started(&reason, retry),
        };
        // Given while it ended.
        orders.close();
        while let Ok(order) = orders.try_recv() {
            if let Order::Job { reply, .. } = order {
                let _ = reply.send(Answer::Lost(Lost::because("it ended")));
            }
        }
        let (config, name) = (self.pool.means.config.clone(), self.instance.name.clone());
        // A job that is over may take its own folder away in it at the same time.
        let removed =
            blocking(move || beneath::remove(beneath::root(&config.work())?, Path::new(&name)));
        if let Err(error) = removed.await.and_then(|done| done) {
            tracing::warn!(%error, "the instance's folder could not be removed");
        }
        if !self.is_ready {
            tracing::warn!(reason = %failure.reason.lines().next().unwrap_or_default(), "an instance did not become ready");
        }
        self.pool.ended(self.instance.id, failure);
    }

    /// From the start to the end.
    async fn live(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Result<Lost, NotPrepared> {
        let engines = self.pool.means.engines.clone();
        let for_good = |reason: String| NotPrepared {
            reason,
            retry: false,
        };
        let engine = engines.of(self.pool.function()).map_err(for_good)?;
        let local = engine.local().ok_or_else(|| {
            for_good(format!(
                "warm functions do not run with the engine {} yet",
                engine.kind()
            ))
        })?;
        let access = {
            let (_never, mut stop) = watch::channel(None);
            let asker = Asker {
                config: &self.pool.means.config,
                function: self.pool.function(),
                devices: &self.pool.means.devices,
                group: &self.instance.name,
            };
            tokio::select! {
                access = ask_for(asker, &mut stop) => match access {
                    Ok(access) => access?,
                    Err(_) => return Ok(Lost::default()),
                },
                // Before it has begun there is nothing but its end.
                _ = orders.recv() => return Ok(Lost::default()),
            }
        };
        if let Some(device) = access.device() {
            let _ = self.instance.device.set(device);
        }
        let (config, function) = (self.pool.means.config.clone(), self.pool.function().clone());
        let (name, variables) = (self.instance.name.clone(), access.variables());
        let is_from_file = self.pool.is_from_file;
        let program = move || prepare(&config, &function, &name, is_from_file, variables);
        let program = blocking(program).await??;
        let mut supervisor = local.start_instance(&program).await?;
        let followed = self.follow(&mut supervisor, orders).await;
        let was_out_of_memory = supervisor.was_out_of_memory();
        supervisor.end().await;
        // Held until now: the devices are its own for as long as it lives.
        drop(access);
        match followed {
            Ok(Some(mut lost)) => {
                if was_out_of_memory {
                    // The kernel was quicker than the supervisor.
                    let limit = self.pool.function().memory.unwrap_or(0);
                    lost.excess = lost.excess.or(Some(Excess::Memory(limit)));
                }
                return Ok(lost);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the instance's supervisor could not be used"),
        }
        let name = self.instance.name.clone();
        if !matches!(
            blocking(move || sweep_one(&name, Duration::ZERO)).await,
            Ok(true)
        ) {
            tracing::error!("a process of the instance could not be ended");
        }
        Ok(Lost::because(
            "its supervisor was killed; its processes were ended",
        ))
    }

    /// Follows reports and orders to the instance's end; None if its supervisor goes before it says how it ended.
    async fn follow(
        &mut self,
        supervisor: &mut Supervisor,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> io::Result<Option<Lost>> {
        let warm = self.pool.function().warm.as_ref();
        let patience = warm.map_or(Duration::ZERO, |warm| warm.start_timeout);
        let too_late = tokio::time::sleep(patience);
        tokio::pin!(too_late);
        let mut is_late = false;
        let Supervisor { input, output, .. } = supervisor;
        let mut lines = BufReader::new(output).lines();
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return Ok(None) };
                    let lost = self.heard(serde_json::from_str(&line)?);
                    if let Some(mut lost) = lost {
                        if is_late {
                            lost.fault = Some(format!("it was not ready after {patience:?}"));
                        }
                        return Ok(Some(lost));
                    }
                }
                order = orders.recv() => match order {
                    Some(Order::Job { id, log, line, reply }) => {
                        self.job = Some((id.clone(), reply));
                        tell(input, &Command::Job { id, log, line }).await?;
                    }
                    Some(Order::End) => {
                        // What has not begun its work cannot be asked to end it.
                        let how = if self.is_ready { Command::End } else { Command::Stop };
                        tell(input, &how).await?;
                    }
                    Some(Order::Stop(job)) => {
                        let current = self.job.as_ref().map(|(id, _)| id);
                        if job.is_none() || job.as_ref() == current {
                            self.pool.ending(self.instance.id);
                            tell(input, &Command::Stop).await?;
                        }
                    }
                    // Nobody knows of it any more.
                    None => return Ok(None),
                },
                () = &mut too_late, if !self.is_ready && !is_late => {
                    is_late = true;
                    tell(input, &Command::Stop).await?;
                }
            }
        }
    }

    /// How it ended, if that is what the report says.
    fn heard(&mut self, report: Report) -> Option<Lost> {
        match report {
            Report::Started { pid } => {
                let _ = self.instance.pid.set(pid);
            }
            Report::NotStarted { message } => return Some(Lost::because(message)),
            Report::Ready => {
                tracing::info!(pid = self.instance.pid(), "an instance is ready");
                self.is_ready = true;
                self.pool.ready(self.instance.id);
            }
            Report::Answered {
                job,
                error,
                exit_code,
                tail,
            } => {
                if let Some((_, reply)) = self.job.take_if(|(id, _)| *id == job) {
                    // First, so that whoever hears of the job's end finds the instance as it is.
                    self.pool.done(self.instance.id, error.is_none());
                    let _ = reply.send(Answer::Given {
                        error,
                        exit_code,
                        tail,
                    });
                }
            }
            Report::Ended {
                exit_code,
                signal,
                excess,
                fault,
                tail,
            } => {
                return Some(Lost {
                    exit_code,
                    signal,
                    excess,
                    fault,
                    tail,
                });
            }
        }
        None
    }
}

fn not_started(reason: &str, retry: bool) -> Failure {
    Failure {
        reason: format!("the function's instance could not be started: {reason}"),
        retry,
    }
}

impl From<NotReady> for NotPrepared {
    fn from(NotReady { reason, retry }: NotReady) -> NotPrepared {
        NotPrepared { reason, retry }
    }
}

async fn tell(input: &mut ChildStdin, command: &Command) -> io::Result<()> {
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    match input.write_all(&line).await {
        // It has ended, and its last words say how.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Makes the instance's folder and describes what is to be run. `gpu`: the variables that tell of the GPU.
fn prepare(
    config: &Config,
    function: &Arc<Function>,
    name: &str,
    is_from_file: bool,
    gpu: Vec<(&'static str, OsString)>,
) -> Result<Program, NotPrepared> {
    let folder = Folder {
        root: config.work().join(name),
    };
    let work = beneath::root(&config.work())?;
    let root = beneath::make_folder(work, Path::new(name))?;
    for inside in [JOBS, Folder::TEMPORARY] {
        beneath::make_folder(&root, Path::new(inside))?;
    }
    let write = |name: &str, text: &str| -> io::Result<OsString> {
        beneath::create(&root, OsStr::new(name), Mode::from(0o666))?.write_all(text.as_bytes())?;
        Ok(folder.root.join(name).into())
    };
    let in_directory = |words: &[String]| -> Vec<OsString> {
        let mut words: Vec<OsString> = words.iter().map(Into::into).collect();
        if let (Some(program), Some(directory)) = (words.first_mut(), &function.directory)
            && program.as_encoded_bytes().contains(&b'/')
        {
            *program = directory.join(&program).into();
        }
        words
    };
    let argv = match function.warm.as_ref().map(|warm| &warm.runs) {
        Some(Runs::Command(command)) => in_directory(command),
        Some(Runs::Handler(handler)) => {
            let mut argv = match function.command.is_empty() {
                true => vec!["python3".into()],
                false => in_directory(&function.command),
            };
            argv.push(write(BOOTSTRAP_FILE, BOOTSTRAP)?);
            argv.push(match handler {
                Script::File(path) => path.into(),
                Script::Inline(text) => write(HANDLER_FILE, text)?,
            });
            argv
        }
        None => Vec::new(),
    };
    let client = Client {
        group: name,
        job: None,
    };
    let secrets = secrets::read(config, function)?;
    let mut environment = of_function(config, function, client, &folder, secrets, gpu);
    environment.insert(MARK.into(), name.into());
    let sight = sight::of(config, function, is_from_file);
    Ok(Program {
        name: name.to_owned(),
        job: name.to_owned(),
        function: function.clone(),
        argv,
        environment: environment.into_iter().collect(),
        folder: folder.root,
        reads: sight.reads,
        writes: sight.writes,
        library: sight.library,
        // Each job has its own.
        log: PathBuf::new(),
        nice: 0,
    })
}
