//! What a session leaves for later ones, and what a later one may name of it.

use std::os::fd::OwnedFd;

use rgpu_content::segment::{memory, seal};
use rgpu_content::{Segment, What, Writer};
use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::content::{Digest, Fingerprint, LEAST, Reuse, Wanted};
use rgpu_proto::control::Assign;
use rgpu_proto::handshake::VERSION_4;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::client::{MIB, MODULE, assignment};
use super::fake;
use super::session::{Rig, window};
use crate::content::Given;

const INVALID: u32 = CudaError::INVALID_VALUE.0;
const STORE: u64 = 0x4_0010;

fn assign(wanted: Wanted, keep: u64) -> Assign {
    let mut assign = assignment(Some(16 * MIB), vec![window()], Vec::new());
    assign.version = VERSION_4;
    assign.keep = keep;
    assign.hello.reuse = Reuse {
        wanted,
        function: "f".into(),
    };
    assign
}

fn given(segments: Vec<(u64, OwnedFd)>) -> Given {
    Given {
        segments,
        ..Given::default()
    }
}

fn begin(wanted: Wanted, keep: u64, segments: Vec<(u64, OwnedFd)>) -> Rig {
    let mut rig = Rig::given(assign(wanted, keep), given(segments));
    rig.client.context();
    rig
}

fn load_known(rig: &mut Rig, known: u32) {
    let args = calls::rgpuModuleLoadKnownArgs {
        id: U64::new(MODULE),
        known: U32::new(known),
    };
    rig.client
        .send(1, op::rgpuModuleLoadKnown, &[args.as_bytes()]);
}

fn copy_known(rig: &mut Rig, to: u64, known: u32) {
    let args = calls::rgpuCopyInKnownArgs {
        dst: U64::new(to),
        stream: U64::new(0),
        sync: U32::new(1),
        known: U32::new(known),
    };
    rig.client.send(1, op::rgpuCopyInKnown, &[args.as_bytes()]);
}

fn load(rig: &mut Rig, log_bytes: u32) {
    let args = calls::rgpuModuleLoadArgs {
        id: U64::new(MODULE + u64::from(log_bytes)),
        log_bytes: U32::new(log_bytes),
        max_registers: U32::new(0),
        image_len: U64::new(fake::IMAGE.len() as u64),
    };
    rig.client
        .must(op::rgpuModuleLoad, &[args.as_bytes(), fake::IMAGE]);
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

/// What a session leaves that has sent a module, two copies that are long enough, one twice, and what is not to be kept.
fn legacy() -> OwnedFd {
    let mut rig = begin(Wanted::All, MIB, Vec::new());
    assert_eq!(rig.welcome.known, Default::default());
    load(&mut rig, 0);
    // One whose log is wanted is no such load.
    load(&mut rig, 64);
    let base = rig.base;
    for (seed, len) in [(1, LEAST), (2, 3 * LEAST), (1, LEAST), (3, LEAST - 1)] {
        rig.client.copy_in(base, &bytes(seed, len));
    }
    assert_eq!(rig.client.synchronize(), (0, 0));
    let (used, file) = rig.left();
    assert!(used.is_empty());
    file.unwrap()
}

#[test]
fn what_a_session_has_sent_a_later_one_names() {
    let file = legacy();
    let segment = Segment::open(file.try_clone().unwrap()).unwrap();
    segment.verify().unwrap();
    assert_eq!(segment.entries().len(), 3);
    let mut rig = begin(Wanted::All, MIB, vec![(9, file)]);
    let known = rig.welcome.known.clone();
    assert_eq!((known.code.len(), known.pieces.len()), (1, 2));
    let second = bytes(2, 3 * LEAST);
    assert_eq!(known.pieces[1].digest, Digest::of(&second));
    assert_eq!(known.pieces[1].fingerprint, Fingerprint::of(&second));
    let table = rgpu_proto::module_table::decode(&known.code[0].table).unwrap();
    assert!(table.complete && table.functions.len() == 3);
    load_known(&mut rig, 0);
    rig.client.bind(STORE, "store");
    let base = rig.base;
    copy_known(&mut rig, base, 1);
    assert_eq!(rig.client.synchronize(), (0, 0));
    assert_eq!(rig.client.copy_out(base, second.len() as u64), second);
    // What is known is not kept once more, though it be sent.
    rig.client.copy_in(base, &second);
    let (used, file) = rig.left();
    assert_eq!(used, [9]);
    assert!(file.is_none());
}

#[test]
fn what_was_not_told_cannot_be_named() {
    let file = legacy();
    for wanted in [Wanted::All, Wanted::Code, Wanted::Nothing] {
        let given = vec![(9, file.try_clone().unwrap())];
        let mut rig = begin(wanted, MIB, given);
        let known = rig.welcome.known.clone();
        let told = |of: Wanted| usize::from(wanted == of);
        assert_eq!(known.pieces.len(), 2 * told(Wanted::All));
        assert_eq!(known.code.len(), told(Wanted::All) + told(Wanted::Code));
        let base = rig.base;
        rig.client.copy_in(base, &[7; 64]);
        let beyond = known.pieces.len() as u32;
        for place in [beyond, beyond + 1, u32::MAX] {
            copy_known(&mut rig, base, place);
            assert_eq!(rig.client.synchronize(), (0, INVALID));
        }
        assert_eq!(rig.client.copy_out(base, 64), [7; 64]);
        load_known(&mut rig, known.code.len() as u32);
        assert_eq!(rig.client.synchronize(), (0, INVALID));
        // Its id is of no use from then on, and says why.
        rig.client.bind(STORE, "store");
        assert_eq!(rig.client.synchronize(), (0, INVALID));
        let library = calls::rgpuLibraryLoadKnownArgs {
            id: U64::new(0x11_0010),
            known: U32::new(0),
        };
        // That place has a module's code, or nothing.
        rig.client
            .send(1, op::rgpuLibraryLoadKnown, &[library.as_bytes()]);
        assert_eq!(rig.client.synchronize(), (0, INVALID));
        assert_eq!(rig.close().result, 0);
    }
}

#[test]
fn code_of_another_driver_is_not_known_and_copies_are() {
    let mut writer = Writer::new().unwrap();
    let content = bytes(5, LEAST);
    for what in [
        What::Module {
            device: 0,
            max_registers: 0,
            table: Vec::new(),
        },
        What::Piece(Fingerprint::of(&content)),
    ] {
        let digest = what.digest(&content);
        writer.push(what, digest, &content).unwrap();
    }
    let file = writer.finish(Digest::of(b"another machine")).unwrap();
    let rig = begin(Wanted::All, 0, vec![(1, file)]);
    assert!(rig.welcome.known.code.is_empty());
    assert_eq!(rig.welcome.known.pieces.len(), 1);
    assert_eq!(rig.welcome.limits.max_body, rgpu_proto::frame::MAX_BODY);
    assert_eq!(rig.left().0, [0u64; 0]);
}

#[test]
fn a_file_that_is_no_segment_is_none() {
    let unsealed = memory().unwrap();
    let empty = seal(memory().unwrap()).unwrap();
    let rig = begin(Wanted::All, 0, vec![(1, unsealed.into()), (2, empty)]);
    assert_eq!(rig.welcome.known, Default::default());
    assert_eq!(rig.close().result, 0);
}

#[test]
fn no_more_is_left_than_was_promised() {
    let mut rig = begin(Wanted::All, 3 * LEAST as u64, Vec::new());
    let base = rig.base;
    for seed in 0..8 {
        rig.client.copy_in(base, &bytes(seed, LEAST));
    }
    assert_eq!(rig.client.synchronize(), (0, 0));
    let file = rig.left().1.unwrap();
    let segment = Segment::open(file).unwrap();
    // A function's start is at its beginning.
    let kept: Vec<Digest> = segment.entries().iter().map(|it| it.digest).collect();
    let first: Vec<Digest> = (0..3).map(|seed| Digest::of(&bytes(seed, LEAST))).collect();
    assert_eq!(kept, first);
    let rig = begin(Wanted::All, 0, Vec::new());
    assert!(rig.left().1.is_none());
}
