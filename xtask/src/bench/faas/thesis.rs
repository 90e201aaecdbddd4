//! The thesis's clips in the runner, on a device in the function's process and on a remote one.

use std::cell::Cell;

use anyhow::Result;
use rgpu_system::Faas;
use rgpu_system::faas::Gpu;

use super::arrival::arrive;
use crate::bench::fast::paced::{Function, timed, workflow};
use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::tools::{Bench, Place};

const TEXT: &str = include_str!("thesis.md");
/// The functions.
const COLD: &str = "paced";
const WARM: &str = "warm";
/// Frames, and the thesis's seconds: console, OSCAR with a local GPU, OSCAR with rCUDA.
const THESIS: [(u32, [f64; 3]); 6] = [
    (60, [7.0, 15.0, 26.0]),
    (120, [11.0, 19.0, 40.0]),
    (180, [15.0, 24.0, 52.0]),
    (240, [18.0, 28.0, 69.0]),
    (300, [22.0, 32.0, 84.0]),
    (360, [27.0, 36.0, 95.0]),
];

/// A runner, and where its functions' device is.
struct Side<'a> {
    faas: Faas,
    function: &'a Function<'a>,
    round: Cell<u32>,
}

impl<'a> Side<'a> {
    fn start(
        bench: &Bench<'_>,
        function: &'a Function<'a>,
        gpu: Gpu<'_>,
        more: Place,
    ) -> Result<Side<'a>> {
        let mut environment = function.environment();
        environment.extend(more);
        let faas = Faas::start(bench.programs, &bench.new_folder()?, gpu, &environment)?;
        for definition in ["function.yaml", "warm.yaml"] {
            faas.apply(bench.programs, &workflow().join(definition))?;
        }
        Ok(Side {
            faas,
            function,
            round: Cell::new(0),
        })
    }

    /// Seconds of a clip by a function.
    fn seconds(&self, function: &str, frames: u32) -> Result<f64> {
        self.round.set(self.round.get() + 1);
        let name = format!("clip{}.dcm", self.round.get());
        arrive(&self.faas, function, self.function.clip(frames)?, &name)
    }
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (lengths, few, many): (Vec<u32>, u32, u32) = match bench.quick {
        true => (vec![8, 32], 8, 32),
        false => (THESIS.map(|(frames, _)| frames).into(), 60, 180),
    };
    let mut function = Function::new(bench, &lengths)?;
    at("how long the function takes by itself".into());
    function.calibrate(few, many)?;
    let server = function.server(Link::default())?;
    let (of_null, home) = (Gpu::Exclusive(&bench.null), bench.new_folder()?);
    let local = Side::start(bench, &function, of_null, timed("", &home))?;
    let by_tcp = Gpu::Remote(&server.server, "tcp");
    let remote = Side::start(bench, &function, by_tcp, Vec::new())?;
    at("an instance of each, kept started".into());
    // Before what counts.
    for side in [&local, &remote] {
        side.seconds(WARM, lengths[0])?;
    }
    let (mut cold, mut warm) = (Pairs::default(), Pairs::default());
    for &frames in &lengths {
        for (name, pairs, function) in [("cold", &mut cold, COLD), ("warm", &mut warm, WARM)] {
            at(format!("{frames} frames, {name}"));
            let here = local.seconds(function, frames)?;
            pairs.add(frames, here, remote.seconds(function, frames)?);
        }
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("faas.warm_ratio", warm.worst(), "ratio", 1.10);
    figures.add(figure.placed(&placement));
    let figure = Figure::at_most("faas.cold_ratio", cold.worst(), "ratio", 1.15);
    figures.add(figure.placed(&placement));
    let thesis = |which: usize| {
        let points = THESIS
            .iter()
            .map(|(frames, seconds)| (f64::from(*frames), seconds[which]));
        points.collect::<Vec<_>>()
    };
    let series = vec![
        ("local, cold".to_owned(), cold.points(|pair| pair.local)),
        ("remote, cold".to_owned(), cold.points(|pair| pair.remote)),
        ("local, warm".to_owned(), warm.points(|pair| pair.local)),
        ("remote, warm".to_owned(), warm.points(|pair| pair.remote)),
        ("thesis: console".to_owned(), thesis(0)),
        ("thesis: OSCAR, local GPU".to_owned(), thesis(1)),
        ("thesis: OSCAR, rCUDA".to_owned(), thesis(2)),
    ];
    Ok(Section {
        name: "thesis",
        title: "The thesis's clips",
        text: TEXT,
        placement,
        tables: vec![cold.table("cold"), warm.table("warm")],
        plots: vec![Plot {
            file: "thesis",
            title: "One clip in the runner, seconds by frames".into(),
            x: "frames",
            y: "seconds",
            shape: Shape::Lines {
                logarithmic: false,
                series,
            },
        }],
    })
}

/// Seconds of one length.
#[derive(Clone, Copy)]
struct Pair {
    frames: u32,
    local: f64,
    remote: f64,
}

#[derive(Default)]
struct Pairs(Vec<Pair>);

impl Pairs {
    fn add(&mut self, frames: u32, local: f64, remote: f64) {
        self.0.push(Pair {
            frames,
            local,
            remote,
        });
    }

    /// Of the remote seconds ÷ the local ones. No pair is none that holds.
    fn worst(&self) -> f64 {
        let ratios = self.0.iter().map(|pair| pair.remote / pair.local);
        ratios.reduce(f64::max).unwrap_or(f64::NAN)
    }

    fn points(&self, of: fn(&Pair) -> f64) -> Vec<(f64, f64)> {
        let pairs = self.0.iter();
        pairs
            .map(|pair| (f64::from(pair.frames), of(pair)))
            .collect()
    }

    fn table(&self, name: &str) -> Table {
        let mut table = Table::new(
            format!("Seconds of one clip, {name}"),
            &[
                "frames",
                "local",
                "remote",
                "ratio",
                "thesis, OSCAR: local",
                "rCUDA",
                "ratio",
            ],
        );
        for pair in &self.0 {
            let thesis = THESIS.iter().find(|(frames, _)| *frames == pair.frames);
            let [local, rcuda, ratio] = match thesis {
                Some((_, [_, local, rcuda])) => [
                    short(*local),
                    short(*rcuda),
                    format!("{:.2}", rcuda / local),
                ],
                None => ["–"; 3].map(str::to_owned),
            };
            let cells = [
                short(pair.local),
                short(pair.remote),
                format!("{:.3}", pair.remote / pair.local),
                local,
                rcuda,
                ratio,
            ];
            table.row(pair.frames.to_string(), cells);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_length_counts() {
        let mut pairs = Pairs::default();
        assert!(pairs.worst().is_nan());
        pairs.add(60, 10.0, 11.0);
        pairs.add(120, 20.0, 21.0);
        assert_eq!(pairs.worst(), 1.1);
        let table = pairs.table("cold").markdown();
        assert!(
            table.contains("| 60 | 10.0 | 11.0 | 1.100 | 15.0 | 26.0 | 1.73 |"),
            "{table}"
        );
    }
}
