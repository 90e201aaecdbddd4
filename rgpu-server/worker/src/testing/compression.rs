//! Bodies that come and go compressed.

use std::io::{Read, Write};

use rgpu_proto::calls::{self, op};
use rgpu_proto::compressed;
use rgpu_proto::frame::{FLAG_COMPRESSED, FLAG_MAY_COMPRESS, HEADER_LEN, Header};
use rgpu_proto::handshake::{VERSION_4, VERSION_5};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::client::{CONTEXT, Client, MIB, assignment};
use super::session::{Rig, STREAM, window};
use crate::content::Given;

fn speaking(version: u16) -> Rig {
    let mut assign = assignment(Some(64 * MIB), vec![window()], Vec::new());
    assign.version = version;
    Rig::given(assign, Given::default())
}

/// A copy in whose body is compressed, and then damaged.
fn compressed_copy(rig: &mut Rig, data: &[u8], damage: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let args = calls::rgpuCopyInArgs {
        dst: U64::new(rig.base),
        stream: U64::new(0),
        sync: U32::new(1),
        data_len: U64::new(data.len() as u64),
    };
    let mut body = compressed::compress(args.as_bytes(), &[data]).unwrap();
    damage(&mut body);
    rig.client.seq += 1;
    let header = Header::command(
        op::rgpuCopyIn,
        1,
        CONTEXT,
        rig.client.seq,
        body.len(),
        false,
    );
    let header = header.with(FLAG_COMPRESSED);
    [header.as_bytes(), &body].concat()
}

#[test]
fn what_came_compressed_is_as_it_was() {
    let data: Vec<u8> = (0..20_000).map(|at| (at / 100) as u8).collect();
    let mut rig = speaking(VERSION_5);
    rig.client.context();
    let bytes = compressed_copy(&mut rig, &data, |_| {});
    assert!(bytes.len() < data.len() / 4);
    rig.client.stream.write_all(&bytes).unwrap();
    assert_eq!(rig.client.copy_out(rig.base, data.len() as u64), data);
    assert_eq!(rig.close().result, 0);
}

/// What is said of a body, and what is done to it before.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[test]
fn a_damaged_compressed_body_ends_the_session_with_a_reason() {
    let data = vec![7; 20_000];
    let damages: [Damage; 7] = [
        ("is damaged", Vec::clear),
        ("is damaged", |body| body.truncate(3)),
        ("is damaged", |body| body.truncate(4)),
        ("is damaged", |body| body.truncate(body.len() - 1)),
        // Sixty megabytes, of which the bytes that came are a fraction.
        ("is damaged", |body| {
            body[..4].copy_from_slice(&(60_u32 << 20).to_le_bytes())
        }),
        ("is damaged", |body| {
            body[..4].copy_from_slice(&u32::MAX.to_le_bytes())
        }),
        // Whole, and of another length than the command says.
        (
            "carries 19999 bytes where its arguments take 20000",
            |body| {
                let mut whole = compressed::decompress(body).unwrap();
                whole.pop();
                *body = compressed::compress(&whole, &[]).unwrap();
            },
        ),
    ];
    for (words, damage) in damages {
        let mut rig = speaking(VERSION_5);
        rig.client.context();
        let bytes = compressed_copy(&mut rig, &data, damage);
        rig.client.stream.write_all(&bytes).unwrap();
        let (result, reason) = rig.ended();
        assert_eq!(result, 999);
        assert!(
            reason.starts_with("the client broke the protocol: ") && reason.contains(words),
            "{reason}"
        );
    }
}

#[test]
fn a_client_of_before_does_not_compress() {
    let mut rig = speaking(VERSION_4);
    let bytes = compressed_copy(&mut rig, &[7; 20_000], |_| {});
    rig.client.stream.write_all(&bytes).unwrap();
    let (result, reason) = rig.ended();
    assert_eq!(result, 999);
    assert!(reason.contains("unknown flags"), "{reason}");
}

/// Sends a command with these flags.
fn send(rig: &mut Rig, operation: u16, body: &[u8], flags: u16, waits: bool) {
    rig.client.seq += 1;
    let seq = rig.client.seq;
    let header = Header::command(operation, 1, CONTEXT, seq, body.len(), waits).with(flags);
    let frame = [header.as_bytes(), body].concat();
    rig.client.stream.write_all(&frame).unwrap();
}

/// The next reply as it comes.
fn receive(rig: &mut Rig) -> (Header, Vec<u8>) {
    let mut header = [0; HEADER_LEN];
    rig.client.stream.read_exact(&mut header).unwrap();
    let header = Header::parse(&header).unwrap();
    let mut body = vec![0; header.len.get() as usize];
    rig.client.stream.read_exact(&mut body).unwrap();
    (header, body)
}

/// A session with memory that has these bytes.
fn with_bytes(data: &[u8]) -> Rig {
    let mut rig = speaking(VERSION_5).prepared();
    rig.client.copy_in(rig.base, data);
    rig
}

#[test]
fn a_reply_goes_compressed_if_it_may_and_gets_smaller() {
    let smooth: Vec<u8> = (0..20_000).map(|at| (at / 100) as u8).collect();
    let mut rig = with_bytes(&smooth);
    let args = Client::copy_out_args(rig.base, smooth.len() as u64, 0);
    send(
        &mut rig,
        op::rgpuCopyOut,
        args.as_bytes(),
        FLAG_MAY_COMPRESS,
        true,
    );
    let (header, body) = receive(&mut rig);
    assert!(header.is_compressed() && body.len() < smooth.len() / 4);
    assert_eq!(compressed::decompress(&body).unwrap(), smooth);
    // Not if nobody has said that it may.
    send(&mut rig, op::rgpuCopyOut, args.as_bytes(), 0, true);
    assert_eq!(receive(&mut rig).1, smooth);
    // An error, and what is short, are as they are.
    let nowhere = Client::copy_out_args(16, smooth.len() as u64, 0);
    send(
        &mut rig,
        op::rgpuCopyOut,
        nowhere.as_bytes(),
        FLAG_MAY_COMPRESS,
        true,
    );
    let (header, _) = receive(&mut rig);
    assert!(!header.is_compressed() && header.status.get() != 0);
    let short = Client::copy_out_args(rig.base, 100, 0);
    send(
        &mut rig,
        op::rgpuCopyOut,
        short.as_bytes(),
        FLAG_MAY_COMPRESS,
        true,
    );
    assert_eq!(receive(&mut rig).1, smooth[..100]);
}

#[test]
fn what_lands_may_go_compressed_too() {
    let smooth: Vec<u8> = (0..20_000).map(|at| (at / 100) as u8).collect();
    let mut rig = with_bytes(&smooth);
    let land = |at: u64| calls::rgpuBoxLandArgs {
        src: U64::new(at),
        pitch: U64::new(smooth.len() as u64),
        rows: U64::new(1),
        width: U64::new(smooth.len() as u64),
        height: U64::new(1),
        depth: U64::new(1),
        stream: U64::new(STREAM),
    };
    for (at, flags) in [
        (rig.base, FLAG_MAY_COMPRESS),
        (rig.base, 0),
        (16, FLAG_MAY_COMPRESS),
    ] {
        send(&mut rig, op::rgpuBoxLand, land(at).as_bytes(), flags, false);
        send(&mut rig, op::rgpuContextSynchronize, &[], 0, true);
        let (landed, body) = receive(&mut rig);
        assert_eq!(landed.seq.get() + 1, rig.client.seq);
        let there = at == rig.base;
        assert_eq!(landed.status.get() == 0, there);
        assert_eq!(landed.is_compressed(), there && flags != 0);
        let whole = match landed.is_compressed() {
            true => compressed::decompress(&body).unwrap(),
            false => body,
        };
        let expected: &[u8] = if there { &smooth } else { &[] };
        assert_eq!(whole, expected);
        let (synchronised, _) = receive(&mut rig);
        assert_eq!(synchronised.seq.get(), rig.client.seq);
    }
}
