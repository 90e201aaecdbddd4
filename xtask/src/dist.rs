//! `dist/`: the programs and libraries as users get them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::programs::{LAYOUT, Programs, WITH_TESTS, build, fill};
use rgpu_system::python;

use crate::elf;
use crate::progress::step;
use crate::workspace_root;

/// Links against old glibc symbols; both come as Python wheels.
const LINKER: &str = "cargo-zigbuild==0.24.1\nziglang==0.17.1\n";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs that write their own man pages and completions.
const WITH_PAGES: [&str; 3] = ["rgpu", "rgpud", "rgpu-faas"];

/// Libraries that stand in for NVIDIA's, and how all names begin that they export.
const STAND_INS: [(&str, &str); 2] = [("libcuda.so.1", "cu"), ("libnvidia-ml.so.1", "nvml")];

/// Builds and fills `dist/`. `dev`: hardly optimised, by the host's linker, for tests and for trying things out.
pub fn dist(dev: bool) -> Result<Programs> {
    let zig = if dev { None } else { linker() };
    let mut command = cargo(zig.as_ref())?;
    if dev {
        command.args(WITH_TESTS);
    } else {
        command.arg("--release");
        command.args(LAYOUT.iter().flat_map(|(package, ..)| ["-p", package]));
    }
    let profile = if dev { "dev" } else { "release" };
    let built = step(&format!("build ({profile})"), |step| {
        build(&mut command, |package| step.at(package))
    })?;
    let programs = Programs::at(workspace_root().join("dist"));
    step("fill dist/ and check it", |_| {
        // What is wrong must not get there.
        for (package, target, place) in LAYOUT {
            let file = built
                .get(target)
                .with_context(|| format!("{package} was not built"))?;
            if zig.is_some() {
                elf::check_glibc(file)?;
            }
            for (name, prefix) in STAND_INS {
                if place.ends_with(name) {
                    elf::check_stand_in(file, name, prefix)?;
                }
            }
            if let Some(at) = place.find("libcudart.so.") {
                elf::check_runtime_library(file, &place[at..])?;
            }
        }
        fill(&built, programs.root())
    })?;
    step("man pages and shell completions", |_| pages(&programs))?;
    Ok(programs)
}

/// Has each program write its own, without what this machine's environment says.
fn pages(programs: &Programs) -> Result<()> {
    let share = programs.root().join("share");
    for name in WITH_PAGES {
        let status = Command::new(programs.bin(name))
            .arg("pages")
            .arg(&share)
            .env_clear()
            .status()
            .with_context(|| name.to_string())?;
        ensure!(status.success(), "{name} pages: {status}");
    }
    Ok(())
}

/// The Python of the environment with the linker; without it the build is for this machine's glibc, which is told.
fn linker() -> Option<PathBuf> {
    let made = step("the linker for old systems (once)", |_| {
        python::environment("zig-venv", LINKER)
    });
    made.map_err(|error| {
        eprintln!(
            "warning: no cargo-zigbuild: {error:#}\nwarning: building for this machine's glibc; the result may not load on older systems"
        );
    })
    .ok()
}

/// The build command: cargo, or cargo-zigbuild from its environment.
fn cargo(zig: Option<&PathBuf>) -> Result<Command> {
    let mut command = crate::cargo();
    command.current_dir(workspace_root());
    match zig {
        None => command.arg("build"),
        Some(python) => {
            let bin = python.parent().context("no folder")?;
            let mut path = bin.as_os_str().to_owned();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            let glibc = format!("{TARGET}.{}.{}", elf::GLIBC.0, elf::GLIBC.1);
            command
                .env("PATH", path)
                .args(["zigbuild", "--target", &glibc])
        }
    };
    Ok(command)
}
