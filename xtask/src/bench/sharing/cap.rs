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
/// The two work in turns, each alone: the machine's speed drifts within seconds, and both must see the same of it.
const PERIOD_MS: f64 = 1500.0;
const CAPPED_MS: f64 = 1000.0;
const PERIODS: u32 = 12;
/// Before what is counted of each turn: what was saved up before it is burst, not share.
const SETTLE_MS: f64 = 200.0;

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
    let rounds = house.calibrate_of(1, KERNEL_MS)?.to_string();
    let time = format!("{}ns", KERNEL_MS * 1e6);
    let cap = f64::from(CAP_PERCENT) / 100.0;
    let mut table = Table::new(
        format!("A cap of {CAP_PERCENT} % with kernels of {KERNEL_MS} ms"),
        &["run", "kernels a second, capped", "open", "share"],
    );
    let mut run = |work: &str, name: String| -> Result<f64> {
        at(name.clone());
        let (capped, open) = turns(&house, work)?;
        table.row(name, [capped, open, capped / open].map(short));
        Ok(capped / open)
    };
    let mut error = f64::NAN;
    for repetition in 1..=repetitions {
        let share = run(&time, format!("{repetition}, by the device's clock"))?;
        error = error.max((share - cap).abs());
    }
    for repetition in 1..=repetitions {
        run(&rounds, format!("{repetition}, by rounds"))?;
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

/// Kernels a second of the capped and of the open tenant, in turns.
fn turns(house: &House<'_>, work: &str) -> Result<(f64, f64)> {
    let client = |tenant: usize, from: f64, to: f64| {
        let seconds = PERIOD_MS * f64::from(PERIODS) / 1000.0;
        let words = [seconds, 4.0, PERIOD_MS, from, to].map(|number| number.to_string());
        let words: Vec<&str> = ["batch"]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        Client::new(tenant, work, &words)
    };
    let said = house.run(&[client(0, 0.0, CAPPED_MS), client(1, CAPPED_MS, PERIOD_MS)])?;
    let rate = |tenant: usize, from: f64, to: f64| -> Result<f64> {
        let ends = said[tenant].list("ends")?;
        let of_one = |period: u32| {
            let begin = f64::from(period) * PERIOD_MS;
            count(&ends, begin + from, begin + to)
        };
        let all: f64 = (0..PERIODS).map(of_one).sum();
        Ok(all / f64::from(PERIODS) / (to - from) * 1000.0)
    };
    let capped = rate(0, SETTLE_MS, CAPPED_MS)?;
    let open = rate(1, CAPPED_MS + SETTLE_MS / 4.0, PERIOD_MS)?;
    Ok((capped, open))
}
