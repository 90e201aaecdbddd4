//! The process beside each instance (`rgpu-faas supervise --warm`, started by the runner and by nobody else).
//!
//! What a job's supervisor is to its script, for as long as the instance lives: it adopts what the instance leaves behind and ends
//! it with it, keeps each job's output within its bound, watches its limits, and ends everything when the runner is gone. What
//! the instance says on its descriptor is judged here; whatever is against the contract ends it.

use super::protocol::{Command, DESCRIPTOR, Lines, MAX_ANSWER, MAX_COMMAND, Report, Said, said};
use crate::runner::engine::Excess;
use crate::runner::limits::Limits;
use crate::runner::log::BoundedLog;
use crate::runner::supervise::{
    Spec, ask_to_end, create_log, drain, end_all, let_end, poll_once, read_spec, reap, stand_back,
    start,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::{Pid, PidfdFlags, WaitStatus, pidfd_open, set_child_subreaper, setsid};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How often its limits are looked at, and adopted processes that ended are reaped, while the instance is at work and while it is not.
const TICK: Duration = Duration::from_millis(500);
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Bytes of the output before the first job that are kept for that job's log.
const EARLY: usize = 64 << 10;
/// How long an instance that closed its descriptor may take to end.
const CLOSED_GRACE: Duration = Duration::from_secs(1);

enum State {
    Starting,
    Idle,
    Busy { job: String, log: BoundedLog },
}

struct Instance {
    spec: Spec,
    child: Pid,
    state: State,
    output: PipeReader,
    is_output_open: bool,
    /// What it printed before its first job, up to a bound.
    early: Vec<u8>,
    runner: File,
    commands: Lines,
    channel: OwnedFd,
    is_channel_open: bool,
    answers: Lines,
    /// What the instance has not read yet.
    outgoing: Vec<u8>,
    status: Option<WaitStatus>,
    excess: Option<Excess>,
    fault: Option<String>,
    /// The runner wants its end.
    is_asked: bool,
    /// When what is to end by itself is killed.
    kill_at: Option<Instant>,
    limits: Limits,
    next_look: Instant,
    buffer: Vec<u8>,
}

/// What a turn of the loop says about the next.
enum Next {
    GoOn,
    /// Everything that is left is killed.
    End,
}

/// Runs the one instance described on standard input.
pub fn supervise() -> anyhow::Result<()> {
    // Before anything else is opened, so that the instance's end gets a number that every shell can name.
    let (theirs, ours) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::empty(),
        None,
    )?;
    fcntl_setfd(&ours, FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut runner = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Some(mut spec) = read_spec(&mut runner)? else {
        return Ok(());
    };
    rustix::io::ioctl_fionbio(&runner, true)?;
    stand_back(spec.nice);
    name_descriptor(&mut spec, theirs.as_raw_fd());
    let (child, output) = match start(&spec) {
        Ok(started) => started,
        Err(error) => {
            let message = format!("cannot start {}: {error}", spec.argv[0].to_string_lossy());
            return report(&Report::NotStarted { message });
        }
    };
    drop(theirs);
    report(&Report::Started {
        pid: child.as_raw_nonzero().get() as u32,
    })?;
    let limits = Limits::of(&spec);
    let instance = Instance {
        spec,
        child,
        state: State::Starting,
        output,
        is_output_open: true,
        early: Vec::new(),
        runner,
        commands: Lines::new(MAX_COMMAND),
        channel: ours,
        is_channel_open: true,
        answers: Lines::new(MAX_ANSWER),
        outgoing: Vec::new(),
        status: None,
        excess: None,
        fault: None,
        is_asked: false,
        kill_at: None,
        limits,
        next_look: Instant::now(),
        buffer: vec![0; 64 << 10],
    };
    instance.run()
}

/// Puts the number of the instance's descriptor among its variables.
fn name_descriptor(spec: &mut Spec, number: RawFd) {
    let (name, number) = (
        OsString::from(DESCRIPTOR),
        OsString::from(number.to_string()),
    );
    match spec.wrapper.as_mut().and_then(|it| it.hidden.as_mut()) {
        // As bubblewrap is told of variables; it passes descriptors on as they are.
        Some(arguments) => arguments.extend(["--setenv".into(), name, number]),
        None => spec.environment.push((name, number)),
    }
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // The runner may be gone; there is nobody left to tell then.
    let _ = out.write_all(&line).and_then(|()| out.flush());
    Ok(())
}

impl Instance {
    fn run(mut self) -> anyhow::Result<()> {
        let handle = pidfd_open(self.child, PidfdFlags::empty())?;
        while !reap(self.child, &mut self.status) {
            if let Next::End = self.turn(&handle)? {
                break;
            }
        }
        if self.status.is_some() {
            // An answer may have been its last word.
            self.hear()?;
            let_end(&self.spec, self.child, &mut self.status);
        }
        if self.status.is_none() && !self.is_channel_open && !self.is_asked {
            self.fault.get_or_insert("it closed its descriptor".into());
        }
        end_all(self.child, &mut self.status);
        // Everything that could write is gone, so this ends.
        while self.is_output_open {
            self.read_output(usize::MAX);
            self.is_output_open &= !poll_once(&self.output).is_empty();
        }
        let tail = match std::mem::replace(&mut self.state, State::Idle) {
            State::Busy { log, .. } => log.finish(),
            _ => tail(&self.early),
        };
        report(&Report::Ended {
            exit_code: self.status.and_then(|s| s.exit_status()),
            signal: self.status.and_then(|s| s.terminating_signal()),
            excess: self.excess,
            fault: self.fault,
            tail,
        })
    }

    fn tick(&self) -> Duration {
        match self.state {
            State::Idle => IDLE_TICK,
            State::Starting | State::Busy { .. } => TICK,
        }
    }

    /// Waits for something and sees to it.
    fn turn(&mut self, handle: &OwnedFd) -> anyhow::Result<Next> {
        // What an instance prints while it has no job waits in its pipe, and then it waits too.
        let prints = self.is_output_open && !matches!(self.state, State::Idle);
        let writes = !self.outgoing.is_empty();
        // A closed end is reported whether or not it is asked about, so one that is known is left out.
        let mut fds = vec![
            PollFd::new(handle, PollFlags::IN),
            PollFd::new(&self.runner, PollFlags::IN),
        ];
        if self.is_channel_open {
            let out = if writes {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::new(&self.channel, PollFlags::IN | out));
        }
        if prints {
            fds.push(PollFd::new(&self.output, PollFlags::IN));
        }
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        let wait = self.kill_at.map_or(self.tick(), left).min(self.tick());
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_told = !fds[1].revents().is_empty();
        drop(fds);
        if prints {
            self.read_output(16);
        }
        self.write_channel();
        self.hear()?;
        if is_told && let Next::End = self.read_commands()? {
            return Ok(Next::End);
        }
        let is_over = match self.kill_at {
            Some(at) => Instant::now() >= at,
            None => self.fault.is_some(),
        };
        self.look_at_limits();
        Ok(match is_over || self.excess.is_some() {
            true => Next::End,
            false => Next::GoOn,
        })
    }

    fn look_at_limits(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + self.tick();
            self.excess = self.limits.look();
        }
    }

    /// Moves at most `rounds` buffers of output to where they belong.
    fn read_output(&mut self, rounds: usize) {
        if let State::Busy { log, .. } = &mut self.state {
            self.is_output_open = drain(&mut self.output, log, &mut self.buffer, rounds);
            return;
        }
        for _ in 0..rounds {
            match self.output.read(&mut self.buffer) {
                Ok(0) => self.is_output_open = false,
                Ok(n) => {
                    if matches!(self.state, State::Starting) {
                        let room = EARLY.saturating_sub(self.early.len()).min(n);
                        self.early.extend_from_slice(&self.buffer[..room]);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.is_output_open = error.kind() == ErrorKind::WouldBlock,
            }
            return;
        }
    }

    /// Reads what the instance says.
    fn hear(&mut self) -> anyhow::Result<()> {
        while self.is_channel_open && self.fault.is_none() {
            match rustix::io::read(&self.channel, &mut self.buffer[..]) {
                Ok(0) | Err(Errno::CONNRESET) => {
                    self.is_channel_open = false;
                    // It is on its way out, or has let go of what it lives by.
                    let soon = Instant::now() + CLOSED_GRACE;
                    self.kill_at.get_or_insert(soon);
                }
                Ok(n) => {
                    self.answers.push(&self.buffer[..n]);
                    self.judge()?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> anyhow::Result<()> {
        while self.fault.is_none() {
            let wrong = match self.answers.pull() {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => match said(&line) {
                    Ok(said) => self.heard(said)?,
                    Err(wrong) => Some(wrong),
                },
                Err(wrong) => Some(wrong),
            };
            if let Some(wrong) = wrong {
                self.fault = Some(format!("on its descriptor it wrote {wrong}"));
            }
        }
        Ok(())
    }

    /// What is wrong with it, if anything is.
    fn heard(&mut self, said: Said) -> anyhow::Result<Option<String>> {
        let has = match &self.state {
            State::Busy { job, .. } => Some(job.as_str()),
            State::Starting | State::Idle => None,
        };
        match said {
            Said::Ready if matches!(self.state, State::Starting) => {
                // What it has printed so far is the start's.
                self.read_output(2);
                self.state = State::Idle;
                report(&Report::Ready)?;
            }
            Said::NotReady(why) if matches!(self.state, State::Starting) => self.fault = Some(why),
            Said::Ready | Said::NotReady(_) => {
                return Ok(Some("how its start went, once more".into()));
            }
            Said::Answer {
                job,
                error,
                exit_code,
            } if has == Some(job.as_str()) => self.answered(error, exit_code)?,
            Said::Answer { job, .. } => {
                return Ok(Some(format!(
                    "an answer for {job:?}, a job that it does not have"
                )));
            }
        }
        Ok(None)
    }

    fn answered(&mut self, error: Option<String>, exit_code: Option<i32>) -> anyhow::Result<()> {
        // All that a pipe can hold of what it printed before.
        self.read_output(2);
        if let State::Busy { job, log } = std::mem::replace(&mut self.state, State::Idle) {
            let tail = log.finish();
            report(&Report::Answered {
                job,
                error,
                exit_code,
                tail,
            })?;
        }
        Ok(())
    }

    fn write_channel(&mut self) {
        while !self.outgoing.is_empty() {
            match rustix::net::send(
                &self.channel,
                &self.outgoing,
                rustix::net::SendFlags::NOSIGNAL,
            ) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(Errno::INTR) => {}
                // Full, or closed: which reading finds out.
                Err(_) => return,
            }
        }
    }

    fn read_commands(&mut self) -> anyhow::Result<Next> {
        loop {
            match self.runner.read(&mut self.buffer) {
                // The runner is gone.
                Ok(0) => return Ok(Next::End),
                Ok(n) => self.commands.push(&self.buffer[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::GoOn),
                Err(_) => return Ok(Next::End),
            }
            while let Some(line) = self.commands.pull().map_err(anyhow::Error::msg)? {
                self.obey(serde_json::from_slice(&line)?)?;
            }
        }
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        let grace = Duration::from_millis(self.spec.term_grace_ms);
        match command {
            Command::Job { id, log, line } => {
                // Printed while it had no job.
                if self.is_output_open {
                    self.read_output(2);
                }
                match create_log(&self.spec.data, &log) {
                    Ok(file) => {
                        let mut log = BoundedLog::new(file, self.spec.log_limit);
                        log.push(&std::mem::take(&mut self.early));
                        self.state = State::Busy { job: id, log };
                        self.outgoing.extend_from_slice(line.as_bytes());
                        self.write_channel();
                    }
                    Err(error) => report(&Report::Answered {
                        job: id,
                        error: Some(format!("the job's log cannot be made: {error}")),
                        exit_code: None,
                        tail: String::new(),
                    })?,
                }
            }
            Command::End => {
                self.is_asked = true;
                let _ = shutdown(&self.channel, Shutdown::Write);
                self.kill_at = Some(Instant::now() + grace);
            }
            Command::Stop => {
                self.is_asked = true;
                ask_to_end(&self.spec, self.child);
                self.kill_at = Some(Instant::now() + grace);
            }
        }
        Ok(())
    }
}

/// The last lines of an output.
fn tail(output: &[u8]) -> String {
    String::from_utf8_lossy(&output[output.len().saturating_sub(2048)..]).into_owned()
}
