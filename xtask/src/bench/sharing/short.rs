//! Short jobs beside tenants that never end: many of them, and one with long kernels.

use anyhow::{Result, ensure};

use super::house::{Client, House, Terms};
use super::shares::{count, quantile};
use crate::bench::figures::{Figure, Figures};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, Said};

const TEXT: &str = include_str!("short.md");
const KERNEL_MS: f64 = 1.0;
const JOB_KERNELS: usize = 5;
const PAUSE_MS: f64 = 60.0;
const BATCH_TENANTS: usize = 3;
const BATCH_KERNEL_MS: f64 = 2.0;
const LONG_KERNEL_MS: f64 = 200.0;

/// Where the short jobs' tenant stands in the house.
const SHORT: usize = 0;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let seconds = if bench.quick { 8.0 } else { 30.0 };
    let house = House::open(bench, &[Terms::default(); 1 + BATCH_TENANTS], &[])?;
    let rounds = house.calibrate(KERNEL_MS)?;
    let jobs = |seconds: f64| {
        let (kernels, pause) = (JOB_KERNELS.to_string(), PAUSE_MS.to_string());
        let words = ["jobs", &seconds.to_string(), &kernels, &pause];
        Client::new(SHORT, rounds, &words)
    };
    at("alone".into());
    let alone = Jobs::of(&house.run(&[jobs(seconds / 4.0)])?[0])?;
    let typical = median(alone.times());
    at(format!("beside {BATCH_TENANTS} batch tenants"));
    let mut clients = vec![jobs(seconds)];
    let batch = rounds * BATCH_KERNEL_MS / KERNEL_MS;
    clients.extend((1..=BATCH_TENANTS).map(|tenant| Client::batch(tenant, batch, seconds + 0.25)));
    let beside = Jobs::of(&house.run(&clients)?[0])?;
    at(format!("beside kernels of {LONG_KERNEL_MS} ms"));
    let long = rounds * LONG_KERNEL_MS / KERNEL_MS;
    let neighbour = Client::batch(1, long, seconds + 1.0);
    let said = house.run(&[jobs(seconds), neighbour])?;
    let (beside_long, ends) = (Jobs::of(&said[0])?, said[1].list("ends")?);
    let waited_for = beside_long.ended_during(&ends);

    let waits = |jobs: &Jobs| {
        jobs.times()
            .into_iter()
            .map(|time| time - typical)
            .collect()
    };
    let mut table = Table::new(
        format!(
            "Milliseconds that jobs of {JOB_KERNELS} kernels of {KERNEL_MS} ms waited, beyond the {} that one takes alone",
            short(typical)
        ),
        &["beside", "jobs", "median", "p90", "p99", "most"],
    );
    for (name, jobs) in [
        ("nobody".to_owned(), &alone),
        (format!("{BATCH_TENANTS} batch tenants"), &beside),
        (format!("kernels of {LONG_KERNEL_MS} ms"), &beside_long),
    ] {
        let cells = [0.5, 0.9, 0.99, 1.0].map(|part| short(quantile(waits(jobs), part)));
        let count = jobs.begins.len().to_string();
        table.row(name, [count].into_iter().chain(cells));
    }
    let placement = bench.machine.anywhere();
    let p99 = quantile(waits(&beside), 0.99);
    let figure = Figure::at_most("sharing.short_wait_p99_ms", p99, "ms", 20.0);
    figures.add(figure.placed(&placement));
    let figure = Figure::at_most("sharing.long_neighbour_kernels", waited_for, "kernels", 1.0);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "short",
        title: "Short jobs beside endless ones",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

struct Jobs {
    begins: Vec<f64>,
    ends: Vec<f64>,
}

impl Jobs {
    fn of(said: &Said) -> Result<Jobs> {
        let jobs = Jobs {
            begins: said.list("begins")?,
            ends: said.list("ends")?,
        };
        ensure!(
            jobs.begins.len() == jobs.ends.len() && !jobs.ends.is_empty(),
            "no jobs ended"
        );
        Ok(jobs)
    }

    fn times(&self) -> Vec<f64> {
        let pairs = self.begins.iter().zip(&self.ends);
        pairs.map(|(begin, end)| end - begin).collect()
    }

    /// Of a neighbour's kernels, how many ended during a job at most.
    fn ended_during(&self, ends: &[f64]) -> f64 {
        let pairs = self.begins.iter().zip(&self.ends);
        let counts = pairs.map(|(begin, end)| count(ends, *begin, *end));
        counts.fold(f64::NAN, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_a_job_waited_for() {
        let jobs = Jobs {
            begins: vec![0.0, 100.0, 300.0],
            ends: vec![10.0, 290.0, 310.0],
        };
        assert_eq!(jobs.times(), [10.0, 190.0, 10.0]);
        assert_eq!(jobs.ended_during(&[95.0, 150.0, 250.0, 305.0]), 2.0);
        assert_eq!(jobs.ended_during(&[]), 0.0);
    }
}
