//! Two servers of one device each are to a program what two devices of one machine are, but that they do not reach each other's memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rgpu_system::Programs;
use rgpu_system::c::compile;
use rgpu_system::cleanup::{self, Folder};
use rgpu_system::daemon::{clean, direct};
use rgpu_system::facts::Facts;
use rgpu_system::fleet::Fleet;
use rustix::process::{Pid, Signal, kill_process};

type Environment = Vec<(String, String)>;
type List = [(&'static str, usize, &'static str)];

/// The first device of the first server, and the second of the second: different ones also by UUID and bus.
const OVER_UNIX: &List = &[("unix", 0, "/0"), ("unix", 1, "/1")];
const OVER_BOTH: &List = &[("tcp", 0, "/0"), ("unix", 1, "/1")];

struct Place {
    programs: Programs,
    folder: Folder,
    fleet: Fleet,
}

impl Place {
    fn new() -> Result<Place> {
        let programs = Programs::for_tests()?;
        let folder = Folder::new("rgpu-servers-")?;
        let fleet = Fleet::start(&programs, folder.path(), 2)?;
        Ok(Place {
            programs,
            folder,
            fleet,
        })
    }

    fn client(&self, list: &List) -> Result<Environment> {
        self.fleet.client(&self.programs, list)
    }

    /// Two devices of one machine.
    fn direct(&self) -> Result<Environment> {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(&home)?;
        let mut environment = direct(&self.programs, &home)?;
        environment.push(("SOFTGPU_DEVICES".into(), "2".into()));
        Ok(environment)
    }

    /// Runs a program on two devices of one machine and on two servers: lines that differ must be of peer access, as `may_differ` knows.
    fn agree(
        &self,
        name: &str,
        arguments: &[&str],
        lists: &[&List],
        documented: &[(&str, &str)],
        may_differ: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let program = compile(self.folder.path(), name)?;
        let directly = Facts::of(&program, arguments, &self.direct()?)?.whole()?;
        directly.says(documented)?;
        for list in lists {
            let remotely = Facts::of(&program, arguments, &self.client(list)?)?.whole()?;
            let differences: Vec<String> = directly
                .differences(&remotely)
                .into_iter()
                .filter(|(direct, remote)| !(may_differ(direct) && may_differ(remote)))
                .map(|(direct, remote)| format!("direct: {direct}\nservers: {remote}"))
                .collect();
            ensure!(differences.is_empty(), "{}", differences.join("\n"));
        }
        Ok(())
    }
}

fn with(mut environment: Environment, name: &str, value: &str) -> Environment {
    environment.push((name.into(), value.into()));
    environment
}

#[test]
fn what_goes_between_devices_goes_between_servers() -> Result<()> {
    let documented = [
        ("ids differ", "1"),
        ("cuCtxDestroy of another device's", "0"),
        ("cuCtxSetCurrent of it", "201"),
        ("addresses differ", "1"),
        ("cuMemFree of the other's", "0"),
        ("cuMemFree again", "1"),
        ("copy to 1, in 0, form 3", "0"),
        ("cuMemcpyPeer past the end", "1"),
        ("cuMemcpyPeer of no context", "201"),
        ("an array to the other's", "0"),
        ("rows that overlap", "1"),
        ("cuEventQuery of the other's", "0"),
        ("cuEventRecord of the other's", "400"),
        ("cuEventElapsedTime of both", "400"),
        ("cuStreamWaitEvent for one that was never recorded", "0"),
        ("cuLaunchKernel of the other's function", "400"),
        ("chain of 61", "0"),
        ("cuStreamWaitEvent behind a function", "0"),
        ("cuStreamQuery", "600"),
        ("  value there", "7"),
        ("  value here", "12"),
        ("cuMemHostRegister of it", "712"),
        ("  pinned value", "200000"),
        ("cuCtxDisablePeerAccess again", "705"),
        ("cuDeviceCanAccessPeer(beyond)", "101"),
    ];
    Place::new()?.agree(
        "servers",
        &[],
        &[OVER_UNIX, OVER_BOTH],
        &documented,
        |line| line.starts_with("peer"),
    )
}

#[test]
fn servers_have_no_peer_access() -> Result<()> {
    let place = Place::new()?;
    let program = compile(place.folder.path(), "servers")?;
    let facts = Facts::of(&program, &[], &place.client(OVER_UNIX)?)?.whole()?;
    facts.says(&[
        ("peer cuDeviceCanAccessPeer", "0"),
        ("peer   it can", "0"),
        ("peer cuDeviceGetP2PAttribute", "0"),
        ("peer   access", "0"),
        ("peer cuCtxEnablePeerAccess", "217"),
        ("peer cuCtxDisablePeerAccess", "705"),
    ])
}

/// Programs that know of two devices of one machine.
#[test]
fn programs_for_two_devices_agree() -> Result<()> {
    let place = Place::new()?;
    place.agree("code", &[], &[OVER_UNIX], &[], |_| false)?;
    for version in ["12", "13"] {
        // A managed variable is each server's own.
        place.agree("runtime", &[version], &[OVER_BOTH], &[], |line| {
            line.starts_with("  it is one for both")
        })?;
    }
    // Atomic operations in the other's memory.
    place.agree("contexts", &[], &[OVER_UNIX], &[], |line| {
        line.starts_with("  of a sum")
    })
}

#[test]
fn devices_are_one_list() -> Result<()> {
    let place = Place::new()?;
    let program = compile(place.folder.path(), "servers")?;
    let list = |environment: &Environment| Facts::of(&program, &["list"], environment)?.whole();
    let (here, there) = (place.direct()?, place.client(OVER_BOTH)?);
    let uuid = |number: u8| format!("GPU-0{number}");
    for value in [
        "0,1",
        "1,0",
        "1",
        "0",
        "",
        "-1",
        "0,-1,1",
        "1,7,0",
        "0,0",
        "1,x",
        &uuid(1),
        &uuid(0),
        "GPU-",
        "GPU-0",
        "MIG-01",
        "1,MIG-0",
        "GPU-01,GPU-00",
    ] {
        let (direct, remote) = (
            list(&with(here.clone(), "CUDA_VISIBLE_DEVICES", value))?,
            list(&with(there.clone(), "CUDA_VISIBLE_DEVICES", value))?,
        );
        ensure!(
            direct.text == remote.text,
            "{value:?}\n{}{}",
            direct.text,
            remote.text
        );
    }
    let first_bytes = |list: &List, order: Option<&str>| -> Result<String> {
        let mut environment = place.client(list)?;
        environment.extend(order.map(|order| ("CUDA_DEVICE_ORDER".into(), order.into())));
        let facts = self::list(&program, &environment)?;
        let bytes = facts.lines().filter(|line| line.contains("of its UUID"));
        Ok(bytes
            .filter_map(|line| line.split_whitespace().last())
            .collect())
    };
    for (list, order, expected) in [
        (&[("unix", 1, ""), ("tcp", 0, "/*")][..], None, "0101"),
        (&[("unix", 1, "/1"), ("tcp", 0, "/*")], None, "101"),
        (
            &[("unix", 1, "/1"), ("tcp", 0, "/0"), ("unix", 1, "/0")],
            None,
            "100",
        ),
        (
            &[("unix", 1, "/1"), ("tcp", 0, "/*")],
            Some("PCI_BUS_ID"),
            "011",
        ),
        (
            &[("unix", 1, "/1"), ("tcp", 0, "/*")],
            Some("FASTEST_FIRST"),
            "101",
        ),
    ] {
        let found = first_bytes(list, order)?;
        ensure!(found == expected, "{list:?} {order:?}: {found}");
    }
    Ok(())
}

fn list(program: &Path, environment: &Environment) -> Result<Facts> {
    Facts::of(program, &["list"], environment)?.whole()
}

/// A server that is not there would shift the others' devices: nothing is served, and a line says which it is.
#[test]
fn what_is_wrong_with_a_list_is_said() -> Result<()> {
    let place = Place::new()?;
    let program = compile(place.folder.path(), "servers")?;
    let good = place.client(OVER_UNIX)?;
    let servers = good
        .iter()
        .find(|(name, _)| name == "RGPU_SERVERS")
        .map(|(_, value)| value.clone())
        .context("no list")?;
    let first = servers.split(',').next().unwrap_or_default();
    for (list, says) in [
        (
            format!("{servers},unix:///nowhere/at/all"),
            "/nowhere/at/all",
        ),
        (format!("{first},{first}"), "listed twice"),
        (servers.replace("/1", "/9"), "no device 9"),
        ("tcp://127.0.0.1:1/x".into(), "`x` is no device"),
    ] {
        let mut command = Command::new(&program);
        let output = clean(&mut command)
            .arg("list")
            .envs(good.iter().cloned())
            .env("RGPU_SERVERS", &list)
            .output()?;
        let (facts, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(facts.starts_with("cuInit "), "{facts}");
        let code = facts
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().last());
        ensure!(code == Some("100"), "{list}: {facts}");
        ensure!(said.contains(says), "{list}: {said}");
    }
    Ok(())
}

#[test]
fn what_no_driver_can_do_between_servers_is_refused() -> Result<()> {
    let place = Place::new()?;
    let program = compile(place.folder.path(), "servers")?;
    let facts = Facts::of(&program, &["apart"], &place.client(OVER_BOTH)?)?.whole()?;
    facts.says(&[
        ("cuMemcpyPeerAsync in a capture", "900"),
        ("cuStreamEndCapture", "901"),
        ("cuStreamWaitEvent in a capture", "900"),
        ("cuLaunchKernel behind captures", "0"),
        ("a graph with the other's kernel", "400"),
        ("a graph with the other's object", "801"),
        ("cuMemcpyDtoD from the other's managed memory", "0"),
        ("  value", "321"),
        ("cuMemcpyDtoD to it", "0"),
        ("cuMemFree of it", "0"),
    ])
}

/// One server is lost while the other works.
#[test]
fn a_lost_server_takes_only_its_own_devices() -> Result<()> {
    let mut place = Place::new()?;
    let program = compile(place.folder.path(), "servers")?;
    let mut command = Command::new(&program);
    let mut child = clean(&mut command)
        .arg("lost")
        .envs(place.client(OVER_UNIX)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    cleanup::watch(child.id());
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut text = String::new();
    while !text.contains("ready ") {
        ensure!(output.read_line(&mut text)? > 0, "it ended early\n{text}");
    }
    for worker in place.fleet.servers[0].workers() {
        if let Some(pid) = Pid::from_raw(worker as i32) {
            kill_process(pid, Signal::KILL)?;
        }
    }
    place.fleet.servers[0].daemon.kill();
    writeln!(child.stdin.take().context("no input")?, "go on")?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    ensure!(child.wait()?.success(), "{rest}{said}");
    cleanup::forget(child.id());
    let devices: Vec<&str> = rest.split("device ").collect();
    let [first, lost, alive] = devices[..] else {
        anyhow::bail!("{rest}");
    };
    let code = |text: &str, fact: &str| {
        let line = text.lines().find(|line| line.starts_with(fact));
        line.and_then(|line| line.split_whitespace().last())
            .map(str::to_owned)
    };
    for call in [
        "lost: cuCtxSynchronize",
        "lost: cuMemAlloc",
        "lost: cuStreamCreate",
    ] {
        ensure!(
            code(first, call).is_some_and(|code| code != "0"),
            "{call}: {rest}"
        );
    }
    for call in [
        "cuCtxSetCurrent",
        "cuLaunchKernel",
        "cuStreamSynchronize",
        "cuMemcpyDtoH",
    ] {
        let (gone, fine) = (code(lost, call), code(alive, call));
        ensure!(
            gone.as_deref().is_some_and(|code| code != "0"),
            "{call}: {rest}"
        );
        ensure!(fine.as_deref() == Some("0"), "{call}: {rest}");
    }
    ensure!(
        code(lost, "cuDeviceGetCount").as_deref() == Some("0"),
        "{rest}"
    );
    ensure!(code(alive, "  value").as_deref() == Some("9"), "{rest}");
    // What needs the lost one has its error, and leaves the other as it was.
    for call in [
        "cuMemcpyPeer from the other",
        "cuStreamWaitEvent of the other's",
    ] {
        ensure!(
            code(alive, call).is_some_and(|code| code != "0" && code != "1"),
            "{call}: {rest}"
        );
    }
    ensure!(
        code(alive, "cuCtxDestroy").as_deref() == Some("0"),
        "{rest}"
    );
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("is over"))
        .collect();
    let address = place.fleet.servers[0].daemon.address("unix")?;
    ensure!(
        matches!(lines[..], [line] if line.contains(address)),
        "{said}"
    );
    Ok(())
}
