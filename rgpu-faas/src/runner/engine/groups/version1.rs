//! Control groups of version 1: a tree of its own for each controller, or for a few together. Groups may have processes and groups in
//! them, so the daemon stays where it is; each daemon has a folder there for its attempts' groups.

use super::{CONTROLLERS, Groups, Place, Version, clear};
use std::fs;
use std::path::{Path, PathBuf};

/// The daemons' folders: this, and the process's number.
const FOLDER: &str = "rgpu-faas-";

/// `groups` and `mounts`: /proc/self/cgroup and /proc/self/mountinfo.
pub fn open(groups: &str, mounts: &str, pid: u32) -> Result<Groups, String> {
    let mut made = Groups {
        version: Version::One,
        parents: Vec::new(),
    };
    let mut why = "no controllers of version 1 are mounted".to_owned();
    for controller in CONTROLLERS {
        let Some(own) = own_folder(groups, mounts, controller) else {
            continue;
        };
        let folder = own.join(format!("{FOLDER}{pid}"));
        if let Some(parent) = made.parents.iter_mut().find(|p| p.folder == folder) {
            parent.controllers.push(controller);
            continue;
        }
        clear_ended(&own);
        match fs::create_dir_all(&folder) {
            Ok(()) => made.parents.push(Place {
                folder,
                controllers: vec![controller],
            }),
            Err(error) => why = format!("{}: {error}", folder.display()),
        }
    }
    if made.parents.is_empty() {
        return Err(why);
    }
    Ok(made)
}

/// Where the process's own group of a controller is seen.
fn own_folder(groups: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    // `number:controllers:path`
    let own = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        has(controllers).then_some(path)
    })?;
    // `id parent device root mount-point options … - type source options`; a root other than `/` is what a container is shown.
    let (root, mount) = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let of_controller = kind.next() == Some("cgroup") && kind.nth(1).is_some_and(has);
        let mut mount = mount.split(' ').skip(3);
        of_controller.then_some((mount.next()?, mount.next()?))
    })?;
    let below = Path::new(own).strip_prefix(root).ok()?;
    Some(Path::new(mount).join(below))
}

/// Removes the folders of daemons that have ended, and the groups in them in which nothing runs.
pub fn clear_ended(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            clear(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{function, process_limit_hit};
    use super::*;

    #[test]
    fn each_controller_is_found_where_it_is_mounted() {
        let groups = "4:memory:/pod/a\n3:cpu,cpuacct:/pod/a\n2:pids:/\n1:name=systemd:/\n0::/\n";
        let mounts = "\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 /pod/a /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /other /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = |controller| own_folder(groups, mounts, controller);
        assert_eq!(found("memory"), Some("/sys/fs/cgroup/memory/".into()));
        assert_eq!(
            found("cpu"),
            Some("/sys/fs/cgroup/cpu,cpuacct/pod/a".into())
        );
        // What is mounted is not above the process's own.
        assert_eq!(found("pids"), None);
        assert_eq!(found("blkio"), None);
        assert!(open("", "", 1).unwrap_err().contains("mounted"));
    }

    /// Folders in the place of the kernel's.
    #[test]
    fn a_functions_limits_are_its_groups_and_ended_daemons_leave_none() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["memory", "cpu,pids/rgpu-faas-4294967295/job-old"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let place = root.path().display();
        let mounts = format!(
            "1 1 0:1 / {place}/memory rw - cgroup cgroup rw,memory\n1 1 0:1 / {place}/cpu,pids rw - cgroup cgroup rw,cpu,pids\n"
        );
        let groups = open("1:memory:/\n2:cpu,pids:/\n", &mounts, 1).unwrap();
        assert!(!at("cpu,pids/rgpu-faas-4294967295").exists());
        let limited = function("memory: 64Mi\ncpu: 1.5\nprocesses: 100");
        let group = groups.make(99).unwrap();
        group.add(99).unwrap();
        group.limit(&limited).unwrap();
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        for folder in ["memory", "cpu,pids"] {
            assert_eq!(
                read(&format!("{folder}/rgpu-faas-1/job-99/cgroup.procs")),
                "99"
            );
        }
        let memory = "memory/rgpu-faas-1/job-99";
        assert_eq!(
            read(&format!("{memory}/memory.limit_in_bytes")),
            "100663296"
        );
        let other = "cpu,pids/rgpu-faas-1/job-99";
        assert_eq!(read(&format!("{other}/cpu.cfs_quota_us")), "150000");
        assert_eq!(read(&format!("{other}/cpu.cfs_period_us")), "100000");
        assert_eq!(read(&format!("{other}/pids.max")), "1224");
        assert!(!group.was_out_of_memory());
        let events = at(memory).join("memory.oom_control");
        let hit = || process_limit_hit(group.processes().unwrap(), true);
        assert_eq!(hit(), None);
        fs::write(at(other).join("pids.events"), "max 3\n").unwrap();
        assert_eq!(hit(), Some(1224));
        assert_eq!(process_limit_hit(group.processes().unwrap(), false), None);
        // What others have used up counts here as well.
        fs::write(at(other).join("pids.peak"), "1223\n").unwrap();
        assert_eq!(hit(), None);
        fs::write(at(other).join("pids.peak"), "1224\n").unwrap();
        assert_eq!(hit(), Some(1224));
        fs::write(events, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        assert!(group.was_out_of_memory());
    }
}
