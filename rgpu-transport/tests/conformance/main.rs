//! What every transport must do, asked of each in turn. QUIC's half of it is in `rgpu-relay`, where its relays are.

mod suite;

use rgpu_transport::{Endpoint, Interest, Link, Offer, Pipe, Progress, TransportKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Once;
use std::time::{Duration, Instant};
use suite::{PATIENCE, Pair, read_some, wait, write_all};

/// Gives a test two ends of each transport.
pub fn each_transport(test: impl Fn(Pair)) {
    // Rust's runtime ignores SIGPIPE; a program that loads the client does not. With the default disposition a raised SIGPIPE ends the tests.
    static DEFAULT_SIGPIPE: Once = Once::new();
    DEFAULT_SIGPIPE.call_once(|| {
        // SAFETY: resets a disposition to the default; no handler is involved.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    });

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = Pipe::connect(&Endpoint::Unix(path), PATIENCE).unwrap();
    let server = Pipe::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
    assert_eq!(client.capabilities().kind, TransportKind::Unix);
    test(Pair { client, server });
    test(rings());

    for address in ["127.0.0.1:0", "[::1]:0"] {
        // A machine without IPv6 has no ::1.
        let Ok(listener) = TcpListener::bind(address) else {
            assert!(address.starts_with('['));
            continue;
        };
        let local = listener.local_addr().unwrap();
        let endpoint = Endpoint::parse(&format!("tcp://{local}")).unwrap();
        let client = Pipe::connect(&endpoint, PATIENCE).unwrap();
        let server = Pipe::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
        assert_eq!(server.capabilities().kind, TransportKind::Tcp);
        assert!(client.capabilities().same_host && server.capabilities().same_host);
        test(Pair { client, server });
    }
    test(far());
}

/// Two ends of a simulated link.
fn far() -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::parse(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut client = Pipe::connect(&endpoint, PATIENCE).unwrap();
    let mut server = Pipe::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
    let link = Link::parse("delay_us=50,rate_mbit=20000,loss=0.01,seed=5").unwrap();
    for pipe in [&mut client, &mut server] {
        pipe.simulate(link);
        assert!(!pipe.capabilities().same_host);
    }
    Pair { client, server }
}

#[test]
fn bytes_of_a_simulated_link_take_their_time() {
    let Pair { client, server } = far();
    let began = Instant::now();
    write_all(&client, b"there");
    assert_eq!(read_some(&server, &mut [0; 8]), 5);
    write_all(&server, b"back");
    assert_eq!(read_some(&client, &mut [0; 8]), 4);
    assert!(began.elapsed() >= Duration::from_micros(100));
}

/// Two ends in shared memory, met as client and worker do.
fn rings() -> Pair {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut client = Pipe::from_fd(ours.into()).unwrap();
    let mut server = Pipe::from_fd(theirs.into()).unwrap();
    meet(&mut client, &mut server, true);
    for pipe in [&client, &server] {
        assert_eq!(pipe.capabilities().kind, TransportKind::Shm);
        assert!(pipe.capabilities().same_host && pipe.capabilities().passes_fds);
    }
    Pair { client, server }
}

/// `whole`: with the descriptors, which a proxy between two sockets would not pass on.
fn meet(client: &mut Pipe, server: &mut Pipe, whole: bool) {
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        let invited = scope.spawn(|| server.invite(Offer::new().unwrap(), b"welcome", deadline));
        wait(client, Interest::Read);
        let (progress, mut fds) = client.try_read_with_fds(&mut [0; 16]).unwrap();
        assert_eq!((progress, fds.len()), (Progress::Bytes(7), 2));
        if !whole {
            fds.pop();
        }
        client.accept(fds, deadline).unwrap();
        invited.join().unwrap().unwrap();
    });
}

#[test]
fn who_cannot_have_the_rings_goes_on_by_the_socket() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut client = Pipe::from_fd(ours.into()).unwrap();
    let mut server = Pipe::from_fd(theirs.into()).unwrap();
    meet(&mut client, &mut server, false);
    for (from, to) in [(&client, &server), (&server, &client)] {
        assert_eq!(from.capabilities().kind, TransportKind::Unix);
        write_all(from, b"still here");
        let mut buffer = [0; 16];
        let count = read_some(to, &mut buffer);
        assert_eq!(&buffer[..count], b"still here");
    }
}

#[test]
fn what_is_no_connection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    assert!(Pipe::from_fd(file.into()).is_err());
    let (datagram, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(Pipe::from_fd(datagram.into()).is_err());
}

#[test]
fn failed_connections_say_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Endpoint::Unix(folder.path().join("missing"));
    let error = Pipe::connect(&missing, PATIENCE).unwrap_err().to_string();
    assert!(
        error.contains("missing") && error.contains("--listen"),
        "{error}"
    );

    // Below the ephemeral range: a port that was just given back could be another test's by now.
    let closed = Endpoint::parse("tcp://127.0.0.1:1").unwrap();
    let error = Pipe::connect(&closed, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("is rgpud running"), "{error}");

    let nobody = Endpoint::parse("tcp://no-such-host.invalid:1").unwrap();
    let error = Pipe::connect(&nobody, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("resolved"), "{error}");
}

#[test]
fn a_full_queue_of_connections_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let endpoint = Endpoint::Unix(path);
    let mut held = Vec::new();
    let error = loop {
        match Pipe::connect(&endpoint, Duration::from_millis(20)) {
            Ok(pipe) => held.push(pipe),
            Err(error) => break error.to_string(),
        }
        assert!(held.len() < 100, "the queue has no bound");
    };
    assert!(error.contains("no answer within 20 ms"), "{error}");
}
