//! Programs that know nothing of us, through the whole path.

mod bench;
mod digits;
mod terminal;

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Programs, Server, ServerOptions, python, root};

fn tinygrad(folder: &Path, environment: Vec<(String, String)>) -> Result<Output> {
    let mut command = Command::new(python::echo()?);
    clean(&mut command)
        .arg(root().join("tests/e2e/compute.py"))
        .current_dir(folder)
        .env("HOME", folder)
        .env("DEV", "CUDA:PTX")
        // tinygrad's pool of compiler processes has nothing to do for PTX.
        .env("PARALLEL", "0")
        .envs(environment);
    Ok(command.output()?)
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn tinygrad_computes_right_directly_and_through_each_transport() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-tinygrad-")?;
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home)?;
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    for (name, environment) in [
        ("direct", direct(&programs, &home)?),
        ("shm", server.client(&programs, "shm")?),
        ("unix", server.client(&programs, "unix")?),
        ("tcp", server.client(&programs, "tcp")?),
    ] {
        let output = tinygrad(folder.path(), environment)?;
        ensure!(output.status.success(), "{name}: {}", words(&output));
    }
    Ok(())
}

#[test]
fn a_wrong_token_and_an_absent_server_are_said_in_one_line() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-tinygrad-")?;
    let mut server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    let mut environment = server.client(&programs, "shm")?;
    environment.push(("RGPU_TOKEN".into(), "no such token at all".into()));
    let output = tinygrad(folder.path(), environment)?;
    let said = words(&output);
    ensure!(
        !output.status.success() && said.matches("the token is not known here").count() == 1,
        "{said}"
    );
    let environment = server.client(&programs, "shm")?;
    server.daemon.kill();
    let output = tinygrad(folder.path(), environment)?;
    let said = words(&output);
    ensure!(
        !output.status.success() && said.matches("is rgpud running there").count() == 1,
        "{said}"
    );
    Ok(())
}
