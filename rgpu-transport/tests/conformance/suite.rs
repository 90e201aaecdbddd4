//! What every transport must do. The test that includes this says which transports there are (`each_transport`).

use rgpu_transport::{Interest, Pipe, Progress, WaitPolicy};
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Two connected ends.
pub struct Pair {
    pub client: Pipe,
    pub server: Pipe,
}

/// Runs a test over each transport.
fn each(test: impl Fn(Pair)) {
    super::each_transport(test);
}

pub fn wait(pipe: &Pipe, interest: Interest) {
    let ready = pipe
        .wait(interest, Some(Instant::now() + PATIENCE))
        .unwrap();
    assert!(!ready.timed_out(), "nothing happened within {PATIENCE:?}");
}

pub fn read_some(pipe: &Pipe, buffer: &mut [u8]) -> usize {
    loop {
        match pipe.try_read(buffer).unwrap() {
            Progress::Bytes(count) => return count,
            Progress::Closed => return 0,
            Progress::WouldBlock => wait(pipe, Interest::Read),
        }
    }
}

pub fn write_all(pipe: &Pipe, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match pipe.try_write_vectored(&[IoSlice::new(bytes)]).unwrap() {
            Progress::Bytes(count) => bytes = &bytes[count..],
            _ => wait(pipe, Interest::Write),
        }
    }
}

/// Bytes that tell their position.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

#[test]
fn nothing_to_read_and_no_room_to_write_are_told() {
    each(|Pair { client, server }| {
        assert_eq!(server.try_read(&mut [0; 8]).unwrap(), Progress::WouldBlock);
        let block = pattern(1 << 20, 7);
        let mut written = 0;
        // A relay between takes more for a while, until it is full too.
        loop {
            while let Progress::Bytes(count) = client
                .try_write_vectored(&[IoSlice::new(&block[written % block.len()..])])
                .unwrap()
            {
                written += count;
            }
            let soon = Instant::now() + Duration::from_millis(100);
            if client
                .wait(Interest::Write, Some(soon))
                .unwrap()
                .timed_out()
            {
                break;
            }
            assert!(written < 64 << 20, "there is no bound");
        }
        assert!(written > 0);
        // Odd read sizes, so that boundaries of writes and reads never agree.
        let mut buffer = vec![0; 4093];
        let mut got = 0;
        while got < written {
            let count = read_some(&server, &mut buffer);
            let expected = (0..count).map(|i| block[(got + i) % block.len()]);
            assert!(
                buffer[..count].iter().copied().eq(expected),
                "bytes differ near {got}"
            );
            got += count;
        }
        wait(&client, Interest::Write);
    });
}

#[test]
fn both_sides_write_much_without_deadlock() {
    const LEN: usize = 12 << 20;

    /// Writes `ours` in slices of many sizes and reads `theirs` meanwhile.
    fn exchange(pipe: &Pipe, ours: &[u8], theirs: &[u8]) {
        let (mut sent, mut got) = (0, 0);
        let mut buffer = vec![0; 64 << 10];
        while sent < ours.len() || got < theirs.len() {
            let mut stuck = true;
            if sent < ours.len() {
                let rest = &ours[sent..];
                let (a, b) = rest.split_at(rest.len().min(13));
                let (b, c) = b.split_at(b.len().min(300_000));
                let slices: Vec<_> = std::iter::once(a)
                    .chain(b.chunks(100))
                    .chain([&c[..c.len().min(1 << 20)]])
                    .map(IoSlice::new)
                    .collect();
                if let Progress::Bytes(count) = pipe.try_write_vectored(&slices).unwrap() {
                    sent += count;
                    stuck = false;
                }
            }
            if let Progress::Bytes(count) = pipe.try_read(&mut buffer).unwrap() {
                assert_eq!(buffer[..count], theirs[got..got + count]);
                got += count;
                stuck = false;
            }
            if stuck {
                wait(
                    pipe,
                    if sent < ours.len() {
                        Interest::Both
                    } else {
                        Interest::Read
                    },
                );
            }
        }
    }

    let (first, second) = (pattern(LEN, 1), pattern(LEN, 2));
    each(|Pair { client, server }| {
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&client, &first, &second));
            exchange(&server, &second, &first);
        });
    });
}

#[test]
fn half_close_ends_one_direction() {
    each(|Pair { client, server }| {
        write_all(&client, b"last words");
        client.shutdown_write().unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 3];
        loop {
            match read_some(&server, &mut buffer) {
                0 => break,
                count => heard.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(heard, b"last words");
        write_all(&server, b"answer");
        let mut buffer = [0; 16];
        let count = read_some(&client, &mut buffer);
        assert_eq!(&buffer[..count], b"answer");
        assert!(
            client.try_write_vectored(&[IoSlice::new(b"x")]).is_err(),
            "writing after shutdown_write is an error"
        );
    });
}

#[test]
fn a_dead_peer_is_an_end_or_an_error_and_no_signal() {
    each(|Pair { client, server }| {
        drop(server);
        wait(&client, Interest::Read);
        assert_eq!(client.try_read(&mut [0; 8]).unwrap(), Progress::Closed);
        // TCP learns from the answer to its first write.
        let error = loop {
            match client.try_write_vectored(&[IoSlice::new(b"anyone?")]) {
                Ok(_) => wait(&client, Interest::Write),
                Err(error) => break error,
            }
        };
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        assert!(
            matches!(error.kind(), BrokenPipe | ConnectionReset),
            "{error}"
        );
    });
    // A peer that dies with bytes unread resets the connection.
    each(|Pair { client, server }| {
        write_all(&client, b"never read");
        wait(&server, Interest::Read);
        drop(server);
        wait(&client, Interest::Read);
        match client.try_read(&mut [0; 8]) {
            Ok(progress) => assert_eq!(progress, Progress::Closed),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    });
}

#[test]
fn a_wait_ends_at_its_deadline_or_by_shutdown() {
    each(
        |Pair {
             client,
             server: _server,
         }| {
            let deadline = Instant::now() + Duration::from_millis(30);
            assert!(
                client
                    .wait(Interest::Read, Some(deadline))
                    .unwrap()
                    .timed_out()
            );
            assert!(Instant::now() >= deadline);
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| client.wait(Interest::Read, None).unwrap());
                client.shutdown().unwrap();
                assert!(waiter.join().unwrap().read);
            });
        },
    );
}

#[test]
fn each_wait_policy_wakes() {
    each(|Pair { mut client, server }| {
        for yields in [0, 1, 1000] {
            client.set_wait_policy(WaitPolicy { yields });
            std::thread::scope(|scope| {
                scope.spawn(|| write_all(&server, b"!"));
                assert!(
                    client
                        .wait(Interest::Read, Some(Instant::now() + PATIENCE))
                        .unwrap()
                        .read
                );
            });
            assert_eq!(client.try_read(&mut [0; 8]).unwrap(), Progress::Bytes(1));
        }
    });
}

#[test]
fn descriptors_do_not_leak_into_children() {
    each(|Pair { client, server }| {
        for fd in client.descriptors().chain(server.descriptors()) {
            assert!(
                rustix::io::fcntl_getfd(fd)
                    .unwrap()
                    .contains(rustix::io::FdFlags::CLOEXEC)
            );
        }
        // Also for a descriptor that came without the flag.
        let fd = server.into_fd();
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        let pipe = Pipe::from_fd(fd).unwrap();
        assert!(
            rustix::io::fcntl_getfd(pipe.as_fd())
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
    });
}

#[test]
fn descriptors_come_with_their_bytes() {
    const COUNT: u8 = 12;
    let folder = tempfile::tempdir().unwrap();
    each(|Pair { client, server }| {
        if !client.capabilities().passes_fds {
            return;
        }
        for number in 0..COUNT {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, [number]).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            let byte = [number];
            let bytes = [IoSlice::new(&byte)];
            let written = client.try_write_with_fd(&bytes, Some(file.as_fd()));
            assert_eq!(written.unwrap(), Progress::Bytes(1));
        }
        let (mut bytes, mut files) = (Vec::new(), Vec::new());
        while bytes.len() < COUNT.into() {
            let mut buffer = [0; 5];
            let (progress, fds) = server.try_read_with_fds(&mut buffer).unwrap();
            match progress {
                Progress::Bytes(count) => bytes.extend_from_slice(&buffer[..count]),
                _ => wait(&server, Interest::Read),
            }
            files.extend(fds);
            assert!(files.len() >= bytes.len(), "bytes came ahead of theirs");
        }
        let inside = files.into_iter().map(|fd| {
            let mut byte = [0];
            assert_eq!(rustix::io::read(fd, &mut byte).unwrap(), 1);
            byte[0]
        });
        assert!(inside.eq(0..COUNT));
        assert!(bytes.into_iter().eq(0..COUNT));
    });
}

/// Waits, bells and positions under every interleaving that many rounds meet: short messages there and back, now and then a pause in which the
/// peer parks, and bursts that fill the pipe.
#[test]
fn nobody_sleeps_through_what_comes() {
    const ROUNDS: usize = 20_000;
    each(
        |Pair {
             mut client,
             mut server,
         }| {
            for yields in [0, 3] {
                client.set_wait_policy(WaitPolicy { yields });
                server.set_wait_policy(WaitPolicy { yields });
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut buffer = vec![0; 1 << 20];
                        let mut echoed = 0;
                        while echoed < ROUNDS {
                            let count = read_some(&server, &mut buffer);
                            write_all(&server, &buffer[..count.min(1)]);
                            echoed += count.min(1);
                            if echoed == ROUNDS / 2 {
                                // Until the end of what was sent at once: no answer to that.
                                let mut left = (4 << 20) - (count - 1);
                                while left > 0 {
                                    left -= read_some(&server, &mut buffer[..left.min(1 << 20)]);
                                }
                            }
                        }
                    });
                    let burst = vec![7; 4 << 20];
                    for round in 1..=ROUNDS {
                        write_all(&client, b"?");
                        if round == ROUNDS / 2 {
                            write_all(&client, &burst);
                        }
                        assert_eq!(read_some(&client, &mut [0; 8]), 1, "round {round}");
                        if round % 1000 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        },
    );
}
