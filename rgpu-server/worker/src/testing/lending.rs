//! What sessions lend each other, with the test in the broker's place: and lenders and clients that mean harm.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{FromWorker, ToWorker};
use rgpu_proto::ipc::{Loan, LoanSecret};
use rgpu_transport::ControlSocket;
use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::client::{Incoming, MIB};
use super::fake_ipc::EVENT;
use super::session::Rig;

const ID: u64 = 0x49_0010;
const MADE: u64 = 0x5_0010;
const OPENED: u64 = 0x5_0020;
const INVALID: u32 = CudaError::INVALID_VALUE.0;

fn rig() -> Rig {
    let mut rig = Rig::start(16 * MIB);
    rig.client.context();
    rig
}

fn export(rig: &mut Rig, device: i32, kind: u32, at: u64, bytes: u64) -> (u32, LoanSecret) {
    let args = calls::rgpuIpcMemoryExportArgs {
        device: I32::new(device),
        kind: U32::new(kind),
        address: U64::new(at),
        bytes: U64::new(bytes),
    };
    let (status, _, body) = rig
        .client
        .call(1, op::rgpuIpcMemoryExport, &[args.as_bytes()]);
    let reply = calls::rgpuIpcMemoryExportReply::read_from_bytes(&body).unwrap();
    (status, LoanSecret([reply.high.get(), reply.low.get()]))
}

fn ask_memory(rig: &mut Rig, id: u64, secret: LoanSecret) {
    let args = calls::rgpuIpcMemoryOpenArgs {
        id: U64::new(id),
        lender: U64::new(7),
        high: U64::new(secret.0[0]),
        low: U64::new(secret.0[1]),
    };
    rig.client.ask(1, op::rgpuIpcMemoryOpen, &[args.as_bytes()]);
}

fn ask_event(rig: &mut Rig, secret: LoanSecret) {
    let args = calls::rgpuIpcEventOpenArgs {
        event: U64::new(OPENED),
        lender: U64::new(7),
        high: U64::new(secret.0[0]),
        low: U64::new(secret.0[1]),
    };
    rig.client.ask(1, op::rgpuIpcEventOpen, &[args.as_bytes()]);
}

/// The broker's part: the worker's question, and a socket as the answer.
fn answer(rig: &Rig, socket: Option<&OwnedFd>) -> LoanSecret {
    loop {
        match rig.broker.receive().unwrap().unwrap().0 {
            FromWorker::Usage(_) => {}
            FromWorker::Borrow {
                number,
                session,
                secret,
            } => {
                assert_eq!(session, 7);
                let found = socket.is_some();
                let lender = ToWorker::Lender { number, found };
                let socket = socket.map(|socket| socket.as_fd());
                rig.broker.send(&lender, socket).unwrap();
                return secret;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (one, other) = UnixStream::pair().unwrap();
    (one.into(), other.into())
}

/// The broker's part between two sessions.
fn bring_together(lender: &Rig, borrower: &Rig) {
    let (near, far) = pair();
    let secret = answer(borrower, Some(&near));
    let lend = ToWorker::Lend { secret };
    lender.broker.send(&lend, Some(far.as_fd())).unwrap();
}

fn reply(rig: &mut Rig) -> (u32, Vec<u8>) {
    match rig.client.receive() {
        Incoming::Reply { status, body, .. } => (status, body),
        other => panic!("{other:?}"),
    }
}

fn place(rig: &mut Rig, id: u64, hint: u64) -> (u32, u64) {
    let args = calls::rgpuIpcMemoryPlaceArgs {
        id: U64::new(id),
        hint: U64::new(hint),
    };
    let (status, _, body) = rig
        .client
        .call(1, op::rgpuIpcMemoryPlace, &[args.as_bytes()]);
    let reply = calls::rgpuIpcMemoryPlaceReply::read_from_bytes(&body).unwrap();
    (status, reply.placed.get())
}

fn close(rig: &mut Rig, id: u64) -> u32 {
    let args = calls::rgpuIpcMemoryCloseArgs { id: U64::new(id) };
    let operation = op::rgpuIpcMemoryClose;
    rig.client.call(1, operation, &[args.as_bytes()]).0
}

#[test]
fn memory_is_lent_in_its_parts_and_charged_to_who_keeps_it() {
    let (mut lender, mut borrower) = (rig(), rig());
    // The session has some mapped already, in parts of 2 MiB; this one comes behind them.
    let at = lender.base + 8 * MIB;
    assert_eq!(lender.client.map(at, 2 * MIB), 0);
    assert_eq!(lender.client.map(at + 2 * MIB, 4 * MIB), 0);
    let (status, secret) = export(&mut lender, 0, 0, at + 2 * MIB - 512, 4096);
    assert_eq!(status, 0);
    let held = borrower.client.memory_info().mapped.get();
    ask_memory(&mut borrower, ID, secret);
    bring_together(&lender, &borrower);
    let (status, body) = reply(&mut borrower);
    assert_eq!(status, 0);
    let open = calls::rgpuIpcMemoryOpenReply::read_from_bytes(&body).unwrap();
    let (span, offset, bytes) = (open.span.get(), open.offset.get(), open.bytes.get());
    assert_eq!((span, offset, bytes), (6 * MIB, 2 * MIB - 512, 4096));
    assert_eq!((open.device.get(), open.placed.get()), (0, 0));
    let hint = borrower.base + 40 * MIB;
    assert_eq!(place(&mut borrower, ID, hint), (0, hint));
    assert_eq!(borrower.client.memory_info().mapped.get(), held + span);
    borrower.client.copy_in(hint + offset, &[5; 16]);
    assert_eq!(borrower.client.copy_out(hint + offset, 16), [5; 16]);
    // Of 16 MiB, a third time is too much.
    for (id, expected) in [(ID + 0x10, 0), (ID + 0x20, CudaError::OUT_OF_MEMORY.0)] {
        ask_memory(&mut borrower, id, secret);
        bring_together(&lender, &borrower);
        assert_eq!(reply(&mut borrower).0, expected);
    }
    let now = borrower.client.memory_info().mapped.get();
    assert_eq!(now, held + 2 * span);
    assert_eq!(close(&mut borrower, ID + 0x10), 0);
    assert_eq!(close(&mut borrower, ID), 0);
    assert_eq!(borrower.client.memory_info().mapped.get(), held);
    assert_eq!(close(&mut borrower, ID), INVALID);
    borrower.client.copy_in(hint + offset, &[5; 16]);
    assert_ne!(borrower.client.synchronize(), (0, 0));

    // What is forgotten, or is not there any more, nobody gets.
    let LoanSecret([high, low]) = secret;
    let args = calls::rgpuIpcForgetArgs {
        high: U64::new(high),
        low: U64::new(low),
    };
    let (_, unmapped) = export(&mut lender, 0, 0, at, 512);
    lender.client.send(1, op::rgpuIpcForget, &[args.as_bytes()]);
    lender.client.unmap(at, 6 * MIB);
    lender.client.memory_info();
    for secret in [secret, unmapped, LoanSecret([0, 0])] {
        ask_memory(&mut borrower, ID, secret);
        bring_together(&lender, &borrower);
        assert_eq!(reply(&mut borrower).0, INVALID);
    }
    // Nor of a session that is not there, or whose client is gone.
    ask_memory(&mut borrower, ID, secret);
    answer(&borrower, None);
    assert_eq!(reply(&mut borrower).0, INVALID);
    let base = lender.base;
    let (_, secret) = export(&mut lender, 0, 0, base, 512);
    lender
        .client
        .stream
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    ask_memory(&mut borrower, ID, secret);
    let (near, far) = pair();
    let secret = answer(&borrower, Some(&near));
    // It may have ended by now.
    let _ = lender
        .broker
        .send(&ToWorker::Lend { secret }, Some(far.as_fd()));
    drop(far);
    lender.close();
    assert_eq!(reply(&mut borrower).0, INVALID);
    assert_eq!(borrower.close().result, 0);
}

#[test]
fn events_are_lent_while_they_are_there() {
    let (mut lender, mut borrower) = (rig(), rig());
    let create = calls::cuEventCreateArgs {
        event: U64::new(MADE),
        flags: U32::new(6),
    };
    lender
        .client
        .send(1, op::cuEventCreate, &[create.as_bytes()]);
    let args = calls::rgpuIpcEventExportArgs {
        id: U64::new(MADE),
        event: U64::new(MADE),
    };
    let mut export = || {
        let body = lender
            .client
            .must(op::rgpuIpcEventExport, &[args.as_bytes()]);
        let made = calls::rgpuIpcEventExportReply::read_from_bytes(&body).unwrap();
        LoanSecret([made.high.get(), made.low.get()])
    };
    let secret = export();
    assert_eq!(export(), secret);
    ask_event(&mut borrower, secret);
    bring_together(&lender, &borrower);
    assert_eq!(reply(&mut borrower).0, 0);
    // It is a handle like others.
    let query = calls::cuEventQueryArgs {
        event: U64::new(OPENED),
    };
    let queried = borrower
        .client
        .call(1, op::cuEventQuery, &[query.as_bytes()]);
    assert_eq!(queried.0, CudaError::NOT_READY.0);
    // An event is no memory.
    ask_memory(&mut borrower, ID, secret);
    bring_together(&lender, &borrower);
    assert_eq!(reply(&mut borrower).0, INVALID);
    let destroy = calls::cuEventDestroy_v2Args {
        event: U64::new(MADE),
    };
    let operation = op::cuEventDestroy_v2;
    lender.client.send(1, operation, &[destroy.as_bytes()]);
    lender.client.synchronize();
    ask_event(&mut borrower, secret);
    bring_together(&lender, &borrower);
    assert_eq!(reply(&mut borrower).0, INVALID);
    assert_eq!(lender.close().result, 0);
    assert_eq!(borrower.close().result, 0);
}

/// Another worker of the tenant's, taken over by its client.
#[test]
fn what_a_lender_says_is_not_believed() {
    let mut borrower = rig();
    let whole = |device: i32, parts: u32, offset: u64, bytes: u64| Loan::Memory {
        device,
        parts,
        offset,
        bytes,
    };
    let part = |bytes: u64| Loan::Part { bytes };
    let of_two = |bytes: u64| vec![whole(0, 2, 0, 1), part(2 * MIB), part(bytes)];
    let handle = [u64::from_le_bytes(EVENT), 0, 0, 0, 0, 0, 0, 0];
    let lies = [
        vec![],
        vec![whole(0, 0, 0, 1)],
        vec![whole(0, 65, 0, 1)],
        vec![whole(0, u32::MAX, 0, 1)],
        vec![whole(-1, 1, 0, 1), part(2 * MIB)],
        vec![whole(0, 1, 0, 0), part(2 * MIB)],
        vec![whole(0, 1, 1, 2 * MIB), part(2 * MIB)],
        vec![whole(0, 1, u64::MAX, 2), part(2 * MIB)],
        vec![whole(0, 1, 0, 1), part(0)],
        vec![whole(0, 1, 0, 1), part(u64::MAX)],
        vec![whole(0, 1, 0, 1), whole(0, 1, 0, 1)],
        vec![whole(0, 2, 0, 1), part(2 * MIB)],
        of_two(u64::MAX),
        of_two(0),
        vec![part(2 * MIB)],
        vec![Loan::Event { handle }],
        vec![Loan::Placed {
            device: 0,
            handle,
            bytes: 0,
        }],
        vec![Loan::Placed {
            device: -1,
            handle,
            bytes: 1,
        }],
    ];
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    for (number, lie) in lies.iter().enumerate() {
        ask_memory(&mut borrower, ID, LoanSecret([1, 2]));
        let (near, far) = pair();
        answer(&borrower, Some(&far));
        drop(far);
        let lender = ControlSocket::<Loan, Loan>::from_fd(near).unwrap();
        for word in lie {
            let beside = matches!(word, Loan::Part { .. }).then(|| file.as_fd());
            // It may have heard enough.
            let _ = lender.send(word, beside);
        }
        drop(lender);
        assert_eq!(reply(&mut borrower).0, INVALID, "{number}: {lie:?}");
    }
    // A part without its descriptor, a message that is none, and an event that the driver does not know.
    for (number, words) in [vec![whole(0, 1, 0, 1), part(2 * MIB)], vec![]]
        .iter()
        .enumerate()
    {
        ask_memory(&mut borrower, ID, LoanSecret([1, 2]));
        let (near, far) = pair();
        answer(&borrower, Some(&far));
        drop(far);
        for word in words {
            let bytes = rgpu_proto::control::encode(word).unwrap();
            rgpu_transport::send_with_fd(near.as_fd(), &bytes, None).unwrap();
        }
        if words.is_empty() {
            rgpu_transport::send_with_fd(near.as_fd(), &[255; 64], None).unwrap();
        }
        drop(near);
        let expected = [INVALID, CudaError::MAP_FAILED.0][number];
        assert_eq!(reply(&mut borrower).0, expected);
    }
    ask_event(&mut borrower, LoanSecret([1, 2]));
    let (near, far) = pair();
    answer(&borrower, Some(&far));
    let lender = ControlSocket::<Loan, Loan>::from_fd(near).unwrap();
    lender.send(&Loan::Event { handle: [0; 8] }, None).unwrap();
    assert_eq!(reply(&mut borrower).0, INVALID);
    assert_eq!(borrower.client.synchronize(), (0, 0));
    assert_eq!(borrower.close().result, 0);
}

#[test]
fn a_client_lends_and_opens_its_own_alone() {
    let mut rig = rig();
    let base = rig.base;
    for (device, kind, at, bytes) in [
        (0, 0, base, 0),
        (0, 0, base - 1, 2),
        (0, 0, base, 64 * MIB),
        (0, 0, base + 32 * MIB, 1),
        (0, 0, base, u64::MAX),
        (0, 0, u64::MAX, 1),
        (1, 0, base, 1),
        (-1, 0, base, 1),
        (0, 1, base, 2 * MIB),
        (0, 2, base, 1),
    ] {
        let (status, _) = export(&mut rig, device, kind, at, bytes);
        assert_eq!(status, INVALID, "{device} {kind} {at:#x} {bytes:#x}");
    }
    assert_eq!(place(&mut rig, ID, base).0, INVALID);
    assert_eq!(close(&mut rig, ID), INVALID);
    // Twice under one id, and twice at one place.
    for expected in [0, INVALID] {
        ask_memory(&mut rig, ID, LoanSecret([1, 2]));
        if expected == 0 {
            let (near, far) = pair();
            answer(&rig, Some(&far));
            let lender = ControlSocket::<Loan, Loan>::from_fd(near).unwrap();
            let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
            let whole = Loan::Memory {
                device: 0,
                parts: 1,
                offset: 0,
                bytes: 1,
            };
            lender.send(&whole, None).unwrap();
            let part = Loan::Part { bytes: 2 * MIB };
            lender.send(&part, Some(file.as_fd())).unwrap();
        }
        assert_eq!(reply(&mut rig).0, expected);
    }
    let hint = base + 48 * MIB;
    assert_eq!(place(&mut rig, ID, hint), (0, hint));
    assert_eq!(place(&mut rig, ID, hint).0, INVALID);
    assert_eq!(rig.close().result, 0);
}
