//! The main example, shown: four clips arrive, four functions share one remote GPU, every answer is checked.

mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::faas::Gpu;
use rgpu_system::stats::Stats;
use rgpu_system::{Faas, Job, Programs, Server, ServerOptions, python};

use crate::progress::step;
use crate::workspace_root;

/// Longest that a job may take to arrive, and to end.
const PATIENCE: Duration = Duration::from_secs(300);

/// One clip's way through the function.
pub struct Run {
    pub clip: String,
    pub job: Job,
    /// Present when a client counted, that is: remoted.
    pub stats: Option<Stats>,
    pub class: String,
}

/// `short`: two clips of a few frames, for tests. `keep`: the folder with everything stays.
pub fn demo(programs: &Programs, short: bool, keep: bool) -> Result<()> {
    let python = step("Python packages of the function (once)", |_| python::echo())?;
    let folder = Folder::new("rgpu-demo-")?;
    let result = show(programs, &python, folder.path(), short);
    if keep {
        eprintln!("everything is in {}", folder.keep().display());
    }
    result
}

fn show(programs: &Programs, python: &Path, folder: &Path, short: bool) -> Result<()> {
    let frames: &[u32] = if short { &[6, 8] } else { &[30, 60, 90, 120] };
    let clips = step("make clips from the real recording", |_| {
        python::clips(python, &folder.join("clips"), frames)
    })?;
    let network = step("compile the function's network", |_| {
        python::network(programs, python, folder)
    })?;
    let environment = python::variables(python, Some(&network));

    let server = step("start rgpud over softgpu", |_| {
        Server::start(programs, folder, &ServerOptions::default())
    })?;
    let faas = step("start rgpu-faas", |_| {
        Faas::start(programs, folder, Gpu::Remote(&server, "unix"), &environment)
    })?;
    eprintln!("  rgpud listens on {}", server.daemon.listen.join(", "));
    eprintln!("  rgpu-faas listens on {}", faas.daemon.listen.join(", "));
    register(programs, &faas)?;
    let together = format!("{} clips arrive together, one function each", clips.len());
    let remote = step(&together, |_| classify(&faas, python, &clips)).inspect_err(|_| {
        eprintln!("--- log of rgpud\n{}", server.daemon.log_text().trim());
    })?;
    drop(faas);

    // The same, with the device in the function's own process. One after another: nothing disturbs the comparison.
    let home = folder.join("direct");
    std::fs::create_dir_all(&home)?;
    let variables = [("SOFTGPU_HOME".to_owned(), home.display().to_string())];
    let direct = step("the same functions on a device of their own", |step| {
        let faas = Faas::start(programs, &home, Gpu::Direct(&variables), &environment)?;
        register(programs, &faas)?;
        let mut runs = Vec::new();
        for clip in &clips {
            step.at(clip.display().to_string());
            runs.extend(classify(&faas, python, std::slice::from_ref(clip))?);
        }
        Ok(runs)
    })?;
    println!("{}", table::render(&remote, &direct));
    println!(
        "all {} answers are right (checked against numpy, probabilities within 1e-3)",
        remote.len() + direct.len()
    );
    Ok(())
}

fn register(programs: &Programs, faas: &Faas) -> Result<()> {
    let definition = workspace_root().join("examples/echo/function.yaml");
    step("register examples/echo/function.yaml", |_| {
        faas.apply(programs, &definition)
    })
}

/// Drops the clips together, waits for their jobs and checks every answer; all are looked at before the first error is told.
fn classify(faas: &Faas, python: &Path, clips: &[PathBuf]) -> Result<Vec<Run>> {
    let names = faas.drop_files("echo", clips)?;
    let mut runs = Vec::new();
    let mut wrong = Vec::new();
    for (clip, name) in clips.iter().zip(&names) {
        match one(faas, python, clip, name) {
            Ok(run) => runs.push(run),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(runs)
}

fn one(faas: &Faas, python: &Path, clip: &Path, name: &str) -> Result<Run> {
    let job = faas.job_of("echo", name, PATIENCE)?;
    let job = faas.wait(job.id(), PATIENCE)?;
    ensure!(
        job.state() == "SUCCEEDED",
        "job {} is {}: {}\n--- log of the job\n{}",
        job.id(),
        job.state(),
        job.text("reason"),
        faas.log(&job)
    );
    let stem = clip
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("a clip without a name")?;
    let answer = faas.output("echo").join(format!("{stem}.json"));
    let verdict = python::check(python, clip, &answer)
        .with_context(|| format!("--- log of the job\n{}", faas.log(&job)))?;
    let sheet = answer.with_extension("png");
    ensure!(sheet.is_file(), "{} is missing", sheet.display());
    // "right FILE: CLASS, N of M frames counted, …"
    let class = verdict
        .split_once(": ")
        .and_then(|(_, rest)| rest.split(',').next())
        .unwrap_or("?")
        .to_owned();
    let stats = match &job.0["stats"] {
        serde_json::Value::Null => None,
        stats => Some(Stats::parse(stats)?),
    };
    Ok(Run {
        clip: stem.to_owned(),
        job,
        stats,
        class,
    })
}
