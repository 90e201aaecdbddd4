//! Four functions that use the device half of their time: together, and one after the other as with a device of their own.

use anyhow::Result;

use super::house::{Client, House, Terms};
use crate::bench::figures::{Figure, Figures};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("four.md");
const KERNEL_MS: f64 = 1.0;
const FUNCTIONS: usize = 4;
/// Kernels of a burst; the sleep behind it is as long.
const BURST: usize = 25;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (bursts, repetitions) = if bench.quick { (20, 1) } else { (60, 3) };
    let house = House::open(bench, &[Terms::default(); FUNCTIONS], &[])?;
    let rounds = house.calibrate(KERNEL_MS)?;
    let function = |tenant: usize| {
        let (bursts, burst) = (bursts.to_string(), BURST.to_string());
        let sleep = (BURST as f64 * KERNEL_MS).to_string();
        Client::new(tenant, rounds, &["rounds", &bursts, &burst, &sleep])
    };
    let mut table = Table::new(
        format!(
            "Seconds of {FUNCTIONS} functions of {bursts} bursts of {BURST} kernels of {KERNEL_MS} ms"
        ),
        &["run", "one after the other", "together", "ratio"],
    );
    let mut ratios = Vec::new();
    for repetition in 0..repetitions {
        at(format!("repetition {repetition}, one after the other"));
        let mut exclusive = 0.0;
        for tenant in 0..FUNCTIONS {
            exclusive += house.run(&[function(tenant)])?[0].get("end")? / 1000.0;
        }
        at(format!("repetition {repetition}, together"));
        let all: Vec<Client> = (0..FUNCTIONS).map(function).collect();
        let mut together: f64 = 0.0;
        for said in house.run(&all)? {
            together = together.max(said.get("end")? / 1000.0);
        }
        ratios.push(exclusive / together);
        let cells = [exclusive, together, exclusive / together];
        table.row((repetition + 1).to_string(), cells.map(short));
    }
    let placement = bench.machine.anywhere();
    let ratio = median(ratios);
    let figure = Figure::at_least("sharing.four_vs_exclusive", ratio, "ratio", 1.7);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "four",
        title: "Four functions that sleep half of their time",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
