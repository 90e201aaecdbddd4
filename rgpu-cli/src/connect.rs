//! `rgpu devices` and `rgpu doctor`: a greeting to the server, and what it answers.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgpu_proto::handshake::{
    Answer, ClientInfo, Hello, Purpose, Token, VERSION_MAX, VERSION_MIN, Welcome,
};
use rgpu_transport::{Endpoint, GreetError, Greeted, ServerList};

use crate::Target;
use crate::program::{self, same};

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

/// The token, and where it comes from. The client library looks in the same places, in the same order.
pub fn token(file: Option<&PathBuf>) -> Result<(Token, String)> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (file, from) = match (file, set("RGPU_TOKEN"), set("RGPU_TOKEN_FILE")) {
        (Some(file), ..) => (file.clone(), "--token-file"),
        (None, Some(token), _) => return Ok((Token::new(&token), "RGPU_TOKEN".into())),
        (None, None, Some(file)) => (file.into(), "RGPU_TOKEN_FILE"),
        (None, None, None) => {
            bail!("no token: give --token-file, or set RGPU_TOKEN or RGPU_TOKEN_FILE")
        }
    };
    let name = format!("{from} {}", file.display());
    let token = Token::new(&std::fs::read_to_string(&file).with_context(|| name.clone())?);
    ensure!(!token.is_empty(), "{name}: the file is empty");
    Ok((token, name))
}

/// Connects, greets, and hangs up.
fn greet(server: &Endpoint, token: Token) -> Result<Welcome> {
    let hello = Hello {
        token,
        client: ClientInfo {
            pid: std::process::id(),
            program: "rgpu".into(),
            host: String::new(),
        },
        ..Hello::about(Purpose::Data)
    };
    match rgpu_transport::greet(server, &hello, PATIENCE) {
        Ok(Greeted {
            answer: Answer::Welcome(welcome),
            ..
        }) => Ok(*welcome),
        Ok(_) => bail!("{server}: an answer that does not fit"),
        Err(GreetError::Refused { refused, .. }) => bail!(
            "{server}: refused: {refused} (programs get CUresult {})",
            refused.code.cu_result()
        ),
        Err(error) => Err(error.into()),
    }
}

pub fn devices(target: &Target, json: bool) -> Result<ExitCode> {
    let list = target.list()?;
    let (token, _) = token(target.token_file.as_ref())?;
    let mut found = Vec::new();
    for server in &list.servers {
        found.push(greet(server, token.clone())?.snapshot.devices);
    }
    let counts: Vec<usize> = found.iter().map(Vec::len).collect();
    for (place, ordinal) in list.devices(&counts)? {
        let (server, device) = (list.servers[place].to_string(), &found[place][ordinal]);
        // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR, and _MULTIPROCESSOR_COUNT.
        let [major, minor, processors] =
            [75, 76, 16].map(|attribute| device.attribute(attribute).unwrap_or(0));
        if json {
            let line = serde_json::json!({
                "server": server,
                "ordinal": ordinal,
                "name": device.name,
                "uuid": device.uuid_text(),
                "pci_bus_id": device.pci_bus_id,
                "memory_mib": device.total_memory / MIB,
                "compute_capability": format!("{major}.{minor}"),
                "multiprocessors": processors,
            });
            println!("{line}");
        } else {
            println!(
                "{server}/{ordinal}  {}  {} MiB  compute capability {major}.{minor}  {processors} multiprocessors  {}  {}",
                device.name,
                device.total_memory / MIB,
                device.pci_bus_id,
                device.uuid_text()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `rgpu doctor` finds, a line each.
pub struct Findings {
    good: bool,
}

impl Findings {
    pub fn fine(&mut self, text: impl Display) {
        println!("ok    {text}");
    }

    pub fn wrong(&mut self, text: impl Display) {
        println!("wrong {text}");
        self.good = false;
    }

    pub fn note(&mut self, text: impl Display) {
        println!("note  {text}");
    }
}

pub fn doctor(target: &Target, program: Option<&str>) -> Result<ExitCode> {
    let mut findings = Findings { good: true };
    findings.fine(format_args!(
        "rgpu {}, protocol versions {VERSION_MIN} to {VERSION_MAX}",
        env!("CARGO_PKG_VERSION")
    ));
    match crate::run::client_library() {
        Ok(folder) => {
            findings.fine(format_args!("client library in {}", folder.display()));
            match program {
                Some(program) => program::examine(&mut findings, program, &folder),
                None => shadowed(&mut findings, &folder),
            }
        }
        Err(error) => findings.wrong(format_args!("{error:#}")),
    }
    let list = match target.list() {
        Ok(list) => Some(list),
        Err(error) => {
            findings.wrong(format_args!("{error:#}"));
            None
        }
    };
    let token = match token(target.token_file.as_ref()) {
        Ok((token, from)) => {
            findings.fine(format_args!("a token from {from}"));
            token
        }
        Err(error) => {
            findings.wrong(format_args!("{error:#}"));
            Token::default()
        }
    };
    let mut counts = Vec::new();
    for server in list.iter().flat_map(|list| &list.servers) {
        let started = Instant::now();
        match greet(server, token.clone()) {
            Ok(welcome) => {
                let millis = started.elapsed().as_secs_f64() * 1e3;
                counts.push(welcome.snapshot.devices.len());
                let Welcome {
                    server: name,
                    snapshot,
                    limits,
                    ..
                } = welcome;
                findings.fine(format_args!(
                    "{server}: {name}, CUDA {}.{}, {} device(s), {}, greeted in {millis:.1} ms",
                    snapshot.driver_version / 1000,
                    snapshot.driver_version % 1000 / 10,
                    snapshot.devices.len(),
                    match limits.memory {
                        Some(bytes) => format!("{} MiB a session", bytes / MIB),
                        None => "no memory limit".into(),
                    }
                ));
            }
            Err(error) => findings.wrong(format_args!("{error:#}")),
        }
    }
    if let Some(list) = list.filter(|list| list.servers.len() == counts.len()) {
        listed(&mut findings, &list, &counts);
    }
    for name in [
        "RGPU_VGPU",
        "RGPU_VGPU_MEMORY",
        "RGPU_VGPU_SHARE",
        "RGPU_TRANSPORT",
        "RGPU_CA_FILE",
        "RGPU_RELAY",
        "RGPU_LOG",
        "RGPU_STATS",
        "RGPU_TRACE",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
    ] {
        if let Some(value) = std::env::var_os(name) {
            findings.note(format_args!("{name}={}", value.display()));
        }
    }
    Ok(if findings.good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The devices that the list names on servers that are all there.
fn listed(findings: &mut Findings, list: &ServerList, counts: &[usize]) {
    match list.devices(counts) {
        Ok(devices) if list.servers.len() > 1 => findings.fine(format_args!(
            "{} device(s) of {} servers in one list",
            devices.len(),
            list.servers.len()
        )),
        Ok(_) => {}
        Err(error) => findings.wrong(error),
    }
}

/// Another libcuda.so.1 that a program without `rgpu run` would find before ours.
fn shadowed(findings: &mut Findings, ours: &Path) {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).find(|folder| folder.join("libcuda.so.1").is_file());
    match first {
        Some(folder) if same(&folder, ours) => findings.note("LD_LIBRARY_PATH leads to it already"),
        Some(folder) => findings.note(format_args!(
            "LD_LIBRARY_PATH leads to the libcuda.so.1 in {}; `rgpu run` puts ours first",
            folder.display()
        )),
        None => {}
    }
}
