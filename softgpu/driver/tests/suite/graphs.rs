use crate::common::*;
use softgpu_cuda::abi::{KernelNode, Memcpy3d, MemsetNode};

const DEVICE: u32 = 2;

fn copy(to: u64, from: u64, bytes: usize) -> Memcpy3d {
    Memcpy3d {
        src_type: DEVICE,
        src_device: from,
        dst_type: DEVICE,
        dst_device: to,
        width: bytes,
        height: 1,
        depth: 1,
        ..Default::default()
    }
}

struct Kernel {
    _values: Box<[u64; 2]>,
    _pointers: Box<[u64; 2]>,
    node: KernelNode,
}

fn kernel(function: u64, grid: u32, block: u32, values: [u64; 2]) -> Kernel {
    let values = Box::new(values);
    let pointers = Box::new([
        std::ptr::from_ref(&values[0]) as u64,
        std::ptr::from_ref(&values[1]) as u64,
    ]);
    let node = KernelNode {
        function,
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        shared: 0,
        params: pointers.as_ptr() as u64,
        extra: 0,
    };
    Kernel {
        _values: values,
        _pointers: pointers,
        node,
    }
}

#[test]
fn nodes_run_in_their_order_and_can_be_changed() {
    let program = Program::new();
    let (a, b, c) = (alloc(1024), alloc(1024), alloc(1024));
    let graph: u64 = get(|out| cuGraphCreate(out, 0));
    let fill = MemsetNode {
        dst: a,
        pitch: 0,
        value: 10,
        element_size: 4,
        width: 256,
        height: 1,
    };
    let first: u64 =
        get(|out| cuGraphAddMemsetNode(out, graph, In::null(), 0, In::of(&fill), program.context));
    let add = kernel(program.function("add"), 1, 256, [a, 5]);
    let second: u64 =
        get(|out| cuGraphAddKernelNode(out, graph, In::of(&first), 1, In::of(&add.node)));
    let to_b = copy(b, a, 1024);
    let third: u64 = get(|out| {
        cuGraphAddMemcpyNode(
            out,
            graph,
            In::of(&second),
            1,
            In::of(&to_b),
            program.context,
        )
    });
    let to_c = copy(c, a, 1024);
    let fourth: u64 = get(|out| {
        cuGraphAddMemcpyNode(
            out,
            graph,
            In::of(&second),
            1,
            In::of(&to_c),
            program.context,
        )
    });
    let ends = [third, fourth];
    let _join: u64 = get(|out| cuGraphAddEmptyNode(out, graph, In::of_slice(&ends), 2));
    let mut count = 0usize;
    ok(cuGraphGetNodes(graph, Out::null(), Out::of(&mut count)));
    assert_eq!(count, 5);
    assert_eq!(
        cuGraphAddEmptyNode(Out::of(&mut 0), graph, In::of(&a), 1),
        INVALID_VALUE
    );

    let exec: u64 = get(|out| cuGraphInstantiate_v2(out, graph, Out::null(), Out::null(), 0));
    for _ in 0..5 {
        ok(cuGraphLaunch(exec, 0));
    }
    assert_eq!(download::<u32>(b, 256), [15; 256]);
    assert_eq!(download::<u32>(c, 256), [15; 256]);

    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let changed = kernel(program.function("add"), 1, 128, [a, 7]);
    ok(cuGraphExecKernelNodeSetParams(
        exec,
        second,
        In::of(&changed.node),
    ));
    ok(cuGraphExecMemcpyNodeSetParams(
        exec,
        fourth,
        In::of(&copy(c, b, 512)),
        program.context,
    ));
    assert_eq!(
        cuGraphExecKernelNodeSetParams(exec, third, In::of(&changed.node)),
        INVALID_VALUE
    );
    ok(cuGraphUpload(exec, stream));
    ok(cuGraphDestroy(graph));
    assert_eq!(cuGraphDestroy(graph), INVALID_VALUE);
    ok(cuGraphLaunch(exec, stream));
    ok(cuStreamSynchronize(stream));
    let b_now = download::<u32>(b, 256);
    assert!(b_now[..128].iter().all(|&n| n == 17) && b_now[128..].iter().all(|&n| n == 10));
    ok(cuGraphExecDestroy(exec));
    assert_eq!(cuGraphLaunch(exec, stream), INVALID_VALUE);
}

#[test]
fn an_empty_graph_and_rows() {
    let program = Program::new();
    let graph: u64 = get(|out| cuGraphCreate(out, 0));
    let exec: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuGraphLaunch(exec, 0));
    ok(cuCtxSynchronize());

    // A box of 3 rows of 8 bytes in 2 slices, out of rows of 16.
    let from = upload(&(0..128).collect::<Vec<u8>>());
    let to = upload(&[0u8; 48]);
    let rows = Memcpy3d {
        src_x: 4,
        src_y: 1,
        src_pitch: 16,
        src_height: 4,
        dst_pitch: 8,
        dst_height: 3,
        width: 8,
        height: 3,
        depth: 2,
        ..copy(to, from, 0)
    };
    let _node: u64 =
        get(|out| cuGraphAddMemcpyNode(out, graph, In::null(), 0, In::of(&rows), program.context));
    let exec: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuGraphLaunch(exec, 0));
    let expected: Vec<u8> = (0..2u8)
        .flat_map(|z| {
            (0..3u8).flat_map(move |y| (0..8u8).map(move |x| z * 64 + (y + 1) * 16 + 4 + x))
        })
        .collect();
    assert_eq!(download::<u8>(to, 48), expected);
    let too_far = Memcpy3d { depth: 3, ..rows };
    let result = cuGraphAddMemcpyNode(
        Out::of(&mut 0),
        graph,
        In::null(),
        0,
        In::of(&too_far),
        program.context,
    );
    assert_eq!(result, INVALID_VALUE);
}

/// The copy's source is gone when the graph runs: an error, and the process lives.
#[test]
fn freed_memory_is_an_error_at_launch() {
    init();
    let context: u64 = get(|out| cuCtxCreate_v2(out, 0, 0));
    // Large blocks have pages of their own, which freeing takes away.
    let (a, b) = (alloc(4 << 20), alloc(4 << 20));
    let graph: u64 = get(|out| cuGraphCreate(out, 0));
    let _node: u64 = get(|out| {
        cuGraphAddMemcpyNode(
            out,
            graph,
            In::null(),
            0,
            In::of(&copy(b, a, 4 << 20)),
            context,
        )
    });
    let exec: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuMemFree_v2(a));
    ok(cuGraphLaunch(exec, 0));
    assert_eq!(cuCtxSynchronize(), 700);
    ok(cuCtxDestroy_v2(context));
}
