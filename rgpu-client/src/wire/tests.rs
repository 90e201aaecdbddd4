//! The wire beside servers that do what no server does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::scope;

use rgpu_proto::frame::{FLAG_SESSION_ENDED, HEADER_LEN};
use rgpu_proto::handshake::{SessionSecret, VERSION_MIN};
use rgpu_transport::Endpoint;

use super::*;

fn wire() -> (Wire, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let pipe = Pipe::from_fd(ours.into()).unwrap();
    let nowhere = Endpoint::Unix("/nowhere".into());
    let secret = SessionSecret::new([0; 16]);
    let bulk = Connection::new(nowhere, &pipe, VERSION_MIN, 0, (1, secret));
    (Wire::new(pipe, Vec::new(), bulk, Control::absent()), theirs)
}

const OP: u16 = 0x0411;

fn command(args: &[u8]) -> Command<'_> {
    Command {
        op: OP,
        thread: 1,
        context: 0,
        args,
        segments: &[],
        descriptor: None,
    }
}

/// Asks for `bytes`, and what came of it.
fn ask(wire: &Wire, bytes: &mut [u8]) -> Result<u32, Lost> {
    let (ticket, _) = wire.request(&command(b"args"), &mut [], Sink::Exact(bytes))?;
    wire.wait(ticket).map(|verdict| verdict.status)
}

/// The number of the next command.
fn hear(server: &mut UnixStream) -> u64 {
    let mut frame = [0; HEADER_LEN + 4];
    server.read_exact(&mut frame).unwrap();
    let header = Header::parse(frame.first_chunk().unwrap()).unwrap();
    header.seq.get()
}

fn reply(seq: u64, body: &[u8]) -> Vec<u8> {
    let header = Header::reply(OP, 1, seq, 0, 0, body.len());
    [header.as_bytes(), body].concat()
}

fn reason(lost: Lost) -> String {
    match lost {
        Lost::Ended { reason, .. } | Lost::Broken(reason) => reason,
    }
}

#[test]
fn replies_in_any_order_find_who_waits() {
    let (wire, mut server) = wire();
    scope(|scope| {
        let asked: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut bytes = [0; 8];
                    let (ticket, _) = wire
                        .request(&command(b"args"), &mut [], Sink::Exact(&mut bytes))
                        .unwrap();
                    let seq = ticket.seq;
                    wire.wait(ticket).unwrap();
                    (seq, u64::from_le_bytes(bytes))
                })
            })
            .collect();
        let mut numbers: Vec<u64> = asked.iter().map(|_| hear(&mut server)).collect();
        numbers.reverse();
        for number in numbers {
            server
                .write_all(&reply(number, &number.to_le_bytes()))
                .unwrap();
        }
        for asked in asked {
            let (seq, answer) = asked.join().unwrap();
            assert_eq!(seq, answer);
        }
    });
}

#[test]
fn answers_that_nobody_asked_for_end_the_session_with_a_reason() {
    type Answer = fn(u64) -> Vec<u8>;
    let cases: [(&str, Answer, &str); 6] = [
        (
            "of a command never made",
            |_| reply(99, &[1; 4]),
            "waits for no answer",
        ),
        ("too short", |seq| reply(seq, &[1; 3]), "do not fit"),
        ("too long", |seq| reply(seq, &[1; 5]), "do not fit"),
        (
            "no reply at all",
            |seq| Header::command(OP, 1, 0, seq, 0, false).as_bytes().to_vec(),
            "waits for no answer",
        ),
        ("no frame", |_| vec![0xff; 64], "a body of"),
        (
            "a reply, then its end",
            |seq| reply(seq, &[1; 4])[..HEADER_LEN + 2].to_vec(),
            "closed the connection",
        ),
    ];
    for (what, answer, expected) in cases {
        let (wire, mut server) = wire();
        scope(|scope| {
            let asked = scope.spawn(|| ask(&wire, &mut [0; 4]));
            let seq = hear(&mut server);
            server.write_all(&answer(seq)).unwrap();
            server.shutdown(std::net::Shutdown::Both).unwrap();
            let why = reason(asked.join().unwrap().unwrap_err());
            assert!(why.contains(expected), "{what}: {why}");
        });
        // And every later call says so at once.
        assert!(ask(&wire, &mut [0; 4]).is_err(), "{what}");
    }
}

#[test]
fn a_reply_that_comes_twice_ends_the_session_with_a_reason() {
    let (wire, mut server) = wire();
    scope(|scope| {
        let asked = scope.spawn(|| ask(&wire, &mut [0; 4]));
        let seq = hear(&mut server);
        let twice = [reply(seq, &[1; 4]), reply(seq, &[2; 4])].concat();
        server.write_all(&twice).unwrap();
        // The first of them may have been enough.
        let first = asked.join().unwrap();
        let second = ask(&wire, &mut [0; 4]).unwrap_err();
        let why = reason(first.err().unwrap_or(second));
        assert!(why.contains("waits for no answer"), "{why}");
    });
}

#[test]
fn one_byte_at_a_time_is_slow_and_right() {
    let (wire, mut server) = wire();
    scope(|scope| {
        let asked = scope.spawn(|| {
            let mut bytes = vec![0; 3000];
            ask(&wire, &mut bytes).map(|_| bytes)
        });
        let mut frame = [0; HEADER_LEN + 4];
        for byte in frame.chunks_mut(1) {
            server.read_exact(byte).unwrap();
        }
        let body: Vec<u8> = (0..3000).map(|at| at as u8).collect();
        for byte in reply(1, &body) {
            server.write_all(&[byte]).unwrap();
        }
        assert_eq!(asked.join().unwrap().unwrap(), body);
    });
}

/// A writer is kept waiting, holds no memory for it, and is freed by the peer's end.
#[test]
fn a_peer_that_stops_reading_keeps_the_writer_until_its_end() {
    let (wire, server) = wire();
    scope(|scope| {
        let writer = scope.spawn(|| {
            let part = vec![7; 1 << 20];
            let mut sent = 0;
            loop {
                let large = Command {
                    segments: &[&part],
                    ..command(b"args")
                };
                match wire.send(&large, || false) {
                    Ok(_) => sent += 1,
                    Err(lost) => return (sent, lost),
                }
            }
        });
        // What the writer waits for shows in the socket: it is full.
        let full = || rustix::io::ioctl_fionread(&server).unwrap() > 0;
        while !full() {
            std::thread::yield_now();
        }
        drop(server);
        let (sent, _) = writer.join().unwrap();
        assert!(sent < 8, "{sent} MiB went to a peer that reads nothing");
    });
}

#[test]
fn the_servers_own_end_is_told_to_all_who_wait() {
    let (wire, mut server) = wire();
    scope(|scope| {
        let asked: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| ask(&wire, &mut [0; 4])))
            .collect();
        for _ in &asked {
            hear(&mut server);
        }
        let text = b"the tenant's time is over";
        let header = Header::ended(46, text.len());
        assert_eq!(header.flags.get(), FLAG_SESSION_ENDED);
        server
            .write_all(&[header.as_bytes(), text].concat())
            .unwrap();
        for asked in asked {
            match asked.join().unwrap().unwrap_err() {
                Lost::Ended { result, reason } => {
                    assert_eq!((result, reason.as_bytes()), (46, &text[..]));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}
