//! Programs as processes of this machine, each below a supervisor of its own.

use super::groups::{Group, process_limit_hit};
use super::podman::{self, Podman};
use super::ready::{Ready, Supervisor};
use super::sandbox::Sandbox;
use super::{
    Choice, Engine, Excess, Failure, Following, Forced, Kind, Later, NotReady, Program, Ran,
};
use crate::config::Config;
use crate::function::Function;
use crate::runner::supervise::{self, Report, Spec};
use crate::runner::{Stop, blocking, processes};
use crate::warm::protocol as warm;
use rustix::process::Signal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;

/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long podman may take to put a container away that has ended.
const PODMAN_GRACE: Duration = Duration::from_secs(10);

/// Processes of this machine.
pub struct Local {
    config: Arc<Config>,
    wrapping: Wrapping,
    ready: Arc<Ready>,
}

/// What is around a program.
enum Wrapping {
    Nothing,
    Sandbox(Sandbox),
    Podman(Podman),
}

impl Local {
    /// Processes as they are, with the daemon's rights.
    pub fn process(config: Arc<Config>, ready: Arc<Ready>) -> Local {
        Local {
            config,
            wrapping: Wrapping::Nothing,
            ready,
        }
    }

    /// Processes in bubblewrap's namespaces; why not, if they do not work here.
    pub fn sandbox(config: Arc<Config>, ready: Arc<Ready>) -> Result<Local, String> {
        Ok(Local {
            wrapping: Wrapping::Sandbox(Sandbox::open(config.clone())?),
            config,
            ready,
        })
    }

    /// Processes in podman's containers; why not, if they do not work here.
    pub fn podman(config: Arc<Config>) -> Result<Local, String> {
        let podman = Podman::open(config.clone())?;
        if config.engine == Choice::Podman {
            // What every job needs is looked at now.
            podman.look()?;
        }
        Ok(Local {
            wrapping: Wrapping::Podman(podman),
            // The limits are podman's.
            ready: Arc::new(Ready::new(config.clone())),
            config,
        })
    }

    /// Starts a program's supervisor, which starts the program. When the handle is dropped, all of it is ended.
    pub async fn start(&self, program: &Program) -> Result<Started, NotReady> {
        self.ready(program).await?;
        self.begin(program).await
    }

    /// Sees to what must be here before. When the future is dropped, nothing goes on.
    async fn ready(&self, program: &Program) -> Result<(), NotReady> {
        match &self.wrapping {
            Wrapping::Podman(podman) => podman.ready(program).await,
            Wrapping::Nothing | Wrapping::Sandbox(_) => Ok(()),
        }
    }

    async fn begin(&self, program: &Program) -> Result<Started, NotReady> {
        let spec = self.spec(program)?;
        let supervisor = self.ready.begin(&program.function, spec).await?;
        Ok(Started::of(supervisor))
    }

    /// Starts the supervisor of a warm function's instance, which starts the program and follows it in a longer way of speaking.
    pub async fn start_instance(&self, program: &Program) -> Result<Supervisor, NotReady> {
        if let Wrapping::Podman(_) = &self.wrapping {
            // A descriptor does not get into a container by itself.
            let reason = "warm functions do not run in podman's containers yet: write `engine: process` or `sandbox`".into();
            return Err(NotReady {
                reason,
                retry: false,
            });
        }
        let spec = self.spec(program)?;
        let mark = (warm::MARK, program.job.as_str());
        let begun = self.ready.begin_instance(&program.function, spec, mark);
        Ok(begun.await?)
    }

    /// What the supervisor is told.
    fn spec(&self, program: &Program) -> Result<Spec, NotReady> {
        let place = &program.function.place;
        let (wrapper, left_grace) = match &self.wrapping {
            Wrapping::Nothing => (None, supervise::LEFT_GRACE),
            Wrapping::Sandbox(sandbox) => (Some(sandbox.wrap(program)), supervise::LEFT_GRACE),
            Wrapping::Podman(podman) => (Some(podman.wrap(program)?), PODMAN_GRACE),
        };
        Ok(Spec {
            argv: program.argv.clone(),
            environment: match wrapper {
                Some(_) => Vec::new(),
                None => program.environment.clone(),
            },
            folder: program.folder.clone().into(),
            data: self.config.data.clone().into(),
            log: program.log.clone().into(),
            log_limit: self.config.log_limit,
            memory: program.function.memory,
            disk: Some(place.disk),
            processes: Some(place.processes),
            group: None,
            nice: program.nice,
            term_grace_ms: TERM_GRACE.as_millis() as u64,
            left_grace_ms: left_grace.as_millis() as u64,
            wrapper,
        })
    }

    async fn run_to_end(
        &self,
        program: &Program,
        mut following: Following<'_>,
    ) -> Result<Ran, Failure> {
        let ready = tokio::select! {
            ready = self.ready(program) => ready,
            why = stopped(following.stop) => return Ok(Ran::Stopped(why)),
        };
        let started = match ready {
            Ok(()) => self.begin(program).await,
            Err(error) => Err(error),
        };
        let mut started = match started {
            Ok(started) => started,
            Err(NotReady { reason, retry }) => return Ok(Ran::NotStarted { reason, retry }),
        };
        let mut followed = follow(&mut started, &mut following, &self.ready).await;
        let is_known = matches!(followed, Ok(Ran::Ended { .. } | Ran::NotStarted { .. }));
        if let Some(group) = &started.group {
            let refused = |exit_code| refused(group, &program.function, exit_code);
            match &mut followed {
                // The kernel was quicker than the supervisor.
                Ok(Ran::Ended {
                    excess, exit_code, ..
                }) => *excess = excess.or_else(|| refused(*exit_code)),
                // Or took it along.
                Ok(Ran::Lost) => {
                    if let Some(excess) = refused(None) {
                        followed = Ok(Ran::Ended {
                            exit_code: None,
                            signal: Some(Signal::KILL.as_raw()),
                            excess: Some(excess),
                            tail: String::new(),
                            forced: None,
                        });
                    }
                }
                _ => {}
            }
        }
        let group = started.group.take();
        started.end().await;
        if !is_known {
            end_all(&program.job, group).await;
        }
        if let Wrapping::Podman(podman) = &self.wrapping {
            match &followed {
                Ok(Ran::Ended {
                    exit_code: Some(podman::FAILED),
                    ..
                }) => podman.doubt(program),
                // podman has put it away itself.
                Ok(Ran::Ended {
                    exit_code: Some(_),
                    excess: None,
                    forced: None,
                    ..
                }) => {}
                _ => podman.forget(program).await,
            }
        }
        followed
    }
}

/// What the kernel took from a program, or refused it so that it failed.
fn refused(group: &Group, function: &Function, exit_code: Option<i32>) -> Option<Excess> {
    if group.was_out_of_memory() {
        return Some(Excess::Memory(function.memory.unwrap_or(0)));
    }
    if exit_code == Some(0) {
        return None;
    }
    let limit = group
        .processes()
        .and_then(|group| process_limit_hit(group, true));
    limit.map(Excess::Tasks)
}

/// Waits until someone wants an end.
async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        let asked = *stop.borrow_and_update();
        match asked {
            Some(why) => return why,
            None if stop.changed().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}

impl Engine for Local {
    fn kind(&self) -> Kind {
        match &self.wrapping {
            Wrapping::Nothing => Kind::Process,
            Wrapping::Sandbox(_) => Kind::Sandbox,
            Wrapping::Podman(_) => Kind::Podman,
        }
    }

    fn run<'a>(
        &'a self,
        program: &'a Program,
        following: Following<'a>,
    ) -> Later<'a, Result<Ran, Failure>> {
        Box::pin(self.run_to_end(program, following))
    }

    fn local(&self) -> Option<&Local> {
        Some(self)
    }

    fn stop(&self) -> Later<'_, ()> {
        Box::pin(self.ready.end())
    }

    fn clear(&self) -> io::Result<()> {
        self.ready.clear();
        match &self.wrapping {
            Wrapping::Podman(podman) => podman.clear(),
            Wrapping::Nothing | Wrapping::Sandbox(_) => Ok(()),
        }
    }
}

/// A program below its supervisor.
pub struct Started {
    /// Dropped when everything in it has ended.
    group: Option<Group>,
    child: Child,
    input: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Started {
    fn of(supervisor: Supervisor) -> Started {
        Started {
            group: supervisor.group,
            child: supervisor.child,
            input: Some(supervisor.input),
            reports: BufReader::new(supervisor.output).lines(),
        }
    }

    /// What happened next; None when there is nothing more to come. May be dropped while it waits.
    pub async fn next(&mut self) -> io::Result<Option<Report>> {
        let Some(line) = self.reports.next_line().await? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Asks the program to end: SIGTERM, and a while later SIGKILL.
    pub async fn stop(&mut self) {
        if let Some(input) = &mut self.input {
            // A supervisor that is gone has ended it.
            let _ = input.write_all(b"stop\n").await;
        }
    }

    /// Lets go of the supervisor, upon which it ends what still runs, and itself; waits for that.
    pub async fn end(mut self) {
        self.input = None;
        let _ = self.child.wait().await;
    }
}

/// Follows the reports to the last.
async fn follow(
    started: &mut Started,
    following: &mut Following<'_>,
    ready: &Arc<Ready>,
) -> Result<Ran, Failure> {
    let (timeout, tell) = (following.timeout, following.started);
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut forced = None;
    loop {
        tokio::select! {
            report = started.next() => match report? {
                Some(Report::Started { pid }) => {
                    ready.fill();
                    tell(Some(pid))?;
                }
                Some(Report::NotStarted { message }) => {
                    return Ok(Ran::NotStarted { reason: message, retry: true });
                }
                Some(Report::Ended { exit_code, signal, excess, tail }) => {
                    return Ok(Ran::Ended { exit_code, signal, excess, tail, forced });
                }
                None => return Ok(Ran::Lost),
            },
            () = &mut deadline, if forced.is_none() => {
                forced = Some(Forced::Timeout);
                started.stop().await;
            }
            why = stopped(following.stop), if forced.is_none() => {
                forced = Some(Forced::Stop(why));
                started.stop().await;
            }
        }
    }
}

/// Ends what a supervisor that is gone has left of a job.
async fn end_all(job: &str, group: Option<Group>) {
    let id = job.to_owned();
    let end = move || {
        if let Some(group) = group {
            group.kill();
        }
        processes::sweep(&id, Duration::ZERO)
    };
    if !matches!(blocking(end).await, Ok(true)) {
        tracing::error!("a process of the job could not be ended");
    }
}
