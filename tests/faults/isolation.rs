//! Workers that somebody has taken over, beside others: they get nowhere, and the others go on. And memory, which comes without what others have left
//! in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rgpu_system::c::{compile, gcc};
use rgpu_system::cleanup::Folder;
use rgpu_system::facts::Facts;
use rgpu_system::{Programs, Server, ServerOptions};

use crate::session::Session;
use crate::until;

/// Orders of `tests/c/hostile_driver.c`.
const CRASH: u32 = 1;
const SPIN: u32 = 2;
const EAT: u32 = 3;
const MULTIPLY: u32 = 4;
const BREAK_OUT: u32 = 5;
const STOP: u32 = 6;
/// MiB that a worker may have of its own.
const MEMORY: i64 = 256;
/// Threads that a worker may have.
const THREADS: i64 = 8192;
const SUCCESS: i64 = 0;
const DEVICE_UNAVAILABLE: i64 = 46;

/// A library over softgpu, which lies beside it.
fn driver(
    programs: &Programs,
    folder: &Path,
    name: &str,
    definitions: &[String],
) -> Result<PathBuf> {
    let folder = folder.join("driver");
    std::fs::create_dir_all(&folder)?;
    let softgpu = folder.join("libcuda.so.1");
    std::fs::copy(programs.softgpu_lib().join("libcuda.so.1"), &softgpu)?;
    let library = folder.join(format!("lib{name}.so"));
    let softgpu = softgpu.to_str().context("a path in UTF-8")?;
    let mut arguments = vec![
        "-shared",
        "-fPIC",
        "-O1",
        "-Wl,--no-as-needed",
        softgpu,
        "-Wl,-rpath,$ORIGIN",
    ];
    arguments.extend(definitions.iter().map(String::as_str));
    gcc(&arguments, name, &library)?;
    Ok(library)
}

struct Place {
    program: PathBuf,
    server: Server,
    client: Vec<(String, String)>,
    /// Last: whoever uses it is gone then.
    _folder: Folder,
}

fn hostile(user: Option<u32>) -> Result<Place> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let path = folder.path();
    std::fs::create_dir_all(path.join("driver"))?;
    let beside = path.join("driver/secret.txt");
    std::fs::write(&beside, "not for drivers")?;
    let secrets = [path.join("token"), path.join("rgpud.log"), beside];
    let secrets: Vec<String> = secrets.iter().map(|it| format!("{it:?}")).collect();
    let definitions = [format!("-DSECRETS={}", secrets.join(","))];
    let options = ServerOptions {
        driver: Some(driver(&programs, path, "hostile_driver", &definitions)?),
        arguments: vec!["--worker-memory".into(), MEMORY.to_string()],
        user,
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, path, &options)?;
    Ok(Place {
        program: compile(path, "session")?,
        client: server.client(&programs, "shm")?,
        server,
        _folder: folder,
    })
}

impl Place {
    fn session(&self) -> Result<Session> {
        Session::start(&self.program, self.client.clone())
    }

    /// Ends a session, and waits until its worker is gone.
    fn gone(&self, session: Session) -> Result<()> {
        let before = self.server.workers().len();
        drop(session);
        until("a worker that is gone", || {
            self.server.workers().len() < before
        })
    }
}

/// The real and the effective user of a process.
fn users(pid: u32) -> Result<[u32; 2]> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut words = line.context("no Uid")?.split_whitespace();
    let mut next = || -> Result<u32> { Ok(words.next().context("no user")?.parse()?) };
    Ok([next()?, next()?])
}

/// It goes on, and is right.
fn goes_on(healthy: &mut Session) -> Result<()> {
    for _ in 0..50 {
        ensure!(healthy.ask("compute")? == [SUCCESS]);
    }
    Ok(())
}

#[test]
fn a_worker_that_was_taken_over_gets_nowhere() -> Result<()> {
    gets_nowhere(&hostile(None)?)
}

fn gets_nowhere(place: &Place) -> Result<()> {
    let mut healthy = place.session()?;
    let mut hostile = place.session()?;
    let answer = hostile.ask(&format!("order {BREAK_OUT}"))?;
    let [result, succeeded, tried] = answer[..] else {
        anyhow::bail!("{answer:?}");
    };
    let log = place.server.daemon.log_text();
    ensure!(result == SUCCESS && succeeded == 0, "{answer:?}\n{log}");
    ensure!(tried >= 60, "only {tried} were tried");
    if log.contains("a user for each session") {
        let workers = place.server.workers();
        ensure!(workers.len() == 2, "{workers:?}");
        let [one, other] = [users(workers[0])?, users(workers[1])?];
        ensure!(one[0] == one[1] && one != other, "{one:?} {other:?}");
        ensure!(one[0] != 0 && other[0] != 0, "{one:?} {other:?}");
    }
    goes_on(&mut healthy)
}

/// Without users of their own, workers are kept apart all the same.
#[test]
fn nor_does_one_of_a_daemon_that_is_not_root() -> Result<()> {
    const NOBODY: u32 = 65534;
    let programs = Programs::for_tests()?;
    let mut reached = std::process::Command::new(programs.bin("rgpud"));
    let reached =
        std::os::unix::process::CommandExt::uid(reached.arg("--version"), NOBODY).output();
    if !reached.is_ok_and(|output| output.status.success()) {
        println!("skipped: only root can be another user, who must reach the programs");
        return Ok(());
    }
    let place = hostile(Some(NOBODY))?;
    println!("{}", place.server.daemon.log_text());
    gets_nowhere(&place)
}

#[test]
fn what_one_worker_does_leaves_the_others_alone() -> Result<()> {
    let place = hostile(None)?;
    let mut healthy = place.session()?;
    let mut hostile = place.session()?;
    let crashed = hostile.ask(&format!("order {CRASH}"))?;
    ensure!(crashed[0] == DEVICE_UNAVAILABLE, "{crashed:?}");
    let (_, said) = hostile.end()?;
    ensure!(said.contains("killed by signal 11"), "{said}");
    goes_on(&mut healthy)?;

    let mut hostile = place.session()?;
    let eaten = hostile.ask(&format!("order {EAT}"))?;
    ensure!(
        eaten[0] == SUCCESS && (1..=MEMORY).contains(&eaten[1]),
        "{eaten:?}"
    );
    goes_on(&mut healthy)?;
    place.gone(hostile)?;

    let mut hostile = place.session()?;
    let many = hostile.ask(&format!("order {MULTIPLY}"))?;
    ensure!(many[..2] == [SUCCESS, 0], "processes: {many:?}");
    ensure!((1..THREADS).contains(&many[2]), "threads: {many:?}");
    goes_on(&mut healthy)?;
    place.gone(hostile)?;

    for order in [SPIN, STOP] {
        let mut hostile = place.session()?;
        hostile.tell(&format!("order {order}"))?;
        goes_on(&mut healthy)?;
        // One more comes in beside it.
        goes_on(&mut place.session()?)?;
        place.gone(hostile)?;
    }
    goes_on(&mut healthy)
}

type Environment = Vec<(String, String)>;

/// Two tenants of a server.
fn tenants(driver: Option<PathBuf>, clear: &str) -> Result<(Place, [Environment; 2])> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let path = folder.path();
    let tokens = ["a-token-of-tenant-one-0123", "a-token-of-tenant-two-0123"];
    let tenant = |(name, token)| format!("[[tenant]]\nname = \"{name}\"\ntoken = \"{token}\"\n");
    let options = ServerOptions {
        driver,
        config: Some(["one", "two"].into_iter().zip(tokens).map(tenant).collect()),
        arguments: vec!["--clear-memory".into(), clear.into()],
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, path, &options)?;
    let client = server.client(&programs, "shm")?;
    let clients = tokens.map(|token| {
        let mut client = client.clone();
        client.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        client.push(("RGPU_TOKEN".into(), token.into()));
        client
    });
    let place = Place {
        program: compile(path, "leftovers")?,
        server,
        client,
        _folder: folder,
    };
    Ok((place, clients))
}

#[test]
fn nobody_sees_what_another_tenant_has_left() -> Result<()> {
    let (place, [one, two]) = tenants(None, "auto")?;
    for how in ["free", "write"] {
        let wrote = Facts::of(&place.program, &[how], &one)?.whole()?;
        ensure!(wrote.value("failed") == "0", "{}", wrote.text);
        let looked = Facts::of(&place.program, &["look"], &two)?.whole()?;
        ensure!(looked.value("failed") == "0", "{}", looked.text);
        ensure!(looked.value("looked") == "1", "{}", looked.text);
        ensure!(looked.value("found") == "0", "{how}: {}", looked.text);
    }
    Ok(())
}

/// What a driver leaves to us.
#[test]
fn memory_is_cleared_where_the_driver_does_not() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let dirty = driver(&programs, folder.path(), "dirty_driver", &[])?;
    let found = |clear| -> Result<u64> {
        let (place, [one, _]) = tenants(Some(dirty.clone()), clear)?;
        let looked = Facts::of(&place.program, &["look"], &one)?.whole()?;
        ensure!(looked.value("failed") == "0", "{}", looked.text);
        println!("{clear}: {}", looked.text);
        Ok(looked.value("found").parse()?)
    };
    ensure!(found("never")? > 1_000_000, "there is nothing to clear");
    ensure!(found("always")? == 0);
    Ok(())
}
