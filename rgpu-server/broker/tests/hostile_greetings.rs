//! What a peer can send before it has authenticated: each ends with a reason in the log and, where the peer speaks the protocol, a
//! typed refusal; and the daemon goes on answering others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rgpu_proto::handshake::{
    Answer, ClientHandshake, ClientInfo, Hello, MAGIC, Purpose, RefusalCode, SessionSecret, Token,
    VgpuRequest,
};

const TOKEN: &str = "a-token-of-the-tests-0123456789";

struct Daemon {
    child: Child,
    address: String,
    log: mpsc::Receiver<String>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Nobody gets far enough for a driver to be loaded.
        let driver = folder.path().join("libcuda.so.1");
        std::fs::write(&driver, b"no library").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rgpud"))
            .arg("--driver")
            .arg(&driver)
            .args([
                "--listen",
                "tcp://127.0.0.1:0",
                "--greeting-timeout-ms",
                "300",
            ])
            .arg("--token-file")
            .arg(&token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = ready["listen"][0]
            .as_str()
            .unwrap()
            .trim_start_matches("tcp://")
            .to_owned();
        let log = follow(child.stderr.take().unwrap());
        Daemon {
            child,
            address,
            log,
            _folder: folder,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Waits for a log line that has `text` in it.
    fn logs(&self, text: &str) {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text:?} in the log:\n{}", seen.join("\n")),
            }
        }
    }

    /// Another client still gets its answer.
    fn still_answers(&self) {
        let refused = refusal(
            self.connect(),
            &hello("no such token at all", Purpose::Data),
        );
        assert_eq!(refused, RefusalCode::Unauthenticated);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn hello(token: &str, purpose: Purpose) -> Hello {
    Hello {
        purpose,
        token: Token::new(token),
        client: ClientInfo::default(),
        vgpu: VgpuRequest::default(),
        windows: Vec::new(),
        environment: Vec::new(),
        rings: false,
        reuse: Default::default(),
        group: String::new(),
    }
}

/// Greets, and returns the code of the refusal.
fn refusal(mut stream: TcpStream, hello: &Hello) -> RefusalCode {
    let mut handshake = ClientHandshake::new(hello).unwrap();
    stream.write_all(handshake.output()).unwrap();
    code(&mut stream, &mut handshake)
}

fn code(stream: &mut TcpStream, handshake: &mut ClientHandshake) -> RefusalCode {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed without an answer");
        match handshake.push(&buffer[..count]).unwrap() {
            Some((_, Answer::Refused(refused))) => return refused.code,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

/// Sends raw bytes; returns what comes back until the daemon closes.
fn raw(daemon: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut stream = daemon.connect();
    // The daemon may close before it has taken everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn preamble(min: u16, max: u16, len: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&min.to_le_bytes());
    bytes.extend_from_slice(&max.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes
}

/// The refusal in raw answer bytes.
fn answered(bytes: &[u8]) -> RefusalCode {
    let mut handshake = ClientHandshake::new(&hello("", Purpose::Data)).unwrap();
    match handshake.push(bytes).unwrap() {
        Some((_, Answer::Refused(refused))) => refused.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_are_no_greeting() {
    let daemon = Daemon::start();
    assert!(raw(&daemon, b"GET / HTTP/1.1\r\nHost: gpu\r\n\r\n").is_empty());
    daemon.logs("wrong magic");
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    println!("seed {state:#x}");
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        raw(&daemon, &bytes);
    }
    daemon.still_answers();
}

#[test]
fn versions_and_lengths() {
    let daemon = Daemon::start();
    assert_eq!(
        answered(&raw(&daemon, &preamble(900, 901, 10))),
        RefusalCode::Version
    );
    daemon.logs("install a client");
    assert_eq!(
        answered(&raw(&daemon, &preamble(1, 1, u32::MAX))),
        RefusalCode::Malformed
    );
    daemon.logs("4294967295 bytes");
    let mut garbage = preamble(1, 1, 64);
    garbage.extend_from_slice(&[0xFF; 64]);
    assert_eq!(answered(&raw(&daemon, &garbage)), RefusalCode::Malformed);
    daemon.still_answers();
}

#[test]
fn half_a_greeting_and_then_silence() {
    let daemon = Daemon::start();
    let mut stream = daemon.connect();
    let whole = ClientHandshake::new(&hello(TOKEN, Purpose::Data)).unwrap();
    stream.write_all(&whole.output()[..20]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answered(&answer), RefusalCode::TimedOut);
    daemon.logs("no whole greeting");
    daemon.still_answers();
}

#[test]
fn tokens_and_secrets() {
    let daemon = Daemon::start();
    assert_eq!(
        refusal(daemon.connect(), &hello("", Purpose::Data)),
        RefusalCode::Unauthenticated
    );
    daemon.logs("no token was given");
    assert_eq!(
        refusal(daemon.connect(), &hello("wrong", Purpose::Data)),
        RefusalCode::Unauthenticated
    );
    daemon.logs("not known here");
    let purpose = Purpose::Control {
        session: 1,
        secret: SessionSecret::new([7; 16]),
    };
    assert_eq!(
        refusal(daemon.connect(), &hello(TOKEN, purpose)),
        RefusalCode::UnknownSession
    );
}

#[test]
fn hundreds_of_half_open_connections() {
    let daemon = Daemon::start();
    let open: Vec<TcpStream> = (0..400).map(|_| daemon.connect()).collect();
    daemon.still_answers();
    drop(open);
    daemon.still_answers();
}

#[test]
fn a_driver_that_is_none_is_said() {
    let daemon = Daemon::start();
    let mut stream = daemon.connect();
    let handshake = ClientHandshake::new(&hello(TOKEN, Purpose::Data)).unwrap();
    stream.write_all(handshake.output()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    daemon.logs("session ends");
    daemon.still_answers();
}
