//! A tenant with a hard cap that has the device for itself.

use anyhow::Result;

use super::house::{Client, House, Terms};
use super::shares::count;
use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("cap.md");
const KERNEL_MS: f64 = 1.0;
const CAP_PERCENT: u32 = 30;
/// Before what is counted: a bucket that is full at the beginning is burst, not share.
const SETTLE_MS: f64 = 1000.0;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let repetitions = if bench.quick { 1 } else { 3 };
    let terms = [
        Terms {
            cap_percent: Some(CAP_PERCENT),
            ..Terms::default()
        },
        Terms::default(),
    ];
    let house = House::open(bench, &terms, &[])?;
    let rounds = house.calibrate_of(1, KERNEL_MS)?;
    let cap = f64::from(CAP_PERCENT) / 100.0;
    let mut table = Table::new(
        format!("A cap of {CAP_PERCENT} % with kernels of {KERNEL_MS} ms"),
        &["run", "kernels a second, capped", "open", "share"],
    );
    let mut error = f64::NAN;
    for repetition in 0..repetitions {
        at(format!("repetition {repetition}"));
        let rate = |tenant: usize, seconds: f64| -> Result<f64> {
            let client = Client::batch(tenant, rounds, seconds + SETTLE_MS / 1000.0 + 0.25);
            let ends = house.run(&[client])?[0].list("ends")?;
            let to = SETTLE_MS + seconds * 1000.0;
            Ok(count(&ends, SETTLE_MS, to) / seconds)
        };
        // What the whole device is, on both sides of it: the machine's speed drifts.
        let before = rate(1, 3.0)?;
        let capped = rate(0, 10.0)?;
        let open = (before + rate(1, 3.0)?) / 2.0;
        let share = capped / open;
        error = error.max((share - cap).abs());
        table.row(
            (repetition + 1).to_string(),
            [capped, open, share].map(short),
        );
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("sharing.cap_error", error, "share", 0.02);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "cap",
        title: "A hard cap",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
