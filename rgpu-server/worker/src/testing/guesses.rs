//! Names that a client was not given, and lists that are not what they say: refused before a driver sees them. The driver here has none of
//! the functions behind these commands, so that CUDA_ERROR_NOT_SUPPORTED means that it was asked.

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::dev_resource::GROUP;
use rgpu_proto::node_params;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I32, U32, U64};

use super::client::{CONTEXT, MIB};
use super::session::Rig;

const GRAPH: u64 = 0x6_0010;
const NODE: u64 = 0x7_0010;
const EVENT: u64 = 0x5_0010;

fn rig() -> Rig {
    let mut rig = Rig::start(16 * MIB);
    rig.client.context();
    let graph = calls::cuGraphCreateArgs {
        graph: U64::new(GRAPH),
        flags: U32::new(0),
    };
    rig.client.send(1, op::cuGraphCreate, &[graph.as_bytes()]);
    let event = calls::cuEventCreateArgs {
        event: U64::new(EVENT),
        flags: U32::new(0),
    };
    rig.client.send(1, op::cuEventCreate, &[event.as_bytes()]);
    rig
}

/// The code of a command, or of an earlier one that nobody waited for.
fn code(rig: &mut Rig, operation: u16, parts: &[&[u8]]) -> CudaError {
    let (status, deferred, _) = rig.client.call(1, operation, parts);
    CudaError(if deferred == 0 { status } else { deferred })
}

#[test]
fn a_condition_is_one_that_was_given() {
    let mut rig = rig();
    let add = |id: u64, handle: u64, size: u32| calls::rgpuGraphAddConditionalArgs {
        id: U64::new(id),
        graph: U64::new(GRAPH),
        context: U64::new(CONTEXT),
        handle: U64::new(handle),
        kind: U32::new(1),
        size: U32::new(size),
        dependencies_len: U64::new(0),
    };
    for (at, (handle, size)) in [(0, 1), (rig.base, 1), (7, 0), (7, u32::MAX)]
        .into_iter()
        .enumerate()
    {
        let args = add(NODE + 16 * at as u64, handle, size);
        let code = code(&mut rig, op::rgpuGraphAddConditional, &[args.as_bytes()]);
        assert_eq!(code, CudaError::INVALID_VALUE);
    }
    let handle = calls::rgpuConditionalHandleArgs {
        graph: U64::new(GRAPH),
        context: U64::new(CONTEXT),
        value: U32::new(0),
        flags: U32::new(0),
    };
    let asked = code(&mut rig, op::rgpuConditionalHandle, &[handle.as_bytes()]);
    assert_eq!(asked, CudaError::NOT_SUPPORTED);
}

#[test]
fn a_batch_of_operations_is_whole_and_not_too_long() {
    let mut rig = rig();
    for (at, bytes) in [47, 49, 48 * 257].into_iter().enumerate() {
        let mut params = [0; node_params::WORDS];
        params[0] = node_params::BATCH_MEM_OP.into();
        params[node_params::mem_ops::CONTEXT] = CONTEXT;
        // The list's length counts, whatever this says.
        params[node_params::mem_ops::COUNT] = 1;
        params[node_params::mem_ops::LIST] = 0x1000;
        let args = calls::rgpuGraphAddNodeArgs {
            id: U64::new(NODE + 16 * at as u64),
            graph: U64::new(GRAPH),
            dependencies_len: U64::new(0),
            params_len: U64::new(8 * node_params::WORDS as u64),
            arguments_len: U64::new(bytes as u64),
        };
        let parts: [&[u8]; 3] = [
            args.as_bytes(),
            &node_params::to_bytes(&params),
            &vec![0; bytes],
        ];
        let code = code(&mut rig, op::rgpuGraphAddNode, &parts);
        assert_eq!(code, CudaError::INVALID_VALUE);
    }
}

#[test]
fn memory_of_graphs_is_theirs_alone() {
    let mut rig = rig();
    for address in [rig.base, 0, u64::MAX] {
        let args = calls::rgpuGraphMemoryFreeArgs {
            stream: U64::new(0),
            address: U64::new(address),
        };
        let code = code(&mut rig, op::rgpuGraphMemoryFree, &[args.as_bytes()]);
        assert_eq!(code, CudaError::INVALID_VALUE);
    }
    // Outside of a capture there is no graph whose it could be.
    let args = calls::rgpuCaptureAllocArgs {
        stream: U64::new(0),
        device: I32::new(0),
        bytes: U64::new(1000),
    };
    let code = code(&mut rig, op::rgpuCaptureAlloc, &[args.as_bytes()]);
    assert_eq!(code, CudaError::STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn resources_are_those_that_were_shown() {
    let mut rig = rig();
    for number in [0, 1, u64::MAX] {
        let count = calls::rgpuSmSplitByCountArgs {
            input: U64::new(number),
            least: U32::new(1),
            most: U32::new(u32::MAX),
            ..Default::default()
        };
        let split = calls::rgpuSmSplitArgs {
            input: U64::new(number),
            groups_len: U64::new(GROUP as u64),
            ..Default::default()
        };
        let list = calls::rgpuDevResourceDescArgs {
            resources_len: U64::new(8),
        };
        let groups = [0; GROUP];
        let number = number.to_le_bytes();
        for (operation, parts) in [
            (op::rgpuSmSplitByCount, vec![count.as_bytes()]),
            (op::rgpuSmSplit, vec![split.as_bytes(), &groups]),
            (op::rgpuDevResourceDesc, vec![list.as_bytes(), &number]),
        ] {
            assert_eq!(code(&mut rig, operation, &parts), CudaError::INVALID_VALUE);
        }
    }
    let odd = calls::rgpuDevResourceDescArgs {
        resources_len: U64::new(7),
    };
    let asked = code(
        &mut rig,
        op::rgpuDevResourceDesc,
        &[odd.as_bytes(), &[0; 7]],
    );
    assert_eq!(asked, CudaError::INVALID_VALUE);
}

#[test]
fn green_contexts_are_those_that_were_made() {
    let mut rig = rig();
    let create = calls::rgpuGreenCreateArgs {
        id: U64::new(0xc_0010),
        context: U64::new(0xd_0010),
        primary: U64::new(CONTEXT),
        description: U64::new(1),
        ..Default::default()
    };
    let asked = code(&mut rig, op::rgpuGreenCreate, &[create.as_bytes()]);
    assert_eq!(asked, CudaError::INVALID_VALUE);
    let id = 0xc_0010_u64.to_le_bytes();
    let asked = code(&mut rig, op::rgpuGreenDestroy, &[&id]);
    assert_eq!(asked, CudaError::INVALID_CONTEXT);
    let event = calls::rgpuGreenEventArgs {
        green: U64::new(0xc_0010),
        event: U64::new(EVENT),
        wait: U32::new(1),
    };
    let asked = code(&mut rig, op::rgpuGreenEvent, &[event.as_bytes()]);
    assert_eq!(asked, CudaError::INVALID_CONTEXT);
    let stream = calls::rgpuGreenStreamCreateArgs {
        id: U64::new(0x3_0010),
        green: U64::new(0xc_0010),
        ..Default::default()
    };
    let asked = code(&mut rig, op::rgpuGreenStreamCreate, &[stream.as_bytes()]);
    assert_eq!(asked, CudaError::INVALID_CONTEXT);
}

#[test]
fn lists_of_tensor_maps_and_operations_have_their_lengths() {
    let mut rig = rig();
    for (kind, rank, bytes) in [
        (0, 0, 0),
        (0, 6, 999),
        (0, 2, 39),
        (1, 3, 55),
        (2, 3, 51),
        (3, 1, 99),
    ] {
        let args = calls::rgpuTensorMapArgs {
            kind: U32::new(kind),
            rank: U32::new(rank),
            lists_len: U64::new(bytes as u64),
            ..Default::default()
        };
        let code = code(
            &mut rig,
            op::rgpuTensorMap,
            &[args.as_bytes(), &vec![0; bytes]],
        );
        assert_eq!(code, CudaError::INVALID_VALUE, "{kind} {rank} {bytes}");
    }
    let whole = calls::rgpuTensorMapArgs {
        rank: U32::new(2),
        lists_len: U64::new(40),
        ..Default::default()
    };
    let asked = code(&mut rig, op::rgpuTensorMap, &[whole.as_bytes(), &[0; 40]]);
    assert_eq!(asked, CudaError::NOT_SUPPORTED);
    let address = calls::rgpuTensorMapAddressArgs {
        address: U64::new(0),
        before_len: U64::new(127),
    };
    let asked = code(
        &mut rig,
        op::rgpuTensorMapAddress,
        &[address.as_bytes(), &[0; 127]],
    );
    assert_eq!(asked, CudaError::INVALID_VALUE);
    for bytes in [0, 5] {
        let args = calls::rgpuPeerAtomicsArgs {
            src: I32::new(0),
            dst: I32::new(0),
            operations_len: U64::new(bytes as u64),
        };
        let code = code(
            &mut rig,
            op::rgpuPeerAtomics,
            &[args.as_bytes(), &vec![0; bytes]],
        );
        assert_eq!(code, CudaError::INVALID_VALUE);
    }
}
