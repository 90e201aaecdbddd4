//! Control groups of version 2: one tree for all controllers. The kernel wants processes in its leaves alone, so the daemon moves into one
//! of its own first.

use super::{CONTROLLERS, Groups, Place, Version, clear};
use std::fs;
use std::io;
use std::path::Path;

/// Where systems mount them.
const MOUNT: &str = "/sys/fs/cgroup";
/// The daemon's own leaf.
const OWN: &str = "daemon";

/// Takes the daemon's own group, which `groups`, /proc/self/cgroup, names.
pub fn open(groups: &str, pid: u32) -> Result<Groups, String> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or("the kernel has no control groups of version 2 here")?;
    take(&Path::new(MOUNT).join(own), pid)
}

/// Makes `root` a group of groups, with the process `own`, which must be its only one, in a leaf.
fn take(root: &Path, own: u32) -> Result<Groups, String> {
    let said = |error: io::Error| format!("{}: {error}", root.display());
    let read = |name: &str| fs::read_to_string(root.join(name));
    let there = read("cgroup.controllers")
        .map_err(|error| format!("no control groups of version 2: {}", said(error)))?;
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
    fs::create_dir_all(&leaf).map_err(said)?;
    fs::write(leaf.join("cgroup.procs"), own.to_string()).map_err(said)?;
    let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if let Err(error) = fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")) {
        let _ = fs::write(root.join("cgroup.procs"), own.to_string());
        let _ = fs::remove_dir(&leaf);
        return Err(said(error));
    }
    clear(root);
    Ok(Groups {
        version: Version::Two,
        parents: vec![Place {
            folder: root.to_owned(),
            controllers,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::super::function;
    use super::*;

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
        let groups = take(root.path(), 17).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids");
        assert_eq!(read("daemon/cgroup.procs"), "17");
        let limited = function("memory: 64Mi\ncpu: 1.5\nprocesses: 100");
        let group = groups.make(99).unwrap();
        group.add(99).unwrap();
        group.limit(&limited).unwrap();
        assert_eq!(read("job-99/cgroup.procs"), "99");
        assert_eq!(read("job-99/memory.max"), "100663296");
        assert_eq!(read("job-99/cpu.max"), "150000 100000");
        assert_eq!(read("job-99/pids.max"), "1224");
        assert!(!group.was_out_of_memory());
        let events = root.path().join("job-99/memory.events");
        fs::write(&events, "low 0\noom 1\noom_kill 1\noom_group_kill 0\n").unwrap();
        assert!(group.was_out_of_memory());
        fs::write(&events, "oom_kill 0\n").unwrap();
        assert!(!group.was_out_of_memory());
    }

    #[test]
    fn a_group_that_is_not_the_daemons_alone_is_left_as_it_is() {
        let shared = kernel("cpu memory pids", "17\n18\n");
        let why = take(shared.path(), 17).unwrap_err();
        assert!(why.contains("other processes"), "{why}");
        assert!(!shared.path().join(OWN).exists());
        let bare = kernel("", "17\n");
        let why = take(bare.path(), 17).unwrap_err();
        assert!(why.contains("no controllers"), "{why}");
        assert!(take(Path::new("/nowhere"), 17).is_err());
        let partly = kernel("pids", "17\n");
        let groups = take(partly.path(), 17).unwrap();
        let group = groups.make(1).unwrap();
        group.limit(&function("memory: 64Mi\ncpu: 1")).unwrap();
        assert!(!partly.path().join("job-1/memory.max").exists());
        assert!(partly.path().join("job-1/pids.max").exists());
    }
}
