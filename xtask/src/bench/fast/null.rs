//! What the remoting itself costs, over a device that does no work (`bench/nulldev`), beside the same transports with nothing behind them.

use anyhow::{Result, ensure};

use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::machine::{Placement, on_core};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, SCHEMES, Said};

const TEXT: &str = include_str!("null.md");

/// One transport at one placement: the bare exchange, and the calls.
struct Pair {
    bare: Said,
    calls: Said,
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let repetitions = if bench.quick { 1 } else { 5 };
    let mut pairs: Vec<(Placement, Vec<Vec<Pair>>)> = Vec::new();
    let mut contexts = Vec::new();
    for placement in bench.machine.placements() {
        let remote = on_core(placement.server, || {
            bench.server(Vec::new(), Link::default())
        })?;
        let cores = [placement.client.to_string(), placement.server.to_string()];
        let mut all: Vec<Vec<Pair>> = SCHEMES.iter().map(|_| Vec::new()).collect();
        for repetition in 0..repetitions {
            at(format!("{}, repetition {repetition}", placement.name));
            for (transport, pairs) in SCHEMES.iter().zip(&mut all) {
                let pinned = ["--core", &cores[0]];
                let bare = [&pinned[..], &["bare", transport, &cores[1]]].concat();
                let calls = [&pinned[..], &["calls"]].concat();
                pairs.push(Pair {
                    bare: bench.probe(&bare, &[])?,
                    calls: bench.probe(&calls, &remote.by(transport)?)?,
                });
            }
        }
        for _ in 0..4 * repetitions {
            let context = bench.probe(&["context"], &remote.by("shm")?)?;
            contexts.push(context.get("context_ms")?);
        }
        pairs.push((placement, all));
    }
    judge(&pairs, median(contexts), &bench.machine.pinned(), figures)?;
    Ok(Section {
        name: "null",
        title: "Single calls and large copies, beside the bare transports",
        text: TEXT,
        placement: bench.machine.pinned(),
        tables: vec![table(&pairs)?],
        plots: Vec::new(),
    })
}

fn table(pairs: &[(Placement, Vec<Vec<Pair>>)]) -> Result<Table> {
    type Value = fn(&Pair) -> Result<f64>;
    let rows: [(&str, Value); 12] = [
        ("bare round trip, µs", |pair| pair.bare.get("roundtrip_us")),
        ("bare, two writes and an answer, µs", |pair| {
            pair.bare.get("two_writes_us")
        }),
        ("cuMemGetInfo, µs", |pair| pair.calls.get("roundtrip_us")),
        ("launch, in the calling thread, µs", |pair| {
            pair.calls.get("launch_us")
        }),
        ("launch and wait, µs", |pair| {
            pair.calls.get("launch_sync_us")
        }),
        ("launches a second, thousands", |pair| {
            Ok(pair.calls.get("launches_per_s")? / 1000.0)
        }),
        ("pinned copy in, GB/s", |pair| pair.calls.get("there_gbs")),
        ("pinned copy out, GB/s", |pair| pair.calls.get("back_gbs")),
        ("bare, in, GB/s", |pair| pair.bare.get("there_gbs")),
        ("bare, out, GB/s", |pair| pair.bare.get("back_gbs")),
        ("memcpy alone, GB/s", |pair| pair.bare.get("memcpy_gbs")),
        ("context, ms", |pair| pair.calls.get("context_ms")),
    ];
    let mut head = vec![String::new()];
    for (placement, _) in pairs {
        head.extend(
            SCHEMES
                .iter()
                .map(|scheme| format!("{}, {scheme}", placement.name)),
        );
    }
    let mut table = Table {
        caption: "Medians".into(),
        head,
        rows: Vec::new(),
    };
    for (name, value) in rows {
        let cells = pairs.iter().flat_map(|(_, all)| all);
        let cells: Result<Vec<String>> = cells.map(|runs| Ok(short(of(runs, value)?))).collect();
        table.row(name, cells?);
    }
    Ok(table)
}

/// A figure is that of the worst placement.
fn judge(
    pairs: &[(Placement, Vec<Vec<Pair>>)],
    context_ms: f64,
    placement: &str,
    figures: &mut Figures,
) -> Result<()> {
    let mut add = |figure: Figure| figures.add(figure.placed(placement));
    let all = |transport: usize, value: &dyn Fn(&Pair) -> Result<f64>| -> Result<Vec<f64>> {
        pairs
            .iter()
            .map(|(_, runs)| of(&runs[transport], value))
            .collect()
    };
    let most = |values: Vec<f64>| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let least = |values: Vec<f64>| values.into_iter().fold(f64::INFINITY, f64::min);
    let ratio = |pair: &Pair, name: &str| -> Result<f64> {
        Ok(pair.calls.get(name)? / pair.bare.get("roundtrip_us")?)
    };
    for (transport, name) in SCHEMES.iter().enumerate().skip(1) {
        let value = most(all(transport, &|pair| ratio(pair, "roundtrip_us"))?);
        let figure = format!("fast.null.roundtrip.{name}");
        add(Figure::at_most(&figure, value, "ratio", 1.25));
    }
    let extra = most(all(0, &|pair| {
        Ok(pair.calls.get("roundtrip_us")? - pair.bare.get("roundtrip_us")?)
    })?);
    add(Figure::at_most(
        "fast.null.roundtrip_extra_us.shm",
        extra,
        "us",
        1.0,
    ));
    let launch = most(all(0, &|pair| pair.calls.get("launch_us"))?);
    add(Figure::at_most("fast.null.launch_us", launch, "us", 0.6));
    // Sustained: both sides at work, so on as many cores as there are.
    let rates = all(0, &|pair| pair.calls.get("launches_per_s"))?;
    let rate = rates.last().copied().unwrap_or(f64::NAN);
    add(Figure::at_least(
        "fast.null.launches_per_s",
        rate,
        "1/s",
        500_000.0,
    ));
    for (transport, name) in SCHEMES.iter().enumerate().skip(1) {
        let value = most(all(transport, &|pair| ratio(pair, "launch_sync_us"))?);
        let figure = format!("fast.null.launch_sync.{name}");
        add(Figure::at_most(&figure, value, "ratio", 1.5));
    }
    for (transport, name) in SCHEMES.iter().enumerate() {
        let value = least(all(transport, &|pair| {
            let mut worst = f64::INFINITY;
            for way in ["there_gbs", "back_gbs"] {
                let floor = match *name {
                    // One copy and no wire.
                    "shm" => pair.bare.get("memcpy_gbs")?,
                    _ => pair.bare.get(way)?,
                };
                worst = worst.min(pair.calls.get(way)? / floor);
            }
            Ok(worst)
        })?);
        let target = if *name == "shm" { 0.8 } else { 0.85 };
        let figure = format!("fast.null.bulk.{name}");
        add(Figure::at_least(&figure, value, "ratio", target));
    }
    add(Figure::at_most(
        "fast.null.context_ms",
        context_ms,
        "ms",
        3.0,
    ));
    Ok(())
}

/// The median over the repetitions.
fn of(runs: &[Pair], value: impl Fn(&Pair) -> Result<f64>) -> Result<f64> {
    ensure!(!runs.is_empty(), "nothing was measured");
    Ok(median(runs.iter().map(value).collect::<Result<_>>()?))
}
