use crate::common::*;
use softgpu_cuda::abi::{
    EdgeData, ExecUpdateInfo, HostNode, InstantiateParams, KernelNode, MemAllocNode, MemsetNode,
    NodeParams,
};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

fn graph() -> u64 {
    get(|out| cuGraphCreate(out, 0))
}

fn instantiate(graph: u64) -> u64 {
    get(|out| cuGraphInstantiateWithFlags(out, graph, 0))
}

fn fill_of(at: u64, value: u32) -> MemsetNode {
    MemsetNode {
        dst: at,
        pitch: 0,
        value,
        element_size: 4,
        width: 1,
        height: 1,
    }
}

fn add_fill(graph: u64, after: &[u64], at: u64, value: u32) -> u64 {
    let fill = fill_of(at, value);
    get(|out| {
        cuGraphAddMemsetNode(
            out,
            graph,
            In::of_slice(after),
            after.len(),
            In::of(&fill),
            0,
        )
    })
}

/// `step` without rounds of nothing.
struct Step {
    _values: Box<[u64; 2]>,
    _pointers: Box<[u64; 2]>,
    node: KernelNode,
}

fn step(program: &Program, at: u64) -> Step {
    let values = Box::new([at, 0]);
    let pointers = Box::new([
        std::ptr::from_ref(&values[0]) as u64,
        std::ptr::from_ref(&values[1]) as u64,
    ]);
    let node = KernelNode {
        function: program.function("step"),
        grid: [1; 3],
        block: [1; 3],
        shared: 0,
        params: pointers.as_ptr() as u64,
        extra: 0,
    };
    Step {
        _values: values,
        _pointers: pointers,
        node,
    }
}

fn add_step(program: &Program, graph: u64, after: &[u64], at: u64) -> u64 {
    let step = step(program, at);
    get(|out| {
        cuGraphAddKernelNode(
            out,
            graph,
            In::of_slice(after),
            after.len(),
            In::of(&step.node),
        )
    })
}

fn list(call: impl Fn(Out<u64>, Out<usize>) -> u32) -> Vec<u64> {
    let mut count = 0usize;
    ok(call(Out::null(), Out::of(&mut count)));
    let mut found = vec![7u64; count + 1];
    count += 1;
    ok(call(Out::of(&mut found[0]), Out::of(&mut count)));
    assert_eq!(found.pop(), Some(0));
    assert_eq!(found.len(), count);
    found
}

#[test]
fn edges_can_be_asked_for_and_changed() {
    let program = Program::new();
    let at = upload(&[1u32]);
    let graph = graph();
    let a = add_step(&program, graph, &[], at);
    let b = add_fill(graph, &[], at, 5);
    let c = add_step(&program, graph, &[a], at);
    assert_eq!(list(|o, n| cuGraphGetRootNodes(graph, o, n)), [a, b]);
    // c, then a, after b: an edge from a later node to an earlier one.
    ok(cuGraphRemoveDependencies(graph, In::of(&a), In::of(&c), 1));
    let (from, to) = ([b, c], [c, a]);
    ok(cuGraphAddDependencies(
        graph,
        In::of_slice(&from),
        In::of_slice(&to),
        2,
    ));
    let exec = instantiate(graph);
    ok(cuGraphLaunch(exec, 0));
    assert_eq!(download::<u32>(at, 1), [(5 * 3 + 1) * 3 + 1]);
    assert_eq!(list(|o, n| cuGraphNodeGetDependencies(a, o, n)), [c]);
    assert_eq!(list(|o, n| cuGraphNodeGetDependentNodes(b, o, n)), [c]);
    let (mut first, mut second, mut count) = ([0u64; 3], [0u64; 3], 3usize);
    ok(cuGraphGetEdges(
        graph,
        Out::of(&mut first[0]),
        Out::of(&mut second[0]),
        Out::of(&mut count),
    ));
    assert_eq!((first, second, count), ([c, b, 0], [a, c, 0], 2));
    let mut data = [EdgeData {
        kind: 3,
        ..EdgeData::default()
    }; 3];
    let mut room = 3usize;
    ok(cuGraphGetEdges_v2(
        graph,
        Out::of(&mut first[0]),
        Out::of(&mut second[0]),
        Out::of(&mut data[0]),
        Out::of(&mut room),
    ));
    assert_eq!((room, data), (2, [EdgeData::default(); 3]));
    let connect = |from, to| cuGraphAddDependencies(graph, In::of(&from), In::of(&to), 1);
    assert_eq!(connect(b, c), INVALID_VALUE);
    assert_eq!(connect(b, b), INVALID_VALUE);
    assert_eq!(connect(b, 77), INVALID_VALUE);
    assert_eq!(
        cuGraphRemoveDependencies(graph, In::of(&a), In::of(&b), 1),
        INVALID_VALUE
    );
    let odd = EdgeData {
        from_port: 1,
        ..EdgeData::default()
    };
    assert_eq!(
        cuGraphAddDependencies_v2(graph, In::of(&a), In::of(&b), In::of(&odd), 1),
        801
    );
    // A circle is found when it matters.
    ok(connect(a, b));
    let mut log = [0 as std::ffi::c_char; 80];
    assert_eq!(
        cuGraphInstantiate_v2(
            Out::of(&mut 0),
            graph,
            Out::null(),
            Out::of(&mut log[0]),
            80
        ),
        INVALID_VALUE
    );
    assert_ne!(log[0], 0);
    ok(cuGraphDestroyNode(c));
    assert_eq!(cuGraphDestroyNode(c), INVALID_VALUE);
    assert_eq!(list(|o, n| cuGraphGetNodes(graph, o, n)), [a, b]);
    assert_eq!(get(|out| cuGraphNodeGetContainingGraph(a, out)), graph);
    let params = &mut InstantiateParams::default();
    let mut exec = 0;
    ok(cuGraphInstantiateWithParams(
        Out::of(&mut exec),
        graph,
        Out::of(params),
    ));
    assert_eq!(params.result, 0);
    ok(cuGraphLaunch(exec, 0));
    ok(cuCtxSynchronize());
    ok(cuGraphDestroy(graph));
    assert_eq!(cuGraphNodeGetType(a, Out::of(&mut 0)), INVALID_VALUE);
}

extern "C" fn count(data: u64) {
    // SAFETY: the tests pass counters that outlive their graphs' launches.
    unsafe { &*(data as *const AtomicU32) }.fetch_add(1, SeqCst);
}

#[test]
fn host_child_and_event_nodes() {
    let program = Program::new();
    let at = upload(&[1u32]);
    let calls = AtomicU32::new(0);
    let inner = graph();
    let set = add_fill(inner, &[], at, 2);
    let inner_step = add_step(&program, inner, &[set], at);
    let outer = graph();
    let child: u64 = get(|out| cuGraphAddChildGraphNode(out, outer, In::null(), 0, inner));
    let host = HostNode {
        function: Some(count),
        data: std::ptr::from_ref(&calls) as u64,
    };
    let called: u64 = get(|out| cuGraphAddHostNode(out, outer, In::of(&child), 1, In::of(&host)));
    let event: u64 = get(|out| cuEventCreate(out, 0));
    let recorded: u64 = get(|out| cuGraphAddEventRecordNode(out, outer, In::of(&called), 1, event));
    let waited: u64 = get(|out| cuGraphAddEventWaitNode(out, outer, In::of(&recorded), 1, event));
    add_step(&program, outer, &[waited], at);
    let kinds = [child, called, recorded, waited].map(|n| get(|out| cuGraphNodeGetType(n, out)));
    assert_eq!(kinds, [4, 3, 7, 6]);
    assert_eq!(
        get(|out| cuGraphEventRecordNodeGetEvent(recorded, out)),
        event
    );
    assert_eq!(get(|out| cuGraphEventWaitNodeGetEvent(waited, out)), event);
    assert_eq!(
        cuGraphEventWaitNodeGetEvent(recorded, Out::of(&mut 0)),
        INVALID_VALUE
    );
    let mut back = HostNode {
        function: None,
        data: 0,
    };
    ok(cuGraphHostNodeGetParams(called, Out::of(&mut back)));
    assert_eq!(back.data, host.data);
    // The child is a copy: the original may change and go.
    let copy: u64 = get(|out| cuGraphChildGraphNodeGetGraph(child, out));
    assert_ne!(copy, inner);
    assert_eq!(cuGraphDestroy(copy), INVALID_VALUE);
    let inside: u64 = get(|out| cuGraphNodeFindInClone(out, inner_step, copy));
    assert_eq!(get(|out| cuGraphNodeGetType(inside, out)), 0);
    ok(cuGraphDestroy(inner));

    let exec = instantiate(outer);
    ok(cuGraphLaunch(exec, 0));
    ok(cuEventSynchronize(event));
    ok(cuCtxSynchronize());
    assert_eq!(download::<u32>(at, 1), [22]);
    assert_eq!(calls.load(SeqCst), 1);

    // Other work for the child's nodes.
    let other = graph();
    let set = add_fill(other, &[], at, 3);
    add_step(&program, other, &[set], at);
    ok(cuGraphExecChildGraphNodeSetParams(exec, child, other));
    ok(cuGraphExecHostNodeSetParams(exec, called, In::of(&host)));
    let second: u64 = get(|out| cuEventCreate(out, 0));
    ok(cuGraphExecEventRecordNodeSetEvent(exec, recorded, second));
    ok(cuGraphLaunch(exec, 0));
    ok(cuEventSynchronize(second));
    ok(cuCtxSynchronize());
    assert_eq!(download::<u32>(at, 1), [31]);
    add_step(&program, other, &[], at);
    assert_eq!(
        cuGraphExecChildGraphNodeSetParams(exec, child, other),
        INVALID_VALUE
    );

    let path = tempfile::NamedTempFile::new().unwrap();
    let name = text(path.path().to_str().unwrap());
    ok(cuGraphDebugDotPrint(outer, c(&name), 1));
    let drawn = std::fs::read_to_string(path.path()).unwrap();
    assert!(drawn.starts_with("digraph") && drawn.contains("KERNEL\\nstep"));
    assert_eq!(drawn.matches("->").count(), 5);
    let nowhere = text("/does/not/exist.dot");
    assert_eq!(cuGraphDebugDotPrint(outer, c(&nowhere), 0), 304);
}

#[test]
fn parameters_come_back_and_can_be_changed() {
    let program = Program::new();
    let at = upload(&[1u32; 2]);
    let graph = graph();
    let fill = add_fill(graph, &[], at, 9);
    let kernel = add_step(&program, graph, &[fill], at);
    let mut params = step(&program, 0).node;
    ok(cuGraphKernelNodeGetParams(kernel, Out::of(&mut params)));
    assert_eq!(params.function, program.function("step"));
    // SAFETY: the node's parameters are two values of 64 bits.
    let first = unsafe { *(*(params.params as *const u64) as *const u64) };
    assert_eq!(first, at);
    // What came out goes in again.
    ok(cuGraphKernelNodeSetParams(kernel, In::of(&params)));
    let there = step(&program, at + 4);
    ok(cuGraphKernelNodeSetParams(kernel, In::of(&there.node)));
    let mut memset = fill_of(0, 0);
    ok(cuGraphMemsetNodeGetParams(fill, Out::of(&mut memset)));
    assert_eq!((memset.dst, memset.value), (at, 9));
    memset.dst = at + 4;
    ok(cuGraphMemsetNodeSetParams(fill, In::of(&memset)));
    let exec = instantiate(graph);
    ok(cuGraphLaunch(exec, 0));
    assert_eq!(download::<u32>(at, 2), [1, 28]);
    assert_eq!(
        cuGraphMemsetNodeGetParams(kernel, Out::of(&mut memset)),
        INVALID_VALUE
    );
    assert_eq!(
        cuGraphKernelNodeSetParams(fill, In::of(&there.node)),
        INVALID_VALUE
    );
    let mut priority = [0u64; 8];
    priority[0] = 3;
    ok(cuGraphKernelNodeSetAttribute(kernel, 8, In::of(&priority)));
    let other = add_step(&program, graph, &[], at);
    ok(cuGraphKernelNodeCopyAttributes(other, kernel));
    assert_eq!(
        get(|out| cuGraphKernelNodeGetAttribute(other, 8, out)),
        priority
    );
    assert_eq!(
        cuGraphKernelNodeGetAttribute(fill, 8, Out::of(&mut priority)),
        INVALID_VALUE
    );
    assert_eq!(
        cuGraphKernelNodeGetAttribute(kernel, 99, Out::of(&mut priority)),
        INVALID_VALUE
    );
}

#[test]
fn nodes_of_any_kind() {
    let program = Program::new();
    let at = upload(&[1u32]);
    let graph = graph();
    let mut params = NodeParams {
        kind: 2,
        reserved0: [0; 3],
        params: [0; 29],
        reserved2: 0,
    };
    let fill = fill_of(at, 4);
    // SAFETY: the parameters of a fill are at the beginning of the union.
    unsafe { (params.params.as_mut_ptr().cast::<MemsetNode>()).write(fill) };
    let first: u64 = get(|out| cuGraphAddNode(out, graph, In::null(), 0, Out::of(&mut params)));
    let step = step(&program, at);
    params.kind = 0;
    params.params = [0; 29];
    // SAFETY: as above.
    unsafe { (params.params.as_mut_ptr().cast::<KernelNode>()).write(step.node) };
    let kernel: u64 = get(|out| {
        cuGraphAddNode_v2(
            out,
            graph,
            In::of(&first),
            In::null(),
            1,
            Out::of(&mut params),
        )
    });
    ok(cuGraphNodeSetParams(kernel, Out::of(&mut params)));
    assert_eq!(
        cuGraphNodeSetParams(first, Out::of(&mut params)),
        INVALID_VALUE
    );
    let exec = instantiate(graph);
    ok(cuGraphExecNodeSetParams(exec, kernel, Out::of(&mut params)));
    ok(cuGraphLaunch(exec, 0));
    assert_eq!(download::<u32>(at, 1), [13]);
    for (kind, expected) in [(13, INVALID_VALUE), (8, 801), (99, INVALID_VALUE)] {
        params.kind = kind;
        let result = cuGraphAddNode(Out::of(&mut 0), graph, In::null(), 0, Out::of(&mut params));
        assert_eq!(result, expected);
    }
}

#[test]
fn clones_updates_and_disabled_nodes() {
    let program = Program::new();
    let at = upload(&[0u32]);
    let make = |value| {
        let graph = graph();
        let fill = add_fill(graph, &[], at, value);
        let kernel = add_step(&program, graph, &[fill], at);
        (graph, fill, kernel)
    };
    let (one, fill, kernel) = make(1);
    let clone: u64 = get(|out| cuGraphClone(out, one));
    let cloned: u64 = get(|out| cuGraphNodeFindInClone(out, fill, clone));
    assert_ne!(cloned, fill);
    assert_eq!(
        cuGraphNodeFindInClone(Out::of(&mut 0), fill, one),
        INVALID_VALUE
    );
    ok(cuGraphMemsetNodeSetParams(cloned, In::of(&fill_of(at, 10))));
    let run = |exec| {
        ok(cuGraphLaunch(exec, 0));
        download::<u32>(at, 1)[0]
    };
    let exec = instantiate(one);
    assert_eq!((run(exec), run(instantiate(clone))), (4, 31));

    let mut info = ExecUpdateInfo::default();
    ok(cuGraphExecUpdate_v2(exec, clone, Out::of(&mut info)));
    assert_eq!((info.result, run(exec)), (0, 31));
    let (mut node, mut result) = (1u64, 1u32);
    let mut update = |graph| {
        let code = cuGraphExecUpdate(exec, graph, Out::of(&mut node), Out::of(&mut result));
        (code, node, result)
    };
    assert_eq!(update(one), (0, 0, 0));
    let (longer, _, _) = make(1);
    let extra = add_fill(longer, &[], at, 1);
    assert_eq!(update(longer), (910, extra, 2));
    let other = graph();
    let only = add_step(&program, other, &[], at);
    assert_eq!(update(other), (910, only, 3));
    let loose = graph();
    add_fill(loose, &[], at, 1);
    let apart = add_step(&program, loose, &[], at);
    assert_eq!(update(loose), (910, apart, 2));

    ok(cuGraphNodeSetEnabled(exec, kernel, 0));
    assert_eq!(get(|out| cuGraphNodeGetEnabled(exec, kernel, out)), 0);
    assert_eq!(run(exec), 1);
    ok(cuGraphNodeSetEnabled(exec, kernel, 1));
    assert_eq!(run(exec), 4);
    assert_eq!(cuGraphNodeSetEnabled(exec, cloned, 0), INVALID_VALUE);
    let empty: u64 = get(|out| cuGraphAddEmptyNode(out, other, In::null(), 0));
    assert_eq!(
        cuGraphNodeSetEnabled(instantiate(other), empty, 0),
        INVALID_VALUE
    );
    let flagged: u64 = get(|out| cuGraphInstantiateWithFlags(out, one, 8));
    assert_eq!(get(|out| cuGraphExecGetFlags(flagged, out)), 8);
    assert_eq!(cuGraphInstantiateWithFlags(Out::of(&mut 0), one, 4), 801);
}

#[test]
fn memory_of_graphs() {
    let program = Program::new();
    let out = upload(&[0u32]);
    let graph = graph();
    // On the device on which no other test has graphs.
    let mut params = MemAllocNode::of(1, 4 << 20, 0);
    let alloc: u64 =
        get(|node| cuGraphAddMemAllocNode(node, graph, In::null(), 0, Out::of(&mut params)));
    let address = params.address;
    assert_ne!(address, 0);
    let used =
        |attribute| get::<u64>(|value| cuDeviceGetGraphMemAttribute(1, attribute, value.cast()));
    assert_eq!((used(0), used(3)), (4 << 20, 4 << 20));
    let fill = add_fill(graph, &[alloc], address, 7);
    let kernel = add_step(&program, graph, &[fill], address);
    let free: u64 = get(|node| cuGraphAddMemFreeNode(node, graph, In::of(&kernel), 1, address));
    assert_eq!(
        get(|value| cuGraphMemFreeNodeGetParams(free, value)),
        address
    );
    let mut back = MemAllocNode::of(0, 0, 0);
    ok(cuGraphMemAllocNodeGetParams(alloc, Out::of(&mut back)));
    assert_eq!(
        (back.bytes, back.address, back.props.location.id),
        (4 << 20, address, 1)
    );
    assert_eq!(
        cuGraphAddMemFreeNode(Out::of(&mut 0), graph, In::null(), 0, out),
        INVALID_VALUE
    );
    assert_eq!(cuGraphClone(Out::of(&mut 0), graph), 801);
    let exec = instantiate(graph);
    ok(cuGraphDestroy(graph));
    for _ in 0..3 {
        ok(cuGraphLaunch(exec, 0));
        ok(cuMemcpyDtoD_v2(out, address, 4));
        assert_eq!(download::<u32>(out, 1), [22]);
    }
    // The graph frees it.
    ok(cuMemFree_v2(address));
    ok(cuMemFreeAsync(address, 0));
    ok(cuGraphLaunch(exec, 0));
    ok(cuGraphExecDestroy(exec));
    ok(cuCtxSynchronize());
    assert_eq!((used(0), used(3)), (0, 4 << 20));
    let zero = 0u64;
    ok(cuDeviceSetGraphMemAttribute(1, 3, In::of(&zero).cast()));
    assert_eq!(used(3), 0);
    ok(cuDeviceGraphMemTrim(1));
}

#[test]
fn objects_live_as_long_as_graphs() {
    let _program = Program::new();
    let destroyed: &'static AtomicU32 = Box::leak(Box::default());
    let object: u64 =
        get(|out| cuUserObjectCreate(out, std::ptr::from_ref(destroyed) as u64, Some(count), 1, 1));
    let graph = graph();
    ok(cuGraphRetainUserObject(graph, object, 2, 0));
    assert_eq!(cuGraphReleaseUserObject(graph, object, 3), INVALID_VALUE);
    ok(cuGraphReleaseUserObject(graph, object, 1));
    ok(cuUserObjectRetain(object, 1));
    ok(cuUserObjectRelease(object, 2));
    let exec = instantiate(graph);
    ok(cuGraphDestroy(graph));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(destroyed.load(SeqCst), 0);
    ok(cuGraphExecDestroy(exec));
    let until = Instant::now() + Duration::from_secs(5);
    while destroyed.load(SeqCst) == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(destroyed.load(SeqCst), 1);
    let bad =
        |count, flags| cuUserObjectCreate(Out::of(&mut 0), 0, Some(self::count), count, flags);
    assert_eq!((bad(0, 1), bad(1, 0)), (INVALID_VALUE, INVALID_VALUE));
    assert_eq!(cuUserObjectRelease(77, 1), INVALID_VALUE);
}
