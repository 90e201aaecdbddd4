//! Daemons that are killed, and those that follow them.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rgpu_proto::adoption::{FromOrphan, Key, Proof, Side, ToOrphan};
use rgpu_proto::control::LAYOUT;
use rgpu_proto::handshake::RefusalCode;
use rgpu_transport::{ControlSocket, Endpoint};
use tempfile::TempDir;

use crate::client::{attach, begin, hello};
use crate::daemon::{Daemon, command, fails, folder, socket};

/// The worker's end.
type Next = ControlSocket<FromOrphan, ToOrphan>;

/// At a socket that the next daemon has too.
fn daemon(folder: TempDir) -> Daemon {
    let path = folder.path();
    let mut command = command(path, "driver.so");
    command
        .arg("--listen")
        .arg(format!("unix://{}", socket(path).display()))
        .arg("--config")
        .arg(path.join("rgpud.toml"));
    Daemon::from(command, folder)
}

fn endpoint(daemon: &Daemon) -> Endpoint {
    daemon.listen[0].clone()
}

/// Names of the sockets of sessions.
fn sockets(folder: &Path) -> Vec<String> {
    let state = std::fs::read_dir(folder.join("state")).unwrap();
    let names = state.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('s')).collect()
}

pub fn a_session_goes_on_with_the_next_daemon() {
    let mut at = daemon(folder(""));
    let mut session = begin(&endpoint(&at), &hello()).unwrap();
    let (number, secret) = (session.welcome.session, session.welcome.secret);
    for _ in 0..3 {
        at = daemon(at.kill());
        session.control.take().unwrap().is_closed();
        session.data.echoes();
        // Its client finds it, and nobody else does.
        let stranger = rgpu_proto::handshake::SessionSecret::new([0; 16]);
        let refused = attach(&endpoint(&at), number, stranger).map(|_| ());
        assert_eq!(refused.unwrap_err().code, RefusalCode::UnknownSession);
        session.control = Some(attach(&endpoint(&at), number, secret).unwrap());
        session.data.echoes();
        let new = begin(&endpoint(&at), &hello()).unwrap();
        assert!(new.welcome.session > number, "{}", new.welcome.session);
    }
    drop(session.data);
    let ended = session.control.take().unwrap().ended();
    assert_eq!(ended, (0, "the client closed its connection".into()));
    let line = loop {
        let line = at.logs("session ends");
        if line.contains(&format!("session={number} ")) {
            break line;
        }
    };
    assert!(line.contains("calls=7"), "{line}");
    // And one that it has to end.
    let mut session = begin(&endpoint(&at), &hello()).unwrap();
    at = daemon(at.kill());
    let mut control = attach(
        &endpoint(&at),
        session.welcome.session,
        session.welcome.secret,
    )
    .unwrap();
    assert!(at.stop().success());
    assert_eq!(control.ended().1, "the server is shutting down");
    session.data.is_closed();
}

pub fn what_was_granted_counts_with_the_next_daemon() {
    let at = daemon(folder("sessions = 2"));
    let first = begin(&endpoint(&at), &hello()).unwrap();
    let mut second = begin(&endpoint(&at), &hello()).unwrap();
    let path = at.kill();
    // Less from now on: what goes on has it still.
    let config = std::fs::read_to_string(path.path().join("rgpud.toml")).unwrap();
    let config = config.replace("sessions = 2", "sessions = 1");
    std::fs::write(path.path().join("rgpud.toml"), config).unwrap();
    let at = daemon(path);
    let refused = || {
        begin(&endpoint(&at), &hello())
            .map(|_| ())
            .unwrap_err()
            .code
    };
    assert_eq!(refused(), RefusalCode::TooManySessions);
    drop(first);
    at.logs("session ends");
    assert_eq!(refused(), RefusalCode::TooManySessions);
    second.data.echoes();
    drop(second);
    at.logs("session ends");
    begin(&endpoint(&at), &hello()).unwrap().data.echoes();
}

/// What one that plays a worker says when the daemon has come to it; what the daemon answers.
struct Played {
    session: u64,
    layout: u32,
    proof: fn(&Key, [u8; 32]) -> Proof,
    ticket: Vec<u8>,
}

const NONCE: [u8; 32] = [3; 32];

fn right(key: &Key, broker: [u8; 32]) -> Proof {
    key.prove(Side::Worker, &broker, &NONCE)
}

/// A folder whose daemon has been killed, and its key.
fn left() -> (TempDir, [u8; 32]) {
    let folder = daemon(folder("")).kill();
    let key = std::fs::read(folder.path().join("state/key")).unwrap();
    (folder, key.try_into().unwrap())
}

/// Starts the daemon where one plays the worker of session 7; its verdict, if it came to that, and how it goes on.
fn play(played: Played) -> (Daemon, Option<ToOrphan>, Next) {
    let (folder, key) = left();
    let listener = UnixListener::bind(folder.path().join("state/s7")).unwrap();
    let plays = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let next = Next::from_fd(stream.into()).unwrap();
        let orphan = FromOrphan::Orphan {
            session: played.session,
            layout: played.layout,
            nonce: NONCE,
        };
        next.send(&orphan, None).unwrap();
        let Ok(Some((ToOrphan::Claim { nonce, proof, .. }, _))) = next.receive() else {
            return (None, next);
        };
        let key = Key::of_session(&key, 7);
        assert_eq!(proof, key.prove(Side::Broker, &nonce, &NONCE));
        let here = FromOrphan::Here {
            proof: (played.proof)(&key, nonce),
            ticket: played.ticket,
            cell: false,
        };
        next.send(&here, None).unwrap();
        let verdict = next.receive().ok().flatten().map(|(word, _)| word);
        (verdict, next)
    });
    let daemon = daemon(folder);
    let (verdict, next) = plays.join().unwrap();
    (daemon, verdict, next)
}

pub fn who_is_no_worker_of_this_folder_is_not_taken_in() {
    let ticket = || vec![b'{'; 64];
    let (at, verdict, _) = play(Played {
        session: 8,
        layout: LAYOUT,
        proof: right,
        ticket: ticket(),
    });
    assert_eq!(verdict, None);
    assert!(at.logs("cannot be taken over").contains("of session 8"));
    let (at, verdict, _) = play(Played {
        session: 7,
        layout: LAYOUT,
        proof: |key, broker| key.prove(Side::Broker, &broker, &NONCE),
        ticket: ticket(),
    });
    assert_eq!(verdict, None);
    let line = at.logs("cannot be taken over");
    assert!(line.contains("does not know the session's key"), "{line}");
    // It knows its key, and has made its ticket itself.
    let (at, verdict, _) = play(Played {
        session: 7,
        layout: LAYOUT,
        proof: right,
        ticket: ticket(),
    });
    let Some(ToOrphan::Verdict { adopted, reason }) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(!adopted && reason.contains("not this server's"), "{reason}");
    // Whatever it says, the daemon goes on.
    begin(&endpoint(&at), &hello()).unwrap().data.echoes();
    // One that is no socket, and one where nobody is.
    let (folder, _) = left();
    std::fs::write(folder.path().join("state/s1"), "").unwrap();
    drop(UnixListener::bind(folder.path().join("state/s2")).unwrap());
    let at = daemon(folder);
    for _ in 0..2 {
        at.logs("has ended while there was no daemon");
    }
    assert!(sockets(at.folder.path()).is_empty());
}

pub fn a_worker_of_another_release_counts_and_is_left_alone() {
    // The ticket of a session that there has been, with a process that can be ended.
    let mut sleeper = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let path = folder("sessions = 1");
    let state = path.path().join("state");
    drop(daemon_state(&path));
    let key: [u8; 32] = std::fs::read(state.join("key"))
        .unwrap()
        .try_into()
        .unwrap();
    let text = format!(
        "{{\"assign\":{},\"pid\":{},\"began\":0.0,\"content\":null}}",
        serde_json::to_string(&assign()).unwrap(),
        sleeper.id()
    );
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(b"rgpu ticket ").update(text.as_bytes());
    let ticket = [hasher.finalize().as_bytes().as_slice(), text.as_bytes()].concat();
    let listener = UnixListener::bind(state.join("s7")).unwrap();
    let plays = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let next = Next::from_fd(stream.into()).unwrap();
        let orphan = FromOrphan::Orphan {
            session: 7,
            layout: LAYOUT + 1,
            nonce: NONCE,
        };
        next.send(&orphan, None).unwrap();
        let Ok(Some((ToOrphan::Claim { nonce, .. }, _))) = next.receive() else {
            panic!("no claim");
        };
        let proof = right(&Key::of_session(&key, 7), nonce);
        let cell = false;
        let here = FromOrphan::Here {
            proof,
            ticket,
            cell,
        };
        next.send(&here, None).unwrap();
        next.receive().unwrap().unwrap().0
    });
    let at = daemon(path);
    let ToOrphan::Verdict { adopted, reason } = plays.join().unwrap() else {
        panic!("no verdict");
    };
    assert!(!adopted && reason.contains("another release"), "{reason}");
    at.logs("understood=false");
    let refused = begin(&endpoint(&at), &hello()).map(|_| ()).unwrap_err();
    assert_eq!(refused.code, RefusalCode::TooManySessions);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let line = at.logs("session ends");
    assert!(line.contains("under a daemon of another release"), "{line}");
    begin(&endpoint(&at), &hello()).unwrap().data.echoes();
}

/// Has the daemon make its folder.
fn daemon_state(folder: &TempDir) -> Daemon {
    let mut command = command(folder.path(), "driver.so");
    command
        .args(["--listen", "tcp://127.0.0.1:0", "--config"])
        .arg(folder.path().join("rgpud.toml"));
    Daemon::from(command, tempfile::tempdir().unwrap())
}

fn assign() -> rgpu_proto::control::Assign {
    rgpu_proto::control::Assign {
        session: 7,
        secret: rgpu_proto::handshake::SessionSecret::new([5; 16]),
        tenant: "tests".into(),
        memory_limit: None,
        share_percent: None,
        vgpu: 6,
        devices: Vec::new(),
        weight: 100,
        cap_percent: None,
        burst_ms: 0,
        priority: rgpu_proto::control::Priority::Normal,
        kernel_time_limit_ms: None,
        host_memory_limit: None,
        overcommit: false,
        version: rgpu_proto::handshake::VERSION_MAX,
        hello: rgpu_proto::handshake::Hello {
            token: Default::default(),
            ..hello()
        },
        leftover: Vec::new(),
        relayed: false,
        keep: 0,
        time_sharing: true,
        user: None,
    }
}

pub fn a_folder_has_one_daemon() {
    let first = daemon(folder(""));
    let path = first.folder.path();
    let mut second = command(path, "driver.so");
    second
        .args(["--listen", "tcp://127.0.0.1:0", "--config"])
        .arg(path.join("rgpud.toml"));
    let said = fails(&mut second);
    assert!(said.contains("another rgpud uses it"), "{said}");
    begin(&endpoint(&first), &hello()).unwrap().data.echoes();
    // One that others can write to is nobody's.
    let other = path.join("other");
    std::fs::create_dir(&other).unwrap();
    crate::daemon::chmod(&other, 0o777);
    let said = fails(second.env("RGPUD_STATE_DIR", &other));
    assert!(said.contains("others can write to it"), "{said}");
}

pub fn ended_sessions_leave_nothing_in_the_folder() {
    let at = daemon(folder(""));
    let mut session = begin(&endpoint(&at), &hello()).unwrap();
    let path = at.folder.path();
    let name = format!("s{}", session.welcome.session);
    assert_eq!(sockets(path), std::slice::from_ref(&name));
    // Who comes to it while there is a daemon waits for nothing, and changes nothing.
    let early = UnixStream::connect(path.join("state").join(name)).unwrap();
    session.data.echoes();
    assert!(rgpu_transport::send_with_fd(early.as_fd(), b"hello", None).is_ok());
    session.data.echoes();
    drop(session);
    at.logs("session ends");
    assert!(sockets(path).is_empty());
}
