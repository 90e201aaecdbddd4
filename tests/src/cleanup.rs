//! What must go when this process is interrupted: processes by their pids, temporary folders.
//!
//! Normally their owners' `Drop` does it; a signal handler calls [`now`] instead, since it ends the process without unwinding.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// How long a process may take to end by itself.
pub const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Registry {
    pids: BTreeSet<i32>,
    folders: BTreeSet<PathBuf>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    pids: BTreeSet::new(),
    folders: BTreeSet::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is to be ended on an interrupt. Forget it once it has been waited for: its number may then be another's.
pub fn watch(pid: u32) {
    registry().pids.insert(pid as i32);
}

pub fn forget(pid: u32) {
    registry().pids.remove(&(pid as i32));
}

/// A temporary folder that is removed on drop and on an interrupt.
pub struct Folder {
    inner: Option<TempDir>,
}

impl Folder {
    /// Its path is short, since sockets are made in it.
    pub fn new(prefix: &str) -> std::io::Result<Folder> {
        Folder::within(&std::env::temp_dir(), prefix)
    }

    /// One in memory, as `/run` is, where there is such a file system.
    pub fn in_memory(prefix: &str) -> std::io::Result<Folder> {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Folder::within(memory, prefix),
            false => Folder::new(prefix),
        }
    }

    fn within(place: &Path, prefix: &str) -> std::io::Result<Folder> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(place)?;
        registry().folders.insert(folder.path().to_owned());
        Ok(Folder {
            inner: Some(folder),
        })
    }

    pub fn path(&self) -> &Path {
        self.inner.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Leaves it on disk.
    pub fn keep(mut self) -> PathBuf {
        registry().folders.remove(self.path());
        self.inner.take().map(TempDir::keep).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        registry().folders.remove(self.path());
    }
}

/// Ends everything that is registered.
pub fn now() {
    let registry = std::mem::take(&mut *registry());
    let alive = |pid: &i32| Pid::from_raw(*pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    let signal = |signal| {
        for pid in registry.pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, signal);
        }
    };
    signal(Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    // Another thread waits for these children, so there is nothing to wait on here but to look.
    while registry.pids.iter().any(alive) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(Signal::KILL);
    for folder in &registry.folders {
        let _ = std::fs::remove_dir_all(folder);
    }
}
