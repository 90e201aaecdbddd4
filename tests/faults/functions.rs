//! Functions: one of four is killed, a worker is killed, inputs are no clips.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::children;
use rgpu_system::faas::Gpu;
use rgpu_system::{Faas, Job, Programs, Server, ServerOptions, python, root};

use crate::{PATIENCE, kill, until};

/// A server, a runner with the example's function, and clips.
struct Platform {
    faas: Faas,
    server: Server,
    python: PathBuf,
    folder: Folder,
}

impl Platform {
    fn start() -> Result<Platform> {
        let programs = Programs::for_tests()?;
        let python = python::echo()?;
        let folder = Folder::new("rgpu-faults-")?;
        let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
        let environment = python::variables(&python, None);
        let gpu = Gpu::Remote(&server, "unix");
        let faas = Faas::start(&programs, folder.path(), gpu, &environment)?;
        faas.apply(&programs, &root().join("examples/echo/function.yaml"))?;
        Ok(Platform {
            faas,
            server,
            python,
            folder,
        })
    }

    fn clips(&self, frames: &[u32]) -> Result<Vec<PathBuf>> {
        python::clips(&self.python, &self.folder.path().join("clips"), frames)
    }

    /// Nothing of jobs is left: no worker, no process of the runner, no working folder.
    fn nothing_left(&self) -> Result<()> {
        let server = &self.server;
        until("workers are gone", || server.workers().is_empty())?;
        let runner = self.faas.daemon.pid();
        // Supervisors that wait for a job are its children, and have none.
        until("the supervisors' processes are gone", || {
            let supervisors = children(runner);
            supervisors.into_iter().all(|it| children(it).is_empty())
        })?;
        let left: Vec<PathBuf> = std::fs::read_dir(self.faas.data.join("work"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        ensure!(left.is_empty(), "left in the working folder: {left:?}");
        Ok(())
    }
}

fn attempts(job: &Job) -> usize {
    job.0["attempts"].as_array().map_or(0, Vec::len)
}

/// Four functions run; `strike` kills something of theirs. One job needs a second try, and all four end right.
fn four_of_which_one_is_struck(strike: impl FnOnce(&Platform, &[Job]) -> Result<()>) -> Result<()> {
    let platform = Platform::start()?;
    let faas = &platform.faas;
    let clips = platform.clips(&[20, 21, 22, 23])?;
    let names = faas.drop_files("echo", &clips)?;
    let running = names
        .iter()
        .map(|name| faas.job_in_state("echo", name, "RUNNING", PATIENCE))
        .collect::<Result<Vec<Job>>>()?;
    // The first has just opened the device, and has all of its work before it.
    until("a session", || !platform.server.workers().is_empty())?;
    strike(&platform, &running)?;
    let mut again = 0;
    for (clip, job) in clips.iter().zip(&running) {
        let job = faas.wait(job.id(), PATIENCE)?;
        ensure!(
            job.state() == "SUCCEEDED",
            "{}: {}\n{}",
            clip.display(),
            job.0,
            faas.log(&job)
        );
        again += usize::from(attempts(&job) == 2);
        ensure!(attempts(&job) <= 2, "{}", job.0);
        let stem = clip.file_stem().context("a clip's name")?;
        let answer = faas.output("echo").join(stem).with_extension("json");
        python::check(&platform.python, clip, &answer)?;
    }
    ensure!(again == 1, "{again} jobs were tried again, not one");
    platform.nothing_left()
}

#[test]
fn a_function_that_is_killed_is_tried_again_and_hurts_nobody() -> Result<()> {
    four_of_which_one_is_struck(|_, jobs| {
        let pid = jobs[2].pid().context("a running job without a pid")?;
        kill(pid)
    })
}

#[test]
fn a_function_whose_worker_is_killed_is_tried_again_and_hurts_nobody() -> Result<()> {
    four_of_which_one_is_struck(|platform, _| kill(platform.server.workers()[0]))
}

#[test]
fn what_is_no_clip_fails_with_the_scripts_words() -> Result<()> {
    let platform = Platform::start()?;
    let faas = &platform.faas;
    let clip = std::fs::read(&platform.clips(&[6])?[0])?;
    let folder = platform.folder.path();
    let inputs = [
        ("text.dcm", &b"this is no clip\n"[..], 3),
        ("empty.dcm", &[][..], 2),
        ("half.dcm", &clip[..clip.len() / 2], 4),
    ];
    let mut files = Vec::new();
    for (name, content, _) in inputs {
        let path = folder.join(name);
        std::fs::write(&path, content)?;
        files.push(path);
    }
    faas.drop_files("echo", &files)?;
    for (name, _, code) in inputs {
        let job = faas.job_of("echo", name, PATIENCE)?;
        let job = faas.wait(job.id(), PATIENCE)?;
        ensure!(job.state() == "FAILED", "{name}: {}", job.0);
        ensure!(job.0["exit_code"] == code, "{name}: {}", job.0);
        let log = faas.log(&job);
        ensure!(log.contains("classify:"), "{name}: {log}");
        ensure!(faas.input("echo").join(name).is_file(), "{name} is gone");
    }
    let published = std::fs::read_dir(faas.output("echo"))
        .map(|entries| entries.count())
        .unwrap_or(0);
    ensure!(published == 0, "{published} files were published");
    platform.nothing_left()
}
