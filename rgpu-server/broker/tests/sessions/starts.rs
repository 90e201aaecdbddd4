//! What the daemon says when it starts, or does not.

use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rgpu_proto::handshake::RefusalCode;
use rgpu_transport::Endpoint;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::client::{begin, greet, hello};
use crate::daemon::{Daemon, PATIENCE, TOKEN, chmod, command, fails, folder, socket};
use crate::worker::ENVIRONMENT;

/// As systemd is with `Type=notify` and `WatchdogSec=`.
pub fn a_service_manager_is_told() {
    let folder = folder("");
    let path = folder.path();
    let manager = UnixDatagram::bind(path.join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = command(path, "driver.so");
    command
        .env("NOTIFY_SOCKET", path.join("notify"))
        .env("WATCHDOG_USEC", "20000")
        .args(["--listen", "tcp://127.0.0.1:0"])
        .arg("--config")
        .arg(path.join("rgpud.toml"));
    let heard = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let count = manager.recv(&mut buffer).unwrap();
            let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if said.lines().any(|line| line == wanted) {
                return said;
            }
        }
    };
    let mut daemon = Daemon::from(command, folder);
    assert!(heard("READY=1").contains("STATUS=0 sessions, 0 waiting"));
    heard("WATCHDOG=1");
    let session = begin(&daemon.listen[0], &hello()).unwrap();
    heard("STATUS=1 sessions, 0 waiting");
    // Of the worker's environment it is no part.
    let mut client = session.data;
    client.write(&[ENVIRONMENT]);
    assert!(!client.until_nul().contains("NOTIFY_SOCKET"));
    assert!(daemon.stop().success());
    heard("STOPPING=1");
}

pub fn what_cannot_start_says_why() {
    let folder = folder("");
    let path = folder.path();
    let config = path.join("rgpud.toml");
    let rgpud = || command(path, "driver.so");
    let here = ["--listen", "tcp://127.0.0.1:0"];
    let says = |command: &mut Command, words: &str| {
        let said = fails(command);
        assert!(said.contains(words), "{words:?} is not in: {said}");
    };
    says(rgpud().arg("--config").arg(&config), "nowhere to listen");
    says(rgpud().args(here), "no tokens");
    says(rgpud().args(["--listen", "tcp://0.0.0.0:0"]), "no tokens");
    says(
        rgpud()
            .args(["--listen", "127.0.0.1:1"])
            .arg("--config")
            .arg(&config),
        "tcp://HOST:PORT",
    );
    says(
        rgpud().args(here).args(["--config", "/no/such/file"]),
        "/no/such/file",
    );
    says(
        command(path, "missing.so")
            .args(here)
            .arg("--config")
            .arg(&config),
        "no such file",
    );

    says(
        rgpud()
            .args(here)
            .args(["--max-sessions", "0"])
            .arg("--config")
            .arg(&config),
        "--max-sessions 0: nobody could connect",
    );
    says(
        with_files(&mut rgpud(), 64)
            .args(here)
            .arg("--config")
            .arg(&config),
        "the limit on open files (64) leaves no room",
    );

    let tokens = path.join("tokens");
    std::fs::write(&tokens, "# none\n").unwrap();
    chmod(&tokens, 0o600);
    says(
        rgpud().args(here).arg("--token-file").arg(&tokens),
        "no token in it",
    );
    std::fs::write(&tokens, "short").unwrap();
    says(
        rgpud().args(here).arg("--token-file").arg(&tokens),
        "characters",
    );
    std::fs::write(&tokens, TOKEN).unwrap();
    says(
        rgpud()
            .args(here)
            .arg("--token-file")
            .arg(&tokens)
            .arg("--config")
            .arg(&config),
        "have the same token",
    );

    std::fs::write(
        &config,
        "[[tenant]]\nname = \"a\"\ntoken = \"0123456789abcdef\"\nmemory = 5",
    )
    .unwrap();
    says(
        rgpud().args(here).arg("--config").arg(&config),
        "unknown field `memory`",
    );
}

/// The command, with a limit on open files that it cannot raise.
fn with_files(command: &mut Command, files: u64) -> &mut Command {
    let limit = Rlimit {
        current: Some(files),
        maximum: Some(files),
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, limit)?)) }
}

pub fn the_limit_on_open_files_bounds_what_is_taken() {
    let folder = folder("");
    let mut command = command(folder.path(), "driver.so");
    command
        .args(["--listen", "tcp://127.0.0.1:0", "--config"])
        .arg(folder.path().join("rgpud.toml"));
    with_files(&mut command, 100);
    let daemon = Daemon::from(command, folder);
    let line = daemon.logs("no room for so many sessions");
    assert!(
        line.contains("max_sessions=1024 room=2 files=100"),
        "{line}"
    );
    let endpoint = &daemon.listen[0];
    let Endpoint::Tcp { host, port } = endpoint else {
        panic!("{endpoint:?}")
    };
    // More strangers than there are descriptors do not keep those out who have a token.
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let strangers: Vec<_> = (0..200)
            .map(|_| TcpStream::connect((host.as_str(), *port)).unwrap())
            .collect();
        daemon.logs("the oldest goes");
        let mut session = begin(endpoint, &hello()).unwrap();
        session.data.echoes();
        sessions.push((session, strangers));
    }
    let refused = begin(endpoint, &hello()).map(|_| ()).unwrap_err();
    assert_eq!(refused.code, RefusalCode::NoCapacity);
}

pub fn socket_files() {
    // A live daemon's socket is left alone.
    let first = Daemon::start();
    let unix = format!("unix://{}", socket(first.folder.path()).display());
    let config = first.folder.path().join("rgpud.toml");
    // With sessions of its own, or the state folder would keep it out first.
    let apart = folder("");
    let mut second = command(apart.path(), "driver.so");
    second
        .args(["--listen", &unix])
        .arg("--config")
        .arg(&config);
    assert!(fails(&mut second).contains("another server listens there"));
    begin(&first.listen[1], &hello()).unwrap().data.echoes();

    // One that was left behind is replaced.
    let folder = folder("");
    let path = socket(folder.path());
    drop(UnixListener::bind(&path).unwrap());
    let mut command = command(folder.path(), "driver.so");
    command.args(["--listen", &format!("unix://{}", path.display())]);
    command
        .arg("--config")
        .arg(folder.path().join("rgpud.toml"));
    let mut daemon = Daemon::from(command, folder);
    begin(&daemon.listen[0], &hello()).unwrap().data.echoes();
    // And another's, in the place of ours, stays when we stop.
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    daemon.stop();
    assert!(path.exists());

    // A file that is no socket is nobody's to remove.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let mut command = crate::daemon::command(daemon.folder.path(), "driver.so");
    command.args(["--listen", &format!("unix://{}", path.display())]);
    command
        .arg("--config")
        .arg(daemon.folder.path().join("rgpud.toml"));
    assert!(fails(&mut command).contains("no socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

pub fn an_idle_daemon_is_small() {
    let daemon = Daemon::start();
    // After some traffic, as a daemon is in real life.
    for endpoint in &daemon.listen {
        begin(endpoint, &hello()).unwrap().data.echoes();
        daemon.logs("session ends");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("an idle broker holds {kib} KiB");
    assert!(kib <= 32 << 10);
}

pub fn a_driver_that_fails_is_told_to_the_client() {
    let daemon = Daemon::with("", "broken.so", "tcp://127.0.0.1:0");
    for endpoint in &daemon.listen {
        let refused = greet(endpoint, &hello(), b"frames")
            .map(|(_, answer)| answer)
            .unwrap_err();
        assert_eq!(refused.code, RefusalCode::NoDriver);
        assert!(
            refused.message.contains("the driver does not load"),
            "{refused}"
        );
        assert!(
            daemon
                .logs("session ends")
                .contains("the driver does not load")
        );
    }
}
