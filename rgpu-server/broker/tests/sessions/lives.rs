//! Sessions from their welcome to their end.

use std::net::TcpStream;

use rgpu_proto::handshake::{Answer, Hello, RefusalCode, SessionSecret, VgpuRequest};
use rgpu_transport::Endpoint;
use rustix::process::Signal;

use crate::client::{attach, begin, greet, hello, lives};
use crate::daemon::{Daemon, command, folder, socket};
use crate::worker::{CRASH, DEAF, ENVIRONMENT};

pub fn from_welcome_to_end() {
    let daemon = Daemon::start();
    for endpoint in &daemon.listen {
        // Frames may follow the greeting at once; the worker gets them.
        let (mut data, answer) = greet(endpoint, &hello(), b"first frames").unwrap();
        let Answer::Welcome(welcome) = answer else {
            panic!("{answer:?}")
        };
        let mut echo = Vec::new();
        while echo.len() < 12 {
            echo.extend(data.some());
        }
        assert_eq!(echo, b"first frames");
        let mut control = attach(endpoint, welcome.session, welcome.secret).unwrap();
        data.echoes();
        drop(data);
        assert_eq!(
            control.ended(),
            (0, "the client closed its connection".into())
        );
        let line = daemon.logs("session ends");
        assert!(
            line.contains("calls=7") && line.contains("memory_peak=4096"),
            "{line}"
        );
        assert!(
            !lives(welcome.server.parse().unwrap()),
            "the worker is reaped before its end is told"
        );
        // Whoever comes late learns it too.
        let mut late = attach(endpoint, welcome.session, welcome.secret).unwrap();
        assert_eq!(late.ended().0, 0);
    }
}

pub fn a_crash_is_explained_and_hurts_nobody_else() {
    let daemon = Daemon::start();
    let mut other = begin(&daemon.listen[1], &hello()).unwrap();
    let mut session = begin(&daemon.listen[0], &hello()).unwrap();
    session.data.write(&[CRASH]);
    let (result, reason) = session.ended();
    assert_eq!(result, 46);
    assert!(reason.contains("killed by signal 6"), "{reason}");
    session.data.is_closed();
    other.data.echoes();
}

pub fn a_session_ends_with_its_control_connection() {
    let daemon = Daemon::start();
    for endpoint in &daemon.listen {
        let mut session = begin(endpoint, &hello()).unwrap();
        drop(session.control.take());
        session.data.is_closed();
        let line = daemon.logs("session ends");
        assert!(line.contains("the client is gone"), "{line}");
        assert!(
            line.contains("calls=7"),
            "the worker's last numbers count: {line}"
        );
    }
}

pub fn a_session_has_one_control_connection() {
    let daemon = Daemon::start();
    let descriptors = || {
        let folder = format!("/proc/{}/fd", daemon.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    for endpoint in &daemon.listen {
        let mut session = begin(endpoint, &hello()).unwrap();
        // The worker's start is over, and what it took.
        session.data.echoes();
        let before = descriptors();
        let mut older = session.control.take().unwrap();
        let mut all = Vec::new();
        for _ in 0..50 {
            let newer = attach(endpoint, session.welcome.session, session.welcome.secret).unwrap();
            older.is_closed();
            all.push(std::mem::replace(&mut older, newer));
        }
        assert!(descriptors() <= before + 1, "{before}, {}", descriptors());
        session.data.echoes();
        drop(all);
        session.data.echoes();
        // The newest is the one that counts.
        drop(older);
        session.data.is_closed();
        daemon.logs("session ends");
    }
}

pub fn a_place_that_becomes_free_is_waited_for() {
    let daemon = Daemon::with("sessions = 1", "driver.so", "tcp://127.0.0.1:0");
    for endpoint in &daemon.listen {
        let mut first = begin(endpoint, &hello()).unwrap();
        // Its worker takes until it is killed.
        first.data.write(&[DEAF]);
        assert_eq!(first.data.some(), [DEAF]);
        let refused = || begin(endpoint, &hello()).map(|_| ()).unwrap_err().code;
        assert_eq!(refused(), RefusalCode::TooManySessions, "its client lives");
        drop(first);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| begin(endpoint, &hello()).unwrap());
            daemon.logs("a session waits");
            assert_eq!(refused(), RefusalCode::TooManySessions, "one a place");
            let mut second = second.join().unwrap();
            daemon.logs("session ends");
            second.data.echoes();
        });
        daemon.logs("session ends");
    }
}

pub fn programs_of_one_place_run_one_after_another() {
    let daemon = Daemon::with("sessions = 1", "driver.so", "tcp://127.0.0.1:0");
    for _ in 0..20 {
        for endpoint in &daemon.listen {
            // Dropped at once: the next one begins while the worker ends.
            begin(endpoint, &hello()).unwrap().data.echoes();
        }
    }
}

pub fn a_worker_that_does_not_listen_is_killed() {
    let daemon = Daemon::start();
    let mut session = begin(&daemon.listen[0], &hello()).unwrap();
    session.data.write(&[DEAF]);
    assert_eq!(session.data.some(), [DEAF]);
    drop(session.control.take());
    session.data.is_closed();
    daemon.logs("session ends");
    assert!(!lives(session.worker()));
}

pub fn quotas() {
    let daemon = Daemon::with(
        "sessions = 2\nmemory_mib = 512\nshare = 50",
        "driver.so",
        "tcp://127.0.0.1:0",
    );
    let endpoint = &daemon.listen[0];
    let asking = |memory_mib, share_percent| Hello {
        vgpu: VgpuRequest {
            memory_mib,
            share_percent,
        },
        ..hello()
    };
    for hello in [
        asking(Some(513), None),
        asking(Some(u64::MAX), None),
        asking(None, Some(51)),
    ] {
        let refused = begin(endpoint, &hello).map(|_| ()).unwrap_err();
        assert_eq!(refused.code, RefusalCode::QuotaExceeded, "{refused}");
    }
    let first = begin(endpoint, &asking(Some(64), None)).unwrap();
    assert_eq!(first.welcome.limits.memory, Some(64 << 20));
    let mut second = begin(endpoint, &hello()).unwrap();
    assert_eq!(second.welcome.limits.memory, Some(512 << 20));
    let refused = begin(endpoint, &hello()).map(|_| ()).unwrap_err();
    assert_eq!(refused.code, RefusalCode::TooManySessions);
    // A session that is over makes room.
    second.data.write(&[CRASH]);
    second.ended();
    begin(endpoint, &hello()).unwrap().data.echoes();
}

pub fn only_harmless_variables_reach_the_worker() {
    let daemon = Daemon::start();
    let variables = [
        ("CUDA_MODULE_LOADING", "EAGER"),
        ("CUDA_INJECTION64_PATH", "/tmp/evil.so"),
        ("CUDA_COREDUMP_FILE", "/etc/passwd"),
        ("LD_PRELOAD", "/tmp/evil.so"),
        ("PATH", "/tmp"),
        ("SOFTGPU_HOME", "/tmp"),
        ("CUDA_DEVICE_ORDER", "FASTEST_FIRST"),
    ];
    let environment = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let mut session = begin(
        &daemon.listen[0],
        &Hello {
            environment,
            ..hello()
        },
    )
    .unwrap();
    session.data.write(&[ENVIRONMENT]);
    let got = session.data.until_nul();
    let has = |line: &str| got.lines().any(|got| got == line);
    assert!(has("CUDA_MODULE_LOADING=EAGER"), "{got}");
    // What the daemon's operator has set stands.
    assert!(has("CUDA_DEVICE_ORDER=PCI_BUS_ID"), "{got}");
    for (name, value) in &variables[1..6] {
        assert!(
            !has(&format!("{name}={value}")),
            "{name} reached the worker"
        );
    }
}

pub fn secrets_are_checked() {
    let daemon = Daemon::start();
    let endpoint = &daemon.listen[0];
    let mut session = begin(endpoint, &hello()).unwrap();
    let id = session.welcome.session;
    let mut other = begin(endpoint, &hello()).unwrap();
    for (id, secret) in [
        (id, SessionSecret::new([0; 16])),
        (id, other.welcome.secret),
        (id + 1000, session.welcome.secret),
    ] {
        let refused = attach(endpoint, id, secret).map(|_| ()).unwrap_err();
        assert_eq!(refused.code, RefusalCode::UnknownSession);
    }
    session.data.echoes();
    other.data.echoes();
}

pub fn half_open_connections_do_not_disturb_a_session() {
    let daemon = Daemon::start();
    let mut session = begin(&daemon.listen[1], &hello()).unwrap();
    let Endpoint::Tcp { host, port } = &daemon.listen[0] else {
        panic!("{:?}", daemon.listen)
    };
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..600 {
        open.push(TcpStream::connect((host.as_str(), *port)).unwrap());
    }
    daemon.logs("the oldest goes");
    session.data.echoes();
    begin(&daemon.listen[0], &hello()).unwrap().data.echoes();
    drop(open);
    session.data.echoes();
}

pub fn stopping_tells_every_client() {
    let mut daemon = Daemon::start();
    let mut sessions: Vec<_> = daemon
        .listen
        .iter()
        .map(|endpoint| begin(endpoint, &hello()).unwrap())
        .collect();
    let status = daemon.stop();
    assert!(status.success(), "{status}");
    for session in &mut sessions {
        assert_eq!(session.ended(), (46, "the server is shutting down".into()));
        session.data.is_closed();
        assert!(!lives(session.worker()));
    }
    assert!(!socket(daemon.folder.path()).exists());
}

/// A daemon that lets its sessions go on for so long when it is stopped.
fn draining(seconds: &str) -> Daemon {
    let folder = folder("");
    let path = folder.path();
    let unix = format!("unix://{}", socket(path).display());
    let mut command = command(path, "driver.so");
    command
        .args(["--listen", "tcp://127.0.0.1:0", "--listen", &unix])
        .args(["--drain-seconds", seconds, "--config"])
        .arg(path.join("rgpud.toml"));
    Daemon::from(command, folder)
}

pub fn draining_lets_sessions_end_and_nobody_in() {
    let mut daemon = draining("600");
    let mut session = begin(&daemon.listen[0], &hello()).unwrap();
    daemon.signal(Signal::TERM);
    daemon.logs("stopping: no new sessions");
    let refused = begin(&daemon.listen[0], &hello()).map(|_| ()).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Draining);
    session.data.echoes();
    // Its own connections it may still make.
    let mut control = attach(
        &daemon.listen[1],
        session.welcome.session,
        session.welcome.secret,
    )
    .unwrap();
    drop(session.data);
    assert_eq!(control.ended().0, 0);
    assert!(daemon.wait().success());
    assert!(!socket(daemon.folder.path()).exists());
    // Without sessions it ends at once.
    assert!(draining("600").stop().success());
}

pub fn draining_ends_in_time() {
    let mut daemon = draining("1");
    let mut session = begin(&daemon.listen[0], &hello()).unwrap();
    assert!(daemon.stop().success());
    assert_eq!(session.ended(), (46, "the server is shutting down".into()));
}

pub fn a_second_signal_ends_the_draining() {
    let mut daemon = draining("600");
    let mut session = begin(&daemon.listen[0], &hello()).unwrap();
    daemon.signal(Signal::TERM);
    daemon.logs("stopping: no new sessions");
    daemon.signal(Signal::INT);
    assert_eq!(session.ended(), (46, "the server is shutting down".into()));
    assert!(daemon.wait().success());
}
