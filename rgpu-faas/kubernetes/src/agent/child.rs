//! The script's process, and the end of all that it leaves.

use super::CallError;
use crate::protocol::{Report, Work};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal as Kill, WaitOptions, WaitStatus, kill_process, kill_process_group, wait, waitpid,
};
use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

/// How long what a script has left may take to end by itself: a relay that still tells a server of its client's end.
const LEFT_GRACE: Duration = Duration::from_millis(300);
/// How long ending the rest may take, and how often it is looked at.
const END: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);
/// Where the kernel counts the processes that it has ended for their container's memory: version 2 of control groups, and 1.
const COUNTS: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// A script that runs, as the leader of its process group.
pub struct Process {
    pid: Pid,
    signals: Signal,
    timeout: Duration,
    grace: Duration,
    oom_kills: u64,
}

impl Process {
    /// Starts it in `folder`; its output and errors come together.
    pub fn start(
        work: &Work,
        environment: Vec<(OsString, OsString)>,
        folder: &Path,
    ) -> io::Result<(Process, PipeReader)> {
        let Some((program, arguments)) = work.argv.split_first() else {
            return Err(io::Error::other("no program"));
        };
        let signals = signal(SignalKind::child())?;
        let oom_kills = oom_kills();
        let (output, input) = io::pipe()?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input)
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = Process {
            pid: pid.ok_or_else(|| io::Error::other("no process"))?,
            signals,
            timeout: Duration::from_millis(work.timeout_ms),
            grace: Duration::from_millis(work.term_grace_ms),
            oom_kills,
        };
        Ok((process, output))
    }

    /// Its number here.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end, brings it about where time is up, kubelet asks, or `unwanted` comes; then ends all that it left. The second
    /// result is what `unwanted` said, where that was the reason.
    pub async fn watch(
        mut self,
        terminate: &mut Signal,
        unwanted: impl Future<Output = CallError>,
    ) -> io::Result<(Report, Option<CallError>)> {
        let mut unwanted = std::pin::pin!(unwanted);
        let mut report = Report::default();
        let mut lost = None;
        // A limit beyond what a clock can say is none.
        let timeout = Instant::now() + self.timeout.min(Duration::from_secs(10 * 365 * 86_400));
        let mut kill_at: Option<Instant> = None;
        let status = loop {
            if let Some(status) = self.reap()? {
                break status;
            }
            let is_ending = kill_at.is_some();
            tokio::select! {
                _ = self.signals.recv() => continue,
                () = sleep_until(kill_at.unwrap_or(timeout)), if is_ending => {
                    let _ = kill_process_group(self.pid, Kill::KILL);
                    // Looked at again by its signal, or soon.
                    kill_at = Some(Instant::now() + Duration::from_secs(1));
                    continue;
                }
                () = sleep_until(timeout), if !is_ending => report.timed_out = true,
                _ = terminate.recv(), if !is_ending => report.terminated = true,
                error = &mut unwanted, if !is_ending => lost = Some(error),
            }
            let _ = kill_process_group(self.pid, Kill::TERM);
            kill_at = Some(Instant::now() + self.grace);
        };
        report.exit_code = status.exit_status();
        report.signal = status.terminating_signal();
        self.end_rest().await;
        report.over_memory = report.exit_code != Some(0) && oom_kills() > self.oom_kills;
        Ok((report, lost))
    }

    /// Its status, once it has ended. The first process of a container takes the status of all whose parents are gone, too.
    fn reap(&self) -> io::Result<Option<WaitStatus>> {
        if !is_first() {
            let ended = waitpid(Some(self.pid), WaitOptions::NOHANG)?;
            return Ok(ended.map(|(_, status)| status));
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => return Ok(Some(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends everything else in the container; where this is not its first process (in tests), what is in the script's group.
    async fn end_rest(&self) {
        if !is_first() {
            let _ = kill_process_group(self.pid, Kill::KILL);
            return;
        }
        let begun = Instant::now();
        while begun.elapsed() < END {
            while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(Errno::INTR)) {}
            let others = others();
            if others.is_empty() {
                return;
            }
            if begun.elapsed() >= LEFT_GRACE {
                for pid in others {
                    let _ = kill_process(pid, Kill::KILL);
                }
            }
            sleep(TICK).await;
        }
    }
}

fn is_first() -> bool {
    std::process::id() == 1
}

/// All other processes of this namespace, but for those that have ended already.
fn others() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid > 1 && !has_ended(*pid))
        .filter_map(Pid::from_raw)
        .collect()
}

fn has_ended(pid: i32) -> bool {
    // The state follows the name, which may hold anything, in parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn oom_kills() -> u64 {
    let text = COUNTS.iter().find_map(|path| fs::read_to_string(path).ok());
    text.as_deref().map_or(0, count)
}

fn count(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts() {
        assert_eq!(
            count("low 0\nhigh 0\nmax 8\noom 2\noom_kill 1\noom_group_kill 0\n"),
            1
        );
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(
            count("oom_kill_disable 1\nunder_oom 0\n"),
            0,
            "an old kernel"
        );
    }
}
