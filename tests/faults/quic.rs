//! Servers that are reached by quic://, through a relay process on either side.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::far::{Far, Way};
use rgpu_system::{Programs, Server, ServerOptions};

use crate::session::Session;
use crate::{kill, until};

const SUCCESS: i64 = 0;
const DEVICE_UNAVAILABLE: i64 = 46;

struct Ready {
    programs: Programs,
    server: Server,
    program: std::path::PathBuf,
    folder: Folder,
}

impl Ready {
    fn new() -> Result<Ready> {
        let programs = Programs::for_tests()?;
        let folder = Folder::new("rgpu-faults-")?;
        Ok(Ready {
            program: compile(folder.path(), "session")?,
            server: Server::start(&programs, folder.path(), &ServerOptions::default())?,
            programs,
            folder,
        })
    }

    /// The client's variables, with another address than the server's.
    fn client_of(&self, address: &str) -> Result<Vec<(String, String)>> {
        let mut client = self.server.client(&self.programs, "quic")?;
        client.push(("RGPU_SERVERS".into(), address.into()));
        Ok(client)
    }

    fn address(&self) -> Result<&str> {
        self.server.daemon.address("quic")
    }

    /// The address by another way, the pin as it is.
    fn through(&self, far: &Far) -> Result<String> {
        let (_, pin) = self.address()?.split_once('?').context("no pin")?;
        Ok(format!("quic://{}?{pin}", far.address))
    }

    fn udp(&self) -> Result<SocketAddr> {
        let address = self.address()?.strip_prefix("quic://");
        let address = address.and_then(|address| address.split_once('?'));
        Ok(address.context("no pin")?.0.parse()?)
    }
}

/// Clients' relays to an address.
fn relays(address: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"relay") && words.any(|word| word == address.as_bytes())
    })
    .collect()
}

/// What a program says on stderr that finds no server.
fn refusal(program: &Path, client: Vec<(String, String)>) -> Result<String> {
    let mut command = Command::new(program);
    let output = clean(&mut command)
        .envs(client)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.starts_with("ready 100"), "{said}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_server_that_cannot_be_believed_gets_nothing() -> Result<()> {
    let ready = Ready::new()?;
    let address = ready.address()?;
    let (plain, _) = address.split_once('?').context("no pin")?;
    let wrong = format!("{plain}?pin=sha256:{}", "0".repeat(64));
    for (address, says) in [
        (wrong.as_str(), "shows another certificate"),
        (plain, "?pin=sha256:"),
    ] {
        let said = refusal(&ready.program, ready.client_of(address)?)?;
        ensure!(said.contains(says), "{said}");
        until("the relay is gone", || relays(address).is_empty())?;
    }
    // Nobody has come as far as the broker.
    let log = ready.server.daemon.log_text();
    ensure!(!log.contains("quic 127.0.0.1"), "{log}");

    let mut client = ready.client_of(address)?;
    client.push(("RGPU_RELAY".into(), "/no/such/program".into()));
    let said = refusal(&ready.program, client)?;
    ensure!(said.contains("/no/such/program"), "{said}");
    // One that is no relay.
    let mut client = ready.client_of(address)?;
    client.push(("RGPU_RELAY".into(), "/bin/true".into()));
    let said = refusal(&ready.program, client)?;
    ensure!(said.contains("ended without a word"), "{said}");
    // Libraries without programs beside them.
    let alone = ready.folder.path().join("alone/lib/rgpu");
    std::fs::create_dir_all(&alone)?;
    let library = "libcuda.so.1";
    std::fs::copy(
        ready.programs.client_lib().join(library),
        alone.join(library),
    )?;
    let mut client = ready.client_of(address)?;
    client.push(("LD_LIBRARY_PATH".into(), alone.display().to_string()));
    let said = refusal(&ready.program, client)?;
    ensure!(said.contains("alone/lib/rgpu/../../bin/rgpu"), "{said}");
    Ok(())
}

#[test]
fn a_relay_is_there_as_long_as_its_program() -> Result<()> {
    let ready = Ready::new()?;
    let address = ready.address()?;
    let mut session = Session::start(&ready.program, ready.client_of(address)?)?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    ensure!(relays(address).len() == 1, "one of a process and a server");
    // Not a child of the program's, and in no group that a terminal's signals reach.
    let relay = relays(address)[0];
    let parents = rgpu_system::daemon::children(session.pid());
    ensure!(parents.is_empty(), "children: {parents:?}");
    let stat = std::fs::read_to_string(format!("/proc/{relay}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // State, parent, group, session, terminal.
    ensure!(fields[2] == fields[3] && fields[4] == "0", "{stat}");
    let files = std::fs::read_dir(format!("/proc/{relay}/fd"))?.count();
    ensure!(files < 16, "{files} descriptors");

    let (status, said) = session.end()?;
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    until("the relay is gone", || relays(address).is_empty())?;
    until("the worker is gone", || ready.server.workers().is_empty())?;

    // A program that is killed, and has a child that lives on.
    let program = compile(ready.folder.path(), "leaves_a_child")?;
    let mut session = Session::start(&program, ready.client_of(address)?)?;
    ensure!(relays(address).len() == 1);
    kill(session.pid())?;
    until("the relay is gone", || relays(address).is_empty())?;
    until("the worker is gone", || ready.server.workers().is_empty())?;
    // The child holds the pipe, and goes now.
    session.end()?;
    Ok(())
}

#[test]
fn a_relay_that_is_killed_ends_its_sessions_with_a_reason() -> Result<()> {
    let ready = Ready::new()?;
    let address = ready.address()?;
    let mut session = Session::start(&ready.program, ready.client_of(address)?)?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    kill(relays(address)[0])?;
    ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE]);
    ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE]);
    let (_, said) = session.end()?;
    ensure!(said.contains("its relay process has ended"), "{said}");

    let mut session = Session::start(&ready.program, ready.client_of(address)?)?;
    let mut other = Session::start(&ready.program, ready.server.client(&ready.programs, "tcp")?)?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    let relay = ready.server.relays();
    ensure!(relay.len() == 1, "{relay:?}");
    kill(relay[0])?;
    // The next one tells the client as soon as it hears of it.
    let began = Instant::now();
    ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE]);
    ensure!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let (_, said) = session.end()?;
    ensure!(said.contains("started again"), "{said}");
    ensure!(other.ask("compute")? == [SUCCESS]);
    let log = ready.server.daemon.log_text();
    ensure!(log.contains("the relay has ended"), "{log}");
    let mut session = Session::start(&ready.program, ready.client_of(address)?)?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    Ok(())
}

#[test]
fn a_far_and_lossy_network_changes_no_answer() -> Result<()> {
    let ready = Ready::new()?;
    let way = Way {
        delay: Duration::from_millis(20),
        lost: 10_000,
        seed: 77,
    };
    let far = Far::to(ready.udp()?, way)?;
    let client = ready.client_of(&ready.through(&far)?)?;
    let mut session = Session::start(&ready.program, client)?;
    for _ in 0..20 {
        ensure!(session.ask("compute")? == [SUCCESS]);
    }
    // To another network, between two calls and on the way.
    far.change_address();
    ensure!(session.ask("compute")? == [SUCCESS]);
    session.tell("compute")?;
    far.change_address();
    ensure!(session.answer("compute")? == [SUCCESS]);
    println!("{} datagrams were lost", far.dropped());
    // A machine that vanishes.
    far.cut();
    let began = Instant::now();
    ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE]);
    until("the server notices too", || {
        ready.server.workers().is_empty()
    })?;
    let noticed = began.elapsed();
    ensure!(noticed < Duration::from_secs(35), "after {noticed:?}");
    let (_, said) = session.end()?;
    ensure!(said.contains("no sign of the server for 20 s"), "{said}");
    Ok(())
}

#[test]
fn commands_reach_a_quic_server_too() -> Result<()> {
    let ready = Ready::new()?;
    let address = ready.address()?;
    let rgpu = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(ready.programs.bin("rgpu"));
        let output = clean(&mut command)
            .args(arguments)
            .env("RGPU_TOKEN_FILE", &ready.server.token_file)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let devices = rgpu(&["devices", "--server", address])?;
    ensure!(devices.starts_with(&format!("{address}/0  ")), "{devices}");
    let program = ready.program.display().to_string();
    let unix = ready.server.daemon.address("unix")?;
    let both = format!("{unix},{address}/0");
    let run = [
        "run",
        "--server",
        &both,
        "--transport",
        "quic",
        "--",
        &program,
    ];
    let said = rgpu(&run)?;
    ensure!(said.starts_with("ready 0"), "{said}");
    ensure!(ready.server.daemon.log_text().contains("quic 127.0.0.1"));
    Ok(())
}
