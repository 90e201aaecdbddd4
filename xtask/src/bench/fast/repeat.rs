//! What a function sends when it starts again.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::paced::Function;
use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, text};

const TEXT: &str = include_str!("repeat.md");
/// The weights of ResNet-50: 25.6 million numbers.
const WEIGHTS: usize = 25_600_000;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let function = Function::new(bench, &[1])?;
    let weights = bench.new_folder()?.join("weights");
    write_weights(&weights)?;
    let mut table = Table::new(
        "Bytes of a start and one frame, both directions, tcp",
        &[
            "function",
            "first",
            "second",
            "second ÷ first",
            "waits: first",
            "second",
            "seconds: first",
            "second",
        ],
    );
    let mut judged = f64::NAN;
    for (name, more) in [
        ("examples/echo, 100 kB of weights", None),
        ("the same with 102 MB of weights", Some(&weights)),
    ] {
        at(name.into());
        // A server that has seen neither.
        let remote = function.server(Link::default())?;
        let mut place = remote.by("tcp")?;
        place.push(("RGPU_CONTENT".into(), "on".into()));
        let more: Vec<(String, String)> = more
            .map(|file| ("PACED_WEIGHTS".into(), text(file)))
            .into_iter()
            .collect();
        let start = || -> Result<[f64; 3]> {
            let run = function.run_with(1, &[], &place, &more)?;
            let stats = run.stats.context("the client counted nothing")?;
            let bytes = stats.bytes_out + stats.bytes_in;
            Ok([bytes as f64, stats.waits as f64, run.seconds])
        };
        let [first, second] = [start()?, start()?];
        judged = second[0] / first[0];
        let waits_and_times = [first[1], second[1], first[2], second[2]];
        let cells = [
            first[0].to_string(),
            second[0].to_string(),
            format!("{judged:.4}"),
        ];
        table.row(name, cells.into_iter().chain(waits_and_times.map(short)));
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("fast.repeat_bytes", judged, "ratio", 0.01);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "repeat",
        title: "Starting again",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// Numbers that no compression finds anything in, the same in every run.
fn write_weights(file: &Path) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..WEIGHTS {
        // xorshift64; the bits of a number between 1 and 2.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&(0x3f80_0000 | (state >> 41) as u32).to_le_bytes())?;
    }
    out.flush().with_context(|| file.display().to_string())
}
