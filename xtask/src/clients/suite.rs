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
use rgpu_system::daemon::clean;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::client::{Client, Environment};
use super::outcome::{self, Outcome, Test};
use super::pieces::Pieces;
use super::place::{Place, Ready};
use crate::workspace_root;

/// Of one test. The machine may be slow, and a suite's largest kernels are interpreted.
const TEST: Duration = Duration::from_secs(300);
/// Of a process with all its tests.
const PROCESS: Duration = Duration::from_secs(3600);
/// A group with more failures than this says no more than that.
const ROUNDS: usize = 200;

/// What runs, with what, and where.
pub struct Suite<'a> {
    pub programs: &'a Programs,
    pub client: &'a Client,
    pub environment: &'a Environment,
    pub place: Place,
}

pub fn run(suite: &Suite<'_>, at: impl Fn(String) + Sync) -> Result<Vec<Test>> {
    let client = suite.client;
    let groups = (client.groups)(suite.environment)?;
    let pieces = Pieces::of(suite.programs, client, suite.place)?;
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
                        let tests = suite.group(group, group).with_context(|| group.clone())?;
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
            let again = suite.group(group, &what)?;
            if let Some(again) = again.into_iter().find(|again| again.name == test.name) {
                *test = again;
            }
        }
        pieces.save(group, tests)?;
    }
    pieces.clear()?;
    Ok(all.into_iter().flatten().collect())
}

impl Suite<'_> {
    /// The tests of one group, named after it; `what` is the group or one of its tests.
    fn group(&self, group: &str, what: &str) -> Result<Vec<Test>> {
        let folder = Folder::new("rgpu-client-")?;
        let ready = Ready::make(self.place, self.programs, &folder, self.variables())?;
        let report = folder.path().join("report");
        let log = folder.path().join("log");
        let mut before = 0;
        for _ in 0..ROUNDS {
            let mut command = self.pytest(&ready, folder.path())?;
            command
                .arg(what)
                .env("CLIENT_REPORT", &report)
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
                    test.name = self.client.label(group, &test.name);
                }
                return Ok(tests);
            }
            before = seen;
        }
        let (tests, _) = outcome::parse(&std::fs::read_to_string(&report).unwrap_or_default());
        Ok(tests)
    }

    /// The client's variables, and softgpu's own.
    fn variables(&self) -> Vec<(String, String)> {
        let packages = self.environment.packages.to_string_lossy();
        let variables = self.client.variables.iter();
        let mut variables: Vec<_> = variables
            .map(|(name, value)| (name.to_string(), value.replace("{packages}", &packages)))
            .collect();
        // The test's time is what is limited.
        let limit = TEST.as_millis().to_string();
        variables.push(("SOFTGPU_KERNEL_TIMEOUT_MS".into(), limit));
        variables
    }

    fn pytest(&self, ready: &Ready, folder: &Path) -> Result<Command> {
        let ours = workspace_root().join("tests/clients");
        let paths = [ours.join(self.client.name), ours.clone()];
        // The driver's folder first, then what the client's packages bring.
        let packages = self.client.libraries.iter();
        let libraries = [ready.libraries.clone()]
            .into_iter()
            .chain(packages.map(|path| self.environment.packages.join(path)));
        let mut command = Command::new(&self.environment.python);
        clean(&mut command)
            .args(["-m", "pytest", "-p", "report", "-p", "no:cacheprovider"])
            .args(["--exitfirst", "--quiet", "--timeout-method=thread"])
            .arg(format!("--timeout={}", TEST.as_secs()))
            .args(self.client.options)
            .envs(ready.environment.iter().cloned())
            .env("HOME", folder)
            .env("XDG_CACHE_HOME", folder)
            .env("TMPDIR", folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", std::env::join_paths(paths)?)
            .env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?)
            .current_dir(folder)
            .stdin(Stdio::null());
        Ok(command)
    }
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
