//! What breaks on the way, as programs and functions see it: servers and workers that go away, quotas, functions that are killed,
//! inputs that are none.

mod broker;
mod functions;
mod isolation;
mod overcommit;
mod quic;
mod session;
mod sessions;
mod tenants;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Longest that anything may take here; generous, since only a hang is to be told from slowness.
const PATIENCE: Duration = Duration::from_secs(300);

/// Looks until `holds`. For what has no event that another process could wait for: the kernel's list of processes, a folder.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < deadline, "after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn kill(pid: u32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    Ok(())
}
