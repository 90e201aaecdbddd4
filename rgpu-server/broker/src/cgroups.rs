//! A control group for each worker, where the daemon's own was delegated to it: what a worker takes in shared memory, no limit of a process bounds.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Processes and threads of a worker.
const PIDS: u64 = 8192;
/// Where the daemon goes: a group whose groups have limits has no processes itself.
const DAEMON: &str = "daemon";
const WORKER: &str = "worker-";
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The daemon's part of the tree.
#[derive(Debug)]
pub struct Cgroups {
    base: PathBuf,
    /// Those of [`CONTROLLERS`] that it has.
    controllers: Vec<&'static str>,
    /// Bytes of a worker.
    memory: u64,
    made: AtomicU64,
}

/// A worker's group, which ends with this, and whoever is in it.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    /// Whoever writes "0" there is in the group.
    processes: CString,
}

impl Cgroups {
    /// None where the group is not the daemon's to divide: systemd says so of units with `Delegate=yes`.
    pub fn delegated(memory: u64) -> Option<Cgroups> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let base = mount()?.join(own);
        is_delegated(&base).then_some(())?;
        let daemon = base.join(DAEMON);
        let cgroups = make(&daemon)
            .and_then(|()| write(&daemon.join("cgroup.procs"), "0"))
            .and_then(|()| Cgroups::at(base, memory));
        cgroups
            .inspect_err(|error| tracing::warn!(%error, "the control group is of no use"))
            .ok()
    }

    fn at(base: PathBuf, memory: u64) -> io::Result<Cgroups> {
        let text = std::fs::read_to_string(base.join("cgroup.controllers"))?;
        let has = |wanted: &&str| text.split_whitespace().any(|known| known == *wanted);
        let controllers: Vec<_> = CONTROLLERS.into_iter().filter(has).collect();
        for controller in &controllers {
            let file = base.join("cgroup.subtree_control");
            write(&file, &format!("+{controller}"))?;
        }
        // What a daemon before this one has left; one with a worker in it stays.
        for entry in std::fs::read_dir(&base)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(WORKER) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        Ok(Cgroups {
            base,
            controllers,
            memory,
            made: AtomicU64::new(0),
        })
    }

    /// Bytes that a worker may have, shared memory and all.
    pub fn memory(&self) -> Option<u64> {
        self.controllers.contains(&"memory").then_some(self.memory)
    }

    /// A group for one more worker.
    pub fn new_group(&self) -> io::Result<Group> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{WORKER}{}-{number}", std::process::id());
        let folder = self.base.join(name);
        make(&folder)?;
        let limits = [
            ("cpu", "cpu.weight", 100),
            ("memory", "memory.max", self.memory),
            ("memory", "memory.oom.group", 1),
            ("pids", "pids.max", PIDS),
        ];
        for (controller, file, value) in limits {
            if self.controllers.contains(&controller) {
                write(&folder.join(file), &value.to_string())?;
            }
        }
        let processes = folder.join("cgroup.procs").into_os_string().into_vec();
        Ok(Group {
            processes: CString::new(processes)?,
            folder,
        })
    }
}

impl Group {
    /// Moves the process that calls this; it makes system calls only.
    pub fn entry(&self) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
        let processes = self.processes.clone();
        move || match rgpu_sandbox::write(&processes, b"0") {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let killed = write(&self.folder.join("cgroup.kill"), "1");
        // One whose last process is still ending stays for the next daemon to remove.
        if let Err(error) = killed.and_then(|()| std::fs::remove_dir(&self.folder)) {
            tracing::debug!(folder = %self.folder.display(), %error, "a control group stays");
        }
    }
}

/// Where the groups of the second version are.
fn mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| place.into())
    })
}

fn is_delegated(base: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 1];
        let count = rustix::fs::getxattr(base, *name, &mut value[..]);
        count == Ok(1) && value == *b"1"
    })
}

fn make(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => named(folder, made),
    }
}

fn open(file: &Path) -> io::Result<File> {
    named(file, OpenOptions::new().write(true).open(file))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    named(file, open(file)?.write_all(text.as_bytes()))
}

fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_whose_controllers_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        std::fs::write(base.join("cgroup.controllers"), "cpuset io memory\n").unwrap();
        std::fs::write(base.join("cgroup.subtree_control"), "").unwrap();
        std::fs::create_dir(base.join("worker-1-0")).unwrap();
        let cgroups = Cgroups::at(base.to_owned(), 12345).unwrap();
        assert!(!base.join("worker-1-0").exists());
        assert_eq!(cgroups.controllers, ["memory"]);
        assert_eq!(cgroups.memory(), Some(12345));
        let asked = std::fs::read_to_string(base.join("cgroup.subtree_control"));
        assert_eq!(asked.unwrap(), "+memory");
        // Here no system makes the files of a new group.
        let error = cgroups.new_group().unwrap_err().to_string();
        assert!(error.contains("memory.max"), "{error}");
    }

    #[test]
    fn a_group_takes_its_processes_with_it() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let Some(base) = mount().map(|it| it.join(format!("rgpud-{}", std::process::id()))) else {
            println!("skipped: no control groups");
            return;
        };
        if let Err(error) = std::fs::create_dir(&base) {
            println!("skipped: {error}");
            return;
        }
        let group = Cgroups::at(base.clone(), 1 << 30).and_then(|it| it.new_group());
        let group = group.unwrap();
        let mut command = std::process::Command::new("sleep");
        command.arg("1000");
        // SAFETY: system calls only.
        unsafe { command.pre_exec(group.entry()) };
        let mut child = command.spawn().unwrap();
        let of_child = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let folder = group.folder.clone();
        drop(group);
        assert!(of_child.contains("/worker-"), "{of_child}");
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // Its drop may have been too early for the removal.
        let _ = std::fs::remove_dir(&folder);
        std::fs::remove_dir(&base).unwrap();
    }
}
