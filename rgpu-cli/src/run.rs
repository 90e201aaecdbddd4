//! `rgpu run`: sets the environment that makes a program load our libcuda.so.1, and becomes the program.

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use rgpu_transport::{Endpoint, ServerList};

use crate::Target;

/// The folder of the client libraries: beside the program's own, or where RGPU_CLIENT_LIB says.
pub fn client_library() -> Result<PathBuf> {
    let folder = match std::env::var_os("RGPU_CLIENT_LIB") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let program = std::env::current_exe().context("where am I?")?;
            let top = program
                .parent()
                .and_then(|bin| bin.parent())
                .context("where am I?")?;
            top.join("lib/rgpu")
        }
    };
    ensure!(
        folder.join("libcuda.so.1").is_file(),
        "{}: no libcuda.so.1 there; set RGPU_CLIENT_LIB to the folder that holds it",
        folder.display()
    );
    Ok(folder)
}

/// The servers that fit the transport asked for.
fn choose(target: &Target, transport: &str) -> Result<ServerList> {
    let list = target.list()?;
    let fits = |endpoint: &Endpoint| {
        let kind = match endpoint {
            Endpoint::Unix(_) => ["unix", "shm"].as_slice(),
            Endpoint::Tcp { .. } => &["tcp"],
            Endpoint::Quic { .. } => &["quic"],
            Endpoint::Rdma { .. } => &["rdma"],
        };
        transport == "auto" || kind.contains(&transport)
    };
    list.only(fits).with_context(|| {
        format!(
            "--transport {transport}: none of the servers ({}) is reached that way",
            target.server.join(", ")
        )
    })
}

/// Unlike other runs of the tenant's; nothing is secret about it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub fn run(target: &Target, transport: &str, command: &[String]) -> Result<ExitCode> {
    let servers = choose(target, transport)?;
    let folder = client_library()?;
    let mut path = OsString::from(folder);
    if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    let mut program = Command::new(&command[0]);
    program
        .args(&command[1..])
        .env("LD_LIBRARY_PATH", path)
        .env("RGPU_SERVERS", servers.to_text());
    // What the program starts has its vGPU with it.
    if std::env::var_os("RGPU_VGPU").is_none() {
        program.env("RGPU_VGPU", format!("run-{:016x}", random()));
    }
    // A variable of the caller's stays, if nothing else is asked for.
    if transport != "auto" {
        program.env("RGPU_TRANSPORT", transport);
    }
    if let Some(file) = &target.token_file {
        ensure!(
            file.is_file(),
            "--token-file {}: no such file",
            file.display()
        );
        program
            .env("RGPU_TOKEN_FILE", std::path::absolute(file)?)
            .env_remove("RGPU_TOKEN");
    }
    // Becoming the program gives it our process, terminal and signals; its exit status is ours.
    let error = program.exec();
    eprintln!("rgpu: {}: {error}", command[0]);
    // As a shell does: 127 for a command that is not found, 126 for one that cannot be run.
    Ok(ExitCode::from(
        if error.kind() == std::io::ErrorKind::NotFound {
            127
        } else {
            126
        },
    ))
}
