//! The wire beside servers that do what no server does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::scope;

use rgpu_proto::frame::{FLAG_SESSION_ENDED, HEADER_LEN};
use rgpu_proto::handshake::{SessionSecret, VERSION_4, VERSION_5, VERSION_MIN};
use rgpu_transport::Endpoint;

use super::*;
use crate::compression::Setting;
use crate::stats::Stats;

fn wire() -> (Wire, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (wire_over(ours.into(), VERSION_MIN, Setting::Auto), theirs)
}

fn wire_over(socket: OwnedFd, version: u16, setting: Setting) -> Wire {
    let pipe = Pipe::from_fd(socket).unwrap();
    let nowhere = Endpoint::Unix("/nowhere".into());
    let secret = SessionSecret::new([0; 16]);
    let bulk = Connection::new(nowhere, &pipe, VERSION_MIN, 0, (1, secret));
    let compression = Compression::new(setting, &pipe, version, false, Stats::shared());
    Wire::new(pipe, Vec::new(), bulk, Control::absent(None), compression)
}

/// Over a network.
fn far_wire(version: u16, setting: Setting) -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (wire_over(ours.into(), version, setting), theirs)
}

/// The next command, and its body.
fn hear_whole(server: &mut impl Read) -> (Header, Vec<u8>) {
    let mut header = [0; HEADER_LEN];
    server.read_exact(&mut header).unwrap();
    let header = Header::parse(&header).unwrap();
    let mut body = vec![0; header.len.get() as usize];
    server.read_exact(&mut body).unwrap();
    (header, body)
}

/// What a command with these bytes is to the server, and how many bytes have gone out.
fn sent(wire: &Wire, server: &mut TcpStream, data: &[u8]) -> (Header, Vec<u8>, usize) {
    let segments = [data];
    let large = Command {
        segments: &segments,
        ..command(b"args")
    };
    let Ok(Sent::Written { bytes, .. }) = wire.send(&large, || false) else {
        panic!("not sent");
    };
    let (header, body) = hear_whole(server);
    (header, body, bytes)
}

#[test]
fn a_body_goes_compressed_where_that_is_asked_for_and_helps() {
    let smooth: Vec<u8> = (0..20_000).map(|at| (at / 200) as u8).collect();
    let whole = [b"args", &smooth[..]].concat();
    let (wire, mut server) = far_wire(VERSION_5, Setting::On);
    let (header, body, bytes) = sent(&wire, &mut server, &smooth);
    assert!(header.is_compressed() && bytes < smooth.len() / 4);
    assert_eq!(bytes, HEADER_LEN + body.len());
    assert_eq!(compressed::decompress(&body).unwrap(), whole);
    // One that is waited for, too.
    scope(|scope| {
        let asked = scope.spawn(|| {
            let segments = [&smooth[..]];
            let large = Command {
                segments: &segments,
                ..command(b"args")
            };
            let (ticket, _) = wire.request(&large, &mut [], Sink::None).unwrap();
            wire.wait(ticket).unwrap().status
        });
        let (header, body) = hear_whole(&mut server);
        assert!(header.is_compressed() && header.wants_reply());
        assert_eq!(compressed::decompress(&body).unwrap(), whole);
        server.write_all(&reply(header.seq.get(), b"")).unwrap();
        assert_eq!(asked.join().unwrap(), 0);
    });
    // As it is: too short, or no smaller.
    let mut random = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    })
    .take(20_000)
    .collect();
    for data in [&smooth[..100], &noise] {
        let (header, body, bytes) = sent(&wire, &mut server, data);
        assert!(!header.is_compressed());
        assert_eq!(body, [b"args", data].concat());
        assert_eq!(bytes, HEADER_LEN + body.len());
    }
}

#[test]
fn nothing_is_compressed_for_an_earlier_server_nor_near_nor_where_it_is_off() {
    for (version, setting) in [
        (VERSION_4, Setting::On),
        (VERSION_5, Setting::Off),
        (VERSION_5, Setting::Auto),
    ] {
        let (wire, mut server) = far_wire(version, setting);
        let (header, body, _) = sent(&wire, &mut server, &[7; 20_000]);
        assert!(!header.is_compressed(), "{version} {setting:?}");
        assert_eq!(body.len(), 20_004);
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let wire = wire_over(ours.into(), VERSION_5, Setting::On);
    let segments = [&[7; 20_000][..]];
    let large = Command {
        segments: &segments,
        ..command(b"args")
    };
    assert!(wire.send(&large, || false).is_ok());
    assert!(!hear_whole(&mut theirs).0.is_compressed());
}

#[test]
fn a_small_copy_out_goes_with_the_next_command() {
    let (wire, mut server) = far_wire(VERSION_5, Setting::Auto);
    let mut place = [0_u8; 32];
    let at = place.as_mut_ptr() as u64;
    for part in 0..3 {
        let (seq, bytes, ticket) = wire
            .expect(&command(b"copy"), at + 8 * part, 8, || false)
            .unwrap();
        assert_eq!((seq, bytes), (part + 1, HEADER_LEN + 4));
        assert!(ticket.is_none());
    }
    assert_eq!(wire.last(), 3);
    // A large one does not wait, and takes those along.
    let (large, ..) = wire
        .expect(&command(b"land"), 4096, LITTLE + 1, || false)
        .unwrap();
    let numbers: Vec<(u64, Vec<u8>)> = (0..4)
        .map(|_| hear_whole(&mut server))
        .map(|(header, body)| (header.seq.get(), body))
        .collect();
    let expected = [(1, b"copy"), (2, b"copy"), (3, b"copy"), (large, b"land")];
    assert_eq!(numbers, expected.map(|(seq, body)| (seq, body.to_vec())));
    wire.forget_landings(4096, LITTLE as u64 + 1);
    // Nor one of which an answer is asked for.
    let (_, _, ticket) = wire.expect(&command(b"late"), at + 24, 8, || true).unwrap();
    assert!(ticket.is_some());
    assert!(hear_whole(&mut server).0.wants_reply());
    wire.forget_landings(at, 32);
}

/// More than fits a packet is not kept, and nobody's command overtakes what is.
#[test]
fn few_commands_wait_for_the_next_one() {
    let (wire, mut server) = far_wire(VERSION_5, Setting::Auto);
    let mut place = [0_u8; 100];
    let at = place.as_mut_ptr() as u64;
    for part in 0..100 {
        wire.expect(&command(b"copy"), at + part, 1, || false)
            .unwrap();
    }
    assert!(lock(&wire.writer).len() <= HELD);
    assert!(wire.send(&command(b"next"), || false).is_ok());
    assert!(lock(&wire.writer).is_empty());
    for seq in 1..=101 {
        let (header, body) = hear_whole(&mut server);
        assert_eq!(header.seq.get(), seq);
        assert_eq!(&body, if seq == 101 { b"next" } else { b"copy" });
    }
    wire.forget_landings(at, 100);
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

#[test]
fn a_reply_may_come_compressed_if_that_was_said() {
    let smooth: Vec<u8> = (0..20_000).map(|at| (at / 200) as u8).collect();
    let (wire, mut server) = far_wire(VERSION_5, Setting::On);
    let packed = compressed::compress(&smooth, &[]).unwrap();
    let answer = |seq| {
        let header = Header::reply(OP, 1, seq, 0, 0, packed.len()).with(FLAG_COMPRESSED);
        [header.as_bytes(), &packed].concat()
    };
    scope(|scope| {
        let asked = scope.spawn(|| {
            let mut bytes = vec![0; smooth.len()];
            ask(&wire, &mut bytes).map(|_| bytes)
        });
        let (header, _) = hear_whole(&mut server);
        assert!(header.may_compress());
        server.write_all(&answer(header.seq.get())).unwrap();
        assert_eq!(asked.join().unwrap().unwrap(), smooth);
    });
    // And what lands.
    let mut place = vec![0; smooth.len()];
    let at = place.as_mut_ptr() as u64;
    wire.expect(&command(b"land"), at, place.len(), || false)
        .unwrap();
    scope(|scope| {
        let asked = scope.spawn(|| ask(&wire, &mut [0; 4]));
        let (landing, _) = hear_whole(&mut server);
        assert!(landing.may_compress());
        let (last, _) = hear_whole(&mut server);
        assert!(!last.may_compress(), "four bytes");
        let answers = [answer(landing.seq.get()), reply(last.seq.get(), &[1; 4])];
        server.write_all(&answers.concat()).unwrap();
        asked.join().unwrap().unwrap();
    });
    assert!(!wire.lands_in(at, 1));
    assert_eq!(place, smooth);
}

#[test]
fn a_compressed_reply_that_does_not_fit_ends_the_session_with_a_reason() {
    let smooth = vec![7; 20_000];
    let packed = |bytes: &[u8]| compressed::compress(bytes, &[]).unwrap();
    let lying = [&60_000_000_u32.to_le_bytes()[..], &packed(&smooth)[4..]].concat();
    for (setting, body, words) in [
        (Setting::On, packed(&smooth[1..]), "do not fit it"),
        (Setting::On, packed(&[7; 30_000]), "do not fit it"),
        (Setting::On, packed(&smooth)[..20].to_vec(), "is damaged"),
        (Setting::On, lying, "is damaged"),
        (Setting::On, Vec::new(), "is damaged"),
        (Setting::Auto, packed(&smooth), "was not asked for"),
    ] {
        let (wire, mut server) = far_wire(VERSION_5, setting);
        scope(|scope| {
            let asked = scope.spawn(|| ask(&wire, &mut vec![0; smooth.len()]));
            let (header, _) = hear_whole(&mut server);
            let answer = Header::reply(OP, 1, header.seq.get(), 0, 0, body.len());
            let answer = answer.with(FLAG_COMPRESSED);
            let bytes = [answer.as_bytes(), &body].concat();
            server.write_all(&bytes).unwrap();
            let why = reason(asked.join().unwrap().unwrap_err());
            assert!(why.contains(words), "{why}");
        });
    }
}
