//! An `rgpud` of the test's own, with its log.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rgpu_transport::Endpoint;
use rustix::process::Signal;
use tempfile::TempDir;

pub const TOKEN: &str = "a-token-of-the-tests-0123456789";
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Daemon {
    child: Child,
    /// As the ready line gave them.
    pub listen: Vec<Endpoint>,
    /// Where the administration listens, if it was asked for.
    pub admin: Option<String>,
    log: Receiver<String>,
    pub folder: TempDir,
}

/// A folder with what every daemon needs: a token, a file in a driver's place, a configuration with `tenant`'s lines.
pub fn folder(tenant: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = format!("[[tenant]]\nname = \"tests\"\ntoken = \"{TOKEN}\"\n{tenant}\n");
    std::fs::write(path.join("rgpud.toml"), config).unwrap();
    for driver in ["driver.so", "broken.so"] {
        std::fs::write(path.join(driver), "").unwrap();
    }
    folder
}

/// The daemon's command, still without listeners and tokens.
pub fn command(folder: &Path, driver: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rgpud"));
    command
        .arg("--driver")
        .arg(folder.join(driver))
        .arg("--worker-program")
        .arg(std::env::current_exe().unwrap())
        .args(["--ready-workers", "0"])
        .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        .env_remove("RGPUD_LOG")
        .env("RGPUD_STATE_DIR", folder.join("state"))
        .env("RGPUD_DRAIN_SECONDS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn socket(folder: &Path) -> PathBuf {
    folder.join("rgpud.sock")
}

impl Daemon {
    /// On loopback and a unix socket.
    pub fn start() -> Daemon {
        Daemon::with("", "driver.so", "tcp://127.0.0.1:0")
    }

    pub fn with(tenant: &str, driver: &str, tcp: &str) -> Daemon {
        let folder = folder(tenant);
        let path = folder.path();
        let unix = format!("unix://{}", socket(path).display());
        let mut command = command(path, driver);
        command
            .args(["--listen", tcp, "--listen", &unix])
            .arg("--config")
            .arg(path.join("rgpud.toml"));
        Daemon::from(command, folder)
    }

    pub fn from(mut command: Command, folder: TempDir) -> Daemon {
        let mut child = command.spawn().unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("no ready line: {:?}", log.recv_timeout(PATIENCE)));
        assert_eq!(ready["pid"], child.id());
        let listen = ready["listen"].as_array().unwrap().iter();
        let listen = listen
            .map(|text| Endpoint::parse(text.as_str().unwrap()).unwrap())
            .collect();
        Daemon {
            child,
            admin: ready["admin"].as_str().map(str::to_owned),
            listen,
            log,
            folder,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line with `text` in it, and returns it.
    pub fn logs(&self, text: &str) -> String {
        self.logs_within(text, PATIENCE)
    }

    pub fn logs_within(&self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            match self
                .log
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!(
                    "no line with {text:?} within {limit:?}:\n{}",
                    seen.join("\n")
                ),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and the exit.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGKILL; the folder is the next one's.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let empty = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.folder, empty)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a daemon that must not start; its words.
pub fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
