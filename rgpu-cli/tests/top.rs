//! `rgpu top` as users start it, on a terminal and without one, against a server that is played here.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const TOKEN: &str = "a-token-of-the-tests-0123456789";
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every question with the same; tells which were asked.
fn serve() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let (status, body) = match head.contains(&format!("Bearer {TOKEN}\r\n")) {
                false => (
                    "401 Unauthorized",
                    r#"{"error":"the token is not known here"}"#,
                ),
                true => match head.split(' ').nth(1).unwrap() {
                    "/v1/sessions" => (
                        "200 OK",
                        r#"{"sessions":[{"session":7,"tenant":"alice","program":"python3","host":"node","pid":9,"memory_bytes":1048576,"calls":12,"age_seconds":61.5,"new":1}],"left_out":0}"#,
                    ),
                    "/v1/tenants" => ("200 OK", r#"{"tenants":[{"tenant":"alice","sessions":1}]}"#),
                    "/v1/devices" => (
                        "200 OK",
                        r#"{"devices":[{"ordinal":0,"name":"A device","memory_total_bytes":1073741824}]}"#,
                    ),
                    "/v1/queue" => ("200 OK", r#"{"length":3,"waiting":[]}"#),
                    "/v1/sessions/7" => ("202 Accepted", "{}"),
                    _ => ("404 Not Found", "{}"),
                },
            };
            let _ = write!(stream, "HTTP/1.0 {status}\r\n\r\n{body}");
            let words: Vec<&str> = head.split(' ').take(2).collect();
            if sender.send(words.join(" ")).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

fn top(address: &str, token: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rgpu"));
    command
        .args(["top", "--admin", address])
        .env("RGPU_TOKEN", token)
        .env_remove("RGPU_TOKEN_FILE")
        .env("TERM", "xterm");
    command
}

#[test]
fn once_is_plain_text() {
    let (address, _asked) = serve();
    let output = top(&address, TOKEN).arg("--once").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for line in [
        "0\tA device\t-\t1073741824\t-\t0\t0",
        "alice\t-\t1\t0\t0\t-",
        "7\talice\tpython3\tnode:9\t\t1048576\t-\t12\t0\t0\t62",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let output = top(&address, "another-token-of-the-tests")
        .arg("--once")
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && words.contains("the token is not known here"),
        "{words}"
    );
}

/// Text without commands to the terminal and without spaces, which are not written where there is space already. That the screen is given back stays.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let told = parts.map(|part| match part.strip_prefix("?1049l") {
        Some(rest) => format!("[given back]{rest}"),
        None => {
            let end = part.find(|c: char| ('@'..='~').contains(&c));
            part[end.map_or(part.len(), |at| at + 1)..].to_owned()
        }
    });
    let all: String = std::iter::once(first).chain(told).collect();
    all.split(' ').collect()
}

/// What has been written to a terminal, as it comes.
struct Terminal {
    ours: File,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    fn open() -> (Terminal, OwnedFd) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(ours.as_fd(), size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let ours = File::from(ours);
        let mut reading = ours.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the other end is closed.
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let terminal = Terminal {
            ours,
            output,
            seen: Vec::new(),
        };
        (terminal, theirs.into())
    }

    fn shows(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        let words: String = words.split(' ').collect();
        while !plain(&self.seen).contains(&words) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.extend(more),
                Err(_) => panic!("no {words:?} in {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }
}

#[test]
fn a_session_is_ended_on_a_terminal() {
    let (address, asked) = serve();
    let (mut terminal, theirs) = Terminal::open();
    let stdio = || Stdio::from(theirs.try_clone().unwrap());
    let mut command = top(&address, TOKEN);
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    // SAFETY: setsid and an ioctl, both async-signal-safe; the terminal becomes the child's own.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(theirs);
    terminal.shows("sessions by memory");
    terminal.shows("python3");
    terminal.ours.write_all(b"\x1b[B").unwrap();
    terminal.ours.write_all(b"k").unwrap();
    terminal.shows("End session 7");
    terminal.ours.write_all(b"y").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while asked
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .unwrap()
        != "DELETE /v1/sessions/7"
    {}
    terminal.ours.write_all(b"q").unwrap();
    // The screen as it was before.
    terminal.shows("[given back]");
    assert!(child.wait().unwrap().success());
}
