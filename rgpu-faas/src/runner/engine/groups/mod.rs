//! Limits that the kernel keeps: control groups of the attempts, below the daemon's own.
//!
//! Of version 2 they can be made where the daemon's group was handed to it, as systemd does with `Delegate=yes`, and holds nobody else. Of
//! version 1 they can be made by root.

mod version1;
mod version2;

use crate::function::Function;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Microseconds of which a group may have its share of cores.
const PERIOD: u64 = 100_000;
/// Threads, which the kernel counts as well, and what is around a program.
const BESIDE: u32 = 1024;
/// Bytes for what is around a program, and what is read from files.
const MEMORY_BESIDE: u64 = 32 << 20;
/// How often what runs in a group is killed, until nothing does.
const KILLS: u32 = 100;

/// What attempts' groups are called: this, and their supervisor's process.
const JOB: &str = "job-";

/// How the kernel names its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The groups that attempts' groups are made in.
#[derive(Debug)]
pub struct Groups {
    version: Version,
    parents: Vec<Place>,
}

/// A folder of groups, or a group: what some controllers have of it. In version 1 each may have its own.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    controllers: Vec<&'static str>,
}

impl Groups {
    /// Makes them, or says why not.
    pub fn open() -> Result<Groups, String> {
        let of = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
        let own = of("/proc/self/cgroup")?;
        let pid = std::process::id();
        version2::open(&own, pid).or_else(|why| {
            version1::open(&own, &of("/proc/self/mountinfo")?, pid)
                .map_err(|other| format!("{why}; {other}"))
        })
    }

    /// What the kernel keeps a job's share of.
    pub fn controllers(&self) -> String {
        let all = self.parents.iter().flat_map(|place| &place.controllers);
        all.copied().collect::<Vec<_>>().join(" ")
    }

    /// Removes the groups that an earlier daemon left; those in which something still runs stay.
    pub fn clear(&self) {
        for Place { folder, .. } in &self.parents {
            match (self.version, folder.parent()) {
                (Version::Two, _) => clear(folder),
                (Version::One, Some(own)) => version1::clear_ended(own),
                (Version::One, None) => {}
            }
        }
    }

    /// A group without limits, for the process `pid`.
    pub fn make(&self, pid: u32) -> io::Result<Group> {
        let mut group = Group {
            version: self.version,
            places: Vec::new(),
        };
        for parent in &self.parents {
            let folder = parent.folder.join(format!("{JOB}{pid}"));
            // A daemon that does not see this one's process may have taken it for one that has ended.
            fs::create_dir_all(&parent.folder)?;
            if folder.exists() {
                // Of an earlier process of this number, with its limits.
                fs::remove_dir(&folder)?;
            }
            fs::create_dir(&folder)?;
            group.places.push(Place {
                folder,
                controllers: parent.controllers.clone(),
            });
        }
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if self.version == Version::One {
            for parent in &self.parents {
                // One that has something in it stays; a later daemon looks at it.
                let _ = fs::remove_dir(&parent.folder);
            }
        }
    }
}

/// Removes the groups of attempts in `folder`; those in which something still runs stay.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(JOB.as_bytes()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The group of one program. Goes when it is dropped, by when nothing may run in it.
#[derive(Debug)]
pub struct Group {
    version: Version,
    places: Vec<Place>,
}

impl Group {
    /// Takes a process in, and with it all that it starts from now on.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        let mut places = self.places.iter();
        places.try_for_each(|place| fs::write(place.folder.join("cgroup.procs"), pid.to_string()))
    }

    /// Sets a function's limits: each, whatever becomes of the others.
    pub fn limit(&self, function: &Function) -> io::Result<()> {
        // The one that keeps others from harm first.
        let processes = self.set("pids", "pids.max", most_processes(function));
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let memory = function.memory.map_or(Ok(()), |bytes| {
            self.set("memory", file, bytes.saturating_add(MEMORY_BESIDE))
        });
        let cpu = function.cpu.map_or(Ok(()), |cpu| self.limit_cpu(cpu));
        processes.and(memory).and(cpu)
    }

    fn limit_cpu(&self, cpu: f64) -> io::Result<()> {
        // The kernel takes no less than a millisecond.
        let quota = ((cpu * PERIOD as f64) as u64).max(1000);
        match self.version {
            Version::One => {
                self.set("cpu", "cpu.cfs_period_us", PERIOD)?;
                self.set("cpu", "cpu.cfs_quota_us", quota)
            }
            Version::Two => self.set("cpu", "cpu.max", format!("{quota} {PERIOD}")),
        }
    }

    /// Kills what runs in it, until nothing does.
    pub fn kill(&self) {
        // Each has the same members.
        let Some(place) = self.places.first() else {
            return;
        };
        let members = place.folder.join("cgroup.procs");
        for _ in 0..KILLS {
            let members = fs::read_to_string(&members).unwrap_or_default();
            if members.is_empty() {
                return;
            }
            for pid in members
                .lines()
                .flat_map(str::parse)
                .filter_map(Pid::from_raw)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Writes a controller's file, if the controller is there.
    fn set(&self, controller: &str, file: &str, value: impl ToString) -> io::Result<()> {
        match self.place(controller) {
            Some(folder) => fs::write(folder.join(file), value.to_string()),
            None => Ok(()),
        }
    }

    fn place(&self, controller: &str) -> Option<&Path> {
        let mut places = self.places.iter();
        let found = places.find(|place| place.controllers.contains(&controller));
        found.map(|place| place.folder.as_path())
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let Some(folder) = self.place("memory") else {
            return false;
        };
        has_happened(&folder.join(file), "oom_kill ")
    }

    /// Where the kernel counts its processes, for [`process_limit_hit`].
    pub fn processes(&self) -> Option<&Path> {
        self.place("pids")
    }
}

/// The group's limit on processes, if the kernel has refused one for it. What a group above refused is counted as well, and only kernels since
/// 6.1 have a `pids.peak` to tell; without, it is `taken_for_own`.
pub fn process_limit_hit(group: &Path, taken_for_own: bool) -> Option<u32> {
    let number = |file: &str| -> Option<u32> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    if !has_happened(&group.join("pids.events"), "max ") {
        return None;
    }
    let limit = number("pids.max")?;
    let is_own = number("pids.peak").map_or(taken_for_own, |peak| peak >= limit);
    is_own.then_some(limit)
}

/// Whether a file of counts has one that is not 0.
fn has_happened(file: &Path, event: &str) -> bool {
    let events = fs::read_to_string(file).unwrap_or_default();
    let count = events.lines().find_map(|line| line.strip_prefix(event));
    count.is_some_and(|count| count.trim() != "0")
}

/// How many processes and threads the kernel lets a function's program have: far more than the function may, so that the supervisor sees
/// that many and ends the program for it. One that doubles may come that far and fall back between two looks; the group tells of it.
fn most_processes(function: &Function) -> u32 {
    let processes = function.place.processes.saturating_mul(2);
    processes.saturating_add(BESIDE)
}

impl Drop for Group {
    fn drop(&mut self) {
        for place in &self.places {
            if let Err(error) = fs::remove_dir(&place.folder) {
                tracing::warn!(group = %place.folder.display(), %error, "a control group stays");
            }
        }
    }
}

#[cfg(test)]
fn function(fields: &str) -> Function {
    let text = format!("name: f\ncommand: [x]\n{fields}\n");
    crate::function::parse(&text, "f", None).unwrap().remove(0)
}
