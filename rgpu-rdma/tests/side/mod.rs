//! A program at each end of a connection, whatever carries it, and what two of them do.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rgpu_rdma::{Link, Lost, SHAPE, Wire, carry};

/// One side's program, and its relay's thread with the end of it.
pub struct Side {
    pub program: UnixStream,
    pub relay: JoinHandle<Result<(), Lost>>,
}

pub fn side(mut wire: impl Wire + Send + 'static) -> Side {
    let (program, socket) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    let relay = std::thread::spawn(move || carry(&socket, &mut wire, Link::new(SHAPE)));
    Side { program, relay }
}

/// Bytes that repeat nowhere near.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// A pattern goes both ways at once, in pieces of all sizes.
pub fn exchange(ends: [Side; 2], length: usize, seed: u64) {
    let ends = ends.map(|side| {
        let (mut to, mut from) = (side.program.try_clone().unwrap(), side.program);
        let writer = std::thread::spawn(move || {
            let bytes = pattern(length, seed);
            let (mut piece, mut left) = (1, &bytes[..]);
            while !left.is_empty() {
                let now = left.len().min(piece);
                to.write_all(&left[..now]).unwrap();
                left = &left[now..];
                piece = piece * 3 % 300_007;
            }
            to.shutdown(Shutdown::Write).unwrap();
        });
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            assert!(bytes == pattern(length, seed), "other bytes have come");
        });
        (writer, reader, side.relay)
    });
    for (writer, reader, relay) in ends {
        writer.join().unwrap();
        reader.join().unwrap();
        relay.join().unwrap().unwrap();
    }
}

/// The reader goes: writes fail, and both relays end in good order.
pub fn write_to_nobody([writer, reader]: [Side; 2]) {
    drop(reader.program);
    let chunk = vec![7; 1 << 16];
    let error = loop {
        if let Err(error) = (&writer.program).write_all(&chunk) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    drop(writer.program);
    writer.relay.join().unwrap().unwrap();
    reader.relay.join().unwrap().unwrap();
}
