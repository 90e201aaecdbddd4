//! Networks that delay, lose and change addresses.

use std::time::{Duration, Instant};

use rgpu_system::far::{Far, Way};

use crate::rig::{Server, client, open, pair};
use crate::suite::{Pair, pattern, read_some, write_all};

fn far(server: &Server, lost: u32) -> Far {
    let way = Way {
        delay: Duration::from_millis(20),
        lost,
        seed: 0x5eed,
    };
    Far::to(server.udp(), way).unwrap()
}

/// Sends so many bytes each way at once.
fn exchange(Pair { client, server }: &Pair, bytes: usize) {
    let (there, back) = (pattern(bytes, 3), pattern(bytes, 4));
    std::thread::scope(|scope| {
        for (from, to, sent) in [(client, server, &there), (server, client, &back)] {
            scope.spawn(|| write_all(from, sent));
            scope.spawn(move || {
                let mut got = Vec::new();
                let mut buffer = vec![0; 64 << 10];
                while got.len() < sent.len() {
                    match read_some(to, &mut buffer) {
                        0 => panic!("the end after {} bytes", got.len()),
                        count => got.extend_from_slice(&buffer[..count]),
                    }
                }
                assert!(got == *sent, "other bytes");
            });
        }
    });
}

#[test]
fn what_is_lost_comes_again() {
    let server = Server::start("127.0.0.1").unwrap();
    let far = far(&server, 10_000);
    let relay = client(&server.address_at(far.address));
    let ends = pair(&relay, &server);
    exchange(&ends, 4 << 20);
    assert!(far.dropped() > 0, "nothing was lost");
}

#[test]
fn a_client_that_changes_its_address_goes_on() {
    let server = Server::start("127.0.0.1").unwrap();
    let far = far(&server, 0);
    let relay = client(&server.address_at(far.address));
    let ends = pair(&relay, &server);
    for _ in 0..3 {
        exchange(&ends, 100_000);
        far.change_address();
    }
    exchange(&ends, 100_000);
    // The same connection.
    let more = pair(&relay, &server);
    exchange(&more, 1000);
}

#[test]
fn a_stream_that_nobody_reads_does_not_hold_up_another() {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let (bulk, small) = (pair(&relay, &server), pair(&relay, &server));
    // The server knows the client by what it has taken.
    exchange(&bulk, 2 << 20);
    let much = pattern(64 << 20, 9);
    std::thread::scope(|scope| {
        // Nobody reads these: they fill the stream and its socket.
        let writer = scope.spawn(|| {
            let mut sent = 0;
            while sent < much.len() {
                match bulk
                    .client
                    .try_write_vectored(&[std::io::IoSlice::new(&much[sent..])])
                {
                    Ok(rgpu_transport::Progress::Bytes(count)) => sent += count,
                    Ok(_) => {
                        let soon = Some(Instant::now() + Duration::from_millis(300));
                        let ready = bulk.client.wait(rgpu_transport::Interest::Write, soon);
                        if ready.unwrap().timed_out() {
                            return sent;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            sent
        });
        for _ in 0..100 {
            exchange(&small, 100);
        }
        let sent = writer.join().unwrap();
        assert!(sent < 24 << 20, "{sent} bytes that nobody reads were taken");
        // And afterwards, when it is full.
        exchange(&small, 100_000);
    });
}

#[test]
fn a_network_that_is_gone_is_noticed() {
    let server = Server::start("127.0.0.1").unwrap();
    let far = far(&server, 0);
    let relay = client(&server.address_at(far.address));
    let Pair {
        client,
        server: at_server,
    } = pair(&relay, &server);
    far.cut();
    let began = Instant::now();
    for pipe in [&client, &at_server] {
        let limit = began + Duration::from_secs(30);
        let ready = pipe.wait(rgpu_transport::Interest::Read, Some(limit));
        assert!(ready.unwrap().read, "nothing was noticed");
        assert!(began.elapsed() > Duration::from_secs(10), "too early");
    }
    let why = open(&relay).unwrap_err();
    assert!(why.contains("no sign of the server for 20 s"), "{why}");
}
