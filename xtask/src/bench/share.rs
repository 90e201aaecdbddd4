//! How well four functions share one device: their makespan against the best that two cores and one device could do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::direct;
use rgpu_system::faas::Gpu;
use rgpu_system::{Faas, Job, Programs, Server, ServerOptions, python};
use serde_json::Value;

use super::figures::Figure;
use super::job::classify;
use super::median;
use crate::workspace_root;

const PATIENCE: Duration = Duration::from_secs(300);

/// Functions run through the runner, kernels on one thread.
pub fn four_at_once(programs: &Programs, python: &Path, quick: bool) -> Result<Figure> {
    let (frames, repetitions) = if quick { (30, 1) } else { (120, 5) };
    let folder = Folder::new("rgpu-bench-")?;
    let clips = python::clips(python, &folder.path().join("clips"), &[frames; 4])?;
    let options = ServerOptions {
        environment: vec![("SOFTGPU_THREADS".into(), "1".into())],
        ..ServerOptions::default()
    };
    let server = Server::start(programs, folder.path(), &options)?;
    let network = python::network(programs, python, folder.path())?;
    let environment = python::variables(python, Some(&network));
    let faas = Faas::start(
        programs,
        folder.path(),
        Gpu::Remote(&server, "unix"),
        &environment,
    )?;
    faas.apply(
        programs,
        &workspace_root().join("examples/echo/function.yaml"),
    )?;
    let mut round = 0;
    let mut run = |count: usize| {
        round += 1;
        together(&faas, &clips[..count], folder.path(), round)
    };
    run(1)?;
    let (mut ratios, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let kernel = kernel_seconds(programs, python, &network, &clips[0], folder.path())?;
        let before = run(1)?;
        let four = run(4)?;
        // Alone on both sides of it, since the machine's speed drifts.
        let single = (before + run(1)?) / 2.0;
        ensure!(
            kernel > 0.0 && kernel < single,
            "{kernel} s of kernels in a function of {single} s"
        );
        let rest = single - kernel;
        let best = (4.0 * kernel + rest).max(kernel + 2.0 * rest);
        ratios.push(four / best);
        alone.push((kernel, rest, four, best));
    }
    for (kernel, rest, four, best) in alone {
        eprintln!(
            "  k {kernel:.2} s, c {rest:.2} s; four at once {four:.2} s, best possible {best:.2} s"
        );
    }
    Ok(Figure::at_most(
        "main.four_at_once",
        median(ratios),
        "ratio",
        1.25,
    ))
}

/// Drops clips under new names; seconds from the first arrival to the last end.
fn together(faas: &Faas, clips: &[PathBuf], folder: &Path, round: u32) -> Result<f64> {
    let ends = ends_of(faas, "echo", clips, folder, round)?;
    Ok(ends.last().copied().unwrap_or(0.0))
}

/// Drops clips into a function's folder under new names; for each, the seconds from the first arrival to its end, in order.
pub fn ends_of(
    faas: &Faas,
    function: &str,
    clips: &[PathBuf],
    folder: &Path,
    round: u32,
) -> Result<Vec<f64>> {
    let staged: Vec<PathBuf> = clips
        .iter()
        .enumerate()
        .map(|(at, clip)| {
            let path = folder.join(format!("round{round}_{at}.dcm"));
            std::fs::copy(clip, &path).map(|_| path)
        })
        .collect::<std::io::Result<_>>()?;
    let names = faas.drop_files(function, &staged)?;
    let mut jobs: Vec<Job> = Vec::new();
    for name in &names {
        let job = faas.job_of(function, name, PATIENCE)?;
        let job = faas.wait(job.id(), PATIENCE)?;
        ensure!(
            job.state() == "SUCCEEDED",
            "{name}: {}\n{}",
            job.text("reason"),
            faas.log(&job)
        );
        jobs.push(job);
    }
    let times = |field: &str| {
        jobs.iter()
            .map(|job| job.time(field).with_context(|| format!("no {field}")))
            .collect::<Result<Vec<f64>>>()
    };
    let first = times("t_submitted")?.into_iter().fold(f64::MAX, f64::min);
    let mut ends: Vec<f64> = times("t_end")?.iter().map(|end| end - first).collect();
    ends.sort_by(f64::total_cmp);
    Ok(ends)
}

/// Seconds of kernels in one function: the same kernels, run directly on the device, whose driver says at exit how long they took. (A
/// worker leaves without exit handlers.)
fn kernel_seconds(
    programs: &Programs,
    python: &Path,
    network: &Path,
    clip: &Path,
    folder: &Path,
) -> Result<f64> {
    let (home, file) = (folder.join("direct"), folder.join("kernels"));
    std::fs::create_dir_all(&home)?;
    let mut placement = direct(programs, &home)?;
    placement.push(("SOFTGPU_THREADS".into(), "1".into()));
    placement.push(("SOFTGPU_STATS".into(), file.display().to_string()));
    classify(python, network, clip, &folder.join("job"), &placement)?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("the driver did not write {}", file.display()))?;
    let value: Value = serde_json::from_str(&text)?;
    value["kernel_seconds"]
        .as_f64()
        .with_context(|| format!("no kernel_seconds in {value}"))
}
