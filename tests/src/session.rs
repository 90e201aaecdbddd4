//! A C program that holds a session and does what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use crate::cleanup;
use crate::daemon::clean;
use anyhow::{Context, Result, ensure};

pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Starts it and waits until its context is made.
    pub fn start(program: &Path, environment: Vec<(String, String)>) -> Result<Session> {
        let mut command = Command::new(program);
        let mut child = clean(&mut command)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        cleanup::watch(child.id());
        let stdout = child.stdout.take().context("no output")?;
        let mut session = Session {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        };
        let ready = session.line()?;
        ensure!(ready == "ready 0", "{ready:?}: {}", session.end()?.1);
        Ok(session)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Tells it something and returns the numbers that it answers.
    pub fn ask(&mut self, words: &str) -> Result<Vec<i64>> {
        self.tell(words)?;
        self.answer(words)
    }

    pub fn tell(&mut self, words: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("ended")?;
        Ok(writeln!(stdin, "{words}")?)
    }

    /// The numbers that it answers to `words`.
    pub fn answer(&mut self, words: &str) -> Result<Vec<i64>> {
        let answer = self.line()?;
        let mut parts = answer.split_whitespace();
        ensure!(
            parts.next() == words.split_whitespace().next(),
            "{words}: {answer:?}"
        );
        Ok(parts.map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Lets it end by itself; its status and what it said on stderr.
    pub fn end(&mut self) -> Result<(ExitStatus, String)> {
        self.stdin = None;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        Ok((self.child.wait()?, said))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        cleanup::forget(self.child.id());
    }
}
