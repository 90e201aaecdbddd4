//! Runs a client's tests: a process for each group, begun anew after each failure, so that what one test does to its process
//! costs no other. What failed by the clock beside others is run once more alone.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rgpu_system::Programs;
use rgpu_system::cleanup::{self, Folder};
use rgpu_system::daemon::{clean, direct};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::client::{Client, Environment};
use super::outcome::{self, Outcome, Test};
use super::pieces::Pieces;
use crate::workspace_root;

/// Of one test. The machine may be slow, and a suite's largest kernels are interpreted.
const TEST: Duration = Duration::from_secs(300);
/// Of a process with all its tests.
const PROCESS: Duration = Duration::from_secs(3600);
/// A group with more failures than this says no more than that.
const ROUNDS: usize = 200;

pub fn run(
    programs: &Programs,
    client: &Client,
    environment: &Environment,
    at: impl Fn(String) + Sync,
) -> Result<Vec<Test>> {
    let groups = (client.groups)(environment)?;
    let pieces = Pieces::of(programs, client)?;
    let next = AtomicUsize::new(0);
    let all = Mutex::new(vec![Vec::new(); groups.len()]);
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| -> Result<()> {
        let work = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Relaxed);
                let Some(group) = groups.get(index) else {
                    return Ok(());
                };
                at(format!("{} of {}: {group}", index + 1, groups.len()));
                let tests = match pieces.load(group) {
                    Some(tests) => tests,
                    None => {
                        let run = || run_group(programs, client, environment, group, group);
                        let tests = run().with_context(|| group.clone())?;
                        pieces.save(group, &tests)?;
                        tests
                    }
                };
                all.lock().unwrap_or_else(|e| e.into_inner())[index] = tests;
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a worker panicked"))?;
        }
        Ok(())
    })?;
    let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
    for (group, tests) in groups.iter().zip(&mut all) {
        for test in tests.iter_mut().filter(|test| test.late()) {
            at(format!("once more, alone: {}", test.name));
            let what = client.target(group, &test.name);
            let again = run_group(programs, client, environment, group, &what)?;
            if let Some(again) = again.into_iter().find(|again| again.name == test.name) {
                *test = again;
            }
        }
        pieces.save(group, tests)?;
    }
    pieces.clear()?;
    Ok(all.into_iter().flatten().collect())
}

/// The tests of one group, named after it; `what` is the group or one of its tests.
fn run_group(
    programs: &Programs,
    client: &Client,
    environment: &Environment,
    group: &str,
    what: &str,
) -> Result<Vec<Test>> {
    let folder = Folder::new("rgpu-client-")?;
    let report = folder.path().join("report");
    let log = folder.path().join("log");
    let mut before = 0;
    for _ in 0..ROUNDS {
        let mut command = Command::new(&environment.python);
        clean(&mut command);
        prepare(&mut command, programs, client, environment, folder.path())?;
        command
            .args(["-m", "pytest", "-p", "report", "-p", "no:cacheprovider"])
            .args(["--exitfirst", "--quiet", "--timeout-method=thread"])
            .arg(format!("--timeout={}", TEST.as_secs()))
            .args(client.options)
            .arg(what)
            .env("CLIENT_REPORT", &report)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&log)?)
            .stderr(File::options().create(true).append(true).open(&log)?);
        let status = wait(&mut command)?;
        let lines = std::fs::read_to_string(&report).unwrap_or_default();
        let (tests, running) = outcome::parse(&lines);
        if let Some(test) = &running {
            let why = format!("the process ended within the test ({status})");
            let line = json!({ "test": test, "outcome": "failed", "why": why });
            let mut file = File::options().append(true).open(&report)?;
            // On a line of its own, wherever the last one was cut.
            writeln!(file, "\n{line}")?;
        }
        // 5: no test is left.
        let done = matches!(status.code(), Some(0 | 5));
        let seen = tests.len() + usize::from(running.is_some());
        if done || seen == before {
            let (mut tests, _) =
                outcome::parse(&std::fs::read_to_string(&report).unwrap_or_default());
            if !done {
                tests.push(broken(&log, status));
            }
            for test in &mut tests {
                test.name = client.label(group, &test.name);
            }
            return Ok(tests);
        }
        before = seen;
    }
    let (tests, _) = outcome::parse(&std::fs::read_to_string(&report).unwrap_or_default());
    Ok(tests)
}

/// A group that cannot be begun, or goes no further, is a failure too.
fn broken(log: &Path, status: ExitStatus) -> Test {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| line.starts_with("E  "));
    Test {
        name: outcome::REST.to_owned(),
        outcome: Outcome::Failed,
        why: format!(
            "{status}: {}",
            last.unwrap_or_default().trim_start_matches("E ").trim()
        ),
    }
}

fn prepare(
    command: &mut Command,
    programs: &Programs,
    client: &Client,
    environment: &Environment,
    folder: &Path,
) -> Result<()> {
    let ours = workspace_root().join("tests/clients");
    let paths = [ours.join(client.name), ours.clone()];
    command
        .envs(direct(programs, folder)?)
        .env("HOME", folder)
        // The test's time is what is limited.
        .env("SOFTGPU_KERNEL_TIMEOUT_MS", TEST.as_millis().to_string())
        .env("XDG_CACHE_HOME", folder)
        .env("TMPDIR", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", std::env::join_paths(paths)?);
    // softgpu's folder first, then what the client's packages bring.
    let libraries = [programs.softgpu_lib()].into_iter().chain(
        client
            .libraries
            .iter()
            .map(|path| environment.packages.join(path)),
    );
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    for (name, value) in client.variables {
        let value = value.replace("{packages}", &environment.packages.to_string_lossy());
        command.env(name, value);
    }
    Ok(())
}

/// Runs it in a group of its own, all of which is ended when the time is up.
fn wait(command: &mut Command) -> Result<ExitStatus> {
    let mut child = command.process_group(0).spawn().context("no pytest")?;
    cleanup::watch(child.id());
    let deadline = Instant::now() + PROCESS;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    cleanup::forget(child.id());
    Ok(status)
}
