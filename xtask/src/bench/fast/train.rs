//! A training step of tinygrad's at the end of a line of 200 µs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rgpu_system::daemon::clean;
use rgpu_system::python;

use super::paced::workflow;
use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, Place, Said, known, text};
use crate::workspace_root;

const TEXT: &str = include_str!("train.md");
/// Of a direct step, kernels have this share.
const KERNELS: f64 = 0.42;

/// A kernel's time while kernels are counted.
const PROBE_US: f64 = 100.0;

struct Training<'a> {
    bench: &'a Bench<'a>,
    steps: &'static str,
    compiled: PathBuf,
    home: String,
}

impl Training<'_> {
    /// The median step, in milliseconds.
    fn step(&self, place: &[(String, String)]) -> Result<f64> {
        let mut command = Command::new(&self.bench.python);
        clean(&mut command)
            .arg(workflow().join("train.py"))
            .args(["run", self.steps])
            .arg(&self.compiled)
            .env("HOME", &self.home)
            .envs(place.iter().cloned());
        Said::parse(&python::run(&mut command, "the training failed")?)?.get("step_ms")
    }
}

/// The captured step. tinygrad compiles it for half a minute, so it is kept for later runs, as long as neither the script nor the packages change.
fn compiled(bench: &Bench<'_>) -> Result<PathBuf> {
    let script = workflow().join("train.py");
    let root = workspace_root();
    let mut made_of = DefaultHasher::new();
    std::fs::read(&script)?.hash(&mut made_of);
    std::fs::read(root.join("examples/echo/requirements.txt"))?.hash(&mut made_of);
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("training-{:016x}", made_of.finish()));
    if !file.exists() {
        // Of another script: large, and never used again.
        for old in std::fs::read_dir(&folder)?.flatten() {
            if old.file_name().to_string_lossy().starts_with("training-") {
                std::fs::remove_file(old.path())?;
            }
        }
        let mut command = Command::new(&bench.python);
        clean(&mut command)
            .arg(&script)
            .arg("make")
            .arg(&file)
            .env("HOME", bench.new_folder()?)
            .envs(bench.directly());
        python::run(&mut command, "cannot compile the training step")?;
    }
    Ok(file)
}

/// All kernels take the same time.
fn paced(prefix: &str, file: &Path) -> Place {
    vec![(format!("{prefix}NULLDEV_PACE"), text(file))]
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (steps, repetitions) = if bench.quick { ("60", 1) } else { ("200", 5) };
    let folder = bench.new_folder()?;
    at("compiling the step (once)".into());
    let training = Training {
        bench,
        steps,
        compiled: compiled(bench)?,
        home: text(&folder),
    };
    let own = training.step(&bench.directly())?;
    // What one kernel more or less does, whatever tinygrad makes of the step.
    let pace = folder.join("pace");
    std::fs::write(&pace, format!("* {PROBE_US}\n"))?;
    let mut place = bench.directly();
    place.extend(paced("", &pace));
    let kernels = known(
        1000.0 * (training.step(&place)? - own) / PROBE_US,
        "the number of kernels",
    )?;
    let micros = 1000.0 * own * KERNELS / (1.0 - KERNELS) / kernels;
    std::fs::write(&pace, format!("* {micros:.3}\n"))?;
    let links = [
        Link::default(),
        Link::rtt(50),
        Link::rtt(200),
        Link::rtt(1000),
    ];
    let servers: Result<Vec<_>> = links
        .iter()
        .map(|link| bench.server(paced("CUDA_", &pace), *link))
        .collect();
    let servers = servers?;
    let mut direct = Vec::new();
    let mut remote: Vec<Vec<f64>> = vec![Vec::new(); links.len()];
    for repetition in 0..repetitions {
        at(format!("repetition {repetition}"));
        direct.push(training.step(&place)?);
        for ((server, times), link) in servers.iter().zip(&mut remote).zip(&links) {
            if bench.quick && link.rtt_us != 200 {
                continue;
            }
            times.push(training.step(&server.by("tcp")?)?);
        }
    }
    let direct = median(direct);
    let mut table = Table::new(
        format!(
            "A training step of about {kernels:.0} kernels, ms (kernels {:.0} % of the direct one)",
            micros * kernels / direct / 10.0
        ),
        &["", "ms", "÷ direct"],
    );
    table.row("directly", [short(direct), "1".into()]);
    let mut judged = f64::NAN;
    for (times, link) in remote.into_iter().zip(&links) {
        let time = median(times);
        if link.rtt_us == 200 {
            judged = time / direct;
        }
        table.row(
            format!("tcp, {}", link.name()),
            [short(time), short(time / direct)],
        );
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("fast.rtt200.train_step", judged, "ratio", 1.15);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "train",
        title: "A training step",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
