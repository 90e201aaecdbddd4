//! What the benchmarks stand on: the paced null device, and peers that a script starts.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::{Programs, Server, ServerOptions, programs, python, root};

use crate::words;

/// What `paced.py` took, in milliseconds.
fn took(place: &[(String, String)]) -> Result<f64> {
    let mut command = Command::new(python::system()?);
    clean(&mut command)
        .arg(root().join("tests/e2e/paced.py"))
        .envs(place.iter().cloned());
    Ok(python::run(&mut command, "paced.py")?.parse()?)
}

#[test]
fn paced_kernels_take_their_time_alone_and_in_graphs() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-paced-")?;
    let mut build = Command::new(env!("CARGO"));
    build
        .current_dir(root())
        .args(["build", "-p", "rgpu-nulldev", "--lib"]);
    let built = programs::build_some(&mut build, &["rgpu_nulldev"], |_| {})?;
    let null = built.get("rgpu_nulldev").context("no null device")?;
    let driver = folder.path().join("libcuda.so.1");
    std::os::unix::fs::symlink(null, &driver)?;
    let pace = folder.path().join("pace");
    std::fs::write(&pace, "slow 20000\n")?;
    let at = |prefix: &str| {
        vec![
            (format!("{prefix}NULLDEV_PACE"), pace.display().to_string()),
            (
                format!("{prefix}NULLDEV_HOME"),
                folder.path().display().to_string(),
            ),
        ]
    };
    let options = ServerOptions {
        driver: Some(driver),
        environment: at("CUDA_"),
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let mut directly = at("");
    directly.push((
        "LD_LIBRARY_PATH".into(),
        folder.path().display().to_string(),
    ));
    for (name, place) in [
        ("direct", directly),
        ("shm", server.client(&programs, "shm")?),
        ("tcp", server.client(&programs, "tcp")?),
    ] {
        let millis = took(&place)?;
        ensure!(
            millis >= 60.0,
            "{name}: three kernels of 20 ms took {millis} ms"
        );
    }
    Ok(())
}

#[test]
fn a_peer_script_runs_commands_behind_its_own_server() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-peer-")?;
    for transport in ["tcp", "unix"] {
        let run = |arguments: &[&str]| -> Result<std::process::Output> {
            let mut command = Command::new(root().join("bench/peers/rgpu.sh"));
            clean(&mut command)
                .arg(programs.softgpu_lib())
                .args(arguments)
                .current_dir(folder.path())
                .env("TMPDIR", folder.path())
                .env("HOME", folder.path())
                .env("SOFTGPU_HOME", folder.path())
                .env("RGPU_DIST", programs.root())
                .env("RGPU_PEER_TRANSPORT", transport)
                .env("DEV", "CUDA:PTX")
                .env("PARALLEL", "0");
            Ok(command.output()?)
        };
        let python = python::echo()?.display().to_string();
        let script = root().join("tests/e2e/compute.py").display().to_string();
        let output = run(&[&python, &script])?;
        let said = words(&output);
        ensure!(
            output.status.success() && said.trim() == "computes right",
            "{said}"
        );
        // The server has gone with all that it had.
        let left: Vec<_> = std::fs::read_dir(folder.path())?
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with("tmp."))
            .collect();
        ensure!(left.is_empty(), "{left:?} is left");
        let output = run(&["sh", "-c", "exit 7"])?;
        ensure!(output.status.code() == Some(7), "{}", words(&output));
    }
    Ok(())
}
