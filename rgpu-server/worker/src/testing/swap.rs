//! Memory that leaves its device and comes back, with the test in the broker's place.

use std::os::fd::AsFd;
use std::time::Instant;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{Assign, FromWorker, ToWorker};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I32, U32, U64};

use super::client::{Client, Incoming, MIB, assignment};
use super::fake;
use super::session::{Rig, STALL, STREAM, window};
use crate::content::Given;
use crate::swap::PATIENCE;

const OUT_OF_MEMORY: u32 = CudaError::OUT_OF_MEMORY.0;

impl Rig {
    fn movable() -> Rig {
        let assign = Assign {
            time_sharing: true,
            overcommit: true,
            devices: vec![0],
            ..assignment(Some(32 * MIB), vec![window()], Vec::new())
        };
        let rig = Rig::given(assign, Given::default()).prepared();
        // Nothing is mapped ahead.
        assert_eq!(rig.welcome.limits.memory_credit, 0);
        rig
    }

    fn ask_map(&mut self, address: u64, bytes: u64) {
        let args = calls::rgpuMemoryMapArgs {
            device: I32::new(0),
            kind: U32::new(0),
            address: U64::new(address),
            bytes: U64::new(bytes),
        };
        self.client.ask(1, op::rgpuMemoryMap, &[args.as_bytes()]);
    }

    fn ask_copy(&mut self, address: u64, bytes: u64) {
        let args = Client::copy_out_args(address, bytes, 0);
        self.client.ask(1, op::rgpuCopyOut, &[args.as_bytes()]);
    }

    fn reply(&mut self) -> (u32, Vec<u8>) {
        match self.client.receive() {
            Incoming::Reply { status, body, .. } => (status, body),
            other => panic!("{other:?}"),
        }
    }

    fn room(&self, bytes: u64) {
        self.broker.send(&ToWorker::Room { bytes }, None).unwrap();
    }

    /// Maps memory, with room for it.
    fn place(&mut self, address: u64, bytes: u64) {
        self.ask_map(address, bytes);
        assert_eq!(self.said(), needs(bytes));
        self.room(bytes);
        assert_eq!(self.reply().0, 0);
    }

    /// Two mappings with something at their beginning and end, of 6 MiB together, and a lease.
    fn filled() -> (Rig, u64, u64) {
        let mut rig = Rig::movable();
        let (one, two) = (rig.base, rig.base + 8 * MIB);
        rig.place(one, 4 * MIB);
        rig.place(two, 2 * MIB);
        rig.client.copy_in(one, b"first");
        assert_eq!(rig.said(), FromWorker::Want { device: 0 });
        rig.grant(false);
        rig.client.copy_in(two + 2 * MIB - 4, b"last");
        assert_eq!(rig.client.synchronize(), (0, 0));
        (rig, one, two)
    }

    fn put_away(&self, idle_us: u64, bytes: u64) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let message = ToWorker::PutAway {
            idle_us,
            on_disk: false,
        };
        self.broker.send(&message, Some(file.as_fd())).unwrap();
    }
}

fn needs(bytes: u64) -> FromWorker {
    FromWorker::NeedRoom {
        bytes,
        refused: false,
    }
}

fn refused(bytes: u64) -> FromWorker {
    FromWorker::NeedRoom {
        bytes,
        refused: true,
    }
}

fn away(moved: u64, spare: u64) -> FromWorker {
    FromWorker::Away { moved, spare }
}

fn is_there(address: u64) -> bool {
    fake::with(|world| world.memory.contains_key(&address))
}

#[test]
fn memory_leaves_and_is_back_at_its_addresses_before_the_next_call() {
    let (mut rig, one, two) = Rig::filled();
    for _ in 0..2 {
        rig.put_away(0, 6 * MIB);
        assert_eq!(rig.said(), away(6 * MIB, 0));
        assert!(!is_there(one) && !is_there(two));
        // It counts as before, and to ask does not bring it back.
        let info = rig.client.memory_info();
        let left = 26 * MIB;
        assert_eq!((info.mapped.get(), info.free.get()), (6 * MIB, left));
        assert!(!is_there(one));
        rig.ask_copy(one, 5);
        assert_eq!(rig.said(), needs(6 * MIB));
        assert!(!is_there(one));
        rig.room(6 * MIB);
        assert_eq!(rig.said(), FromWorker::Back);
        assert_eq!(rig.reply(), (0, b"first".to_vec()));
        assert_eq!(rig.client.copy_out(two + 2 * MIB - 4, 4), b"last");
        assert_eq!(rig.client.memory_info().mapped.get(), 6 * MIB);
    }
    assert_eq!(rig.close().result, 0);
}

#[test]
fn a_session_that_is_at_work_stays_unless_it_must_go() {
    let (mut rig, one, _) = Rig::filled();
    let key = 950_u64;
    rig.client.launch(1, STALL, STREAM, &key.to_le_bytes());
    rig.client.memory_info();
    rig.put_away(1, 6 * MIB);
    assert_eq!(rig.said(), FromWorker::Stays { stuck: false });
    // It goes when the kernel has ended, and not before.
    rig.put_away(0, 6 * MIB);
    rig.client.memory_info();
    assert!(is_there(one));
    fake::release(key);
    assert_eq!(rig.said(), away(6 * MIB, 0));
    // One that is away cannot go again.
    rig.put_away(0, 6 * MIB);
    assert_eq!(rig.said(), FromWorker::Stays { stuck: false });
    assert_eq!(rig.close().result, 0);
}

#[test]
fn what_is_freed_while_it_is_away_does_not_come_back() {
    let (mut rig, one, two) = Rig::filled();
    rig.put_away(0, 6 * MIB);
    assert_eq!(rig.said(), away(6 * MIB, 0));
    rig.client.unmap(one, 4 * MIB);
    assert_eq!(rig.client.memory_info().mapped.get(), 2 * MIB);
    rig.ask_copy(two + 2 * MIB - 4, 4);
    assert_eq!(rig.said(), needs(2 * MIB));
    rig.room(2 * MIB);
    assert_eq!(rig.said(), FromWorker::Back);
    assert_eq!(rig.reply(), (0, b"last".to_vec()));
    assert!(!is_there(one));
    // Its place is free, and what is freed on the device gives room back.
    rig.place(one, 4 * MIB);
    rig.client.unmap(one, 4 * MIB);
    assert_eq!(rig.said(), FromWorker::GaveRoom { bytes: 4 * MIB });
    assert_eq!(rig.close().result, 0);
}

#[test]
fn one_that_waits_for_room_keeps_none() {
    let (mut rig, one, _) = Rig::filled();
    let three = rig.base + 16 * MIB;
    rig.ask_map(three, 2 * MIB);
    assert_eq!(rig.said(), needs(2 * MIB));
    rig.put_away(0, 6 * MIB);
    assert_eq!(rig.said(), away(6 * MIB, 0));
    // This was given before the broker heard of that.
    rig.room(2 * MIB);
    assert_eq!(rig.said(), FromWorker::GaveRoom { bytes: 2 * MIB });
    assert_eq!(rig.said(), needs(8 * MIB));
    rig.room(8 * MIB);
    assert_eq!(rig.said(), FromWorker::Back);
    assert_eq!(rig.reply().0, 0);
    assert!(is_there(three));
    assert_eq!(rig.client.copy_out(one, 5), b"first");
    // Nothing of it is left over.
    rig.put_away(0, 8 * MIB);
    assert_eq!(rig.said(), away(8 * MIB, 0));
    assert_eq!(rig.close().result, 0);
}

#[test]
fn there_is_no_memory_where_there_will_never_be_room_and_where_the_driver_has_none_more_is_made() {
    let (mut rig, one, two) = Rig::filled();
    let three = rig.base + 16 * MIB;
    rig.ask_map(three, 2 * MIB);
    assert_eq!(rig.said(), needs(2 * MIB));
    rig.room(0);
    assert_eq!(rig.reply().0, OUT_OF_MEMORY);
    // What the quota does not hold is not asked for.
    rig.ask_map(three, 28 * MIB);
    assert_eq!(rig.reply().0, OUT_OF_MEMORY);
    fake::with(|world| world.full.extend([two, three]));
    rig.ask_map(three, 2 * MIB);
    assert_eq!(rig.said(), needs(2 * MIB));
    rig.room(2 * MIB);
    assert_eq!(rig.said(), FromWorker::GaveRoom { bytes: 2 * MIB });
    assert_eq!(rig.said(), refused(2 * MIB));
    rig.room(2 * MIB);
    assert_eq!(rig.reply().0, 0);
    rig.put_away(0, 8 * MIB);
    assert_eq!(rig.said(), away(8 * MIB, 0));
    rig.ask_copy(one, 5);
    assert_eq!(rig.said(), needs(8 * MIB));
    rig.room(8 * MIB);
    assert_eq!(rig.said(), FromWorker::GaveRoom { bytes: 8 * MIB });
    assert_eq!(rig.said(), refused(8 * MIB));
    // All of it or nothing.
    assert!(!is_there(one));
    rig.room(8 * MIB);
    assert_eq!(rig.said(), FromWorker::Back);
    assert_eq!(rig.reply(), (0, b"first".to_vec()));
    assert_eq!(rig.close().result, 0);
}

#[test]
fn an_allocation_that_waits_in_vain_has_not_the_whole_time_again_after_a_free() {
    let mut rig = Rig::movable();
    rig.place(rig.base, 2 * MIB);
    rig.client.unmap(rig.base, 2 * MIB);
    assert_eq!(rig.said(), FromWorker::GaveRoom { bytes: 2 * MIB });
    let began = Instant::now();
    rig.ask_map(rig.base + 16 * MIB, 2 * MIB);
    assert_eq!(rig.said(), needs(2 * MIB));
    assert_eq!(rig.reply().0, OUT_OF_MEMORY);
    let waited = began.elapsed();
    assert!(
        waited >= PATIENCE && waited < PATIENCE * 3 / 2,
        "{waited:?}"
    );
    assert_eq!(rig.said(), needs(0));
    assert_eq!(rig.close().result, 0);
}

#[test]
fn memory_that_cannot_be_written_stays() {
    let (mut rig, one, _) = Rig::filled();
    rig.put_away(0, 4 * MIB);
    assert_eq!(rig.said(), FromWorker::Stays { stuck: true });
    assert_eq!(rig.client.copy_out(one, 5), b"first");
    // A file that nobody can write to, as a disk that is full.
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let message = ToWorker::PutAway {
        idle_us: 0,
        on_disk: true,
    };
    rig.broker.send(&message, Some(file.as_fd())).unwrap();
    assert_eq!(rig.said(), FromWorker::Stays { stuck: true });
    assert_eq!(rig.client.copy_out(one, 5), b"first");
    rig.put_away(0, 6 * MIB);
    assert_eq!(rig.said(), away(6 * MIB, 0));
    assert_eq!(rig.close().result, 0);
}

#[test]
fn a_session_ends_while_it_waits_for_its_memory() {
    let (mut rig, one, _) = Rig::filled();
    rig.put_away(0, 6 * MIB);
    assert_eq!(rig.said(), away(6 * MIB, 0));
    rig.ask_copy(one, 5);
    assert_eq!(rig.said(), needs(6 * MIB));
    rig.ends_by_broker();
}
