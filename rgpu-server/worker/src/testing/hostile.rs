//! A client that means harm, or is broken: each session ends with a reason or answers with an error, and nothing panics.

use std::io::Write;

use rgpu_proto::calls::{self, op};
use rgpu_proto::frame::Header;
use rgpu_proto::node_params::{self, NodeParams};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I32, U32, U64};

use super::client::{CONTEXT, Client, Incoming, MIB, MODULE};
use super::fake;
use super::session::Rig;

fn end_of(bytes: &[u8]) -> (u32, String) {
    let mut rig = Rig::start(64 * MIB);
    rig.client.stream.write_all(bytes).unwrap();
    rig.ended()
}

fn command(operation: u16, thread: u32, seq: u64, body: &[u8]) -> Vec<u8> {
    let header = Header::command(operation, thread, 0, seq, body.len(), true);
    [header.as_bytes(), body].concat()
}

#[test]
fn broken_frames_end_the_session_with_a_reason() {
    let mut long = command(op::rgpuMemoryInfo, 1, 1, &[]);
    long[..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let mut reply = command(op::rgpuMemoryInfo, 1, 1, &[]);
    reply[6] = 2;
    let twice = [
        command(op::rgpuContextSynchronize, 1, 4, &[]),
        command(op::rgpuContextSynchronize, 1, 4, &[]),
    ]
    .concat();
    let mut inner = calls::rgpuCopyInArgs {
        dst: U64::new(0),
        stream: U64::new(0),
        sync: U32::new(1),
        data_len: U64::new(u64::MAX),
    };
    let lying = command(op::rgpuCopyIn, 1, 1, inner.as_bytes());
    inner.data_len = U64::new(0);
    let trailing = command(
        op::rgpuCopyIn,
        1,
        1,
        &[inner.as_bytes(), &[1, 2, 3]].concat(),
    );
    for (bytes, words) in [
        (long, "a frame claims a body of 2147483647 bytes"),
        (reply, "unknown flags 0x2"),
        (command(0, 1, 1, &[]), "0x0000 is not in the call table"),
        (
            command(op::rgpuCopyIn, 1, 1, &[0; 5]),
            "carries 5 bytes where",
        ),
        (lying, "carries 0 bytes where"),
        (trailing, "carries 3 bytes where its arguments take 0"),
        (twice, "sequence number 4 follows 4"),
    ] {
        let (result, reason) = end_of(&bytes);
        assert_eq!(result, 999);
        assert!(
            reason.starts_with("the client broke the protocol: ") && reason.contains(words),
            "{reason}"
        );
    }
}

#[test]
fn a_client_may_not_use_threads_without_end() {
    let bytes: Vec<u8> = (1..=1025)
        .flat_map(|thread| command(op::cuModuleGetLoadingMode, thread, thread.into(), &[]))
        .collect();
    let mut rig = Rig::start(64 * MIB);
    let mut writer = rig.client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&bytes));
    let mut replies = 0;
    let reason = loop {
        match rig.client.receive() {
            Incoming::Reply { .. } => replies += 1,
            Incoming::Ended { reason, .. } => break reason,
            Incoming::Closed => panic!("closed without a word"),
        }
    };
    assert_eq!(replies, 1024);
    assert!(reason.contains("more than 1024 threads"), "{reason}");
    sender.join().unwrap().unwrap();
}

#[test]
fn an_end_within_a_frame_is_told_to_the_broker() {
    let mut rig = Rig::start(64 * MIB);
    let bytes = command(op::rgpuCopyIn, 1, 1, &[0; 64]);
    rig.client.stream.write_all(&bytes[..40]).unwrap();
    let end = rig.close();
    assert_eq!(end.result, 999);
    assert!(end.reason.contains("within a frame"), "{}", end.reason);
}

/// One of each kind of command, as a client would send them.
fn recorded(base: u64) -> Vec<Vec<u8>> {
    let (mut client, _socket) = Client::pair();
    let stream = 0x3_0010_u64;
    let name = b"store";
    let bind = calls::rgpuFunctionBindArgs {
        id: U64::new(0x4_0010),
        module: U64::new(MODULE),
        name_len: U64::new(name.len() as u64),
    };
    let load = calls::rgpuModuleLoadArgs {
        id: U64::new(MODULE),
        log_bytes: U32::new(100),
        max_registers: U32::new(0),
        image_len: U64::new(fake::IMAGE.len() as u64),
    };
    let params = [&base.to_le_bytes()[..], &[1, 2, 3, 4]].concat();
    let launch = Client::launch_args(0x4_0010, 1, 1, stream, &params);
    let copy_in = calls::rgpuCopyInArgs {
        dst: U64::new(base),
        stream: U64::new(stream),
        sync: U32::new(0),
        data_len: U64::new(8),
    };
    let (at, number) = (U64::new, U32::new);
    // Two slices of two rows of four bytes, rows eight bytes and slices three rows apart.
    let box_in = calls::rgpuBoxInArgs {
        dst: at(base + 64),
        pitch: at(8),
        rows: at(3),
        width: at(4),
        height: at(2),
        depth: at(2),
        stream: at(stream),
        sync: number(0),
        data_len: at(16),
    };
    let box_out = calls::rgpuBoxOutArgs {
        src: at(base + 64),
        pitch: at(8),
        rows: at(3),
        width: at(4),
        height: at(2),
        depth: at(2),
        stream: at(stream),
        sync: number(1),
    };
    let box_land = calls::rgpuBoxLandArgs {
        src: at(base + 64),
        pitch: at(8),
        rows: at(3),
        width: at(4),
        height: at(2),
        depth: at(2),
        stream: at(stream),
    };
    let box_device = calls::rgpuBoxDeviceArgs {
        dst: at(base + 256),
        dst_pitch: at(4),
        dst_rows: at(2),
        src: at(base + 64),
        src_pitch: at(8),
        src_rows: at(3),
        width: at(4),
        height: at(2),
        depth: at(2),
        stream: at(0),
        sync: number(1),
    };
    let rows = calls::rgpuMemset2DArgs {
        dst: at(base + 512),
        pitch: at(16),
        element: number(4),
        value: number(7),
        width: at(2),
        height: at(3),
        stream: at(0),
        sync: number(1),
    };
    /// Far from any window: what a damaged frame leaves there must be in no session's way.
    const RESERVED: u64 = 1 << 44;
    const PHYSICAL: u64 = 0x7_0010;
    let words = |words: &[u64]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let physical = calls::rgpuPhysicalCreateArgs {
        id: at(PHYSICAL),
        bytes: at(2 * MIB),
        ..Default::default()
    };
    let physical = physical.as_bytes().to_vec();
    let access = calls::rgpuPhysicalAccessArgs {
        address: at(RESERVED + base),
        bytes: at(2 * MIB),
        flags: number(3),
        ..Default::default()
    };
    let access = access.as_bytes().to_vec();
    let memory = |kind: u32, address: u64, bytes: u64| calls::rgpuMemoryMapArgs {
        kind: U32::new(kind),
        address: U64::new(address),
        bytes: U64::new(bytes),
        ..Default::default()
    };
    let create = calls::rgpuContextCreateArgs {
        id: U64::new(CONTEXT),
        ..Default::default()
    };
    let graph = 0x6_0010_u64;
    let host = calls::rgpuLaunchHostArgs {
        stream: U64::new(stream),
        function: U64::new(64),
        data: U64::new(65),
        ..Default::default()
    };
    let node = |id: u64, before: &[u64], fill: &dyn Fn(&mut NodeParams)| {
        let mut params = [0; node_params::WORDS];
        fill(&mut params);
        let args = calls::rgpuGraphAddNodeArgs {
            id: U64::new(id),
            graph: U64::new(graph),
            dependencies_len: U64::new(8 * before.len() as u64),
            params_len: U64::new(8 * node_params::WORDS as u64),
            arguments_len: U64::new(0),
        };
        let before: Vec<u8> = before.iter().flat_map(|id| id.to_le_bytes()).collect();
        [args.as_bytes(), &before, &node_params::to_bytes(&params)].concat()
    };
    let call = node(0x7_0010, &[], &|params| {
        (params[0], params[2], params[3]) = (node_params::HOST.into(), 64, 65);
    });
    let copy = node(0x7_0020, &[0x7_0010], &|params| {
        use node_params::memcpy::*;
        (params[0], params[CONTEXT]) = (node_params::MEMCPY.into(), super::client::CONTEXT);
        (params[SRC + TYPE], params[SRC + HOST]) = (HOST_MEMORY.into(), 4096);
        (params[DST + TYPE], params[DST + DEVICE]) = (DEVICE_MEMORY.into(), base);
        (params[WIDTH], params[ROWS], params[DEPTH]) = (16, 1, 1);
    });
    let (library, in_context, other) = (0x9_0010_u64, 0x2_0020_u64, 0x4_0020_u64);
    let library_load = calls::rgpuLibraryLoadArgs {
        id: U64::new(library),
        device: I32::new(0),
        info_bytes: U32::new(9),
        error_bytes: U32::new(100),
        image_len: U64::new(fake::IMAGE.len() as u64),
        options_len: U64::new(12),
    };
    let register_bound = rgpu_proto::jit::encode(&[(0, 32)]);
    let bind_kernel = calls::rgpuFunctionBindArgs {
        id: U64::new(other),
        module: U64::new(in_context),
        name_len: U64::new(name.len() as u64),
    };
    let find = calls::rgpuKernelFindArgs {
        library: U64::new(library),
        device: I32::new(0),
        name_len: U64::new(name.len() as u64),
    };
    let cooperative = rgpu_proto::launch::encode(&[(2, [1, 0, 0, 0])]);
    let launch_ex = calls::rgpuLaunchExArgs {
        function: U64::new(other),
        grid_x: U32::new(1),
        grid_y: U32::new(1),
        grid_z: U32::new(1),
        block_x: U32::new(1),
        block_y: U32::new(1),
        block_z: U32::new(1),
        shared_bytes: U32::new(0),
        stream: U64::new(stream),
        attributes_len: U64::new(cooperative.len() as u64),
        params_len: U64::new(params.len() as u64),
    };
    let occupancy = calls::rgpuOccupancyBlocksArgs {
        function: U64::new(other),
        flags: U32::new(0),
        sizes_len: U64::new(12),
    };
    let link = 0xb_0010_u64;
    let link_create = calls::rgpuLinkCreateArgs {
        id: U64::new(link),
        info_bytes: U32::new(9),
        error_bytes: U32::new(100),
        options_len: U64::new(12),
    };
    let link_add = calls::rgpuLinkAddArgs {
        id: U64::new(link),
        kind: U32::new(1),
        name_len: U64::new(name.len() as u64),
        data_len: U64::new(4),
        options_len: U64::new(0),
    };
    let parts: Vec<(u16, Vec<u8>)> = vec![
        (op::rgpuContextCreate, create.as_bytes().to_vec()),
        (op::rgpuModuleLoad, [load.as_bytes(), fake::IMAGE].concat()),
        (op::rgpuFunctionBind, [bind.as_bytes(), name].concat()),
        (
            op::cuStreamCreate,
            [&stream.to_le_bytes()[..], &[0; 4]].concat(),
        ),
        (
            op::rgpuMemoryMap,
            memory(0, base + 32 * MIB, 2 * MIB).as_bytes().to_vec(),
        ),
        (op::rgpuMemoryMap, memory(1, 0, 100).as_bytes().to_vec()),
        (op::rgpuCopyIn, [copy_in.as_bytes(), &[7; 8]].concat()),
        (op::rgpuLaunch, [launch.as_bytes(), &params].concat()),
        (
            op::rgpuCopyOut,
            Client::copy_out_args(base, 8, stream).as_bytes().to_vec(),
        ),
        (op::rgpuBoxIn, [box_in.as_bytes(), &[7; 16]].concat()),
        (op::rgpuBoxOut, box_out.as_bytes().to_vec()),
        (op::rgpuBoxLand, box_land.as_bytes().to_vec()),
        (op::rgpuBoxDevice, box_device.as_bytes().to_vec()),
        (op::rgpuMemset2D, rows.as_bytes().to_vec()),
        (
            op::rgpuAddressReserve,
            words(&[4 * MIB, 0, RESERVED + base]),
        ),
        (op::rgpuPhysicalCreate, physical),
        (op::rgpuPhysicalMap, words(&[PHYSICAL, RESERVED + base])),
        (op::rgpuPhysicalAccess, access),
        (op::rgpuPhysicalUnmap, words(&[RESERVED + base, 2 * MIB])),
        (op::rgpuPhysicalRelease, words(&[PHYSICAL])),
        (op::rgpuAddressFree, words(&[RESERVED + base, 4 * MIB])),
        (op::rgpuGranularity, vec![0; 8]),
        (
            op::rgpuLibraryLoad,
            [library_load.as_bytes(), fake::IMAGE, &register_bound].concat(),
        ),
        (
            op::rgpuLibraryModule,
            [in_context.to_le_bytes(), library.to_le_bytes()].concat(),
        ),
        (op::rgpuKernelFind, [find.as_bytes(), name].concat()),
        (
            op::rgpuFunctionBind,
            [bind_kernel.as_bytes(), name].concat(),
        ),
        (
            op::rgpuOccupancyBlocks,
            [occupancy.as_bytes(), &[1, 0, 0, 0], &[0; 8]].concat(),
        ),
        (
            op::rgpuLaunchEx,
            [launch_ex.as_bytes(), &cooperative, &params].concat(),
        ),
        (
            op::rgpuLinkCreate,
            [link_create.as_bytes(), &register_bound].concat(),
        ),
        (
            op::rgpuLinkAdd,
            [link_add.as_bytes(), name, b"code"].concat(),
        ),
        (op::rgpuLinkComplete, link.to_le_bytes().to_vec()),
        (op::rgpuLinkDestroy, link.to_le_bytes().to_vec()),
        (op::rgpuMemoryInfo, vec![0; 4]),
        (op::cuStreamSynchronize, stream.to_le_bytes().to_vec()),
        (
            op::cuGraphCreate,
            [&graph.to_le_bytes()[..], &[0; 4]].concat(),
        ),
        (op::rgpuGraphAddNode, call),
        (op::rgpuGraphAddNode, copy),
        (op::rgpuGraphDestroy, graph.to_le_bytes().to_vec()),
        (
            op::rgpuMemoryUnmap,
            [
                &[0; 8][..],
                &(base + 32 * MIB).to_le_bytes(),
                &(2 * MIB).to_le_bytes(),
            ]
            .concat(),
        ),
        (op::rgpuLaunchHost, host.as_bytes().to_vec()),
        (op::cuStreamDestroy_v2, stream.to_le_bytes().to_vec()),
        (op::rgpuLibraryUnload, library.to_le_bytes().to_vec()),
        (op::rgpuModuleUnload, MODULE.to_le_bytes().to_vec()),
        (op::rgpuContextDestroy, CONTEXT.to_le_bytes().to_vec()),
    ];
    parts
        .iter()
        .map(|(operation, body)| client.frame(1, *operation, &[body], true))
        .collect()
}

/// Plays frames, which may depend on where the window is, and closes; what the worker says of it, and how many replies it gave.
fn play(frames: impl Fn(u64) -> Vec<Vec<u8>>) -> (u32, String, usize) {
    let mut rig = Rig::start(16 * MIB);
    let bytes = frames(rig.base).concat();
    // Short enough to fit the socket; the worker may end before it has read them all.
    let _ = rig.client.stream.write_all(&bytes);
    let _ = rig.client.stream.shutdown(std::net::Shutdown::Write);
    let mut replies = 0;
    loop {
        match rig.client.receive() {
            Incoming::Reply { .. } => replies += 1,
            Incoming::Ended { .. } => {}
            Incoming::Closed => break,
        }
    }
    let end = rig.close();
    (end.result, end.reason, replies)
}

#[test]
fn flipped_bytes_end_in_a_reason_or_in_errors() {
    // What lands is a reply of its own.
    flip(recorded, 1, 4);
}

/// Plays frames with each byte of headers and bodies, in each frame, changed with three kinds of damage. `landings`: replies that nobody has
/// asked for; `ends`: fewer kinds of ends than there must be.
pub fn flip(recorded: impl Fn(u64) -> Vec<Vec<u8>>, landings: usize, ends_below: usize) {
    let whole = recorded(0);
    let (result, reason, replies) = play(&recorded);
    assert_eq!((result, reason.as_str()), (0, "the client closed"));
    assert_eq!(replies, whole.len() + landings);
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for frame in 0..whole.len() {
        for at in 0..whole[frame].len() {
            for damage in [0x01, 0x80, 0xff] {
                let (result, reason, _) = play(|base| {
                    let mut frames = recorded(base);
                    frames[frame][at] ^= damage;
                    frames
                });
                assert!(
                    matches!(result, 0 | 999),
                    "frame {frame} byte {at} ^ {damage:#x}: {result} {reason}"
                );
                assert!(
                    !reason.contains("the worker broke"),
                    "frame {frame} byte {at} ^ {damage:#x}: {reason}"
                );
                let kind = reason.split(':').take(2).collect::<String>();
                *ends.entry(kind.chars().take(50).collect()).or_default() += 1;
            }
        }
    }
    assert!(ends.len() > ends_below, "{ends:?}");
}
