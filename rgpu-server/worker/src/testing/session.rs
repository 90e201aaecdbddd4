//! What a session does, over its socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{Assign, FromWorker, ToWorker, Usage};
use rgpu_proto::frame::{LANDED, LANDS_LATER, MAX_BODY, MAX_BULK};
use rgpu_proto::handshake::{AddressWindow, Welcome};
use rgpu_proto::module_table;
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};
use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::client::{Broker, CONTEXT, Client, Incoming, MIB, MODULE, assignment};
use super::fake;
use super::fake_memory::LATE;
use crate::clearing::Clearing;
use crate::content::Given;
use crate::held::Held;
use crate::session::End;
use crate::startup::{Control, begin};

pub const STREAM: u64 = 0x3_0010;
pub const STORE: u64 = 0x4_0010;
pub const STALL: u64 = 0x4_0020;
pub const RELEASE: u64 = 0x4_0030;

pub struct Rig {
    pub client: Client,
    pub broker: Broker,
    pub welcome: Welcome,
    worker: JoinHandle<End>,
    /// Where this session's window begins.
    pub base: u64,
}

/// A fresh window for each session: the tests share the driver's memory.
pub fn window() -> AddressWindow {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0x2000_0000_0000);
    AddressWindow {
        base: NEXT.fetch_add(64 * MIB, Ordering::Relaxed),
        len: 64 * MIB,
    }
}

impl Rig {
    pub fn start(limit: u64) -> Rig {
        Rig::with(Some(limit), vec![window()], Vec::new())
    }

    pub fn with(limit: Option<u64>, windows: Vec<AddressWindow>, leftover: Vec<u8>) -> Rig {
        Rig::given(assignment(limit, windows, leftover), Given::default())
    }

    /// With what the broker says and gives.
    pub fn given(assign: Assign, given: Given) -> Rig {
        let (mut client, socket) = Client::pair();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let broker = Broker::from_fd(ours.into()).unwrap();
        let control = Arc::new(Control::from_fd(theirs.into()).unwrap());
        let windows = &assign.hello.windows;
        let base = windows.first().map_or(0, |window| window.base);
        let snapshot = Snapshot {
            driver_version: 12_090,
            devices: vec![DeviceSnapshot {
                name: "a device".into(),
                total_memory: fake::TOTAL,
                ..DeviceSnapshot::default()
            }],
            p2p: Vec::new(),
        };
        let worker = std::thread::spawn(move || {
            let driver = Arc::new(fake::driver());
            let clearing = Clearing::new(false);
            let (session, reader) =
                begin(driver, snapshot, assign, given, clearing, socket, control).unwrap();
            session.serve(reader)
        });
        let welcome = client.welcome();
        let (started, _) = broker.receive().unwrap().unwrap();
        assert_eq!(started, FromWorker::Started);
        Rig {
            client,
            broker,
            welcome,
            worker,
            base,
        }
    }

    /// With a context, the module and its kernels, and a stream.
    pub fn ready(limit: u64) -> Rig {
        Rig::start(limit).prepared()
    }

    pub fn prepared(mut self) -> Rig {
        let client = &mut self.client;
        client.context();
        let (status, _, table) = client.load(MODULE, fake::IMAGE);
        assert_eq!(status, 0);
        assert_eq!(table.unwrap().functions.len(), 3);
        for (id, name) in [(STORE, "store"), (STALL, "stall"), (RELEASE, "release")] {
            client.bind(id, name);
        }
        client.send(
            1,
            op::cuStreamCreate,
            &[stream_create(STREAM, 0).as_bytes()],
        );
        assert_eq!(client.synchronize(), (0, 0));
        self
    }

    /// Closes the client's end, and waits for the worker's.
    pub fn close(self) -> End {
        drop(self.client);
        let end = self.worker.join().unwrap();
        fake::forget(self.base, 64 * MIB);
        end
    }

    /// The broker ends the session, and the client hears why.
    pub fn ends_by_broker(mut self) {
        let end = ToWorker::End {
            result: 46,
            reason: "enough".into(),
        };
        self.broker.send(&end, None).unwrap();
        let ended = Incoming::Ended {
            status: 46,
            reason: "enough".into(),
        };
        assert_eq!(self.client.receive(), ended);
        assert_eq!(self.close().result, 46);
    }

    /// Closes the client's end; what the session has used and leaves.
    pub fn left(self) -> (Vec<u64>, Option<OwnedFd>) {
        drop(self.client);
        let left = loop {
            match self.broker.receive().unwrap().unwrap() {
                (FromWorker::Left { used, kept }, file) => {
                    assert_eq!(kept, file.is_some());
                    break (used, file);
                }
                (FromWorker::Ended { .. }, _) => panic!("nothing was said of what is left"),
                _ => {}
            }
        };
        self.worker.join().unwrap();
        fake::forget(self.base, 64 * MIB);
        left
    }

    /// The end as the worker, the broker and the client saw it; all the same.
    pub fn ended(self) -> (u32, String) {
        self.ended_having_used().0
    }

    /// The same, with what the session has used up to then.
    pub fn ended_having_used(mut self) -> ((u32, String), Usage) {
        let seen = loop {
            match self.client.receive() {
                Incoming::Reply { .. } => {}
                Incoming::Ended { status, reason } => break (status, reason),
                Incoming::Closed => panic!("closed without a word"),
            }
        };
        drop(self.client);
        let mut usage = None;
        let told = loop {
            match self.broker.receive().unwrap().unwrap().0 {
                FromWorker::Usage(now) => usage = Some(now),
                FromWorker::Ended { result, reason } => break (result, reason),
                other => panic!("{other:?}"),
            }
        };
        let usage = usage.expect("what it has used");
        let end = self.worker.join().unwrap();
        fake::forget(self.base, 64 * MIB);
        assert_eq!((end.result, end.reason), seen);
        assert_eq!(told, seen);
        (seen, usage)
    }
}

fn stream_create(id: u64, flags: u32) -> calls::cuStreamCreateArgs {
    calls::cuStreamCreateArgs {
        stream: U64::new(id),
        flags: U32::new(flags),
    }
}

fn on_stream(stream: u64) -> [u8; 8] {
    stream.to_le_bytes()
}

pub fn store(address: u64, value: u32) -> Vec<u8> {
    [&address.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn the_welcome_tells_what_the_session_may_use() {
    let mut rig = Rig::start(256 * MIB);
    assert_eq!(rig.welcome.session, 7);
    assert_eq!(rig.welcome.snapshot.devices[0].total_memory, 256 * MIB);
    assert_eq!(rig.welcome.limits.memory, Some(256 * MIB));
    assert_eq!(rig.welcome.limits.max_body, MAX_BODY);
    assert_eq!(rig.welcome.limits.memory_credit, 32 * MIB);
    assert_eq!(rig.welcome.windows[0].base, rig.base);
    // The credit is there, in parts that can be given back one by one.
    rig.client.context();
    assert_eq!(rig.client.memory_info().mapped.get(), 32 * MIB);
    let address = rig.base + 30 * MIB;
    rig.client.copy_in(address, b"bytes");
    assert_eq!(rig.client.copy_out(address, 5), b"bytes");
    rig.client.unmap(address, 2 * MIB);
    assert_eq!(rig.client.map(address, 2 * MIB), 0);
    assert_eq!(rig.client.copy_out(address, 5), [0; 5]);
    assert_eq!(rig.close().result, 0);
}

#[test]
fn a_small_quota_gives_a_small_credit() {
    assert_eq!(Rig::start(21 * MIB).welcome.limits.memory_credit, 4 * MIB);
    assert_eq!(Rig::start(7 * MIB).welcome.limits.memory_credit, 0);
}

#[test]
fn windows_are_granted_all_or_not_at_all() {
    for bad in [
        AddressWindow {
            base: 0x3000_0000_0001,
            len: 64 * MIB,
        },
        AddressWindow {
            base: 0,
            len: 64 * MIB,
        },
        AddressWindow {
            base: 0x3000_0000_0000,
            len: MIB,
        },
        AddressWindow {
            base: 0x3000_0000_0000,
            len: 1 << 41,
        },
        // Where the driver has something of its own.
        AddressWindow {
            base: 0x6600_0000_0000,
            len: 64 * MIB,
        },
    ] {
        let mut rig = Rig::with(None, vec![bad], Vec::new());
        assert_eq!(rig.welcome.windows, []);
        assert_eq!(rig.welcome.limits.memory_credit, 0);
        rig.client.context();
        assert_eq!(
            rig.client.map(bad.base, 2 * MIB),
            CudaError::INVALID_VALUE.0
        );
        // Then the driver chooses.
        let args = calls::rgpuMemoryMapArgs {
            kind: U32::new(1),
            bytes: U64::new(1000),
            ..Default::default()
        };
        let body = rig.client.must(op::rgpuMemoryMap, &[args.as_bytes()]);
        let address = u64::from_le_bytes(*body.first_chunk().unwrap());
        rig.client.copy_in(address, b"there");
        assert_eq!(rig.client.copy_out(address, 5), b"there");
        assert_eq!(rig.client.memory_info().mapped.get(), 1000);
    }
}

#[test]
fn frames_that_came_with_the_greeting_are_played() {
    let (mut scratch, _) = Client::pair();
    let args = calls::rgpuContextCreateArgs {
        id: U64::new(CONTEXT),
        ..Default::default()
    };
    let frame = scratch.frame(1, op::rgpuContextCreate, &[args.as_bytes()], true);
    let mut rig = Rig::with(None, vec![window()], frame[..20].to_vec());
    std::io::Write::write_all(&mut rig.client.stream, &frame[20..]).unwrap();
    let Incoming::Reply {
        seq: 1, status: 0, ..
    } = rig.client.receive()
    else {
        panic!("no reply");
    };
}

#[test]
fn what_must_have_landed_has_before_other_streams_go_on() {
    let mut rig = Rig::ready(256 * MIB);
    let (at, client) = (rig.base + 64, &mut rig.client);
    // In CUDA's own form the copy's last byte may come behind the kernel's, as with this driver.
    for (sync, last) in [(1, LATE), (LANDED, 0)] {
        client.copy_in_as(sync, at, &[1, 2, 3, LATE]);
        client.launch(1, STORE, STREAM, &store(at, 0));
        assert_eq!(client.copy_out(at, 4), [0, 0, 0, last]);
    }
}

#[test]
fn kernels_run_with_checked_parameters() {
    let mut rig = Rig::ready(256 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    client.launch(1, STORE, STREAM, &store(base + 64, 0xdead_beef));
    assert_eq!(client.copy_out(base + 64, 4), 0xdead_beef_u32.to_le_bytes());
    // One byte too few, one too many: never given to the driver.
    for params in [&store(base, 1)[..11], &[&store(base, 1)[..], &[0]].concat()] {
        client.launch(1, STORE, STREAM, params);
        assert_eq!(client.synchronize(), (0, CudaError::INVALID_VALUE.0));
        assert_eq!(client.synchronize(), (0, 0));
    }
    assert_eq!(client.copy_out(base, 4), [0; 4]);
}

#[test]
fn a_later_clients_call_is_refused_and_the_session_goes_on() {
    let mut rig = Rig::ready(256 * MIB);
    const NOT_SUPPORTED: u32 = CudaError::NOT_SUPPORTED.0;
    let (status, deferred, body) = rig.client.call(1, 0x7777, &[&[1, 2, 3]]);
    assert_eq!((status, deferred, body), (NOT_SUPPORTED, 0, Vec::new()));
    rig.client.send(1, 0x7777, &[]);
    let (status, deferred, _) = rig.client.call(1, 0x7778, &[]);
    assert_eq!((status, deferred), (NOT_SUPPORTED, NOT_SUPPORTED));
    rig.client.memory_info();
}

#[test]
fn the_first_error_of_one_way_calls_is_told_once() {
    let mut rig = Rig::ready(256 * MIB);
    let client = &mut rig.client;
    client.launch(1, 0x9999, 0, &[]);
    client.copy_in(0x10, b"nowhere");
    client.send(
        1,
        op::cuEventCreate,
        &[&[0x10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    );
    let bytes = Client::copy_out_args(0x10, 8, 0);
    let (status, deferred, body) = client.call(1, op::rgpuCopyOut, &[bytes.as_bytes()]);
    assert_eq!(status, CudaError::INVALID_VALUE.0);
    assert_eq!(deferred, CudaError::INVALID_HANDLE.0);
    assert_eq!(body, []);
    assert_eq!(client.synchronize(), (0, 0));
    // A query that is not ready yet is an answer, and no error where nobody waits for it.
    let event = 0x5_0010_u64.to_le_bytes();
    let (status, ..) = client.call(1, op::cuEventQuery, &[&event]);
    assert_eq!(status, CudaError::NOT_READY.0);
    client.send(1, op::cuEventQuery, &[&event]);
    assert_eq!(client.synchronize(), (0, 0));
}

#[test]
fn a_create_that_fails_late_answers_with_its_error() {
    let mut rig = Rig::ready(256 * MIB);
    let client = &mut rig.client;
    client.send(1, op::cuStreamCreate, &[stream_create(0x77, 9).as_bytes()]);
    assert_eq!(client.synchronize(), (0, CudaError::INVALID_VALUE.0));
    let (status, ..) = client.call(1, op::cuStreamQuery, &[&on_stream(0x77)]);
    assert_eq!(status, CudaError::INVALID_VALUE.0);
    client.bind(0x78, "no such kernel");
    assert_eq!(client.synchronize(), (0, CudaError::NOT_FOUND.0));
    client.launch(1, 0x78, 0, &[]);
    assert_eq!(client.synchronize(), (0, CudaError::NOT_FOUND.0));
}

#[test]
fn a_thread_without_a_context_loads_a_library_with_its_kernels() {
    let mut rig = Rig::ready(256 * MIB);
    let args = calls::rgpuLibraryLoadArgs {
        id: U64::new(0x9_0010),
        device: I32::new(0),
        info_bytes: U32::new(0),
        error_bytes: U32::new(0),
        image_len: U64::new(fake::IMAGE.len() as u64),
        options_len: U64::new(0),
    };
    // The second thread has done nothing yet.
    let (status, deferred, body) =
        rig.client
            .call(2, op::rgpuLibraryLoad, &[args.as_bytes(), fake::IMAGE]);
    assert_eq!((status, deferred), (0, 0));
    let (_, table) = calls::rgpuLibraryLoadReply::read_from_prefix(&body).unwrap();
    let table = module_table::decode(table).unwrap();
    assert!(table.complete);
    assert_eq!(table.functions.len(), fake::KERNELS.len());
}

#[test]
fn a_load_that_fails_still_brings_its_log() {
    let mut rig = Rig::start(256 * MIB);
    let client = &mut rig.client;
    client.context();
    let (status, errors, table) = client.load(MODULE, b"something else");
    assert_eq!(status, CudaError::INVALID_PTX.0);
    assert_eq!(errors, "not an image that this driver knows");
    assert_eq!(table, None);
    client.bind(STORE, "store");
    assert_eq!(client.synchronize(), (0, CudaError::INVALID_PTX.0));
    let (status, _, table) = client.load(MODULE + 16, fake::IMAGE);
    let table = table.unwrap();
    assert_eq!((status, table.complete), (0, true));
    assert_eq!(table.functions[0].name, "store");
    assert_eq!(table.functions[0].params, [(0, 8), (8, 4)]);
    assert_eq!(table.functions[0].attributes, (0..16).collect::<Vec<_>>());
}

#[test]
fn the_quota_counts_what_is_mapped_and_frees_are_waited_for() {
    let mut rig = Rig::start(16 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    client.context();
    assert_eq!(
        client.map(base + 4 * MIB, 14 * MIB),
        CudaError::OUT_OF_MEMORY.0
    );
    assert_eq!(client.map(base + 4 * MIB, 12 * MIB), 0);
    let info = client.memory_info();
    assert_eq!(info.limit.get(), 16 * MIB);
    assert_eq!(info.total.get(), 16 * MIB);
    assert_eq!((info.mapped.get(), info.free.get()), (16 * MIB, 0));
    for _ in 0..50 {
        // Each time the memory is still being given back, one way, when it is asked for again.
        client.unmap(base + 4 * MIB, 12 * MIB);
        assert_eq!(client.map(base + 4 * MIB, 12 * MIB), 0);
    }
    client.unmap(base + 4 * MIB, 2 * MIB);
    assert_eq!(client.synchronize(), (0, CudaError::INVALID_VALUE.0));
}

#[test]
fn a_thread_goes_on_while_another_waits() {
    // With both at work before, and with the second one coming only while the first waits.
    for known in [true, false] {
        let mut rig = Rig::ready(256 * MIB);
        let client = &mut rig.client;
        if known {
            assert_eq!(client.call(2, op::rgpuContextSynchronize, &[]).0, 0);
        }
        let key = if known { 100_u64 } else { 101 }.to_le_bytes();
        client.launch(1, STALL, STREAM, &key);
        let first = client.ask(1, op::cuStreamSynchronize, &[&on_stream(STREAM)]);
        let second = client.ask(2, op::cuStreamQuery, &[&on_stream(STREAM)]);
        let Incoming::Reply { seq, status, .. } = client.receive() else {
            panic!("no reply");
        };
        assert_eq!((seq, status), (second, CudaError::NOT_READY.0));
        client.launch(2, RELEASE, 0, &key);
        let Incoming::Reply { seq, status, .. } = client.receive() else {
            panic!("no reply");
        };
        assert_eq!((seq, status), (first, 0));
        for thread in [1, 2, 1, 3, 3, 2] {
            assert_eq!(client.call(thread, op::rgpuContextSynchronize, &[]).0, 0);
        }
        assert_eq!(rig.close().result, 0);
    }
}

#[test]
fn many_threads_keep_their_order() {
    let mut rig = Rig::ready(256 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    for round in 0..400_u32 {
        // Each overwrites what the one before stored: only the order of the stream gives the right word.
        for thread in 0..7 {
            let value = round * 7 + thread;
            client.launch(1 + (value * 5) % 7, STORE, STREAM, &store(base, value));
        }
        if round % 50 == 0 {
            let expected = (round * 7 + 6).to_le_bytes();
            assert_eq!(client.copy_out(base, 4), expected);
        }
    }
    assert_eq!(client.copy_out(base, 4), (399_u32 * 7 + 6).to_le_bytes());
}

#[test]
fn unloads_and_ends_of_contexts_wait_for_work_and_take_their_handles_along() {
    let mut rig = Rig::ready(256 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    client.launch(1, STALL, STREAM, &200_u64.to_le_bytes());
    client.send(1, op::rgpuModuleUnload, &[&MODULE.to_le_bytes()]);
    // The fake driver stops the test if a kernel of an unloaded module were used: these are refused before.
    client.launch(1, STORE, STREAM, &store(base, 1));
    let (status, deferred, _) = client.call(2, op::cuStreamQuery, &[&on_stream(STREAM)]);
    assert_eq!(
        (status, deferred),
        (CudaError::NOT_READY.0, CudaError::INVALID_HANDLE.0)
    );
    let (status, _, _) = client.load(MODULE + 16, fake::IMAGE);
    assert_eq!(status, 0);
    let args = calls::rgpuFunctionBindArgs {
        id: U64::new(RELEASE + 0x100),
        module: U64::new(MODULE + 16),
        name_len: U64::new(7),
    };
    client.send(2, op::rgpuFunctionBind, &[args.as_bytes(), b"release"]);
    client.launch(2, RELEASE + 0x100, 0, &200_u64.to_le_bytes());
    client.send(1, op::rgpuContextDestroy, &[&CONTEXT.to_le_bytes()]);
    let (status, deferred, _) = client.call(2, op::cuStreamQuery, &[&on_stream(STREAM)]);
    assert_eq!((status, deferred), (CudaError::INVALID_CONTEXT.0, 0));
    assert_eq!(rig.close().result, 0);
}

#[test]
fn code_that_does_not_fit_does_not_reach_the_driver() {
    let given = Given {
        held: Some(Held::new(|| Some(vec![0]))),
        ..Given::default()
    };
    let assign = assignment(Some(256 * MIB), vec![window()], Vec::new());
    let mut rig = Rig::given(assign, given).prepared();
    let code = |mib: u64| {
        let bytes = mib * MIB;
        format!(".version 8.0\n.target sm_80\n.address_size 64\n.global .b8 big[{bytes}];")
    };
    let refused = rig.client.load(MODULE + 16, code(900).as_bytes()).0;
    assert_eq!(refused, CudaError::OUT_OF_MEMORY.0);
    // The driver's own answer.
    let refused = rig.client.load(MODULE + 32, code(100).as_bytes()).0;
    assert_eq!(refused, CudaError::INVALID_PTX.0);
    assert_eq!(rig.close().result, 0);
}

#[test]
fn memory_of_an_unloaded_module_is_free_for_who_asks() {
    let mut rig = Rig::ready(256 * MIB);
    let client = &mut rig.client;
    let key = 201_u64;
    client.launch(1, STALL, STREAM, &key.to_le_bytes());
    client.send(1, op::rgpuModuleUnload, &[&MODULE.to_le_bytes()]);
    let releases = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        fake::release(key);
    });
    let began = std::time::Instant::now();
    client.memory_info();
    assert!(began.elapsed() >= std::time::Duration::from_millis(50));
    releases.join().unwrap();
    assert_eq!(rig.close().result, 0);
}

#[test]
fn what_lands_comes_ahead_of_the_reply_that_tells_of_it() {
    let mut rig = Rig::ready(256 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    client.copy_in(base, b"some bytes");
    let mut landed = Vec::new();
    for at in [base, base + 5] {
        client.send(1, op::rgpuBoxLand, &[land(at, 4, STREAM).as_bytes()]);
        landed.push((client.seq, 0, client_bytes(at - base)));
    }
    // What cannot begin is told in its place, and as every error of a command that nobody waits for.
    client.send(1, op::rgpuBoxLand, &[land(0x10, 4, STREAM).as_bytes()]);
    landed.push((client.seq, CudaError::INVALID_VALUE.0, Vec::new()));
    // More than one frame may carry.
    client.send(1, op::rgpuBoxLand, &[land(base, 9 << 20, 0).as_bytes()]);
    landed.push((client.seq, CudaError::INVALID_VALUE.0, Vec::new()));
    let asked = client.ask(2, op::rgpuContextSynchronize, &[]);
    // In any order among themselves: what cannot begin waits for nothing.
    let mut received: Vec<_> = landed
        .iter()
        .map(|_| match client.receive() {
            Incoming::Reply {
                seq, status, body, ..
            } => (seq, status, body),
            other => panic!("{other:?}"),
        })
        .collect();
    received.sort();
    assert_eq!(received, landed);
    let Incoming::Reply {
        seq,
        status,
        deferred,
        ..
    } = client.receive()
    else {
        panic!("no reply");
    };
    assert_eq!(
        (seq, status, deferred),
        (asked, 0, CudaError::INVALID_VALUE.0)
    );
    // Nobody can have more under way than the worker has room for: eight of these.
    assert_eq!(client.map(base + 32 * MIB, 16 * MIB), 0);
    client.launch(1, STALL, STREAM, &500_u64.to_le_bytes());
    for _ in 0..9 {
        client.send(
            1,
            op::rgpuBoxLand,
            &[land(base + 32 * MIB, 8 << 20, STREAM).as_bytes()],
        );
    }
    let refused = client.seq;
    client.ask(2, op::cuStreamQuery, &[&on_stream(0)]);
    let Incoming::Reply { seq, status, .. } = client.receive() else {
        panic!("no reply");
    };
    assert_eq!((seq, status), (refused, CudaError::OUT_OF_MEMORY.0));
}

fn land(at: u64, bytes: u64, stream: u64) -> calls::rgpuBoxLandArgs {
    calls::rgpuBoxLandArgs {
        src: U64::new(at),
        pitch: U64::new(bytes),
        rows: U64::new(1),
        width: U64::new(bytes),
        height: U64::new(1),
        depth: U64::new(1),
        stream: U64::new(stream),
    }
}

/// A function of the program's, which the stream stands still for.
fn launch_host_function(client: &mut Client) {
    let launch = calls::rgpuLaunchHostArgs {
        stream: U64::new(STREAM),
        name: U64::new(STREAM),
        function: U64::new(7),
        data: U64::new(8),
        ..Default::default()
    };
    client.must(op::rgpuLaunchHost, &[launch.as_bytes()]);
}

#[test]
fn a_copy_whose_start_is_waited_for_lands_by_itself() {
    let mut rig = Rig::ready(64 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    client.copy_in(base, b"some bytes");
    launch_host_function(client);
    // While the function stands, the copy is only under way, and no reply brings it.
    client.must(op::rgpuBoxLand, &[land(base, 4, STREAM).as_bytes()]);
    let landing = client.seq | LANDS_LATER;
    let (status, ..) = client.call(3, op::cuStreamQuery, &[&on_stream(STREAM)]);
    assert_eq!(status, CudaError::NOT_READY.0);
    // One in another stream is there before the reply.
    let other = client.ask(1, op::rgpuBoxLand, &[land(base + 5, 4, 0).as_bytes()]);
    assert_eq!(reply_of(client), (other | LANDS_LATER, 0, client_bytes(5)));
    assert_eq!(reply_of(client), (other, 0, Vec::new()));
    // What cannot begin says so twice.
    let refused = client.ask(1, op::rgpuBoxLand, &[land(0x10, 4, STREAM).as_bytes()]);
    let invalid = CudaError::INVALID_VALUE.0;
    assert_eq!(
        reply_of(client),
        (refused | LANDS_LATER, invalid, Vec::new())
    );
    assert_eq!(reply_of(client), (refused, invalid, Vec::new()));
    // The function returns.
    let (_, _, function) = client.call(2, op::rgpuHostNext, &[&[0; 8]]);
    let function = calls::rgpuHostNextReply::read_from_bytes(&function).unwrap();
    client.ask(2, op::rgpuHostNext, &[&function.number.get().to_le_bytes()]);
    let waited = client.ask(1, op::cuStreamSynchronize, &[&on_stream(STREAM)]);
    assert_eq!(reply_of(client), (landing, 0, client_bytes(0)));
    assert_eq!(reply_of(client), (waited, 0, Vec::new()));
    assert_eq!(rig.close().result, 0);
}

/// Number, status and body of the reply that comes next.
fn reply_of(client: &mut Client) -> (u64, u32, Vec<u8>) {
    match client.receive() {
        Incoming::Reply {
            seq, status, body, ..
        } => (seq, status, body),
        other => panic!("{other:?}"),
    }
}

fn client_bytes(offset: u64) -> Vec<u8> {
    b"some bytes"[offset as usize..][..4].to_vec()
}

#[test]
fn large_copies_come_back_whole() {
    let mut rig = Rig::ready(256 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    assert_eq!(client.map(base + 32 * MIB, 16 * MIB), 0);
    let data: Vec<u8> = (0..MAX_BULK).map(|at| ((at * 7) >> 3) as u8).collect();
    client.copy_in(base + 32 * MIB, &data);
    assert!(client.copy_out(base + 32 * MIB, MAX_BULK as u64) == data);
    let more = Client::copy_out_args(base + 32 * MIB, MAX_BULK as u64 + 1, 0);
    let (status, ..) = client.call(1, op::rgpuCopyOut, &[more.as_bytes()]);
    assert_eq!(status, CudaError::INVALID_VALUE.0);
}

#[test]
fn the_broker_ends_a_session_while_a_call_is_stuck() {
    let mut rig = Rig::ready(256 * MIB);
    rig.client.launch(1, STALL, STREAM, &300_u64.to_le_bytes());
    rig.client
        .ask(1, op::cuStreamSynchronize, &[&on_stream(STREAM)]);
    let end = ToWorker::End {
        result: 702,
        reason: "the session's time is over".into(),
    };
    rig.broker.send(&end, None).unwrap();
    assert_eq!(rig.ended(), (702, "the session's time is over".into()));
}

#[test]
fn the_broker_going_away_ends_the_session() {
    let mut rig = Rig::ready(256 * MIB);
    drop(rig.broker);
    let Incoming::Ended { status: 46, reason } = rig.client.receive() else {
        panic!("not told");
    };
    assert_eq!(reason, "the server has stopped");
    assert_eq!(rig.client.receive(), Incoming::Closed);
}

#[test]
fn a_client_that_goes_while_a_call_is_stuck_is_noticed() {
    let mut rig = Rig::ready(256 * MIB);
    rig.client.launch(1, STALL, STREAM, &400_u64.to_le_bytes());
    rig.client
        .ask(1, op::cuStreamSynchronize, &[&on_stream(STREAM)]);
    assert_eq!(rig.close().result, 0);
}

#[test]
fn usage_is_reported_before_the_end() {
    let mut rig = Rig::ready(256 * MIB);
    rig.client.launch(1, STORE, STREAM, &store(rig.base, 1));
    rig.client.synchronize();
    drop(rig.client);
    let mut last = None;
    loop {
        match rig.broker.receive().unwrap().unwrap().0 {
            FromWorker::Usage(usage) => last = Some(usage),
            FromWorker::Ended { result, reason } => {
                assert_eq!((result, reason.as_str()), (0, "the client closed"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let usage = last.unwrap();
    assert_eq!(usage.launches, 1);
    assert_eq!(usage.memory, [32 * MIB]);
    // Context, load, three binds, stream, synchronize; launch, synchronize.
    assert_eq!((usage.calls, usage.waits), (9, 4));
    assert!(usage.bytes_in > 9 * 32 && usage.bytes_out > 4 * 32);
}

#[test]
fn a_stream_stands_still_until_the_client_has_run_its_function() {
    let mut rig = Rig::ready(64 * MIB);
    let client = &mut rig.client;
    launch_host_function(client);
    let waiting = client.ask(1, op::cuStreamSynchronize, &[&on_stream(STREAM)]);
    let (status, _, next) = client.call(2, op::rgpuHostNext, &[&[0; 8]]);
    let next = calls::rgpuHostNextReply::read_from_bytes(&next).unwrap();
    assert_eq!(
        (
            status,
            next.function.get(),
            next.data.get(),
            next.kind.get()
        ),
        (0, 7, 8, 0)
    );
    // The function has returned: the stream goes on, and the thread waits for the next one.
    let last = client.ask(2, op::rgpuHostNext, &[&next.number.get().to_le_bytes()]);
    match client.receive() {
        Incoming::Reply { seq, status, .. } => assert_eq!((seq, status), (waiting, 0)),
        other => panic!("{other:?}"),
    }
    // The end of the session lets go of a function that nobody runs, and of the thread that waits.
    launch_host_function(client);
    match client.receive() {
        Incoming::Reply { seq, .. } => assert_eq!(seq, last),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.close().result, 0);
}
