//! Finding and ending the processes of a job.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Everything that runs.
pub fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// (process, parent) of everything that runs.
fn table() -> Vec<(i32, i32)> {
    all()
        .filter_map(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            // The program's name stands in parentheses and may hold any byte; the state and the parent follow it.
            let after_name = &stat[stat.iter().rposition(|b| *b == b')')? + 1..];
            let parent = std::str::from_utf8(after_name)
                .ok()?
                .split_ascii_whitespace()
                .nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect()
}

/// All processes below `root`, children before grandchildren.
pub fn descendants(root: i32) -> Vec<i32> {
    let table = table();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(
            table
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| pid),
        );
        next += 1;
    }
    found.remove(0);
    found
}

/// The same, asked of the parents, which costs less; those that come and go meanwhile may be missed.
pub fn children_below(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", found[next]));
        next += 1;
        for task in tasks.into_iter().flatten().flatten() {
            match fs::read_to_string(task.path().join("children")) {
                Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>)),
                // A kernel that does not say.
                Err(error) if error.kind() == ErrorKind::NotFound && task.path().exists() => {
                    return descendants(root);
                }
                Err(_) => {}
            }
        }
    }
    found.remove(0);
    found
}

/// Bytes of anonymous memory that a process holds; 0 when it is gone.
pub fn anonymous_memory(pid: i32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// In how many process namespaces a process has a number; 0 when it is gone.
pub fn namespaces(pid: i32) -> usize {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.map_or(0, |numbers| numbers.split_ascii_whitespace().count())
}

/// Processes that carry `marker`, a variable and its value, in their environment, as handles that cannot come to mean another process.
fn carrying(marker: &str) -> Vec<OwnedFd> {
    let is_marked = |pid: i32| {
        let mut environment = Vec::new();
        fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(1 << 20).read_to_end(&mut environment))
            .is_ok()
            && environment
                .split(|b| *b == 0)
                .any(|v| v == marker.as_bytes())
    };
    let own = std::process::id() as i32;
    table()
        .into_iter()
        .filter(|(pid, _)| *pid != own && is_marked(*pid))
        .filter_map(|(pid, _)| {
            let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            // The number may have changed hands before it was opened.
            is_marked(pid).then_some(handle)
        })
        .collect()
}

/// Ends what is left of a job whose supervisor cannot do it, after letting it end by itself for `patience`. False if
/// something would not go.
pub fn sweep(job: &str, patience: Duration) -> bool {
    sweep_carrying(&format!("JOB_UUID={job}"), patience)
}

/// The same for all processes with this variable and value.
pub fn sweep_carrying(marker: &str, patience: Duration) -> bool {
    let gentle_until = Instant::now() + patience;
    // Killing one may leave others that were forked meanwhile.
    for _ in 0..20 {
        let found = carrying(marker);
        if found.is_empty() {
            return true;
        }
        for handle in &found {
            if wait_end(handle, gentle_until) {
                continue;
            }
            let _ = pidfd_send_signal(handle, Signal::KILL);
            wait_end(handle, Instant::now() + Duration::from_secs(5));
        }
    }
    carrying(marker).is_empty()
}

/// Waits for a process's end; false when the time is up first.
fn wait_end(handle: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_marked_process_is_ended_and_others_are_not() {
        let job = format!("sweep-test-{}", std::process::id());
        let start = |value: &str| {
            Command::new("sleep")
                .arg("600")
                .env("JOB_UUID", value)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut marked = start(&job);
        let mut other = start(&format!("{job}x"));
        assert!(sweep(&job, Duration::ZERO));
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(marked.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn the_tree_below_a_process_is_found() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        use std::io::BufRead;
        std::io::BufReader::new(shell.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        let below = descendants(std::process::id() as i32);
        assert!(below.contains(&(shell.id() as i32)) && below.contains(&grandchild));
        let below = children_below(std::process::id() as i32);
        assert!(below.contains(&(shell.id() as i32)) && below.contains(&grandchild));
        assert!(anonymous_memory(shell.id() as i32) > 0);
        rustix::process::kill_process(Pid::from_raw(grandchild).unwrap(), Signal::KILL).unwrap();
        shell.wait().unwrap();
    }
}
