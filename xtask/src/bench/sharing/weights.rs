//! Two tenants that always have work, with different weights.

use anyhow::Result;

use super::house::{Client, House, Terms};
use super::shares::{count, worst};
use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("weights.md");
const KERNEL_MS: f64 = 1.0;
/// Before the first stretch: clients do not begin in the same millisecond.
const SETTLE_MS: f64 = 250.0;
const PAIRS: [(u32, u32); 3] = [(1, 1), (1, 3), (1, 9)];

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let repetitions = if bench.quick { 1 } else { 3 };
    let mut table = Table::new(
        format!("Two tenants with kernels of {KERNEL_MS} ms, {repetitions} runs each"),
        &[
            "weights",
            "share of the first over 10 s",
            "kernels a second, both",
            "worst, 10 s",
            "worst, any 1 s",
        ],
    );
    let (mut of_ten, mut of_one) = (f64::NAN, f64::NAN);
    for (first, second) in PAIRS {
        let terms = [first, second].map(|weight| Terms {
            weight: weight * 100,
            ..Terms::default()
        });
        let whole = f64::from(first + second);
        let due = [f64::from(first) / whole, f64::from(second) / whole];
        let house = House::open(bench, &terms, &[])?;
        let rounds = house.calibrate(KERNEL_MS)?;
        let (mut ten, mut one) = (f64::NAN, f64::NAN);
        let (mut share, mut rate) = (0.0, 0.0);
        for repetition in 0..repetitions {
            at(format!("{first}:{second}, repetition {repetition}"));
            let clients = [0, 1].map(|tenant| Client::batch(tenant, rounds, 10.5));
            let said = house.run(&clients)?;
            let ends = [said[0].list("ends")?, said[1].list("ends")?];
            let (from, to) = (SETTLE_MS, SETTLE_MS + 10_000.0);
            ten = ten.max(worst(&ends, &due, from, to, 10_000.0));
            one = one.max(worst(&ends, &due, from, to, 1000.0));
            let counts = [count(&ends[0], from, to), count(&ends[1], from, to)];
            share += counts[0] / (counts[0] + counts[1]) / f64::from(repetitions);
            rate += (counts[0] + counts[1]) / 10.0 / f64::from(repetitions);
        }
        table.row(
            format!("{first}:{second}"),
            [share, rate, ten, one].map(short),
        );
        (of_ten, of_one) = (of_ten.max(ten), of_one.max(one));
    }
    let placement = bench.machine.anywhere();
    for (name, value, target) in [
        ("sharing.weights_error_10s", of_ten, 0.03),
        ("sharing.weights_error_1s", of_one, 0.10),
    ] {
        let figure = Figure::at_most(name, value, "share", target);
        figures.add(figure.placed(&placement));
    }
    Ok(Section {
        name: "weights",
        title: "Weights",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
