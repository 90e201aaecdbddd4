//! Sessions whose daemon is killed, and the daemon that follows it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::{Programs, Server, ServerOptions};

use crate::session::Session;
use crate::{kill, until};

const SUCCESS: i64 = 0;
const DEVICE_UNAVAILABLE: i64 = 46;

struct Ready {
    programs: Programs,
    program: PathBuf,
    server: Server,
    folder: Folder,
}

impl Ready {
    fn with(environment: &[(&str, &str)]) -> Result<Ready> {
        let programs = Programs::for_tests()?;
        let folder = Folder::new("rgpu-faults-")?;
        let environment = environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let options = ServerOptions {
            environment: environment.collect(),
            ..ServerOptions::default()
        };
        Ok(Ready {
            program: compile(folder.path(), "session")?,
            server: Server::start(&programs, folder.path(), &options)?,
            programs,
            folder,
        })
    }

    fn session(&self, scheme: &str) -> Result<Session> {
        Session::start(&self.program, self.server.client(&self.programs, scheme)?)
    }

    /// How often the log has a line with these words.
    fn logged(&self, words: &str) -> usize {
        let log = self.server.daemon.log_text();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// SIGKILL, and the next daemon.
    fn kill_and_follow(&mut self, sessions: usize) -> Result<()> {
        let before = self.logged("session is taken over");
        self.server.daemon.kill();
        self.server.start_again()?;
        let taken = self.logged("session is taken over") - before;
        ensure!(
            taken == sessions,
            "{taken} of {sessions} sessions are taken over"
        );
        Ok(())
    }
}

/// What a busy session is told, and what it says when it has begun.
const COUNT: (&str, &str) = ("count", "counting");
const COPY: (&str, &str) = ("copy 64", "copying");

fn begin(session: &mut Session, (word, begun): (&str, &str)) -> Result<()> {
    session.tell(word)?;
    ensure!(session.answer(begun)? == [SUCCESS], "{word}");
    Ok(())
}

/// The next word ends what it is at; all of it must have come right.
fn finish(session: &mut Session, (word, _): (&str, &str)) -> Result<()> {
    session.tell("compute")?;
    ensure!(session.answer(word)? == [SUCCESS], "{word}");
    ensure!(session.answer("compute")? == [SUCCESS], "after {word}");
    Ok(())
}

fn said_nothing(session: &mut Session) -> Result<()> {
    let (status, said) = session.end()?;
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    Ok(())
}

#[test]
fn busy_sessions_outlive_a_daemon_that_is_killed_twice() -> Result<()> {
    let mut ready = Ready::with(&[])?;
    let work = [
        ("shm", COUNT),
        ("unix", COPY),
        ("tcp", COUNT),
        ("tcp", COPY),
    ];
    let mut sessions = Vec::new();
    for (scheme, job) in work {
        let mut session = ready.session(scheme)?;
        begin(&mut session, job)?;
        sessions.push((session, job));
    }
    let workers = ready.server.workers();
    ensure!(workers.len() == 4, "{workers:?}");
    for _ in 0..2 {
        ready.kill_and_follow(4)?;
        // A new one has its place beside them, and a number of its own.
        let mut new = ready.session("tcp")?;
        ensure!(new.ask("compute")? == [SUCCESS]);
        said_nothing(&mut new)?;
    }
    for (session, job) in &mut sessions {
        finish(session, *job)?;
        // What was begun before goes on to have its memory.
        ensure!(session.ask("memory")?[0] == SUCCESS);
        said_nothing(session)?;
    }
    until("the workers of the first daemon are gone", || {
        workers.iter().all(|pid| !is_running(*pid))
    })?;
    until("the last daemon has noted their ends", || {
        let left = std::fs::read_dir(ready.folder.path().join("state"));
        let mut left = left.into_iter().flatten().flatten();
        !left.any(|entry| entry.file_name().to_string_lossy().starts_with('s'))
    })?;
    // Those that were begun meanwhile, perhaps, under a daemon that was killed before it had noted it.
    ensure!(
        ready.logged("result=0") >= 4,
        "{}",
        ready.server.daemon.log_text()
    );
    Ok(())
}

/// Whether it is there and not only waited for by nobody.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn a_session_that_was_taken_over_is_told_of_its_end() -> Result<()> {
    let mut ready = Ready::with(&[])?;
    let mut killed = ready.session("shm")?;
    let mut stopped = ready.session("tcp")?;
    let workers = ready.server.workers();
    ready.kill_and_follow(2)?;
    begin(&mut killed, COUNT)?;
    begin(&mut stopped, COUNT)?;
    let log = ready.server.daemon.log_text();
    let first = log
        .lines()
        .find(|line| line.contains("session begins") && line.contains("rgpud::connection"))
        .context("no session")?
        .to_owned();
    ensure!(
        first.contains("unix pid"),
        "the first is by the unix socket: {first}"
    );
    // The process that has it: workers are in no order.
    let comm = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut workers = workers;
    workers.sort_by_key(comm);
    kill(workers[0])?;
    killed.tell("compute")?;
    ensure!(killed.answer("count")? == [DEVICE_UNAVAILABLE]);
    ensure!(killed.answer("compute")? == [DEVICE_UNAVAILABLE]);
    // The daemon says why, over the connection that was attached to it.
    let (_, said) = killed.end()?;
    ensure!(said.contains("ended unexpectedly"), "{said}");
    let status = ready.server.daemon.stop().context("it does not stop")?;
    ensure!(status.success(), "{status}");
    stopped.tell("compute")?;
    ensure!(stopped.answer("count")? == [DEVICE_UNAVAILABLE]);
    ensure!(stopped.answer("compute")? == [DEVICE_UNAVAILABLE]);
    let (_, said) = stopped.end()?;
    ensure!(said.contains("the server is shutting down"), "{said}");
    Ok(())
}

#[test]
fn a_session_that_nobody_takes_over_ends_in_time_and_says_why() -> Result<()> {
    let mut ready = Ready::with(&[("RGPUD_ORPHAN_SECONDS", "6")])?;
    let mut sessions = [ready.session("shm")?, ready.session("tcp")?];
    let idle = ready.server.ready_workers();
    for session in &mut sessions {
        begin(session, COUNT)?;
    }
    ready.server.daemon.kill();
    // They go on for now.
    for session in &mut sessions {
        finish(session, COUNT)?;
        begin(session, COUNT)?;
    }
    for session in &mut sessions {
        ensure!(session.answer("count")? == [DEVICE_UNAVAILABLE]);
        let (_, said) = session.end()?;
        ensure!(
            said.contains("no other has taken the session over within 6 s"),
            "{said}"
        );
    }
    until("a worker without a session goes with its daemon", || {
        idle.iter().all(|pid| !is_running(*pid))
    })
}

#[test]
fn without_a_folder_sessions_end_with_the_daemon() -> Result<()> {
    let mut ready = Ready::with(&[("RGPUD_ORPHAN_SECONDS", "0")])?;
    let mut session = ready.session("shm")?;
    ensure!(ready.logged("there is no --state-dir") == 1);
    begin(&mut session, COUNT)?;
    ready.server.daemon.kill();
    ensure!(session.answer("count")? == [DEVICE_UNAVAILABLE]);
    let (_, said) = session.end()?;
    ensure!(said.contains("the server has stopped"), "{said}");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_while_it_lets_sessions_in_leaves_no_half_ones() -> Result<()> {
    let mut ready = Ready::with(&[])?;
    for moment in 0..6 {
        let client = ready.server.client(&ready.programs, "tcp")?;
        let program = ready.program.clone();
        let begins = std::thread::spawn(move || Session::start(&program, client));
        // Somewhere between its start and the session's begin, or after it; all of it is right.
        std::thread::sleep(Duration::from_millis(8 * moment));
        ready.server.daemon.kill();
        ready.server.start_again()?;
        // Let in, then it works; or it has been told.
        match begins.join() {
            Ok(Ok(mut session)) => ensure!(session.ask("compute")? == [SUCCESS]),
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                ensure!(
                    error.contains("\"ready ") && error.contains("rgpu"),
                    "{error}"
                );
            }
            Err(_) => anyhow::bail!("a panic"),
        }
    }
    until("all of them are gone", || ready.server.workers().is_empty())?;
    let mut session = ready.session("shm")?;
    ensure!(session.ask("compute")? == [SUCCESS]);
    said_nothing(&mut session)
}

#[test]
fn a_daemon_that_is_told_to_go_leaves_its_sessions_to_the_next() -> Result<()> {
    let mut ready = Ready::with(&[])?;
    let mut session = ready.session("tcp")?;
    begin(&mut session, COPY)?;
    let pid = rustix::process::Pid::from_raw(ready.server.daemon.pid() as i32);
    rustix::process::kill_process(pid.context("a pid")?, rustix::process::Signal::USR2)?;
    let mut status = None;
    until("the daemon has gone", || {
        status = ready.server.daemon.ended();
        status.is_some()
    })?;
    ensure!(status.is_some_and(|status| status.success()), "{status:?}");
    ready.server.start_again()?;
    ensure!(ready.logged("session is taken over") == 1);
    finish(&mut session, COPY)?;
    said_nothing(&mut session)
}
