//! Two tenants of one server: each tries whatever the other has a name for.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::facts::Facts;
use rgpu_system::{Programs, Server, ServerOptions, cleanup};

const TENANTS: [(&str, &str); 2] = [
    ("one", "a-token-of-the-first-tenant-0123"),
    ("two", "a-token-of-the-second-tenant-012"),
];

/// A process of `tests/c/strangers.c` that has one of everything.
struct Owner {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Names and tokens, as it has told them.
    made: String,
}

impl Owner {
    fn start(program: &Path, environment: &[(String, String)]) -> Result<Owner> {
        let mut command = Command::new(program);
        let mut child = clean(&mut command)
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        cleanup::watch(child.id());
        let stdin = child.stdin.take().context("no input")?;
        let stdout = BufReader::new(child.stdout.take().context("no output")?);
        let mut owner = Owner {
            child,
            stdin,
            stdout,
            made: String::new(),
        };
        let line = owner.line()?;
        let made = line.strip_prefix("made ");
        let status = owner.child.try_wait()?;
        owner.made = made.with_context(|| format!("{line:?} {status:?}"))?.into();
        Ok(owner)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// That everything is there and as it was.
    fn is_whole(&mut self) -> Result<()> {
        writeln!(self.stdin, "check")?;
        let line = self.line()?;
        ensure!(line == "check 0", "{line}");
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        cleanup::forget(self.child.id());
    }
}

/// The variables of a tenant's programs.
fn client(
    programs: &Programs,
    server: &Server,
    folder: &Path,
    tenant: usize,
) -> Result<Vec<(String, String)>> {
    let (name, token) = TENANTS[tenant];
    let file: PathBuf = folder.join(name);
    std::fs::write(&file, token)?;
    let mut variables = server.client(programs, ["shm", "tcp"][tenant])?;
    for (name, value) in &mut variables {
        if name == "RGPU_TOKEN_FILE" {
            *value = file.display().to_string();
        }
    }
    Ok(variables)
}

#[test]
fn tenants_cannot_name_what_others_have() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-faults-")?;
    let program = compile(folder.path(), "strangers")?;
    let config = TENANTS.map(|(name, token)| {
        format!("[[tenant]]\nname = \"{name}\"\ntoken = \"{token}\"\nmemory_mib = 1024\n")
    });
    let options = ServerOptions {
        config: Some(config.concat()),
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let clients = [
        client(&programs, &server, folder.path(), 0)?,
        client(&programs, &server, folder.path(), 1)?,
    ];
    let mut owners = [
        Owner::start(&program, &clients[0])?,
        Owner::start(&program, &clients[1])?,
    ];
    for (owner, stranger) in [(0, 1), (1, 0)] {
        let made = owners[owner].made.clone();
        let facts = Facts::of(&program, &["stranger", &made], &clients[stranger])?.whole()?;
        tried_in_vain(&facts)?;
        // Its own kernel, at an address that the other one has something at.
        ensure!(facts.value("kernel") == "700", "{}", facts.text);
        // Within a tenant the handles are good, and nothing else is.
        let facts = Facts::of(&program, &["friend", &made], &clients[owner])?.whole()?;
        ensure!(facts.value("opened") == "0", "{}", facts.text);
        tried_in_vain(&facts)?;
        for owner in &mut owners {
            owner.is_whole()?;
        }
    }
    Ok(())
}

fn tried_in_vain(facts: &Facts) -> Result<()> {
    let line = facts.lines().find(|line| line.starts_with("tried "));
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    let [_, tried, _, odd] = words[..] else {
        anyhow::bail!("{}", facts.text);
    };
    let enough = tried.parse::<u32>()? > 800;
    ensure!(enough && odd == "0", "{}", facts.text);
    Ok(())
}
