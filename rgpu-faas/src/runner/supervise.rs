//! The process beside each job (`rgpu-faas supervise`, started by the runner and by nobody else).
//!
//! It adopts every process that the script leaves (child subreaper), so that all of them can be ended, however they were
//! started; it keeps the output within its bound; and it ends the job when the runner is gone: its standard input is the
//! sign of life. A line `stop` asks for an end with SIGTERM first, the end of input for an immediate one.
//! One thread, no async: it must fork safely and stay small.

use super::engine::Excess;
use super::limits::Limits;
use super::log::BoundedLog;
use super::processes::{descendants, namespaces};
use crate::beneath;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, MemfdFlags, Mode, memfd_create, unlinkat};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getpriority_process, kill_process,
    kill_process_group, pidfd_open, set_child_subreaper, setpriority_process, setsid, wait, waitid,
};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest description of a job that is read, in bytes.
const MAX_SPEC: u64 = 16 << 20;
/// How often the kernel is asked again when it is asked too often; after that the job begins all the same.
const AUTOGROUP_TRIES: u32 = 20;
/// How long what a script has left may take to end by itself: a relay that still tells a server of its client's end.
pub const LEFT_GRACE: Duration = Duration::from_millis(300);
/// How often it is looked at meanwhile: at first, since a sandbox's first process ends just after bubblewrap, and at most.
const LEFT_TICKS: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(10)];
/// How often memory is looked at, and adopted processes that ended are reaped.
const TICK: Duration = Duration::from_millis(500);

/// By how much this process's nice value is below that of what it has started.
const LEAD: i32 = 10;
/// Where the kernel kills for memory, this process comes last of its job's.
const SPARED: &str = "-900";

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working folder.
    pub folder: OsString,
    /// The data folder, and the log's path inside it.
    pub data: OsString,
    pub log: OsString,
    pub log_limit: u64,
    /// Bytes of anonymous memory of all processes together.
    pub memory: Option<u64>,
    /// Bytes on disk below the working folder.
    pub disk: Option<u64>,
    /// Processes at one time.
    pub processes: Option<u32>,
    /// The folder of the control group that keeps their number from growing without end, where there is one.
    pub group: Option<OsString>,
    /// The nice value of all of them, and of this process.
    pub nice: u8,
    /// Between SIGTERM and SIGKILL.
    pub term_grace_ms: u64,
    /// How long what the program has left may take to end by itself.
    pub left_grace_ms: u64,
    /// What starts the program inside something else.
    pub wrapper: Option<Wrapper>,
}

/// A program that starts the program inside something else, and ends with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wrapper {
    /// To which the program is appended.
    pub command: Vec<OsString>,
    /// Arguments that other users of the machine must not see: a file of them, each with a NUL after it, is named with `--args NUMBER`,
    /// as bubblewrap takes it.
    pub hidden: Option<Vec<OsString>>,
    /// Its own environment. The program's may hold what makes a loader run other code, so it is kept away from here.
    pub environment: Vec<(OsString, OsString)>,
    /// Its programs are in a process namespace of their own, and SIGTERM would end it with all of them at once: only they get it.
    pub is_shield: bool,
}

/// What happened: JSON lines on standard output.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The script is process `pid` and the leader of its group.
    Started { pid: u32 },
    /// It could not be started.
    NotStarted { message: String },
    /// It and everything it left has ended.
    Ended {
        exit_code: Option<i32>,
        signal: Option<i32>,
        /// The limit that ended it.
        excess: Option<Excess>,
        /// The last lines of its output.
        tail: String,
    },
}

/// Runs the one job described on standard input.
pub fn supervise() -> anyhow::Result<()> {
    // Away from the runner's terminal and process group; fails only if this is a group's leader, which is as good.
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid()))?;
    // A handle of its own, because the standard one reads ahead.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let Some(spec) = read_spec(&mut stdin)? else {
        return Ok(());
    };
    stand_back(spec.nice);
    let mut log = match create_log(&spec.data, &spec.log) {
        Ok(file) => BoundedLog::new(file, spec.log_limit),
        Err(error) => {
            let message = format!("the job's log cannot be made: {error}");
            return report(&Report::NotStarted { message });
        }
    };
    match start(&spec) {
        Ok((child, output)) => {
            report(&Report::Started {
                pid: child.as_raw_nonzero().get() as u32,
            })?;
            let ended = watch(&spec, child, output, stdin.as_fd(), &mut log)?;
            let Ended { status, excess } = ended;
            report(&Report::Ended {
                exit_code: status.and_then(|s| s.exit_status()),
                signal: status.and_then(|s| s.terminating_signal()),
                excess,
                tail: log.finish(),
            })
        }
        Err(error) => {
            let message = format!("cannot start {}: {error}", spec.argv[0].to_string_lossy());
            log.push(message.as_bytes());
            log.finish();
            report(&Report::NotStarted { message })
        }
    }
}

/// A new file, whatever another job may have put in its place.
pub(crate) fn create_log(data: &OsStr, log: &OsStr) -> io::Result<File> {
    let data = beneath::root(Path::new(data))?;
    let (folder, name) = beneath::make_parent(&data, Path::new(log))?;
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    beneath::create(&folder, name, Mode::from(0o666))
}

/// Lets others go first on the CPU. Where the kernel groups processes by their session (autogroup), only the group's value counts
/// beside other sessions; setsid has made this process's own. Where neither can be set, the job runs all the same.
pub(crate) fn stand_back(nice: u8) {
    if nice == 0 {
        return;
    }
    // On top of what the daemon itself was started with.
    if let Ok(own) = getpriority_process(None) {
        let _ = setpriority_process(None, own + i32::from(nice));
    }
    for _ in 0..AUTOGROUP_TRIES {
        match std::fs::write("/proc/self/autogroup", nice.to_string()) {
            // Of unprivileged users the kernel takes ten a second, of all together.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => break,
        }
    }
}

/// Has this process look at what it has started even while that fills the CPU, or its memory. Only root may.
fn go_before() {
    if let Ok(own) = getpriority_process(None) {
        let _ = setpriority_process(None, own - LEAD);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", SPARED);
}

/// Reads the description and not a byte more; None where the input ends before one, since nobody had a job.
pub(crate) fn read_spec(input: &mut impl Read) -> anyhow::Result<Option<Spec>> {
    let mut header = [0u8; 8];
    if input.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut header[1..])?;
    let length = u64::from_le_bytes(header);
    anyhow::ensure!(length <= MAX_SPEC, "the job's description is too long");
    let mut text = Vec::new();
    input.take(length).read_to_end(&mut text)?;
    let spec: Spec = serde_json::from_slice(&text)?;
    anyhow::ensure!(!spec.argv.is_empty(), "no program to run");
    Ok(Some(spec))
}

/// How the runner writes a description: its length, then JSON.
pub fn write_spec(spec: &Spec) -> serde_json::Result<Vec<u8>> {
    let text = serde_json::to_vec(spec)?;
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // The runner may be gone; there is nobody left to tell then.
    let _ = out.write_all(&line).and_then(|()| out.flush());
    Ok(())
}

pub(crate) fn start(spec: &Spec) -> io::Result<(Pid, PipeReader)> {
    let (output, input) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let (mut command, hidden) = command(spec)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0)
        .spawn()?;
    drop(hidden);
    go_before();
    let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| io::Error::other("no process"))?;
    Ok((pid, output))
}

/// What is started; with the file that it must still find open.
fn command(spec: &Spec) -> io::Result<(Command, Option<OwnedFd>)> {
    let Some(wrapper) = &spec.wrapper else {
        let mut command = Command::new(&spec.argv[0]);
        command
            .args(&spec.argv[1..])
            .env_clear()
            .envs(spec.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(&spec.folder);
        return Ok((command, None));
    };
    let Some((program, arguments)) = wrapper.command.split_first() else {
        return Err(io::Error::other("no wrapper"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(wrapper.environment.iter().map(|(k, v)| (k, v)))
        .current_dir("/");
    let hidden = wrapper.hidden.as_deref().map(hide).transpose()?;
    if let Some(file) = &hidden {
        command.arg("--args").arg(file.as_raw_fd().to_string());
        command.arg("--");
    }
    command.args(&spec.argv);
    Ok((command, hidden))
}

/// Arguments in a file of memory, which a child inherits.
fn hide(arguments: &[OsString]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("arguments", MemfdFlags::empty())?);
    let mut bytes = Vec::new();
    for argument in arguments {
        bytes.extend_from_slice(argument.as_encoded_bytes());
        bytes.push(0);
    }
    file.write_all(&bytes)?;
    file.rewind()?;
    Ok(file.into())
}

struct Ended {
    status: Option<rustix::process::WaitStatus>,
    excess: Option<Excess>,
}

/// Follows the script to its end, then ends all that it left.
fn watch(
    spec: &Spec,
    child: Pid,
    mut output: PipeReader,
    runner: std::os::fd::BorrowedFd<'_>,
    log: &mut BoundedLog,
) -> anyhow::Result<Ended> {
    let handle = pidfd_open(child, PidfdFlags::empty())?;
    let mut ended = Ended {
        status: None,
        excess: None,
    };
    let mut limits = Limits::of(spec);
    let mut kill_at: Option<Instant> = None;
    let mut output_open = true;
    let mut next_look = Instant::now();
    let mut buffer = vec![0u8; 64 << 10];
    while !reap(child, &mut ended.status) {
        let mut fds = [
            PollFd::new(&handle, PollFlags::IN),
            PollFd::new(
                &output,
                if output_open {
                    PollFlags::IN
                } else {
                    PollFlags::empty()
                },
            ),
            PollFd::new(
                &runner,
                if kill_at.is_none() {
                    PollFlags::IN
                } else {
                    PollFlags::empty()
                },
            ),
        ];
        let wait = kill_at
            .map_or(TICK, |at| at.saturating_duration_since(Instant::now()))
            .min(TICK);
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let output_ready = output_open && !fds[1].revents().is_empty();
        let runner_ready = kill_at.is_none() && !fds[2].revents().is_empty();
        if output_ready {
            output_open = drain(&mut output, log, &mut buffer, 16);
        }
        if runner_ready {
            let mut word = [0u8; 8];
            match rustix::io::read(runner, &mut word) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    ask_to_end(spec, child);
                    kill_at = Some(Instant::now() + Duration::from_millis(spec.term_grace_ms));
                }
            }
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            break;
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + TICK;
            ended.excess = limits.look();
            if ended.excess.is_some() {
                break;
            }
        }
    }
    if ended.status.is_some() {
        let_end(spec, child, &mut ended.status);
    }
    end_all(child, &mut ended.status);
    // Everything that could write is gone, so this ends.
    while output_open {
        output_open =
            drain(&mut output, log, &mut buffer, usize::MAX) && !poll_once(&output).is_empty();
    }
    Ok(ended)
}

/// SIGTERM for the script, and for what is in its process group, or in its wrapping.
pub(crate) fn ask_to_end(spec: &Spec, child: Pid) {
    if !spec.wrapper.as_ref().is_some_and(|it| it.is_shield) {
        let _ = kill_process_group(child, Signal::TERM);
        return;
    }
    let own = namespaces(std::process::id() as i32);
    for pid in descendants(std::process::id() as i32) {
        // The first process of a namespace ignores it, unless it said otherwise.
        if namespaces(pid) > own
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

pub(crate) fn poll_once(output: &PipeReader) -> PollFlags {
    let mut fds = [PollFd::new(output, PollFlags::IN)];
    match poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    ) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Moves what is there into the log, at most `rounds` buffers; false at the end of the output.
pub(crate) fn drain(
    output: &mut PipeReader,
    log: &mut BoundedLog,
    buffer: &mut [u8],
    rounds: usize,
) -> bool {
    for _ in 0..rounds {
        match output.read(buffer) {
            Ok(0) => return false,
            Ok(n) => log.push(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// Takes the status of every child that has ended; true once the script is among them.
pub(crate) fn reap(child: Pid, status: &mut Option<rustix::process::WaitStatus>) -> bool {
    while let Ok(Some((pid, how))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            *status = Some(how);
        }
    }
    status.is_some()
}

/// Whether anything is left below this process: what loses its parent comes to this process, so without children it has nothing below it.
/// Asked before the table of all processes is read, which takes milliseconds.
fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// Waits a moment for what a script has left that has come to its own end.
pub(crate) fn let_end(spec: &Spec, child: Pid, status: &mut Option<rustix::process::WaitStatus>) {
    let until = Instant::now() + Duration::from_millis(spec.left_grace_ms);
    let [mut tick, most] = LEFT_TICKS;
    while has_children() && Instant::now() < until {
        std::thread::sleep(tick);
        tick = most.min(2 * tick);
        reap(child, status);
    }
}

/// Kills everything below this process until nothing is left. Each round kills all that is visible and takes the ends that
/// there are, one at least; orphans come to this process as their parents die.
pub(crate) fn end_all(child: Pid, status: &mut Option<rustix::process::WaitStatus>) {
    loop {
        reap(child, status);
        if !has_children() {
            return;
        }
        for pid in descendants(std::process::id() as i32) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, how))) if pid == child => *status = Some(how),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
