//! A daemon that says on stdout, in one JSON line, when it is ready; and `rgpud`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cleanup;
use crate::namespace::Namespace;
use crate::programs::Programs;

/// A child that is ended when this value goes.
pub struct Daemon {
    child: Child,
    name: String,
    log: PathBuf,
    pub listen: Vec<String>,
    /// The whole of its line.
    pub ready: Value,
}

impl Daemon {
    /// Starts `command` and waits for its line. Its stderr goes to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Daemon> {
        let stderr = File::options().create(true).append(true).open(log)?;
        // A group of its own: Ctrl-C in a terminal must reach this process first, which then ends the daemons in order.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("{name} does not start: {:?}", command.get_program()))?;
        cleanup::watch(child.id());
        let stdout = child.stdout.take();
        let mut daemon = Daemon {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
            listen: Vec::new(),
            ready: Value::Null,
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        if ready["ready"] != true {
            bail!("{name} is not ready: {line:?}\n{}", daemon.log_text());
        }
        daemon.listen = ready["listen"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        daemon.ready = ready;
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of a scheme, `tcp`, `quic` or `unix`.
    pub fn address(&self, scheme: &str) -> Result<&str> {
        self.listen
            .iter()
            .map(String::as_str)
            .find(|address| {
                address
                    .strip_prefix(scheme)
                    .is_some_and(|rest| rest.starts_with("://"))
            })
            .with_context(|| {
                format!(
                    "{} does not listen on {scheme}: {:?}",
                    self.name, self.listen
                )
            })
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL when it does not end in time; says how it ended.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + cleanup::PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.kill();
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        cleanup::forget(self.child.id());
    }
}

/// What differs between the servers of tests.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// Another driver than softgpu.
    pub driver: Option<PathBuf>,
    /// Lines of the configuration file.
    pub config: Option<String>,
    /// Variables of the server, for softgpu: `SOFTGPU_MEMORY`, `SOFTGPU_THREADS`, …
    pub environment: Vec<(String, String)>,
    /// Arguments that are added.
    pub arguments: Vec<String>,
    /// Where it runs and listens, when not here on loopback.
    pub namespace: Option<Arc<Namespace>>,
    /// It is of an earlier release, which does not know quic://.
    pub is_earlier: bool,
    /// Which user it is of, and its files, when not the caller's: only root can say so.
    pub user: Option<u32>,
}

/// `rgpud` over softgpu on free loopback ports and a unix socket, with its own machine of software devices.
pub struct Server {
    pub daemon: Daemon,
    pub token_file: PathBuf,
    pub home: PathBuf,
    program: PathBuf,
    driver: PathBuf,
    folder: PathBuf,
    options: ServerOptions,
}

impl Server {
    /// `folder` takes socket, token, log and the devices' shared state.
    pub fn start(programs: &Programs, folder: &Path, options: &ServerOptions) -> Result<Server> {
        let token_file = folder.join("token");
        secret(&token_file)?;
        let home = folder.join("softgpu");
        std::fs::create_dir_all(&home)?;
        let driver = options
            .driver
            .clone()
            .unwrap_or_else(|| programs.softgpu_lib().join("libcuda.so.1"));
        let program = programs.bin("rgpud");
        let host = match &options.namespace {
            Some(namespace) => namespace.theirs.as_str(),
            None => "127.0.0.1",
        };
        let mut listen = vec![
            format!("tcp://{host}:0"),
            format!("unix://{}", folder.join("rgpud.sock").display()),
        ];
        if !options.is_earlier {
            listen.push(format!("quic://{host}:0"));
        }
        let command = Server::command(&program, &driver, folder, options, &listen)?;
        let daemon = Daemon::start("rgpud", command, &folder.join("rgpud.log"))?;
        Ok(Server {
            daemon,
            token_file,
            home,
            program,
            driver,
            folder: folder.to_owned(),
            options: options.clone(),
        })
    }

    /// Starts the next daemon in the place of one that has been killed, at the same addresses.
    pub fn start_again(&mut self) -> Result<()> {
        let without_pin = |address: &String| address.split('?').next().map(str::to_owned);
        let listen: Vec<_> = self.daemon.listen.iter().filter_map(without_pin).collect();
        let (program, driver) = (&self.program, &self.driver);
        let command = Server::command(program, driver, &self.folder, &self.options, &listen)?;
        self.daemon = Daemon::start("rgpud", command, &self.folder.join("rgpud.log"))?;
        Ok(())
    }

    fn command(
        program: &Path,
        driver: &Path,
        folder: &Path,
        options: &ServerOptions,
        listen: &[String],
    ) -> Result<Command> {
        let mut command = match &options.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        command.arg("--driver").arg(driver);
        for address in listen {
            command.args(["--listen", address]);
        }
        command
            .arg("--token-file")
            .arg(folder.join("token"))
            .args(&options.arguments);
        clean(&mut command)
            .env("SOFTGPU_HOME", folder.join("softgpu"))
            // Variables, which an earlier release does not mind. Who stops a server here does not wait for its clients.
            .env("RGPUD_STATE_DIR", folder.join("state"))
            .env("RGPUD_DRAIN_SECONDS", "0")
            .envs(options.environment.iter().cloned());
        if let Some(config) = &options.config {
            let path = folder.join("rgpud.toml");
            std::fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        if let Some(user) = options.user {
            for path in [folder, &folder.join("token"), &folder.join("softgpu")] {
                std::os::unix::fs::chown(path, Some(user), Some(user))?;
            }
            command.uid(user).gid(user);
        }
        Ok(command)
    }

    /// The pids of its workers that have a session.
    pub fn workers(&self) -> Vec<u32> {
        self.children_named("rgpud-s")
    }

    /// Those of the workers that wait for one.
    pub fn ready_workers(&self) -> Vec<u32> {
        self.children_named("rgpud-ready")
    }

    /// Those of its relays for quic://.
    pub fn relays(&self) -> Vec<u32> {
        self.children_named("rgpud-relay")
    }

    fn children_named(&self, prefix: &str) -> Vec<u32> {
        let named = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with(prefix))
        };
        let mut found = children(self.daemon.pid());
        found.retain(named);
        found
    }

    /// The variables that make a program use this server by `scheme`.
    pub fn client(&self, programs: &Programs, scheme: &str) -> Result<Vec<(String, String)>> {
        let address = if scheme == "shm" { "unix" } else { scheme };
        Ok(vec![
            ("LD_LIBRARY_PATH".into(), path(&programs.client_lib())?),
            ("RGPU_SERVERS".into(), self.daemon.address(address)?.into()),
            ("RGPU_TRANSPORT".into(), scheme.into()),
            ("RGPU_TOKEN_FILE".into(), path(&self.token_file)?),
        ])
    }
}

/// The variables that make a program load softgpu itself, as its own machine in `home`.
pub fn direct(programs: &Programs, home: &Path) -> Result<Vec<(String, String)>> {
    Ok(vec![
        ("LD_LIBRARY_PATH".into(), path(&programs.softgpu_lib())?),
        ("SOFTGPU_HOME".into(), path(home)?),
    ])
}

/// Takes out of a command's environment what would choose a GPU in the caller's name.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = ["RGPU", "SOFTGPU_", "CUDA_", "LD_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}

fn path(path: &Path) -> Result<String> {
    Ok(path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?
        .to_owned())
}

/// A new random token in a file that only its owner can read.
fn secret(path: &Path) -> Result<()> {
    let mut bytes = [0u8; 24];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")?;
    Ok(())
}

/// The living children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // "pid (name) state ppid …"; the name may hold anything, so look behind its last parenthesis.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace();
        let state = fields.next();
        if fields.next() == Some(&parent.to_string()) && state != Some("Z") {
            found.push(pid);
        }
    }
    found
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("process {pid} has no VmRSS"))?;
    Ok(kib / 1024.0)
}
