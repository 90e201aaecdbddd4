use crate::common::*;
use std::sync::atomic::{AtomicU32, Ordering::*};

const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

const ILLEGAL_STATE: u32 = 401;
const UNSUPPORTED: u32 = 900;
const INVALIDATED: u32 = 901;
const MERGE: u32 = 902;
const UNMATCHED: u32 = 903;
const UNJOINED: u32 = 904;
const ISOLATION: u32 = 905;
const IMPLICIT: u32 = 906;
const CAPTURED_EVENT: u32 = 907;
const WRONG_THREAD: u32 = 908;

fn stream() -> u64 {
    get(|out| cuStreamCreate(out, 1))
}

fn event() -> u64 {
    get(|out| cuEventCreate(out, 2))
}

fn begin(stream: u64, mode: u32) {
    ok(cuStreamBeginCapture_v2(stream, mode));
}

fn end(stream: u64) -> Result<u64, u32> {
    let mut graph = 7;
    match cuStreamEndCapture(stream, Out::of(&mut graph)) {
        0 => Ok(graph),
        error => {
            assert!(graph == 0 || error == ILLEGAL_STATE || error == WRONG_THREAD);
            Err(error)
        }
    }
}

fn status(stream: u64) -> u32 {
    get(|out| cuStreamIsCapturing(stream, out))
}

fn count(graph: u64) -> usize {
    get(|out| cuGraphGetNodes(graph, Out::null(), out))
}

fn run(graph: u64) {
    let exec: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuGraphLaunch(exec, 0));
    ok(cuCtxSynchronize());
    ok(cuGraphExecDestroy(exec));
    ok(cuGraphDestroy(graph));
}

extern "C" fn add_one(data: u64) {
    // SAFETY: the test's counter outlives the launch.
    unsafe { &*(data as *const AtomicU32) }.fetch_add(1, SeqCst);
}

/// Of every kind of work one.
#[test]
fn what_is_enqueued_becomes_a_graph() {
    let program = Program::new();
    let stream = stream();
    let (at, to) = (upload(&[1u32; 32]), upload(&[0u32; 32]));
    let calls = AtomicU32::new(0);
    assert_eq!(status(stream), 0);
    begin(stream, THREAD_LOCAL);
    assert_eq!(status(stream), 1);
    assert_eq!(cuStreamBeginCapture_v2(stream, GLOBAL), ILLEGAL_STATE);
    ok(cuMemsetD32Async(at, 5, 32, stream));
    ok(launch_in(program.function("add"), 1, 32, stream, &[at, 2]));
    ok(cuMemcpyDtoDAsync_v2(to, at, 128, stream));
    ok(cuLaunchHostFunc(
        stream,
        Some(add_one),
        std::ptr::from_ref(&calls) as u64,
    ));
    let graph = end(stream).unwrap();
    assert_eq!((status(stream), count(graph)), (0, 4));
    // Nothing has happened yet.
    assert_eq!(download::<u32>(at, 32), [1; 32]);
    let nodes: Vec<u64> = {
        let mut nodes = vec![0u64; 4];
        let mut room = 4usize;
        ok(cuGraphGetNodes(
            graph,
            Out::of(&mut nodes[0]),
            Out::of(&mut room),
        ));
        nodes
    };
    let mut copied = softgpu_cuda::abi::Memcpy3d::default();
    ok(cuGraphMemcpyNodeGetParams(nodes[2], Out::of(&mut copied)));
    assert_eq!(
        (copied.src_device, copied.dst_device, copied.width),
        (at, to, 128)
    );
    ok(cuGraphMemcpyNodeSetParams(nodes[2], In::of(&copied)));
    run(graph);
    assert_eq!(download::<u32>(to, 32), [7; 32]);
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(end(stream), Err(ILLEGAL_STATE));
}

#[test]
fn events_take_other_streams_in() {
    let program = Program::new();
    let step = program.function("step");
    let [a, b] = [stream(), stream()];
    let [fork, join] = [event(), event()];
    let at = upload(&[1u32, 1, 1]);
    begin(a, THREAD_LOCAL);
    ok(launch_in(step, 1, 1, a, &[at, 0]));
    ok(cuEventRecord(fork, a));
    ok(cuStreamWaitEvent(b, fork, 0));
    assert_eq!(status(b), 1);
    ok(launch_in(step, 1, 1, a, &[at + 4, 0]));
    ok(cuMemcpyDtoDAsync_v2(at + 8, at, 4, b));
    ok(cuEventRecord(join, b));
    ok(cuStreamWaitEvent(a, join, 0));
    let (mut state, mut id, mut graph, mut nodes, mut count) = (9, 0, 0, 0, 0usize);
    ok(cuStreamGetCaptureInfo_v2(
        a,
        Out::of(&mut state),
        Out::of(&mut id),
        Out::of(&mut graph),
        Out::of(&mut nodes),
        Out::of(&mut count),
    ));
    assert_eq!((state, count), (1, 2));
    assert_ne!((id, graph, nodes), (0, 0, 0));
    ok(launch_in(step, 1, 1, a, &[at + 8, 0]));
    assert_eq!(cuEventQuery(join), CAPTURED_EVENT);
    assert_eq!(cuEventSynchronize(join), CAPTURED_EVENT);
    let captured = end(a).unwrap();
    assert_eq!(captured, graph);
    assert_eq!((status(a), status(b)), (0, 0));
    let mut edges = 0usize;
    ok(cuGraphGetEdges(
        graph,
        Out::null(),
        Out::null(),
        Out::of(&mut edges),
    ));
    assert_eq!(edges, 4);
    run(graph);
    assert_eq!(download::<u32>(at, 3), [4, 4, 13]);
    // The event belongs to the capture until it is recorded again.
    assert_eq!(cuEventQuery(join), CAPTURED_EVENT);
    ok(cuEventRecord(join, b));
    ok(cuEventSynchronize(join));
}

#[test]
fn forks_must_be_joined() {
    let program = Program::new();
    let step = program.function("step");
    let [a, b] = [stream(), stream()];
    let fork = event();
    let at = upload(&[1u32]);
    begin(a, THREAD_LOCAL);
    ok(cuEventRecord(fork, a));
    ok(cuStreamWaitEvent(b, fork, 0));
    ok(launch_in(step, 1, 1, b, &[at, 0]));
    assert_eq!(end(a), Err(UNJOINED));
    assert_eq!((status(a), status(b)), (0, 0));
    begin(a, THREAD_LOCAL);
    ok(cuEventRecord(fork, a));
    ok(cuStreamWaitEvent(b, fork, 0));
    assert_eq!(end(b), Err(UNMATCHED));
    assert_eq!(end(a), Err(INVALIDATED));
    // What was captured never ran.
    assert_eq!(download::<u32>(at, 1), [1]);
}

#[test]
fn what_a_capture_cannot_have_ends_it() {
    let program = Program::new();
    let [a, b] = [stream(), stream()];
    let [one, two] = [event(), event()];
    let at = upload(&[1u32]);
    let broken = |stream: u64| {
        assert_eq!(status(stream), 2);
        let result = launch_in(program.function("step"), 1, 1, stream, &[at, 0]);
        assert_eq!(result, INVALIDATED);
        assert_eq!(end(stream), Err(INVALIDATED));
        assert_eq!(status(stream), 0);
    };
    begin(a, RELAXED);
    assert_eq!(cuStreamSynchronize(a), UNSUPPORTED);
    broken(a);
    begin(a, RELAXED);
    assert_eq!(cuStreamQuery(a), UNSUPPORTED);
    broken(a);
    begin(a, RELAXED);
    assert_eq!(cuCtxSynchronize(), UNSUPPORTED);
    broken(a);
    // Dependencies on what is outside.
    ok(cuEventRecord(one, b));
    begin(a, RELAXED);
    assert_eq!(cuStreamWaitEvent(a, one, 0), ISOLATION);
    broken(a);
    // Two captures cannot become one.
    begin(a, RELAXED);
    begin(b, RELAXED);
    ok(cuEventRecord(two, b));
    assert_eq!(cuStreamWaitEvent(a, two, 0), MERGE);
    broken(a);
    broken(b);
    // A stream that has joined a capture may go, once its work is joined.
    for joined in [true, false] {
        let c = stream();
        begin(a, RELAXED);
        ok(cuEventRecord(one, a));
        ok(cuStreamWaitEvent(c, one, 0));
        ok(launch_in(program.function("step"), 1, 1, c, &[at, 0]));
        ok(cuEventRecord(two, c));
        if joined {
            ok(cuStreamWaitEvent(a, two, 0));
        }
        ok(cuStreamDestroy_v2(c));
        match joined {
            true => assert_eq!(count(end(a).unwrap()), 1),
            false => assert_eq!(end(a).unwrap_err(), UNJOINED),
        }
    }
    // The one in which it began leaves it broken.
    let d = stream();
    begin(d, RELAXED);
    ok(cuStreamDestroy_v2(d));
    extern "C" fn never(_: u64, _: u32, _: u64) {}
    begin(a, RELAXED);
    assert_eq!(cuStreamAddCallback(a, Some(never), 0, 0), UNSUPPORTED);
    broken(a);
    // Streams that take no part go on.
    begin(a, RELAXED);
    ok(launch_in(program.function("step"), 1, 1, b, &[at, 0]));
    ok(cuStreamSynchronize(b));
    assert_eq!(count(end(a).unwrap()), 0);
    assert_eq!(download::<u32>(at, 1), [4]);
    assert_eq!(cuStreamBeginCapture_v2(a, 3), INVALID_VALUE);
}

#[test]
fn the_legacy_stream_and_blocking_streams() {
    let _program = Program::new();
    let at = upload(&[1u32]);
    let blocking: u64 = get(|out| cuStreamCreate(out, 0));
    for legacy in [0, 1] {
        assert_eq!(cuStreamBeginCapture_v2(legacy, GLOBAL), UNSUPPORTED);
    }
    begin(blocking, RELAXED);
    assert_eq!(cuStreamIsCapturing(0, Out::of(&mut 0)), IMPLICIT);
    assert_eq!(status(blocking), 1);
    assert_eq!(cuMemsetD32Async(at, 1, 1, 0), IMPLICIT);
    assert_eq!(status(blocking), 2);
    assert_eq!(end(blocking), Err(INVALIDATED));
    begin(blocking, RELAXED);
    let mut value = 0u32;
    let result = cuMemcpyDtoH_v2(std::ptr::from_mut(&mut value) as u64, at, 4);
    assert_eq!(result, IMPLICIT);
    assert_eq!(end(blocking), Err(INVALIDATED));
    // Non-blocking streams are no matter of the legacy stream.
    let free = stream();
    begin(free, RELAXED);
    ok(cuMemsetD32Async(at, 3, 1, 0));
    ok(cuStreamSynchronize(0));
    assert_eq!(status(0), 0);
    end(free).unwrap();
    // The per-thread stream can be captured.
    begin(2, RELAXED);
    ok(cuMemsetD32Async_ptsz(at, 4, 1, 0));
    assert_eq!(status(2), 1);
    let graph = end(2).unwrap();
    assert_eq!(download::<u32>(at, 1), [3]);
    run(graph);
    assert_eq!(download::<u32>(at, 1), [4]);
}

#[test]
fn modes_say_what_is_unsafe() {
    let program = Program::new();
    let stream = stream();
    let exchange = |mode: u32| {
        let mut mode = mode;
        ok(cuThreadExchangeStreamCaptureMode(Out::of(&mut mode)));
        mode
    };
    let allocate = || {
        let mut at = 0;
        let result = cuMemAlloc_v2(Out::of(&mut at), 16);
        if result == 0 {
            exchange(RELAXED);
            ok(cuMemFree_v2(at));
            exchange(GLOBAL);
        }
        result
    };
    begin(stream, THREAD_LOCAL);
    assert_eq!(allocate(), UNSUPPORTED);
    assert_eq!(end(stream), Err(INVALIDATED));
    begin(stream, THREAD_LOCAL);
    assert_eq!(exchange(RELAXED), GLOBAL);
    let at = alloc(16);
    ok(cuMemFree_v2(at));
    assert_eq!(exchange(GLOBAL), RELAXED);
    end(stream).unwrap();
    begin(stream, RELAXED);
    assert_eq!(allocate(), SUCCESS);
    end(stream).unwrap();
    let context = program.context;
    let elsewhere = |body: fn(u64) -> u32| {
        std::thread::scope(|scope| {
            let run = move || {
                ok(cuCtxSetCurrent(context));
                body(stream)
            };
            scope.spawn(run).join().unwrap()
        })
    };
    begin(stream, THREAD_LOCAL);
    let from_there = elsewhere(|stream| end(stream).err().unwrap_or(0));
    assert_eq!(from_there, WRONG_THREAD);
    end(stream).unwrap();
    begin(stream, RELAXED);
    assert_eq!(elsewhere(|stream| end(stream).err().unwrap_or(0)), 0);
    let mut bad = 5;
    assert_eq!(
        cuThreadExchangeStreamCaptureMode(Out::of(&mut bad)),
        INVALID_VALUE
    );
}

const ALONE: &str = "SOFTGPU_TEST_ALONE";

/// Not a test of its own: a capture of this mode would disturb the allocations of all other tests.
#[test]
fn global_program() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let program = Program::new();
    let stream = stream();
    let context = program.context;
    begin(stream, GLOBAL);
    let elsewhere = move || {
        ok(cuCtxSetCurrent(context));
        cuMemAlloc_v2(Out::of(&mut 0), 16)
    };
    assert_eq!(std::thread::spawn(elsewhere).join().unwrap(), UNSUPPORTED);
    assert_eq!(end(stream), Err(INVALIDATED));
    ok(cuStreamBeginCapture(stream));
    let tolerant = move || {
        let mut mode = THREAD_LOCAL;
        ok(cuThreadExchangeStreamCaptureMode(Out::of(&mut mode)));
        elsewhere()
    };
    assert_eq!(std::thread::spawn(tolerant).join().unwrap(), SUCCESS);
    end(stream).unwrap();
}

#[test]
fn a_global_capture_is_everybodys() {
    let home = tempfile::tempdir().unwrap();
    let mut child = crate::processes::child("capture::global_program", home.path());
    let output = child.env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn dependencies_by_hand_and_graphs_that_are_there() {
    let program = Program::new();
    let stream = stream();
    let at = upload(&[1u32]);
    let step = program.function("step");
    let graph: u64 = get(|out| cuGraphCreate(out, 0));
    let first: u64 = get(|out| cuGraphAddEmptyNode(out, graph, In::null(), 0));
    ok(cuStreamBeginCaptureToGraph(
        stream,
        graph,
        In::of(&first),
        In::null(),
        1,
        RELAXED,
    ));
    ok(launch_in(step, 1, 1, stream, &[at, 0]));
    let own: u64 = get(|out| cuGraphAddEmptyNode(out, graph, In::null(), 0));
    ok(cuStreamUpdateCaptureDependencies(
        stream,
        In::of(&own),
        1,
        0,
    ));
    let (mut state, mut nodes, mut count) = (0, 0, 0usize);
    ok(cuStreamGetCaptureInfo_v3(
        stream,
        Out::of(&mut state),
        Out::null(),
        Out::null(),
        Out::of(&mut nodes),
        Out::null(),
        Out::of(&mut count),
    ));
    assert_eq!(count, 2);
    // SAFETY: the driver's array of so many nodes.
    let found = unsafe { std::slice::from_raw_parts(nodes as *const u64, count) };
    assert!(found.contains(&own));
    let set = cuStreamUpdateCaptureDependencies(stream, In::of_slice(found), 2, 1);
    ok(set);
    assert_eq!(
        cuStreamUpdateCaptureDependencies(stream, In::of(&77), 1, 1),
        INVALID_VALUE
    );
    ok(launch_in(step, 1, 1, stream, &[at, 0]));
    assert_eq!(end(stream), Ok(graph));
    let mut edges = 0usize;
    ok(cuGraphGetEdges(
        graph,
        Out::null(),
        Out::null(),
        Out::of(&mut edges),
    ));
    assert_eq!(edges, 3);
    run(graph);
    assert_eq!(download::<u32>(at, 1), [13]);
    assert_eq!(
        cuStreamUpdateCaptureDependencies(stream, In::of(&own), 1, 0),
        ILLEGAL_STATE
    );
}

/// A node of the program's own follows what was captured and is all that the stream follows: nothing is left unjoined.
#[test]
fn a_node_by_hand_joins_what_it_follows() {
    let program = Program::new();
    let stream = stream();
    let at = upload(&[1u32]);
    let step = program.function("step");
    begin(stream, RELAXED);
    ok(launch_in(step, 1, 1, stream, &[at, 0]));
    let (mut state, mut graph, mut nodes, mut count) = (0, 0, 0, 0usize);
    ok(cuStreamGetCaptureInfo_v3(
        stream,
        Out::of(&mut state),
        Out::null(),
        Out::of(&mut graph),
        Out::of(&mut nodes),
        Out::null(),
        Out::of(&mut count),
    ));
    assert_eq!(count, 1);
    // SAFETY: the driver's array of so many nodes.
    let captured = unsafe { *(nodes as *const u64) };
    let own: u64 = get(|out| cuGraphAddEmptyNode(out, graph, In::of(&captured), 1));
    ok(cuStreamUpdateCaptureDependencies(
        stream,
        In::of(&own),
        1,
        1,
    ));
    assert_eq!(end(stream), Ok(graph));
    run(graph);
    assert_eq!(download::<u32>(at, 1), [4]);
}

/// As documented: what is taken out of a stream's dependencies may stay alone.
#[test]
fn what_is_set_aside_need_not_be_joined() {
    let program = Program::new();
    let stream = stream();
    let at = upload(&[1u32]);
    let step = program.function("step");
    begin(stream, RELAXED);
    ok(launch_in(step, 1, 1, stream, &[at, 0]));
    ok(cuStreamUpdateCaptureDependencies(stream, In::null(), 0, 1));
    assert!(end(stream).is_ok());
}

#[test]
fn captured_memory_graphs_and_external_events() {
    let program = Program::new();
    let stream = stream();
    let step = program.function("step");
    let out = upload(&[0u32]);
    begin(stream, THREAD_LOCAL);
    let at: u64 = get(|place| cuMemAllocAsync(place, 1 << 20, stream));
    ok(cuMemsetD32Async(at, 2, 1, stream));
    ok(launch_in(step, 1, 1, stream, &[at, 0]));
    ok(cuMemcpyDtoDAsync_v2(out, at, 4, stream));
    ok(cuMemFreeAsync(at, stream));
    assert_eq!(cuMemFreeAsync(out, stream), INVALID_VALUE);
    let inner = end(stream).unwrap();
    assert_eq!(count(inner), 5);
    let exec: u64 = get(|place| cuGraphInstantiateWithFlags(place, inner, 1));

    let seen = event();
    begin(stream, THREAD_LOCAL);
    ok(cuGraphLaunch(exec, stream));
    ok(launch_in(step, 1, 1, stream, &[out, 0]));
    ok(cuEventRecordWithFlags(seen, stream, 1));
    ok(cuStreamWaitEvent(stream, seen, 1));
    let outer = end(stream).unwrap();
    assert_eq!(count(outer), 4);
    ok(cuGraphExecDestroy(exec));
    ok(cuGraphDestroy(inner));
    run(outer);
    ok(cuEventSynchronize(seen));
    assert_eq!(download::<u32>(out, 1), [22]);
}

/// A context that goes takes its captures along.
#[test]
fn captures_of_destroyed_contexts() {
    let _program = Program::new();
    let context: u64 = get(|out| cuCtxCreate_v2(out, 0, 0));
    let stream = stream();
    begin(stream, THREAD_LOCAL);
    ok(cuCtxDestroy_v2(context));
    assert_eq!(cuStreamEndCapture(stream, Out::of(&mut 0)), INVALID_HANDLE);
    let at = alloc(16);
    ok(cuMemFree_v2(at));
}
