//! `rgpu devices` and `rgpu doctor`: a greeting to the server, and what it answers.

use std::io::IoSlice;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgpu_proto::handshake::{
    Answer, ClientHandshake, ClientInfo, Hello, Purpose, Token, VgpuRequest, Welcome,
};
use rgpu_transport::{Endpoint, Interest, Pipe, Progress};

use crate::Target;

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

fn token(target: &Target) -> Result<Token> {
    if let Ok(token) = std::env::var("RGPU_TOKEN") {
        return Ok(Token::new(&token));
    }
    match &target.token_file {
        Some(file) => Ok(Token::new(
            &std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?,
        )),
        None => Ok(Token::default()),
    }
}

/// Connects, greets, and hangs up.
fn greet(server: &str, token: Token) -> Result<Welcome> {
    let endpoint = Endpoint::parse(server)?;
    let deadline = Instant::now() + PATIENCE;
    let pipe = Pipe::connect(&endpoint, PATIENCE)?;
    let hello = Hello {
        purpose: Purpose::Data,
        token,
        client: ClientInfo {
            pid: std::process::id(),
            program: "rgpu".into(),
            host: String::new(),
        },
        vgpu: VgpuRequest::default(),
        windows: Vec::new(),
        environment: Vec::new(),
    };
    let mut handshake = ClientHandshake::new(&hello)?;
    let wait = |interest| -> Result<()> {
        ensure!(
            !pipe.wait(interest, Some(deadline))?.timed_out(),
            "no answer within {} s",
            PATIENCE.as_secs()
        );
        Ok(())
    };
    let mut sent = 0;
    while sent < handshake.output().len() {
        match pipe.try_write_vectored(&[IoSlice::new(&handshake.output()[sent..])])? {
            Progress::Bytes(count) => sent += count,
            _ => wait(Interest::Write)?,
        }
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.try_read(&mut buffer)? {
            Progress::Bytes(count) => match handshake.push(&buffer[..count])? {
                Some((_, Answer::Welcome(welcome))) => return Ok(*welcome),
                Some((_, Answer::Refused(refused))) => bail!("refused: {refused}"),
                Some((_, Answer::Attached)) => bail!("an answer that does not fit"),
                None => {}
            },
            Progress::WouldBlock => wait(Interest::Read)?,
            Progress::Closed => bail!("the server closed the connection; its log says why"),
        }
    }
}

pub fn devices(target: &Target, json: bool) -> Result<ExitCode> {
    ensure!(
        !target.server.is_empty(),
        "no server: give --server, or set RGPU_SERVERS"
    );
    for server in &target.server {
        let welcome = greet(server, token(target)?).with_context(|| server.clone())?;
        for (ordinal, device) in welcome.snapshot.devices.iter().enumerate() {
            let major = device.attribute(75).unwrap_or(0);
            let minor = device.attribute(76).unwrap_or(0);
            let processors = device.attribute(16).unwrap_or(0);
            if json {
                let line = serde_json::json!({
                    "server": server,
                    "ordinal": ordinal,
                    "name": device.name,
                    "pci_bus_id": device.pci_bus_id,
                    "memory_mib": device.total_memory / MIB,
                    "compute_capability": format!("{major}.{minor}"),
                    "multiprocessors": processors,
                });
                println!("{line}");
            } else {
                println!(
                    "{server}/{ordinal}  {}  {} MiB  compute capability {major}.{minor}  {processors} multiprocessors  {}",
                    device.name,
                    device.total_memory / MIB,
                    device.pci_bus_id
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn doctor(target: &Target) -> Result<ExitCode> {
    let mut good = true;
    let mut say = |fine: bool, text: String| {
        println!("{} {text}", if fine { "ok   " } else { "wrong" });
        good &= fine;
    };
    match crate::run::client_library() {
        Ok(folder) => say(true, format!("client library in {}", folder.display())),
        Err(error) => say(false, format!("{error:#}")),
    }
    if target.server.is_empty() {
        say(
            false,
            "no server: give --server, or set RGPU_SERVERS".into(),
        );
    }
    match token(target) {
        Ok(token) if token.is_empty() => {
            say(false, "no token: set RGPU_TOKEN or RGPU_TOKEN_FILE".into())
        }
        Ok(token) => {
            say(true, "a token is set".into());
            for server in &target.server {
                let started = Instant::now();
                match greet(server, token.clone()) {
                    Ok(welcome) => say(
                        true,
                        format!(
                            "{server}: {}, {} device(s), CUDA {}.{}, greeting took {:.1} ms",
                            welcome.server,
                            welcome.snapshot.devices.len(),
                            welcome.snapshot.driver_version / 1000,
                            welcome.snapshot.driver_version % 1000 / 10,
                            started.elapsed().as_secs_f64() * 1e3
                        ),
                    ),
                    Err(error) => say(false, format!("{server}: {error:#}")),
                }
            }
        }
        Err(error) => say(false, format!("token: {error:#}")),
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
