//! Where programs run: which cores, and how much of them a control group leaves.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// What all figures of a run share.
pub struct Machine {
    pub cores: Vec<usize>,
    model: String,
    kernel: String,
    /// Cores that the control group may use on average; `None`: all.
    quota: Option<f64>,
}

/// A program's cores and its server's.
#[derive(Clone, Copy)]
pub struct Placement {
    pub name: &'static str,
    pub client: usize,
    pub server: usize,
}

impl Machine {
    pub fn look() -> Result<Machine> {
        let set = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect();
        cores.first().context("no core")?;
        let models = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = models
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Machine {
            cores,
            model: model.map_or("unknown CPU", |(_, name)| name).to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            quota: quota(),
        })
    }

    /// On one core, and on two where there are so many.
    pub fn placements(&self) -> Vec<Placement> {
        let first = self.cores[0];
        let mut all = vec![Placement {
            name: "one core",
            client: first,
            server: first,
        }];
        all.extend(self.cores.get(1).map(|second| Placement {
            name: "two cores",
            client: first,
            server: *second,
        }));
        all
    }

    /// For figures of programs that are not pinned.
    pub fn anywhere(&self) -> String {
        format!("not pinned: cores {}, {}", list(&self.cores), self.limit())
    }

    pub fn pinned(&self) -> String {
        let both = self.placements().into_iter().map(|place| {
            format!(
                "{} (client {}, server {})",
                place.name, place.client, place.server
            )
        });
        format!(
            "{}, {}",
            both.collect::<Vec<_>>().join(" and "),
            self.limit()
        )
    }

    fn limit(&self) -> String {
        match self.quota {
            Some(cores) => format!("quota of {cores} cores"),
            None => "no CPU quota".into(),
        }
    }

    pub fn json(&self) -> Value {
        json!({"cores": self.cores, "cpu": self.model, "kernel": self.kernel, "quota": self.quota})
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, limit) = (list(&self.cores), self.limit());
        write!(
            f,
            "{}, cores {cores}, {limit}, Linux {}",
            self.model, self.kernel
        )
    }
}

fn list(cores: &[usize]) -> String {
    let all: Vec<String> = cores.iter().map(usize::to_string).collect();
    all.join(" ")
}

/// The least quota of the control groups that this process is in, of version 2 or 1.
fn quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let second = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut path = std::path::PathBuf::from(format!("/sys/fs/cgroup{}", second.unwrap_or("/")));
    let mut least: Option<f64> = None;
    let mut hear = |found: Option<f64>| {
        least = match (least, found) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        }
    };
    while path.starts_with("/sys/fs/cgroup") {
        let text = fs::read_to_string(path.join("cpu.max")).unwrap_or_default();
        hear(of_two(text.trim().split_once(' ')));
        path.pop();
    }
    let first = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/cpu/{name}")).ok();
    let (quota, period) = (first("cpu.cfs_quota_us"), first("cpu.cfs_period_us"));
    hear(of_two(quota.as_deref().zip(period.as_deref())));
    least
}

fn of_two(quota: Option<(&str, &str)>) -> Option<f64> {
    let (quota, period) = quota?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| *value > 0.0);
    Some(number(quota)? / number(period)?)
}

/// Runs something whose children are to be on one core.
pub fn on_core<T>(core: usize, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).with_context(|| format!("core {core}"))?;
    let result = body();
    sched_setaffinity(None, &all)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_cores() {
        assert_eq!(of_two(Some(("150000", "100000\n"))), Some(1.5));
        // Both versions' words for "none".
        assert_eq!(of_two(Some(("max", "100000"))), None);
        assert_eq!(of_two(Some(("-1\n", "100000\n"))), None);
    }
}
