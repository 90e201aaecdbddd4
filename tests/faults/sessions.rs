//! Sessions whose server or worker goes away, and sessions that may not have everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rgpu_system::agreement::SCHEMES;
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::{Namespace, Programs, Server, ServerOptions};

use crate::session::Session;
use crate::{kill, until};

/// Within which a program knows that its server's machine is gone.
const GONE: Duration = Duration::from_secs(30);
const SUCCESS: i64 = 0;
const OUT_OF_MEMORY: i64 = 2;
const DEVICE_UNAVAILABLE: i64 = 46;

/// One line of ours on stderr, which names what went away.
fn told_once(session: &mut Session) -> Result<()> {
    let (status, said) = session.end()?;
    ensure!(status.success(), "at its end: {status}\n{said}");
    let lines = said.lines().filter(|line| line.starts_with("rgpu")).count();
    ensure!(lines == 1, "{lines} lines instead of one:\n{said}");
    Ok(())
}

#[test]
fn a_server_that_goes_away_is_an_error_and_no_hang() -> Result<()> {
    let programs = Programs::for_tests()?;
    for scheme in SCHEMES {
        let folder = Folder::new("rgpu-faults-")?;
        let program = compile(folder.path(), "session")?;
        let mut server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
        let mut session = Session::start(&program, server.client(&programs, scheme)?)?;
        ensure!(session.ask("compute")? == [SUCCESS]);
        let workers = server.workers();
        server.daemon.kill();
        // A host that goes down takes the workers too.
        for worker in workers {
            let _ = kill(worker);
        }
        ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE], "{scheme}");
        // And so for ever, at once.
        ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE], "{scheme}");
        ensure!(
            session.ask("allocate 1")? == [DEVICE_UNAVAILABLE],
            "{scheme}"
        );
        told_once(&mut session)?;
    }
    Ok(())
}

#[test]
fn the_client_says_as_much_as_it_is_asked_for() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    let client = server.client(&programs, "shm")?;
    for (level, session_line, command_lines) in [
        ("", false, false),
        ("info", true, false),
        ("debug", true, true),
    ] {
        let mut client = client.clone();
        client.push(("RGPU_LOG".into(), level.into()));
        let mut session = Session::start(&program, client)?;
        ensure!(session.ask("compute")? == [SUCCESS]);
        let (status, said) = session.end()?;
        ensure!(status.success(), "{status}");
        let has = |words: &str| said.lines().any(|line| line.contains(words));
        ensure!(has(": session ") == session_line, "{level:?}: {said}");
        ensure!(has("rgpuLaunch: ") == command_lines, "{level:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_server_whose_machine_is_gone_is_an_error_within_a_bounded_time() -> Result<()> {
    let Some(namespace) = Namespace::new().map(Arc::new) else {
        println!("skipped: network namespaces need root and iproute2");
        return Ok(());
    };
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let options = ServerOptions {
        namespace: Some(namespace.clone()),
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let client = server.client(&programs, "tcp")?;
    let mut waiting = Session::start(&program, client.clone())?;
    let mut writing = Session::start(&program, client)?;
    ensure!(waiting.ask("compute")? == [SUCCESS]);
    // One waits for an answer to bytes that nobody will acknowledge, the other for room for more of them.
    writing.tell("flood 64")?;
    ensure!(namespace.silence());
    let began = Instant::now();
    ensure!(waiting.ask("compute")? == [DEVICE_UNAVAILABLE]);
    let first = began.elapsed();
    ensure!(writing.answer("flood")? == [DEVICE_UNAVAILABLE]);
    println!("noticed after {first:.1?} and {:.1?}", began.elapsed());
    ensure!(began.elapsed() < GONE, "after {:?}", began.elapsed());
    for session in [&mut waiting, &mut writing] {
        ensure!(session.ask("compute")? == [DEVICE_UNAVAILABLE]);
        told_once(session)?;
    }
    Ok(())
}

#[test]
fn a_worker_that_is_killed_ends_its_session_alone() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    let client = server.client(&programs, "shm")?;
    let mut victim = Session::start(&program, client.clone())?;
    let worker = server.workers();
    ensure!(worker.len() == 1, "{worker:?}");
    let mut others = [
        Session::start(&program, client.clone())?,
        Session::start(&program, client.clone())?,
    ];
    kill(worker[0])?;
    ensure!(victim.ask("compute")? == [DEVICE_UNAVAILABLE]);
    for other in &mut others {
        ensure!(other.ask("compute")? == [SUCCESS]);
    }
    told_once(&mut victim)?;
    for other in &mut others {
        let (status, said) = other.end()?;
        ensure!(status.success() && said.is_empty(), "{status}: {said}");
    }
    until("workers of ended sessions are gone", || {
        server.workers().is_empty()
    })?;
    // What the dead one held is free again.
    let mut fresh = Session::start(&program, client)?;
    let memory = fresh.ask("memory")?;
    ensure!(
        memory[0] == SUCCESS && memory[2] - memory[1] <= 64,
        "{memory:?}"
    );
    Ok(())
}

#[test]
fn a_host_function_that_never_returns_keeps_no_session() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    let client = server.client(&programs, "shm")?;
    // The worker goes: whoever waits for the function is told.
    let mut victim = Session::start(&program, client.clone())?;
    victim.tell("stand")?;
    ensure!(victim.answer("standing")? == [SUCCESS]);
    kill(server.workers()[0])?;
    ensure!(victim.answer("stand")? == [DEVICE_UNAVAILABLE]);
    told_once(&mut victim)?;
    // The program goes: so does the worker in whose driver the function stands.
    let mut gone = Session::start(&program, client)?;
    gone.tell("stand")?;
    ensure!(gone.answer("standing")? == [SUCCESS]);
    drop(gone);
    until("the worker is gone", || server.workers().is_empty())
}

#[test]
fn a_quota_is_what_the_program_sees_and_gets() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let token = "a-token-of-a-small-tenant";
    let options = ServerOptions {
        config: Some(format!(
            "[[tenant]]\nname = \"small\"\ntoken = \"{token}\"\nmemory_mib = 256\n"
        )),
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let mut client = server.client(&programs, "tcp")?;
    client.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
    client.push(("RGPU_TOKEN".into(), token.into()));
    for limit in [256, 64] {
        let mut client = client.clone();
        if limit != 256 {
            client.push(("RGPU_VGPU_MEMORY".into(), limit.to_string()));
        }
        let mut session = Session::start(&program, client)?;
        let memory = session.ask("memory")?;
        ensure!(
            memory[0] == SUCCESS && memory[2] == limit,
            "{memory:?} of {limit}"
        );
        ensure!(memory[1] <= limit, "{memory:?}");
        let past = format!("allocate {}", limit + 1);
        ensure!(session.ask(&past)? == [OUT_OF_MEMORY], "{limit}");
        let half = format!("allocate {}", limit / 2);
        ensure!(session.ask(&half)? == [SUCCESS], "{limit}");
        let left = session.ask("memory")?;
        ensure!(left[1] <= limit / 2, "{left:?}");
        ensure!(
            session.ask(&half)? == [OUT_OF_MEMORY],
            "{limit}: twice the half"
        );
        // Refused is not broken.
        ensure!(session.ask("compute")? == [SUCCESS]);
        let (status, said) = session.end()?;
        ensure!(status.success(), "{status}: {said}");
    }
    Ok(())
}

/// A worker is there before a session needs it; one that has died meanwhile is no loss.
#[test]
fn a_worker_is_ready_for_the_next_session() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "session")?;
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    let client = server.client(&programs, "shm")?;
    let some_ready = || !server.ready_workers().is_empty();
    for lost in [false, true] {
        until("a worker is ready", some_ready)?;
        let ready = server.ready_workers();
        if lost {
            for worker in &ready {
                kill(*worker)?;
            }
            until("it is gone", || server.ready_workers().is_empty())?;
        }
        let mut session = Session::start(&program, client.clone())?;
        ensure!(session.ask("compute")? == [SUCCESS]);
        let of_ready = server.workers().iter().all(|it| ready.contains(it));
        ensure!(of_ready != lost, "another worker");
        session.end()?;
        until("the worker is gone", || server.workers().is_empty())?;
    }
    // What CUDA reads at its start a worker of the session's own gets.
    let mut client = client;
    client.push(("CUDA_MODULE_LOADING".into(), "EAGER".into()));
    until("a worker is ready", some_ready)?;
    let ready = server.ready_workers();
    let mut session = Session::start(&program, client)?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    let workers = server.workers();
    ensure!(workers.len() == 1 && !ready.contains(&workers[0]));
    session.end()?;
    Ok(())
}
