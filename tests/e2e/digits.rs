//! examples/digits: a program that needs nothing but the driver API, with its GPU here and elsewhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Programs, Server, ServerOptions, root};
use serde_json::Value;

/// What the function answers to its sample.
fn answer(folder: &Path, environment: &[(String, String)]) -> Result<Value> {
    let example = root().join("examples/digits");
    let mut command = Command::new("python3");
    clean(&mut command)
        .arg("-B")
        .arg(example.join("predict.py"))
        .env("HOME", folder)
        .env("INPUT_FILE_PATH", example.join("sample.json"))
        .env("TMP_OUTPUT_DIR", folder)
        .envs(environment.iter().cloned());
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&std::fs::read(
        folder.join("answer.json"),
    )?)?)
}

#[test]
fn digits_computes_the_same_on_a_gpu_and_without_one() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-digits-")?;
    // On a machine with a GPU too.
    let hidden = [("CUDA_VISIBLE_DEVICES".to_owned(), "-1".to_owned())];
    let here = answer(folder.path(), &hidden)?;
    ensure!(here["device"] == "cpu", "{here}");
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    for (name, environment) in [
        ("direct", direct(&programs, folder.path())?),
        ("shm", server.client(&programs, "shm")?),
        ("tcp", server.client(&programs, "tcp")?),
    ] {
        let there = answer(folder.path(), &environment)?;
        ensure!(there["device"] == "gpu", "{name}: {there}");
        let pairs = here["predictions"].as_array().into_iter().flatten();
        let pairs = pairs.zip(there["predictions"].as_array().into_iter().flatten());
        let mut count = 0;
        for (here, there) in pairs {
            let apart = here["probability"]
                .as_f64()
                .zip(there["probability"].as_f64());
            let is_near = apart.is_some_and(|(here, there)| (here - there).abs() < 1e-4);
            ensure!(
                here["class"] == there["class"] && is_near,
                "{name}: {there}"
            );
            count += 1;
        }
        ensure!(count == 3, "{name}: {there}");
    }
    Ok(())
}
