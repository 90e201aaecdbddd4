//! `cargo xtask gpu-check`: the conformance programs and the main job on a driver of this machine's, directly and through the remoting.
//! On a machine with a GPU it says what softgpu's tests cannot.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rgpu_system::agreement::SCHEMES;
use rgpu_system::cleanup::Folder;
use rgpu_system::facts::{Facts, GUARD, PROGRAMS, RUNTIME_PROGRAMS};
use rgpu_system::{Programs, Server, ServerOptions, c, python};

use crate::bench::classify;
use crate::progress::step;

/// Where NVIDIA's packages and container runtimes put it.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
];
/// The main job, among the names.
const ECHO: &str = "echo";
const FRAMES: u32 = 30;
/// Seconds of one program: a card is quick, and what an NVIDIA driver breaks in its own process may wait for ever.
const PATIENCE: u32 = 60;

pub fn gpu_check(programs: &Programs, driver: Option<PathBuf>, names: &[String]) -> Result<()> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|it| it == name);
    let driver = match driver {
        Some(driver) => driver,
        None => find()?,
    };
    ensure!(driver.is_file(), "{}: no such file", driver.display());
    println!("driver {}", driver.canonicalize()?.display());
    let folder = Folder::new("rgpu-gpu-check-")?;
    let server = Server::start(
        programs,
        folder.path(),
        &ServerOptions {
            driver: Some(driver.clone()),
            ..ServerOptions::default()
        },
    )?;
    let check = Check {
        direct: beside(programs, &driver, folder.path())?,
        remote: SCHEMES
            .iter()
            .map(|scheme| server.client(programs, scheme))
            .collect::<Result<_>>()?,
        folder: folder.path(),
    };
    let mut differing = 0;
    let known = PROGRAMS.iter().map(|(name, _)| *name);
    for name in known.filter(|name| wanted(name)) {
        differing += check.facts(name, &[])?;
    }
    for name in RUNTIME_PROGRAMS.iter().filter(|name| wanted(name)) {
        for version in ["12", "13"] {
            differing += check.facts(name, &[version])?;
        }
    }
    if wanted(ECHO) {
        check.echo(programs)?;
    }
    ensure!(
        differing == 0,
        "{differing} facts are not the same directly and remoted"
    );
    Ok(())
}

fn find() -> Result<PathBuf> {
    let found = PLACES.iter().map(PathBuf::from).find(|it| it.is_file());
    found.with_context(|| {
        format!(
            "no NVIDIA driver in {}: name its libcuda.so.1 by --driver",
            PLACES.join(", ")
        )
    })
}

/// The variables of a program that loads the driver itself, with the runtime of this repository over it.
fn beside(programs: &Programs, driver: &Path, folder: &Path) -> Result<Vec<(String, String)>> {
    let home = folder.join("home");
    let libraries = folder.join("direct");
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&libraries)?;
    // By names of its own: NVIDIA's folder may have a runtime too, and ours has the client.
    std::os::unix::fs::symlink(driver.canonicalize()?, libraries.join("libcuda.so.1"))?;
    for runtime in ["libcudart.so.12", "libcudart.so.13"] {
        let library = std::path::absolute(programs.client_lib().join(runtime))?;
        std::os::unix::fs::symlink(library, libraries.join(runtime))?;
    }
    let nvidia = driver.parent().context("the driver is in no folder")?;
    let path = std::env::join_paths([libraries.as_path(), nvidia])?;
    Ok(vec![
        (
            "LD_LIBRARY_PATH".into(),
            path.to_string_lossy().into_owned(),
        ),
        // Where the driver is softgpu's.
        ("SOFTGPU_HOME".into(), home.display().to_string()),
    ])
}

struct Check<'a> {
    direct: Vec<(String, String)>,
    /// By [`SCHEMES`].
    remote: Vec<Vec<(String, String)>>,
    folder: &'a Path,
}

impl Check<'_> {
    /// Runs one program everywhere; returns how many of its facts differ. One that a driver ends is compared as far as it came.
    fn facts(&self, name: &str, arguments: &[&str]) -> Result<usize> {
        let program = c::compile(self.folder, name)?;
        let run = |environment: &[(String, String)]| {
            let mut environment = environment.to_vec();
            // That one handles signals itself.
            if name != "manners" {
                environment.push((GUARD.into(), "1".into()));
            }
            Facts::within(PATIENCE, &program, arguments, &environment)
        };
        let name = [&[name], arguments].concat().join(" ");
        let direct = run(&self.direct)?;
        let said = direct.lines().count();
        if let Some(failure) = &direct.failure {
            let how = failure.lines().next().unwrap_or_default();
            println!("{name}: directly, it ends after {said} facts: {how}");
        }
        let mut differing = 0;
        for (scheme, environment) in SCHEMES.iter().zip(&self.remote) {
            let remote = run(environment)?;
            let mut differences = direct.differences(&remote);
            if direct.failure.is_some() {
                differences.retain(|(direct, _)| !direct.is_empty());
            } else if let Some(failure) = &remote.failure {
                println!("{name}, {scheme}: {failure}");
                differing += 1;
            }
            println!(
                "{name}, {scheme}: {} of {said} facts the same",
                direct.same(&differences)
            );
            for (direct, remote) in &differences {
                println!("  direct: {direct}\n  remote: {remote}");
            }
            if !differences.is_empty() {
                remote
                    .errors
                    .lines()
                    .for_each(|line| println!("  remote said: {line}"));
            }
            differing += differences.len();
        }
        Ok(differing)
    }

    /// The example's function: right answers, and times.
    fn echo(&self, programs: &Programs) -> Result<()> {
        let python = step("Python packages of the function (once)", |_| python::echo())?;
        let clip = python::clips(&python, &self.folder.join("clips"), &[FRAMES])?.remove(0);
        let network = python::network(programs, &python, self.folder)?;
        let places = ["direct"].into_iter().chain(SCHEMES);
        let mut failed = Vec::new();
        for (place, environment) in places.zip([&self.direct].into_iter().chain(&self.remote)) {
            let job = self.folder.join("job");
            match classify(&python, &network, &clip, &job, environment) {
                Ok(phases) => println!(
                    "echo, {place}: right; start {:.0} ms, a frame {:.2} ms",
                    phases.start_ms, phases.frame_ms
                ),
                Err(error) => {
                    println!("echo, {place}: {error:#}");
                    failed.push(place);
                }
            }
        }
        if !failed.is_empty() {
            bail!("the function fails: {}", failed.join(", "));
        }
        Ok(())
    }
}
