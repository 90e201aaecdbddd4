//! Servers that are not who they should be, peers that speak something else, and ends that go away.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rgpu_relay::tls::Identity;
use rgpu_transport::relay::OPEN;
use rgpu_transport::{Endpoint, Interest, Pin, Progress, send_with_fd};

use crate::rig::{Server, client, client_with, open, pair};
use crate::suite::{Pair, pattern, read_some, write_all};

fn with_pin(address: Endpoint, pin: Option<Pin>) -> Endpoint {
    match address {
        Endpoint::Quic { host, port, .. } => Endpoint::Quic { host, port, pin },
        other => other,
    }
}

#[test]
fn only_the_server_of_the_pin_is_believed() {
    let server = Server::start("127.0.0.1").unwrap();
    let wrong = with_pin(server.address(), Some(Pin::new([7; 32])));
    let why = open(&client(&wrong)).unwrap_err();
    assert!(why.contains("shows another certificate (sha256:"), "{why}");
    let none = with_pin(server.address(), None);
    let why = open(&client(&none)).unwrap_err();
    assert!(
        why.contains("?pin=sha256:") && why.contains("RGPU_CA_FILE"),
        "{why}"
    );
    // Whoever asks again hears it again.
    assert!(
        server.is_idle(),
        "a stream came to a server that is not believed"
    );
    pair(&client(&server.address()), &server);
}

/// PEM of DER.
fn pem(kind: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {kind}-----\n");
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three
                .iter()
                .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
                text.push(if place > three.len() {
                    '='
                } else {
                    digit.into()
                });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {kind}-----\n")
}

#[test]
fn an_authority_vouches_for_its_servers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |name: &str| {
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let made = params.signed_by(&key, &authority).unwrap();
        file(name, pem("CERTIFICATE", made.der()))
    };
    let (here, elsewhere) = (certificate("127.0.0.1"), certificate("gpu.example"));
    let key = file("key", pem("PRIVATE KEY", &key.serialize_der()));
    let authorities = file("authority", pem("CERTIFICATE", authority.der()));

    let server = Server::with(Identity::load(&here, &key).unwrap());
    let address = with_pin(server.address(), None);
    let relay = client_with(&address, Some(authorities.clone()));
    pair(&relay, &server);

    let server = Server::with(Identity::load(&elsewhere, &key).unwrap());
    let address = with_pin(server.address(), None);
    let why = open(&client_with(&address, Some(authorities.clone()))).unwrap_err();
    assert!(why.contains("certificate"), "{why}");

    // A name that no certificate can have.
    let port = server.udp().port();
    let address = Endpoint::Quic {
        host: "gpu..example".into(),
        port,
        pin: None,
    };
    let why = open(&client_with(&address, Some(authorities.clone()))).unwrap_err();
    assert!(
        why.contains("gpu..example") && why.contains("?pin=sha256:"),
        "{why}"
    );

    // One that nobody vouches for.
    let server = Server::start("127.0.0.1").unwrap();
    let address = with_pin(server.address(), None);
    let why = open(&client_with(&address, Some(authorities))).unwrap_err();
    assert!(why.contains("certificate"), "{why}");
    let missing = folder.path().join("missing");
    let why = open(&client_with(&address, Some(missing))).unwrap_err();
    assert!(
        why.contains("RGPU_CA_FILE") && why.contains("missing"),
        "{why}"
    );

    // Files that do not belong together, or are none.
    let other = file(
        "other",
        pem(
            "PRIVATE KEY",
            &rcgen::KeyPair::generate().unwrap().serialize_der(),
        ),
    );
    assert!(Identity::load(&here, &other).is_err());
    assert!(Identity::load(&key, &key).is_err());
    assert!(Identity::load(&here, &here).is_err());
}

#[test]
fn datagrams_of_nobodys_change_nothing() {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let Pair {
        client,
        server: at_server,
    } = pair(&relay, &server);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let noise = pattern(400_000, 0x5eed);
    for (number, bytes) in noise.chunks(1200).enumerate() {
        let mut bytes = bytes.to_vec();
        // Every other one looks like the first packet of a connection (long header, version 1).
        if number % 2 == 0 {
            bytes[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
        }
        stranger.send_to(&bytes, server.udp()).unwrap();
        if number % 16 == 0 {
            write_all(&client, b"?");
            assert_eq!(read_some(&at_server, &mut [0; 8]), 1);
        }
    }
    assert!(server.is_idle());
    // A new client is taken in, too.
    pair(&self::client(&server.address()), &server);
}

#[test]
fn an_orderly_end_lets_sessions_end_first() {
    let mut server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let Pair {
        client,
        server: at_server,
    } = pair(&relay, &server);
    let stopping = std::thread::spawn(move || {
        let began = Instant::now();
        server.stop();
        began.elapsed()
    });
    // What the session is told at its end still comes.
    write_all(&at_server, b"the server stops");
    drop(at_server);
    assert_eq!(read_to_end(&client), b"the server stops");
    drop(client);
    let took = stopping.join().unwrap();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_server_whose_broker_is_gone_goes_at_once() {
    let mut server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let Pair {
        client,
        server: _idle,
    } = pair(&relay, &server);
    let began = Instant::now();
    server.lose_broker();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(read_some(&client, &mut [0; 8]), 0);
    let why = open(&relay).unwrap_err();
    assert!(why.contains("the server has stopped"), "{why}");
}

/// Everything up to the end.
fn read_to_end(pipe: &rgpu_transport::Pipe) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        match read_some(pipe, &mut buffer) {
            0 => return got,
            count => got.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn a_program_that_dies_while_it_asks_is_known_to_be_gone() {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let ends = pair(&relay, &server);
    // A question whose answer is never read.
    let (_ours, theirs) = UnixStream::pair().unwrap();
    send_with_fd(relay.as_fd(), &[OPEN], Some(theirs.as_fd())).unwrap();
    let began = Instant::now();
    drop((ends.client, relay));
    assert_eq!(read_to_end(&ends.server), b"");
    // The program's socket lives, so only the connection's end says this.
    let more = server.accept();
    assert_eq!(read_to_end(&more), b"");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn last_words_arrive_of_one_that_has_not_read_all() {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let Pair {
        client,
        server: at_server,
    } = pair(&relay, &server);
    write_all(&client, b"a question");
    let soon = Some(Instant::now() + Duration::from_secs(30));
    assert!(at_server.wait(Interest::Read, soon).unwrap().read);
    let said = pattern(2 << 20, 12);
    std::thread::scope(|scope| {
        let words = scope.spawn(|| {
            write_all(&at_server, &said);
            drop(at_server);
        });
        let got = read_to_end(&client);
        words.join().unwrap();
        assert!(got == said, "{} of {} bytes", got.len(), said.len());
    });
}

#[test]
fn what_a_program_sent_before_its_end_arrives() {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    let Pair {
        client,
        server: at_server,
    } = pair(&relay, &server);
    let sent = pattern(150_000, 11);
    write_all(&client, &sent);
    drop((client, relay));
    let got = read_to_end(&at_server);
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[test]
fn nobody_there_is_an_answer_in_time() {
    // Bound, and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "quic://{}?pin=sha256:{}",
        silent.local_addr().unwrap(),
        "00".repeat(32)
    );
    let began = Instant::now();
    let why = open(&client(&Endpoint::parse(&text).unwrap())).unwrap_err();
    assert!(why.contains("no answer within"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let nobody = format!(
        "quic://no-such-host.invalid:1?pin=sha256:{}",
        "00".repeat(32)
    );
    let why = open(&client(&Endpoint::parse(&nobody).unwrap())).unwrap_err();
    assert!(why.contains("cannot be resolved"), "{why}");
}

#[test]
fn an_address_by_rdma_without_rdma_says_so() {
    let address = Endpoint::parse("rdma://127.0.0.1:1").unwrap();
    let why = open(&client(&address)).unwrap_err();
    let expected = match cfg!(feature = "rdma") {
        true => "RDMA",
        false => "this `rgpu` has no rdma://",
    };
    assert!(why.contains(expected), "{why}");
}

#[test]
fn connections_have_a_bound() {
    let server = Server::start("127.0.0.1").unwrap();
    let mut held = Vec::new();
    let refused = loop {
        let relay = client(&server.address());
        match open(&relay) {
            Ok(pipe) => {
                let at_server = server.accept();
                assert_eq!(
                    at_server.try_read(&mut [0; 1]).unwrap(),
                    Progress::WouldBlock
                );
                held.push((relay, pipe, at_server));
            }
            Err(why) => break why,
        }
        assert!(held.len() <= 8, "there is no bound");
    };
    assert_eq!(held.len(), 8);
    assert!(!refused.is_empty());
}
