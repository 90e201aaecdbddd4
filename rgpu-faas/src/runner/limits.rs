//! What a program may use, looked at from outside every now and then.

use super::engine::Excess;
use super::engine::groups::process_limit_hit;
use super::processes::{anonymous_memory, children_below, namespaces};
use super::supervise::Spec;
use crate::beneath::{self, Usage, UsageError};
use std::path::{Path, PathBuf};

/// Entries of the folder that one look goes over.
const ENTRIES: usize = 20_000;
/// So many looks in a row may find the folder in a state that cannot be counted.
const FAILURES: u32 = 20;

/// A program's limits, and how far its folder has been counted.
pub struct Limits {
    /// In how many process namespaces the supervisor is, if only what is in more counts: the others are the wrapping's.
    outside: Option<usize>,
    memory: Option<u64>,
    processes: Option<u32>,
    group: Option<PathBuf>,
    disk: Option<Disk>,
}

struct Disk {
    limit: u64,
    usage: Usage,
    failures: u32,
}

impl Limits {
    pub fn of(spec: &Spec) -> Limits {
        let folder = || beneath::root(Path::new(&spec.folder)).ok();
        let disk = |limit| {
            folder().map(|folder| Disk {
                limit,
                usage: Usage::of(folder),
                failures: 0,
            })
        };
        let is_shield = spec.wrapper.as_ref().is_some_and(|it| it.is_shield);
        Limits {
            outside: is_shield.then(|| namespaces(std::process::id() as i32)),
            memory: spec.memory,
            processes: spec.processes,
            group: spec.group.as_ref().map(PathBuf::from),
            disk: spec.disk.and_then(disk),
        }
    }

    /// The limit that is exceeded now.
    pub fn look(&mut self) -> Option<Excess> {
        if self.memory.is_some() || self.processes.is_some() {
            let mut all = children_below(std::process::id() as i32);
            if let Some(outside) = self.outside {
                all.retain(|pid| namespaces(*pid) > outside);
            }
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            if self.processes.is_some_and(|limit| count > limit) {
                return Some(Excess::Processes(count));
            }
            // Nobody is ended for what others have used up.
            let group = self.group.as_deref();
            if let Some(limit) = group.and_then(|group| process_limit_hit(group, false)) {
                return Some(Excess::Tasks(limit));
            }
            if let Some(limit) = self.memory {
                let used: u64 = all.into_iter().map(anonymous_memory).sum();
                if used > limit {
                    return Some(Excess::Memory(used));
                }
            }
        }
        self.disk.as_mut().and_then(Disk::look)
    }
}

impl Disk {
    fn look(&mut self) -> Option<Excess> {
        match self.usage.step(ENTRIES, self.limit) {
            Ok(used) => {
                self.failures = 0;
                used.filter(|used| *used > self.limit).map(Excess::Disk)
            }
            Err(UsageError::TooDeep) => Some(Excess::Depth),
            Err(UsageError::Io(_)) => {
                self.failures += 1;
                (self.failures > FAILURES).then_some(Excess::Uncountable)
            }
        }
    }
}
