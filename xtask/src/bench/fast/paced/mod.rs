//! The thesis's workflow at the thesis's pace, on a device that only takes the time that a GPU took.

mod crowd;
mod function;
pub mod record;

use anyhow::{Context, Result};
use rgpu_system::stats::Stats;

use super::fit::{self, Line};
use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::tools::Bench;
use crowd::Crowd;
use function::Filler;
pub use function::{Function, timed, workflow};

const TEXT: &str = include_str!("paced.md");
/// Of the function, with what is slept taken out, and that.
const PHASES: [&str; 5] = [
    "import_modules",
    "load_model",
    "input_output",
    "processing",
    "slept",
];

/// How much of it is measured.
struct Size {
    /// Processes by themselves.
    frames: Vec<u32>,
    /// The same at the end of a long line, and in the runner.
    fewer: Vec<u32>,
    /// Clips at once.
    crowd: u32,
    crowds: Vec<usize>,
    calibration: (u32, u32),
}

impl Size {
    fn of(quick: bool) -> Size {
        match quick {
            true => Size {
                frames: vec![8, 32],
                fewer: vec![8, 32],
                crowd: 32,
                crowds: vec![4],
                calibration: (8, 32),
            },
            false => Size {
                frames: (1..=6).map(|step| 60 * step).collect(),
                fewer: vec![60, 180, 360],
                crowd: 180,
                crowds: vec![1, 2, 3, 4, 8, 16],
                calibration: (60, 180),
            },
        }
    }
}

/// Seconds of whole processes by frames, and what the client counted.
#[derive(Default)]
struct Column {
    seconds: Vec<(f64, f64)>,
    stats: Vec<(f64, Stats)>,
}

impl Column {
    fn fit(&self) -> Line {
        fit::line(&self.seconds)
    }

    fn at(&self, frames: u32) -> Option<f64> {
        let found = self.seconds.iter().find(|(at, _)| *at == f64::from(frames));
        found.map(|(_, seconds)| *seconds)
    }

    /// Those of these lengths alone.
    fn of(&self, frames: &[u32]) -> Column {
        let seconds = self.seconds.iter().copied();
        let wanted = |frames: &[u32], at: f64| frames.iter().any(|&each| f64::from(each) == at);
        Column {
            seconds: seconds.filter(|(at, _)| wanted(frames, *at)).collect(),
            stats: Vec::new(),
        }
    }

    fn counts(&self, count: impl Fn(&Stats) -> u64) -> Line {
        let points = self.stats.iter();
        let points: Vec<_> = points
            .map(|(at, stats)| (*at, count(stats) as f64))
            .collect();
        fit::line(&points)
    }
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let size = Size::of(bench.quick);
    let placement = bench.machine.anywhere();
    let mut function = Function::new(bench, &size.frames)?;
    at("how long the function takes by itself".into());
    function.calibrate(size.calibration.0, size.calibration.1)?;
    let mut add = |name: &str, value: f64, unit, target| {
        let figure = Figure::at_most(&format!("fast.paced.{name}"), value, unit, target);
        figures.add(figure.placed(&placement));
    };

    let near = function.server(Link::default())?;
    let far = function.server(Link::rtt(1000))?;
    // One after the other at each length, so that what drifts meets all three.
    let (mut direct, mut tcp, mut distant) = <(Column, Column, Column)>::default();
    let mut cold = Vec::new();
    for &frames in &size.frames {
        for (name, column, place) in [
            ("direct", &mut direct, Some(function.directly()?)),
            ("tcp", &mut tcp, Some(near.by("tcp")?)),
            (
                "tcp, 1 ms",
                &mut distant,
                size.fewer
                    .contains(&frames)
                    .then(|| far.by("tcp"))
                    .transpose()?,
            ),
        ] {
            let Some(place) = place else { continue };
            at(format!("{frames} frames, {name}"));
            let run = function.run(frames, &[], &place)?;
            let count = f64::from(frames);
            column.seconds.push((count, run.seconds));
            column
                .stats
                .extend(run.stats.clone().map(|stats| (count, stats)));
            if frames == size.frames[0] && name != "tcp, 1 ms" {
                cold.push((format!("{name}, cold"), run.clips[0].clone()));
            }
        }
    }
    let (own, remote) = (direct.fit(), tcp.fit());
    let each = 1000.0 * (remote.each - own.each);
    add("frame_extra_ms.tcp", each, "ms", 3.5);
    let each = distant.fit().each - direct.of(&size.fewer).fit().each;
    add("frame_extra_ms.rtt1000", 1000.0 * each, "ms", 10.0);
    let start = 1000.0 * (remote.fixed - own.fixed);
    add("start_extra_ms.tcp", start, "ms", 200.0);

    at("a second process, and more clips in it".into());
    let again = &size.fewer;
    let second_direct = function.run(size.frames[0], again, &function.directly()?)?;
    let second_tcp = function.run(size.frames[0], again, &near.by("tcp")?)?;
    let warm = second_tcp.clips.iter().zip(&second_direct.clips).skip(1);
    add(
        "ratio_warm.tcp",
        worst(warm.map(|(tcp, direct)| tcp.seconds / direct.seconds)),
        "ratio",
        1.05,
    );
    let pairs = tcp.seconds.iter().zip(&direct.seconds);
    add(
        "ratio_cold.tcp",
        worst(pairs.map(|(tcp, direct)| tcp.1 / direct.1)),
        "ratio",
        1.10,
    );
    let mut phases = cold;
    for (name, run) in [("direct", &second_direct), ("tcp", &second_tcp)] {
        phases.push((format!("{name}, second"), run.clips[0].clone()));
        let warm = run.clips.get(1).context("no second clip")?;
        phases.push((format!("{name}, warm"), warm.clone()));
    }
    phases.sort_by_key(|(name, _)| !name.starts_with("direct"));
    let frames = size.frames[0];
    let bars: Vec<(String, Vec<f64>)> = phases
        .iter()
        .map(|(name, clip)| {
            let is_first = !name.ends_with("warm");
            (name.clone(), parts(clip, frames, function.filler, is_first))
        })
        .collect();

    let crowd = Crowd::measure(&function, bench, &near, &size, at)?;
    add("four_shared", crowd.four(), "ratio", 0.45);
    Ok(Section {
        name: "paced",
        title: "The thesis's workflow",
        text: TEXT,
        placement,
        tables: vec![
            clips(&size, &direct, &crowd, &function),
            without_runner(&size, &direct, &tcp, &distant),
            counts(&tcp),
            stacked(&bars),
            crowd.table(),
        ],
        plots: vec![
            Plot {
                file: "workflow",
                title: "One clip, seconds by frames".into(),
                x: "frames",
                y: "seconds",
                shape: Shape::Lines {
                    logarithmic: false,
                    series: vec![
                        ("directly".into(), direct.seconds.clone()),
                        ("tcp".into(), tcp.seconds.clone()),
                        ("tcp, 1 ms round trip".into(), distant.seconds.clone()),
                    ],
                },
            },
            Plot {
                file: "phases",
                title: format!("Phases of a clip of {} frames", size.frames[0]),
                x: "",
                y: "seconds",
                shape: Shape::Stacks {
                    parts: PHASES.map(str::to_owned).into(),
                    bars,
                },
            },
            crowd.plot(),
        ],
    })
}

fn worst(ratios: impl Iterator<Item = f64>) -> f64 {
    // No ratio is none that holds.
    ratios.reduce(f64::max).unwrap_or(f64::NAN)
}

/// Seconds of each of [`PHASES`]. Only the first clip of a process loads the network.
fn parts(clip: &function::Clip, frames: u32, filler: Filler, is_first: bool) -> Vec<f64> {
    let mut seconds = PHASES.map(|name| clip.phases.get(name).copied().unwrap_or(0.0));
    let load = if is_first {
        filler.start_ms / 1000.0
    } else {
        0.0
    };
    let frames = f64::from(frames) * filler.frame_ms / 1000.0;
    let [_, load_model, _, processing, slept] = &mut seconds;
    *load_model -= load;
    *processing -= frames;
    *slept = load + frames;
    seconds.into()
}

fn cell(value: Option<f64>) -> String {
    value.map_or("–".into(), short)
}

fn fitted(line: Line) -> String {
    match line.each.is_finite() {
        true => format!("{:.2} + {:.1}", line.fixed, 1000.0 * line.each),
        false => "–".into(),
    }
}

/// The thesis's table.
fn clips(size: &Size, direct: &Column, crowd: &Crowd, function: &Function<'_>) -> Table {
    let filler = function.filler;
    let mut table = Table::new(
        format!(
            "Seconds of one clip; slept: {:.0} ms of the start, {:.1} ms of each frame",
            filler.start_ms, filler.frame_ms
        ),
        &[
            "frames",
            "process on the device",
            "runner, device exclusive",
            "runner, remote (tcp)",
            "CPU (the thesis's fit, not measured)",
        ],
    );
    for &frames in &size.frames {
        let cpu = 7.3 + 0.438 * f64::from(frames);
        table.row(
            frames.to_string(),
            [
                cell(direct.at(frames)),
                cell(crowd.exclusive_alone.at(frames)),
                cell(crowd.remote_alone.at(frames)),
                short(cpu),
            ],
        );
    }
    table.row(
        "fit: s + ms a frame",
        [
            fitted(direct.fit()),
            fitted(crowd.exclusive_alone.fit()),
            fitted(crowd.remote_alone.fit()),
            "7.3 + 438".into(),
        ],
    );
    let thesis = ["3.1 + 65", "10.9 + 70", "11.6 + 235", "7.3 + 438"];
    table.row("the thesis's own fit", thesis.map(str::to_owned));
    table
}

fn without_runner(size: &Size, direct: &Column, tcp: &Column, distant: &Column) -> Table {
    let mut table = Table::new(
        "Seconds of one clip, a process without the runner",
        &["frames", "directly", "tcp", "ratio", "tcp, 1 ms round trip"],
    );
    for &frames in &size.frames {
        let ratio = tcp
            .at(frames)
            .zip(direct.at(frames))
            .map(|(tcp, own)| tcp / own);
        table.row(
            frames.to_string(),
            [
                cell(direct.at(frames)),
                cell(tcp.at(frames)),
                ratio.map_or("–".into(), |ratio| format!("{ratio:.3}")),
                cell(distant.at(frames)),
            ],
        );
    }
    let fits = [direct.fit(), tcp.fit(), distant.fit()].map(fitted);
    let [own, tcp, distant] = fits;
    table.row("fit: s + ms a frame", [own, tcp, "".into(), distant]);
    table
}

fn counts(tcp: &Column) -> Table {
    let mut table = Table::new("What went over the wire (tcp)", &["", "a start", "a frame"]);
    type Count = fn(&Stats) -> u64;
    let rows: [(&str, Count); 4] = [
        ("calls", |stats| stats.calls),
        ("waits", |stats| stats.waits),
        ("bytes out", |stats| stats.bytes_out),
        ("bytes in", |stats| stats.bytes_in),
    ];
    for (name, count) in rows {
        let line = tcp.counts(count);
        table.row(name, [short(line.fixed), short(line.each)]);
    }
    table
}

fn stacked(bars: &[(String, Vec<f64>)]) -> Table {
    let mut head = vec![""];
    head.extend(PHASES);
    head.push("all");
    let mut table = Table::new("Seconds of each phase of a clip", &head);
    for (name, parts) in bars {
        let all = parts.iter().sum();
        let cells = parts.iter().copied().chain([all]);
        table.row(name.clone(), cells.map(short));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slept_is_a_phase_of_its_own() {
        let phases = [
            ("import_modules", 0.5),
            ("load_model", 2.5),
            ("processing", 6.5),
        ];
        let clip = function::Clip {
            seconds: 9.5,
            phases: phases.map(|(name, time)| (name.to_owned(), time)).into(),
        };
        let filler = Filler {
            start_ms: 2000.0,
            frame_ms: 40.0,
        };
        let close = |left: Vec<f64>, right: [f64; 5]| {
            left.iter()
                .zip(right)
                .all(|(left, right)| (left - right).abs() < 1e-9)
        };
        assert!(close(
            parts(&clip, 100, filler, true),
            [0.5, 0.5, 0.0, 2.5, 6.0]
        ));
        assert!(close(
            parts(&clip, 100, filler, false),
            [0.5, 2.5, 0.0, 2.5, 4.0]
        ));
    }

    #[test]
    fn no_ratio_holds_no_target() {
        assert!(worst(std::iter::empty()).is_nan());
        assert_eq!(worst([1.0, 1.5, 1.2].into_iter()), 1.5);
    }
}
