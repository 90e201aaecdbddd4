//! Limits that the kernel keeps: control groups (version 2) of the attempts, below the daemon's own.
//!
//! They can be made where the daemon's group was handed to it, as systemd does with `Delegate=yes`, and holds nobody else. The kernel wants
//! processes in the leaves alone, so the daemon moves into one of its own first.

use crate::function::Function;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where systems mount them.
const MOUNT: &str = "/sys/fs/cgroup";
/// The daemon's own leaf.
const OWN: &str = "daemon";
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Microseconds of which a group may have its share of cores.
const PERIOD: u64 = 100_000;
/// The supervisor's and bubblewrap's processes.
const BESIDE: u32 = 4;

/// The group that attempts' groups are made in.
#[derive(Debug)]
pub struct Groups {
    root: PathBuf,
    controllers: Vec<&'static str>,
}

impl Groups {
    /// Takes the daemon's own group, or says why not.
    pub fn open() -> Result<Groups, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or("the kernel has no control groups of version 2 here")?;
        Groups::take(&Path::new(MOUNT).join(own), std::process::id())
    }

    /// Makes `root` a group of groups, with the process `own`, which must be its only one, in a leaf.
    fn take(root: &Path, own: u32) -> Result<Groups, String> {
        let said = |error: io::Error| format!("{}: {error}", root.display());
        let read = |name: &str| fs::read_to_string(root.join(name));
        let there = read("cgroup.controllers").map_err(said)?;
        let controllers: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|name| there.split_whitespace().any(|one| one == *name))
            .collect();
        if controllers.is_empty() {
            return Err("the daemon's control group has no controllers".into());
        }
        let leaf = root.join(OWN);
        let members = read("cgroup.procs").map_err(said)?;
        if members.lines().any(|pid| pid.trim().parse() != Ok(own)) {
            return Err("the daemon's control group has other processes in it".into());
        }
        make_folder(&leaf).map_err(said)?;
        fs::write(leaf.join("cgroup.procs"), own.to_string()).map_err(said)?;
        let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        if let Err(error) = fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")) {
            let _ = fs::write(root.join("cgroup.procs"), own.to_string());
            let _ = fs::remove_dir(&leaf);
            return Err(said(error));
        }
        let groups = Groups {
            root: root.to_owned(),
            controllers,
        };
        groups.clear();
        Ok(groups)
    }

    /// Removes the groups that an earlier daemon left; those in which something still runs stay.
    fn clear(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"job-") {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// A group with a function's limits, for one program.
    pub fn make(&self, name: &str, function: &Function) -> io::Result<Group> {
        let group = Group {
            path: self.root.join(format!("job-{name}")),
        };
        make_folder(&group.path)?;
        let set = |controller: &str, file: &str, value: String| {
            if !self.controllers.contains(&controller) {
                return Ok(());
            }
            fs::write(group.path.join(file), value)
        };
        if let Some(memory) = function.memory {
            set("memory", "memory.max", memory.to_string())?;
        }
        if let Some(cpu) = function.cpu {
            // The kernel takes no less than a millisecond.
            let quota = ((cpu * PERIOD as f64) as u64).max(1000);
            set("cpu", "cpu.max", format!("{quota} {PERIOD}"))?;
        }
        let processes = function.place.processes.saturating_add(BESIDE);
        set("pids", "pids.max", processes.to_string())?;
        Ok(group)
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// The group of one program. Goes when it is dropped, by when nothing may run in it.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Takes a process in, and with it all that it starts from now on.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let killed = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        killed.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(group = %self.path.display(), %error, "a control group stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(fields: &str) -> Function {
        let text = format!("name: f\ncommand: [x]\n{fields}\n");
        crate::function::parse(&text, "f", None).unwrap().remove(0)
    }

    /// Files in the place of the kernel's.
    fn kernel(controllers: &str, members: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(root.path().join("cgroup.procs"), members).unwrap();
        root
    }

    #[test]
    fn a_functions_limits_are_its_groups() {
        let root = kernel("cpuset cpu io memory pids\n", "17\n");
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        let groups = Groups::take(root.path(), 17).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids");
        assert_eq!(read("daemon/cgroup.procs"), "17");
        let limited = function("memory: 64Mi\ncpu: 1.5\nprocesses: 100");
        let group = groups.make("j-1", &limited).unwrap();
        group.add(99).unwrap();
        assert_eq!(read("job-j-1/cgroup.procs"), "99");
        assert_eq!(read("job-j-1/memory.max"), "67108864");
        assert_eq!(read("job-j-1/cpu.max"), "150000 100000");
        assert_eq!(read("job-j-1/pids.max"), "104");
        assert!(!group.was_out_of_memory());
        let events = root.path().join("job-j-1/memory.events");
        fs::write(&events, "low 0\noom 1\noom_kill 1\noom_group_kill 0\n").unwrap();
        assert!(group.was_out_of_memory());
        fs::write(&events, "oom_kill 0\n").unwrap();
        assert!(!group.was_out_of_memory());
    }

    #[test]
    fn a_group_that_is_not_the_daemons_alone_is_left_as_it_is() {
        let shared = kernel("cpu memory pids", "17\n18\n");
        let why = Groups::take(shared.path(), 17).unwrap_err();
        assert!(why.contains("other processes"), "{why}");
        assert!(!shared.path().join(OWN).exists());
        let bare = kernel("", "17\n");
        assert!(
            Groups::take(bare.path(), 17)
                .unwrap_err()
                .contains("no controllers")
        );
        assert!(Groups::take(Path::new("/nowhere"), 17).is_err());
        let partly = kernel("pids", "17\n");
        let groups = Groups::take(partly.path(), 17).unwrap();
        let group = groups.make("j", &function("memory: 64Mi\ncpu: 1")).unwrap();
        assert!(!group.path.join("memory.max").exists());
        assert!(group.path.join("pids.max").exists());
    }
}
