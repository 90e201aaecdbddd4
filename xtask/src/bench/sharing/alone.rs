//! What the scheduler costs a tenant that has the device for itself.

use anyhow::Result;

use super::house::{Client, House, Terms};
use super::shares::count;
use crate::bench::figures::{Figure, Figures};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("alone.md");
const KERNEL_MS: f64 = 0.5;
const SECONDS: f64 = 2.0;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let repetitions = if bench.quick { 3 } else { 12 };
    let terms = [Terms::default()];
    let with = House::open(bench, &terms, &[])?;
    let without = House::open(bench, &terms, &["--time-sharing", "off"])?;
    let rounds = with.calibrate(KERNEL_MS)?;
    let (mut costs, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    for repetition in 0..repetitions {
        at(format!("repetition {repetition}"));
        let rate = |house: &House<'_>| -> Result<f64> {
            let client = Client::batch(0, rounds, SECONDS + 0.25);
            let ends = house.run(&[client])?[0].list("ends")?;
            Ok(count(&ends, 200.0, 200.0 + SECONDS * 1000.0) / SECONDS)
        };
        // Without on both sides of it: what drifts cancels.
        let before = rate(&without)?;
        let scheduled = rate(&with)?;
        let free = (before + rate(&without)?) / 2.0;
        costs.push(1.0 - scheduled / free);
        rates[0].push(scheduled);
        rates[1].push(free);
    }
    let [scheduled, free] = rates.map(median);
    let cost = median(costs);
    let mut table = Table::new(
        format!("Kernels of {KERNEL_MS} ms a second, medians of {repetitions} runs of {SECONDS} s"),
        &["", "with", "without", "cost"],
    );
    table.row("alone", [scheduled, free, cost].map(short));
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("sharing.alone_cost", cost, "share", 0.01);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "alone",
        title: "Alone",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
