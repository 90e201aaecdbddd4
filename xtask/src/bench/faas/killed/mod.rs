//! Events while the runner is killed again and again: is one lost, is an output published twice?

mod events;
mod journal;
mod published;
mod storm;
mod tally;

use anyhow::{Result, ensure};

use crate::bench::figures::{Figure, Figures};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{self, Bench};
use journal::Moment;
use storm::{Plan, Storm};
use tally::Tally;

const TEXT: &str = include_str!("killed.md");
/// Of the lost and the doubled, so many are named.
const NAMED: usize = 5;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let plan = match bench.quick {
        true => Plan {
            events: 1_500,
            kills: 16,
            of_each: 1,
            seed: tools::seed()?,
        },
        false => Plan {
            events: 10_000,
            kills: 50,
            of_each: 5,
            seed: tools::seed()?,
        },
    };
    let done = Storm::start(bench, &plan)?.run(at)?;
    for moment in Moment::ALL {
        let hits = done.kills.iter().filter(|kill| kill.moment == moment);
        ensure!(
            hits.count() >= plan.of_each,
            "too few kills at the moment {}",
            moment.name()
        );
    }
    let Tally { lost, doubled } = &done.tally;
    for (what, names) in [("lost", lost), ("doubled", doubled)] {
        for name in names.iter().take(NAMED) {
            eprintln!("  {what}: {name}");
        }
    }
    let placement = bench.machine.anywhere();
    for (name, value) in [("faas.lost", lost.len()), ("faas.doubled", doubled.len())] {
        let figure = Figure::at_most(name, value as f64, "events", 0.0);
        figures.add(figure.placed(&placement));
    }
    let mut kills = Table::new(
        format!(
            "{} kills, by the state that they were aimed at, and jobs that were in it then or had just come to it",
            done.kills.len()
        ),
        &["state", "kills", "jobs in it, median"],
    );
    for moment in Moment::ALL {
        let of = done.kills.iter().filter(|kill| kill.moment == moment);
        let jobs: Vec<f64> = of.map(|kill| kill.jobs as f64).collect();
        let cells = [jobs.len().to_string(), short(median(jobs))];
        kills.row(moment.name(), cells);
    }
    let mut run = Table::new("The run", &["", ""]);
    let ready = done.kills.iter().map(|kill| kill.ready_ms).collect();
    for (name, value) in [
        ("events", plan.events as f64),
        ("of them calls", done.calls as f64),
        ("attempts beyond one a job", done.more_attempts as f64),
        ("seconds, without those without a runner", done.seconds),
        ("jobs a second", plan.events as f64 / done.seconds),
        (
            "milliseconds from a kill to the next runner, median",
            median(ready),
        ),
        ("hidden files left in output folders", done.left as f64),
    ] {
        run.row(name, [short(value)]);
    }
    Ok(Section {
        name: "killed",
        title: "A runner that is killed",
        text: TEXT,
        placement,
        tables: vec![kills, run],
        plots: Vec::new(),
    })
}
