//! Jobs of one frame: alone, and as many as a clip has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rgpu_system::faas::Gpu;
use rgpu_system::{Faas, Server, ServerOptions, python};
use serde_json::Value;

use super::arrival::arrive;
use crate::bench::fast::paced::{Function, workflow};
use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Section, Table, short};
use crate::bench::sharing::quantile;
use crate::bench::tools::{Bench, text};
use crate::workspace_root;

const TEXT: &str = include_str!("frames.md");
/// Of the clip whose answer is checked.
const CHECKED: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(300);

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let placement = bench.machine.anywhere();
    let alone = alone(bench, at)?;
    let p50 = quantile(alone.clone(), 0.5);
    let figure = Figure::at_most("faas.one_frame_ms", p50, "ms", 50.0);
    figures.add(figure.placed(&placement));
    let mut one = Table::new(
        format!("Milliseconds of {} jobs of one frame", alone.len()),
        &["", "median", "p90", "p99", "most"],
    );
    let cells = [0.5, 0.9, 0.99, 1.0].map(|part| short(quantile(alone.clone(), part)));
    one.row("event to end", cells);

    let (lengths, few, many): (&[u32], u32, u32) = match bench.quick {
        true => (&[8, 32], 8, 32),
        false => (&[60, 180, 360], 60, 180),
    };
    let mut function = Function::new(bench, lengths)?;
    at("how long the function takes by itself".into());
    function.calibrate(few, many)?;
    let server = function.server(Link::default())?;
    let gpu = || Gpu::Remote(&server.server, "tcp");
    let environment = function.environment();
    let mut table = Table::new(
        "Seconds of one clip, kept started",
        &["frames", "single function", "a job a frame", "ratio"],
    );
    let mut worst = f64::NAN;
    let start = |definition: &str| -> Result<Faas> {
        let faas = Faas::start(bench.programs, &bench.new_folder()?, gpu(), &environment)?;
        faas.apply(bench.programs, &workflow().join(definition))?;
        Ok(faas)
    };
    let (whole, split) = (start("warm.yaml")?, start("frames.yaml")?);
    let shortest = function.clip(lengths[0])?;
    // Before what counts, each has started what stays.
    arrive(&whole, "warm", shortest, "first.dcm")?;
    workflow_of(&split, shortest, "first", 1)?;
    for (&frames, round) in lengths.iter().zip(2..) {
        at(format!("{frames} frames"));
        let clip = function.clip(frames)?;
        let name = format!("clip{round}");
        let single = arrive(&whole, "warm", clip, &format!("{name}.dcm"))?;
        let many = workflow_of(&split, clip, &name, round)?;
        worst = f64::max(worst, many / single);
        let cells = [short(single), short(many), format!("{:.3}", many / single)];
        table.row(frames.to_string(), cells);
    }
    let figure = Figure::at_most("faas.split_ratio", worst, "ratio", 1.2);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "frames",
        title: "A job a frame",
        text: TEXT,
        placement,
        tables: vec![one, table],
        plots: Vec::new(),
    })
}

/// Milliseconds of jobs of one frame, over softgpu, one after the other; and whether the answers there are right.
fn alone(bench: &Bench<'_>, at: &dyn Fn(String)) -> Result<Vec<f64>> {
    let count = if bench.quick { 20 } else { 200 };
    let folder = bench.new_folder()?;
    let clips = python::clips(&bench.python, &folder.join("clips"), &[1, CHECKED])?;
    let network = python::network(bench.programs, &bench.python, &folder)?;
    let server = Server::start(bench.programs, &folder, &ServerOptions::default())?;
    let mut environment = python::variables(&bench.python, Some(&network));
    let echo = text(&workspace_root().join("examples/echo"));
    environment.push(("ECHO_HOME".into(), echo));
    let gpu = Gpu::Remote(&server, "tcp");
    let faas = Faas::start(bench.programs, &folder, gpu, &environment)?;
    for definition in ["warm.yaml", "frames.yaml"] {
        faas.apply(bench.programs, &workflow().join(definition))?;
    }
    at("a split clip's answer".into());
    let name = stem(&clips[1])?;
    workflow_of(&faas, &clips[1], &name, 1)?;
    let answer = faas.output("merge").join(&name).with_extension("json");
    python::check(&bench.python, &clips[1], &answer)?;
    at(format!("{count} jobs of one frame"));
    let mut times = Vec::new();
    for number in 0..=count {
        let name = format!("frame{number}");
        let seconds = arrive(&faas, "warm", &clips[0], &format!("{name}.dcm"))?;
        // The first finds things as they were before anything had run.
        if number > 0 {
            times.push(1000.0 * seconds);
        }
    }
    // The clip's name is in the answer, so it is the clip of that name which is compared.
    let last = faas.output("warm").join(format!("frame{count}.json"));
    let same = folder.join(format!("frame{count}.dcm"));
    std::fs::copy(&clips[0], &same)?;
    python::check(&bench.python, &same, &last)?;
    Ok(times)
}

fn stem(clip: &Path) -> Result<String> {
    let stem = clip.file_stem().context("a clip's name")?;
    Ok(stem.to_string_lossy().into_owned())
}

/// Seconds from a clip's arrival to the end of the job that makes its answer, the `nth` of the runner.
fn workflow_of(faas: &Faas, clip: &Path, name: &str, nth: u32) -> Result<f64> {
    let begun = Instant::now();
    let staged: PathBuf = faas.data.join(format!("{name}.dcm"));
    std::fs::copy(clip, &staged)?;
    faas.drop_files("split", &[staged])?;
    let path = format!(
        "/jobs?function=merge&state=SUCCEEDED,FAILED,CANCELLED&min={nth}&limit=1000&wait=20"
    );
    loop {
        let (status, text) = faas.get(&path)?;
        ensure!(status == 200, "GET {path}: {status} {text}");
        let answer: Value = serde_json::from_str(&text)?;
        let jobs = answer["jobs"].as_array().map_or(&[][..], Vec::as_slice);
        if jobs.len() >= nth as usize {
            let seconds = begun.elapsed().as_secs_f64();
            let last = jobs.last().context("no job")?;
            ensure!(last["state"] == "SUCCEEDED", "{name}: {last}");
            let answer = faas.output("merge").join(format!("{name}.json"));
            ensure!(answer.is_file(), "{name}: no answer");
            return Ok(seconds);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{name}: no answer\n{}",
            faas.daemon.log_text()
        );
    }
}
