//! Virtual environments under `.cache/`, made once for each list of requirements.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::daemon::{clean, direct};
use crate::programs::Programs;

/// A Python of at least 3.11.
pub fn system() -> Result<PathBuf> {
    for name in [
        "python3",
        "python3.13",
        "python3.12",
        "python3.11",
        "python3.14",
    ] {
        let check = "import sys; sys.exit(sys.version_info < (3, 11))";
        let status = Command::new(name)
            .args(["-c", check])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Ok(name.into());
        }
    }
    bail!("there is no Python of at least 3.11 in PATH (Debian: apt install python3 python3-venv)")
}

/// The interpreter of the environment `.cache/NAME` with `requirements` (pip's words, one a line), made if need be.
///
/// Test processes run side by side, and several may find it missing: one makes it, the others wait.
pub fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let cache = crate::root().join(".cache");
    std::fs::create_dir_all(&cache)?;
    let making = File::create(cache.join(format!("{name}.lock")))?;
    making.lock().context("cannot lock the environment")?;
    let folder = cache.join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|old| old == requirements) {
        return Ok(python);
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    run(
        Command::new(system()?).args(["-m", "venv"]).arg(&folder),
        "cannot make a virtual environment (Debian: apt install python3-venv)",
    )?;
    let packages = requirements.split_whitespace();
    run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(packages),
        "cannot install the Python packages",
    )?;
    std::fs::write(&stamp, requirements)?;
    Ok(python)
}

/// The environment of the echocardiogram function.
pub fn echo() -> Result<PathBuf> {
    let file = crate::root().join("examples/echo/requirements.txt");
    environment("echo-venv", &std::fs::read_to_string(file)?)
}

/// The environment that drives a browser through the web page.
pub fn browser() -> Result<PathBuf> {
    let file = crate::root().join("rgpu-server/accounts/tests/page/requirements.txt");
    environment("browser-venv", &std::fs::read_to_string(file)?)
}

/// The environment with the stores that the storage crate is tested against.
pub fn stores() -> Result<PathBuf> {
    let file = crate::root().join("rgpu-faas/storage/tests/requirements.txt");
    environment("stores-venv", &std::fs::read_to_string(file)?)
}

/// Compiles the example's network ahead, as the build of a function's image does, on softgpu; the file.
pub fn network(programs: &Programs, python: &Path, folder: &Path) -> Result<PathBuf> {
    let home = folder.join("build");
    std::fs::create_dir_all(&home)?;
    let file = folder.join("network");
    let mut command = Command::new(python);
    clean(&mut command);
    command
        .arg(crate::root().join("examples/echo/build.py"))
        .arg(&file)
        .env("HOME", &home)
        .envs(direct(programs, &home)?);
    run(&mut command, "cannot compile the network")?;
    Ok(file)
}

/// The variables that the example's functions are told by: their Python, and the compiled network if there is one.
pub fn variables(python: &Path, network: Option<&Path>) -> Vec<(String, String)> {
    let network = network.map(|file| ("ECHO_COMPILED", file));
    [Some(("ECHO_PYTHON", python)), network]
        .into_iter()
        .flatten()
        .map(|(name, file)| (name.to_owned(), file.display().to_string()))
        .collect()
}

/// Runs a command quietly; its output is in the error when it fails.
pub fn run(command: &mut Command, what: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what}: {:?}", command.get_program()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(
        output.status.success(),
        "{what}: {command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Makes the example's clips of so many frames; their files, in order.
pub fn clips(python: &Path, folder: &Path, frames: &[u32]) -> Result<Vec<PathBuf>> {
    run(
        Command::new(python)
            .arg(crate::root().join("examples/echo/make_clips.py"))
            .arg("--frames")
            .args(frames.iter().map(u32::to_string))
            .arg("--out")
            .arg(folder),
        "cannot make the clips",
    )?;
    let names = frames.iter().enumerate();
    Ok(names
        .map(|(at, count)| folder.join(format!("clip{}_{count}f.dcm", at + 1)))
        .collect())
}

/// Checks an answer of the function against the independent evaluation; what that says.
pub fn check(python: &Path, clip: &Path, answer: &Path) -> Result<String> {
    run(
        Command::new(python)
            .arg(crate::root().join("examples/echo/reference.py"))
            .args([clip, answer]),
        "the answer is not right",
    )
}
