//! The last release's client with this server, and this client with that release's server: `rgpu-proto/api/released.tsv` names its commit.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::facts::Facts;
use rgpu_system::programs::{build_some, install};
use rgpu_system::{Programs, Server, ServerOptions, c, daemon, python};

use crate::codegen::released;
use crate::progress::step;
use crate::workspace_root;

/// What a release is asked for: package, target, place in `dist/`.
const PARTS: [(&str, &str, &str); 2] = [
    ("rgpud", "rgpud", "bin/rgpud"),
    ("rgpu-shim-cuda", "rgpu_cuda", "lib/rgpu/libcuda.so.1"),
];
/// Of `tests/c/`.
const PROGRAMS: [&str; 2] = ["conformance", "graphs"];

/// Returns how many pairs agree; none if the release is not in this clone.
pub fn previous(programs: &Programs) -> Result<u64> {
    let commit = released::commit(&released::read(&workspace_root())?)?;
    if !has(&commit) {
        println!("{commit}, the last release, is not in this clone: its programs are not tried");
        return Ok(0);
    }
    let old = step(&format!("the last release, {commit} (once)"), |step| {
        make(&commit, |package| step.at(package))
    })?;
    let folder = Folder::new("rgpu-previous-")?;
    let mut agree = 0;
    for name in PROGRAMS {
        let program = c::compile(folder.path(), name)?;
        let home = folder.path().join("home");
        std::fs::create_dir_all(&home)?;
        let direct = Facts::of(&program, &[], &daemon::direct(programs, &home)?)?.whole()?;
        let run = |client: &Programs, server: &Programs, place: &str| {
            let options = ServerOptions {
                driver: Some(programs.softgpu_lib().join("libcuda.so.1")),
                is_earlier: std::ptr::eq(server, &old),
                ..ServerOptions::default()
            };
            let place = folder.path().join(format!("{name}-{place}"));
            std::fs::create_dir_all(&place)?;
            let server = Server::start(server, &place, &options)?;
            Facts::of(&program, &[], &server.client(client, "unix")?)?.whole()
        };
        // Its client has faults that are mended since: with this server it must do what it did with its own.
        let its_own = run(&old, &old, "own")?;
        for (what, client, server, expected) in [
            ("its client with this server", &old, programs, &its_own),
            ("this client with its server", programs, &old, &direct),
        ] {
            let found = run(client, server, &agree.to_string())?;
            let differences = expected.differences(&found);
            ensure!(differences.is_empty(), "{name}, {what}: {differences:?}");
            println!("{name}, {what}: {} facts the same", found.lines().count());
            agree += 1;
        }
    }
    Ok(agree)
}

fn git(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(workspace_root()).args(arguments);
    command
}

/// Not of a clone that is shallow, nor of sources without their history.
fn has(commit: &str) -> bool {
    let object = format!("{commit}^{{commit}}");
    let output = git(&["cat-file", "-e", &object]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Builds the release from its sources, unoptimised.
fn make(commit: &str, progress: impl FnMut(&str)) -> Result<Programs> {
    let folder = workspace_root().join(".cache/previous");
    let programs = Programs::at(folder.join(commit));
    let is_there = |(_, _, place): &(&str, &str, &str)| programs.root().join(place).is_file();
    if PARTS.iter().all(is_there) {
        return Ok(programs);
    }
    let source = folder.join("source");
    if source.exists() {
        std::fs::remove_dir_all(&source)?;
    }
    std::fs::create_dir_all(&source)?;
    let archive = folder.join("source.tar");
    let target = archive
        .to_str()
        .context("the checkout's path is not UTF-8")?;
    python::run(
        &mut git(&["archive", "--output", target, commit]),
        "git archive",
    )?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&source);
    python::run(&mut unpack, "tar")?;
    std::fs::remove_file(&archive)?;
    let mut command = crate::cargo();
    command
        .current_dir(&source)
        .args(["build", "--locked", "--target-dir"])
        .arg(folder.join("target"));
    for (package, ..) in PARTS {
        command.args(["-p", package]);
    }
    let names = PARTS.map(|(_, target, _)| target);
    let built = build_some(&mut command, &names, progress)?;
    for (package, target, place) in PARTS {
        let file = built
            .get(target)
            .with_context(|| format!("{package} was not built"))?;
        install(file, &programs.root().join(place))?;
    }
    clear(&folder, &["source", "target"])?;
    Ok(programs)
}

/// The sources and what cargo keeps of them are of no further use.
fn clear(folder: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        std::fs::remove_dir_all(folder.join(name)).with_context(|| (*name).to_owned())?;
    }
    Ok(())
}
