//! The handshake against good, odd and hostile peers, without a socket.

use proptest::prelude::*;
use rgpu_proto::content::{
    Digest, Fingerprint, Known, KnownCode, KnownPiece, MAX_KNOWN, Reuse, Wanted,
};
use rgpu_proto::control::{self, ControlEvent, Decoder, FromWorker, MAX_MESSAGE, ToWorker};
use rgpu_proto::handshake::*;
use rgpu_proto::snapshot::{DeviceSnapshot, PeerSnapshot, Snapshot};

fn hello() -> Hello {
    Hello {
        purpose: Purpose::Data,
        token: Token::new("correct horse\n"),
        client: ClientInfo {
            pid: 7,
            program: "python3".into(),
            host: "node".into(),
        },
        vgpu: VgpuRequest {
            memory_mib: Some(512),
            share_percent: None,
        },
        windows: vec![AddressWindow {
            base: 0x7000_0000_0000,
            len: 1 << 40,
        }],
        environment: vec![("CUDA_LAUNCH_BLOCKING".into(), "1".into())],
        rings: true,
        reuse: Reuse {
            wanted: Wanted::All,
            function: "echo".into(),
        },
        group: "job".into(),
    }
}

fn welcome() -> Welcome {
    let device = DeviceSnapshot {
        name: "softgpu".into(),
        uuid: [3; 16],
        pci_bus_id: "0000:00:00.0".into(),
        total_memory: 1 << 30,
        attributes: vec![(75, 8), (76, 6)],
        ..DeviceSnapshot::default()
    };
    Welcome {
        session: 42,
        secret: SessionSecret::new([9; 16]),
        server: "rgpud".into(),
        snapshot: Snapshot {
            driver_version: 12080,
            devices: vec![device],
            p2p: Vec::new(),
        },
        limits: Limits {
            memory: Some(1 << 29),
            max_body: 64 << 20,
            ..Limits::default()
        },
        windows: hello().windows,
        rings: false,
        known: Known {
            code: vec![KnownCode {
                digest: Digest::of(b"code"),
                table: vec![1, 2, 3],
            }],
            pieces: vec![KnownPiece {
                fingerprint: Fingerprint::of(b"piece"),
                digest: Digest::of(b"piece"),
            }],
        },
    }
}

/// What a server makes of `bytes` that arrive in pieces which end at `cuts`.
fn serve(bytes: &[u8], cuts: &[usize]) -> (ServerEvent, Vec<u8>) {
    let mut server = ServerHandshake::new();
    let mut last = ServerEvent::NeedMore;
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        let event = server.push(&bytes[from..to]);
        if event != ServerEvent::NeedMore {
            assert_eq!(last, ServerEvent::NeedMore, "two results");
            last = event;
        }
        from = to;
    }
    (last, server.into_leftover())
}

fn refused_code(reply: &[u8]) -> RefusalCode {
    match ClientHandshake::new(&hello()).unwrap().push(reply) {
        Ok(Some((0, Answer::Refused(refused)))) => {
            assert!(!refused.message.is_empty());
            refused.code
        }
        other => panic!("no refusal: {other:?}"),
    }
}

fn greeting(min: u16, max: u16, len: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(min.to_le_bytes());
    bytes.extend(max.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// A well-formed body of a greeting.
fn body() -> Vec<u8> {
    ClientHandshake::new(&hello()).unwrap().output()[PREAMBLE..].to_vec()
}

#[test]
fn a_greeting_split_anywhere_is_the_same_and_pipelined_frames_survive() {
    let client = ClientHandshake::new(&hello()).unwrap();
    let mut bytes = client.output().to_vec();
    bytes.extend_from_slice(b"first frames");
    for cut in 0..=bytes.len() {
        let (event, leftover) = serve(&bytes, &[cut]);
        let ServerEvent::Hello {
            version,
            hello: got,
        } = event
        else {
            panic!("{event:?} at {cut}")
        };
        assert_eq!((version, *got), (VERSION_MAX, hello()));
        assert_eq!(leftover, b"first frames");
    }
}

#[test]
fn an_answer_split_anywhere_is_the_same() {
    for (answer, version) in [
        (Answer::Welcome(Box::new(welcome())), VERSION_MAX),
        (Answer::Attached, 1),
        (
            Answer::Refused(Refused {
                code: RefusalCode::Draining,
                message: "later".into(),
            }),
            0,
        ),
    ] {
        let mut bytes = answer.encode(version).unwrap();
        bytes.extend_from_slice(b"reply");
        for cut in 0..=bytes.len() {
            let mut client = ClientHandshake::new(&hello()).unwrap();
            let first = client.push(&bytes[..cut]).unwrap();
            let second = client.push(&bytes[cut..]).unwrap();
            assert_eq!(first.or(second), Some((version, answer.clone())));
            assert_eq!(client.needed(), 0);
            assert_eq!(client.into_leftover(), b"reply");
        }
    }
}

#[test]
fn reading_only_what_is_needed_leaves_nothing_over() {
    let bytes = Answer::Welcome(Box::new(welcome())).encode(1).unwrap();
    let mut client = ClientHandshake::new(&hello()).unwrap();
    let (mut at, mut answer) = (0, None);
    while answer.is_none() {
        let needed = client.needed();
        assert!(needed > 0 && at + needed <= bytes.len());
        answer = client.push(&bytes[at..at + needed]).unwrap();
        at += needed;
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn a_welcome_says_whether_rings_come_with_it() {
    for rings in [false, true] {
        let sent = Welcome { rings, ..welcome() };
        let bytes = Answer::Welcome(Box::new(sent.clone())).encode(4).unwrap();
        let mut client = ClientHandshake::new(&hello()).unwrap();
        let answer = client.push(&bytes).unwrap();
        assert_eq!(answer, Some((4, Answer::Welcome(Box::new(sent)))));
    }
}

/// Clients before version 4 take nothing behind the windows.
#[test]
fn an_earlier_client_is_told_of_nothing_that_it_has_sent() {
    let nothing = Welcome {
        known: Known::default(),
        ..welcome()
    };
    let now = Answer::Welcome(Box::new(nothing.clone()))
        .encode(4)
        .unwrap();
    for version in 1..4 {
        let bytes = Answer::Welcome(Box::new(welcome()))
            .encode(version)
            .unwrap();
        assert_eq!(bytes[PREAMBLE..], now[PREAMBLE..now.len() - 2]);
        let mut client = ClientHandshake::new(&hello()).unwrap();
        let answer = client.push(&bytes).unwrap();
        assert_eq!(
            answer,
            Some((version, Answer::Welcome(Box::new(nothing.clone()))))
        );
    }
}

#[test]
fn who_waits_hears_of_it_ahead_of_the_answer() {
    let at = |position| Waiting {
        position,
        seconds: 30,
    };
    let mut bytes = waiting(5, &at(2));
    bytes.extend(waiting(5, &at(1)));
    let told = bytes.len();
    bytes.extend(Answer::Attached.encode(5).unwrap());
    bytes.extend_from_slice(b"reply");
    for cut in 0..=bytes.len() {
        let mut client = ClientHandshake::new(&hello()).unwrap();
        let first = client.push(&bytes[..cut]).unwrap();
        if (told..told + PREAMBLE).contains(&cut) {
            assert_eq!(first, None);
            assert_eq!(client.take_waiting(), Some(at(1)));
            assert_eq!(client.take_waiting(), None);
        }
        let second = client.push(&bytes[cut..]).unwrap();
        assert_eq!(first.or(second), Some((5, Answer::Attached)));
        assert_eq!(client.into_leftover(), b"reply");
    }
    let mut broken = waiting(5, &at(2));
    broken.truncate(PREAMBLE);
    broken[12] = 0;
    assert!(
        ClientHandshake::new(&hello())
            .unwrap()
            .push(&broken)
            .is_err()
    );
}

#[test]
fn lists_of_what_is_known_are_bounded() {
    let piece = welcome().known.pieces[0];
    for (count, fits) in [(MAX_KNOWN, true), (MAX_KNOWN + 1, false)] {
        let mut sent = welcome();
        sent.known.pieces = vec![piece; count];
        let bytes = Answer::Welcome(Box::new(sent)).encode(4).unwrap();
        let answer = ClientHandshake::new(&hello()).unwrap().push(&bytes);
        assert_eq!(answer.is_ok(), fits);
    }
}

#[test]
fn the_newest_common_version_is_taken() {
    let body = body();
    let len = body.len() as u32;
    let (event, _) = serve(&greeting(VERSION_MIN, VERSION_MAX + 5, len, &body), &[]);
    assert!(matches!(event, ServerEvent::Hello { version, .. } if version == VERSION_MAX));
    // A later client may have appended fields; one of our own version may not.
    let longer = [&body[..], b"new fields"].concat();
    let (event, _) = serve(
        &greeting(VERSION_MIN, VERSION_MAX + 1, longer.len() as u32, &longer),
        &[],
    );
    assert!(matches!(event, ServerEvent::Hello { .. }));
    let (event, _) = serve(
        &greeting(VERSION_MIN, VERSION_MAX, longer.len() as u32, &longer),
        &[],
    );
    assert!(matches!(event, ServerEvent::Refuse { .. }));
    // An earlier one has none for what it can make use of, and before that none for shared memory.
    let group = 1 + "job".len();
    let reuse = 2 + "echo".len() + group;
    for (max, absent) in [(1, reuse + 1), (2, reuse + 1), (3, reuse), (4, group)] {
        let earlier = &body[..body.len() - absent];
        let (event, _) = serve(
            &greeting(VERSION_MIN, max, earlier.len() as u32, earlier),
            &[],
        );
        let ServerEvent::Hello {
            version,
            hello: heard,
        } = event
        else {
            panic!("{event:?}")
        };
        let expected = Hello {
            rings: max >= 3,
            reuse: match max {
                4 => hello().reuse,
                _ => Reuse::default(),
            },
            group: String::new(),
            ..hello()
        };
        assert_eq!((version, *heard), (max, expected));
    }
    for (min, max) in [
        (VERSION_MAX + 1, VERSION_MAX + 9),
        (0, 0),
        (u16::MAX, u16::MAX),
    ] {
        let (event, _) = serve(&greeting(min, max, len, &body), &[]);
        let ServerEvent::Refuse { reply, reason } = event else {
            panic!("{event:?}")
        };
        assert_eq!(refused_code(&reply), RefusalCode::Version);
        assert!(reason.contains(&format!("{min} to {max}")), "{reason}");
    }
}

#[test]
fn broken_greetings_are_refused_at_once() {
    let body = body();
    let len = body.len() as u32;
    for (bytes, words) in [
        (greeting(1, 1, u32::MAX, &[]), "claims 4294967295 bytes"),
        (
            greeting(1, 1, MAX_HELLO as u32 + 1, &[]),
            "the bound is 16384",
        ),
        (greeting(2, 1, len, &body), "is empty"),
        // What an earlier version lacks is not all that is missing.
        (greeting(1, 1, len - 15, &body), "cannot be decoded"),
        (greeting(1, 3, len - 13, &body), "cannot be decoded"),
        (greeting(1, 4, len - 5, &body), "cannot be decoded"),
        (greeting(1, 5, len - 1, &body), "cannot be decoded"),
        (greeting(1, 1, 0, &[]), "cannot be decoded"),
        (greeting(1, 1, 64, &[0xff; 64]), "cannot be decoded"),
    ] {
        let (event, _) = serve(&bytes, &[]);
        let ServerEvent::Refuse { reply, reason } = event else {
            panic!("{event:?}")
        };
        assert_eq!(refused_code(&reply), RefusalCode::Malformed);
        assert!(reason.contains(words), "{reason}");
    }
    // A peer that speaks something else gets no bytes of ours.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0],
        &[0x16, 3, 1],
        b"rGPU-rpd",
    ] {
        let (event, _) = serve(bytes, &[]);
        let ServerEvent::Refuse { reply, reason } = event else {
            panic!("{event:?}")
        };
        assert!(reply.is_empty() && reason.contains("wrong magic"));
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    type Damage = fn(&mut Hello);
    let cases: [(&str, Damage); 8] = [
        ("token has", |hello| {
            hello.token = Token::new(&"x".repeat(MAX_TOKEN + 1))
        }),
        ("address windows", |hello| {
            hello.windows = vec![AddressWindow { base: 0, len: 1 }; MAX_WINDOWS + 1]
        }),
        ("past the end", |hello| {
            hello.windows = vec![AddressWindow {
                base: u64::MAX,
                len: 2,
            }]
        }),
        ("environment variables", |hello| {
            hello.environment = vec![("A".into(), "1".into()); MAX_ENVIRONMENT + 1]
        }),
        ("no process can have", |hello| {
            hello.environment = vec![("A=B".into(), "1".into())]
        }),
        ("no process can have", |hello| {
            hello.environment = vec![("A".into(), "1\0".into())]
        }),
        ("the group's name", |hello| {
            hello.group = "g".repeat(MAX_GROUP + 1)
        }),
        ("1 to 100 percent", |hello| {
            hello.vgpu.share_percent = Some(101)
        }),
    ];
    for (words, change) in cases {
        let mut hello = hello();
        change(&mut hello);
        let (event, _) = serve(ClientHandshake::new(&hello).unwrap().output(), &[]);
        let ServerEvent::Refuse { reason, .. } = event else {
            panic!("{words}: {event:?}")
        };
        assert!(reason.contains(words), "{reason}");
    }
    let mut large = hello();
    large.client.program = "p".repeat(MAX_HELLO);
    assert!(ClientHandshake::new(&large).is_err());
}

#[test]
fn a_client_takes_no_nonsense() {
    let push = |bytes: &[u8]| ClientHandshake::new(&hello()).unwrap().push(bytes);
    assert_eq!(push(b"HTTP/1.1 400"), Err(HandshakeError::WrongMagic));
    assert_eq!(
        push(&greeting(9, 1, 0, &[])),
        Err(HandshakeError::WrongVersion(9))
    );
    assert_eq!(
        push(&greeting(1, 77, 0, &[])),
        Err(HandshakeError::UnknownKind(77))
    );
    assert!(matches!(
        push(&greeting(1, 1, u32::MAX, &[])),
        Err(HandshakeError::Codec(_))
    ));
    let mut welcome = welcome();
    welcome.snapshot.p2p = vec![PeerSnapshot {
        from: 0,
        to: 5,
        ..PeerSnapshot::default()
    }];
    let bytes = Answer::Welcome(Box::new(welcome)).encode(1).unwrap();
    assert!(matches!(push(&bytes), Err(HandshakeError::Snapshot(_))));
}

#[test]
fn codes_keep_their_numbers() {
    for number in 0..100 {
        assert_eq!(u32::from(RefusalCode::from(number)), number);
    }
    assert_eq!(RefusalCode::Unauthenticated.cu_result(), 800);
    assert_eq!(RefusalCode::Version.cu_result(), 803);
    assert_eq!(RefusalCode::QuotaExceeded.cu_result(), 2);
    assert_eq!(RefusalCode::Other(99).cu_result(), 999);
    assert_eq!(
        refused_code(&refusal(RefusalCode::Other(99), "of the future")),
        RefusalCode::Other(99)
    );
}

#[test]
fn secrets_do_not_reach_logs() {
    let mut hello = hello();
    hello.purpose = Purpose::Control {
        session: 1,
        secret: SessionSecret::new(*b"0123456789abcdef"),
    };
    let text = format!("{hello:?} {:?}", welcome());
    assert!(!text.contains("horse"), "{text}");
    assert!(
        !text.contains("48, 49, 50") && !text.contains("9, 9, 9"),
        "{text}"
    );
    assert!(Token::new(" a\n") == Token::new("a") && Token::new("a") != Token::new("b"));
}

#[test]
fn reasons_are_cut_at_a_character() {
    let text = control::reason("ü".repeat(control::MAX_REASON));
    assert!(text.len() <= control::MAX_REASON && text.chars().all(|c| c == 'ü'));
    let whole = control::encode(&ControlEvent::Ended {
        result: 2,
        reason: text,
    })
    .unwrap();
    assert!(whole.len() < 2 * control::MAX_REASON);
}

fn drain<T: serde::de::DeserializeOwned>(decoder: &mut Decoder<T>) -> Vec<T> {
    let mut messages = Vec::new();
    while let Ok(Some(message)) = decoder.pull() {
        messages.push(message);
    }
    messages
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_splits_do_not_matter(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        magic in any::<bool>(),
        versions in (0_u16..4, 0_u16..4),
        len in 0_u32..300,
        cuts in proptest::collection::vec(0_usize..220, 0..6),
    ) {
        let bytes = if magic { greeting(versions.0, versions.1, len, &bytes) } else { bytes };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort();
        let (whole, _) = serve(&bytes, &[]);
        prop_assert_eq!(&serve(&bytes, &cuts).0, &whole);
        if let ServerEvent::Refuse { reason, reply } = whole {
            prop_assert!(!reason.is_empty());
            prop_assert_eq!(reply.is_empty(), !magic);
        }
        let mut client = ClientHandshake::new(&hello()).unwrap();
        let _ = client.push(&bytes);
        let mut decoder = Decoder::<ToWorker>::new();
        decoder.push(&bytes);
        drain(&mut decoder);
    }

    #[test]
    fn flipped_bits_never_panic(at in 0_usize..4096, bit in 0_u8..8) {
        let greeting = ClientHandshake::new(&hello()).unwrap().output().to_vec();
        let answer = Answer::Welcome(Box::new(welcome())).encode(1).unwrap();
        let mut flipped = greeting.clone();
        flipped[at % greeting.len()] ^= 1 << bit;
        // A flip may give another valid greeting (a letter of a name), a longer one that never comes, or a refusal; never more than that.
        let (event, _) = serve(&flipped, &[]);
        if let ServerEvent::Hello { hello: got, .. } = event {
            prop_assert!(*got != hello() || at % greeting.len() < PREAMBLE);
        }
        let mut flipped = answer.clone();
        flipped[at % answer.len()] ^= 1 << bit;
        let _ = ClientHandshake::new(&hello()).unwrap().push(&flipped);
    }

    #[test]
    fn control_messages_split_anywhere(
        reasons in proptest::collection::vec(".{0,60}", 1..6),
        cut in 0_usize..400,
    ) {
        let messages: Vec<_> = reasons.into_iter().map(|reason| FromWorker::Ended { result: 1, reason }).collect();
        let bytes: Vec<u8> = messages.iter().flat_map(|message| control::encode(message).unwrap()).collect();
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        let mut decoder = Decoder::<FromWorker>::new();
        decoder.push(a);
        let mut got = drain(&mut decoder);
        decoder.push(b);
        got.extend(drain(&mut decoder));
        prop_assert_eq!(got, messages);
        prop_assert!(decoder.is_empty());
    }
}

#[test]
fn a_control_message_that_claims_too_much_is_refused_before_it_arrives() {
    let mut decoder = Decoder::<FromWorker>::new();
    decoder.push(&(MAX_MESSAGE as u32 + 1).to_le_bytes());
    assert!(decoder.pull().is_err());
}

#[test]
fn a_credit_is_in_few_mappings_that_grow() {
    let parts = |mib: u64, version| {
        let parts = credit_parts(mib << 20, version);
        parts.map(|bytes| bytes >> 20).collect::<Vec<_>>()
    };
    assert_eq!(parts(32, VERSION_5), [2, 2, 4, 8, 8, 8]);
    assert_eq!(parts(24, VERSION_5), [2, 2, 4, 8, 8]);
    assert_eq!(parts(7, VERSION_5), [2, 2, 2]);
    assert_eq!(parts(8, VERSION_4), [2; 4]);
    for version in [VERSION_4, VERSION_5] {
        assert!(parts(1, version).is_empty() && parts(0, version).is_empty());
    }
}
