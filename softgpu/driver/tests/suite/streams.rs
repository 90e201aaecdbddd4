use crate::common::*;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Enough rounds of `step` for whoever comes too early to be seen.
const SLOW: u64 = 20_000;

fn stepped(times: u32) -> u32 {
    (0..times).fold(1, |n: u32, _| n.wrapping_mul(3).wrapping_add(1))
}

#[test]
fn work_of_a_stream_is_in_order() {
    let program = Program::new();
    let step = program.function("step");
    for flags in [0, 1] {
        let stream: u64 = get(|out| cuStreamCreate(out, flags));
        assert_eq!(get(|out| cuStreamGetFlags(stream, out)), flags);
        assert_eq!(get(|out| cuStreamGetCtx(stream, out)), program.context);
        let at = upload(&[1u32]);
        for _ in 0..50 {
            ok(launch_in(step, 1, 1, stream, &[at, 100]));
        }
        ok(cuStreamSynchronize(stream));
        assert_eq!(download::<u32>(at, 1), [stepped(50)]);
        ok(cuStreamDestroy_v2(stream));
        assert_eq!(cuStreamSynchronize(stream), INVALID_HANDLE);
    }
    assert_eq!(cuStreamCreate(Out::of(&mut 0), 2), INVALID_VALUE);
    assert_eq!(cuStreamDestroy_v2(1), INVALID_HANDLE);
}

#[test]
fn legacy_stream_and_blocking_streams_take_turns() {
    let program = Program::new();
    let step = program.function("step");
    let streams: Vec<u64> = (0..3).map(|_| get(|out| cuStreamCreate(out, 0))).collect();
    let at = upload(&[1u32]);
    for round in 0..20 {
        ok(launch_in(step, 1, 1, streams[round % 3], &[at, SLOW]));
        ok(launch_in(step, 1, 1, (round % 2) as u64, &[at, 0]));
    }
    // A synchronous copy is of the legacy stream, too.
    assert_eq!(download::<u32>(at, 1), [stepped(40)]);
    // The per-thread stream is a blocking one.
    ok(launch_in(step, 1, 1, 2, &[at, SLOW]));
    ok(launch_in(step, 1, 1, 0, &[at, 0]));
    assert_eq!(download::<u32>(at, 1), [stepped(42)]);
}

#[test]
fn non_blocking_streams_do_not_wait() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let at = upload(&[0u32; 2]);
    ok(launch_in(
        program.function("wait"),
        1,
        1,
        stream,
        &[at, at + 4],
    ));
    // This would never come back if the legacy stream waited for the kernel.
    ok(cuMemsetD32_v2(at, 3, 1));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(at, 2), [3, 3]);
}

#[test]
fn events_order_streams_and_tell_time() {
    let program = Program::new();
    let step = program.function("step");
    let [a, b] = [0, 0].map(|_| get(|out| cuStreamCreate(out, 1)));
    let [start, end] = [0, 0].map(|_| get(|out| cuEventCreate(out, 0)));
    let at = upload(&[1u32]);
    let elapsed = || {
        let mut time = 0f32;
        (cuEventElapsedTime(Out::of(&mut time), start, end), time)
    };
    assert_eq!(elapsed().0, INVALID_HANDLE);
    ok(cuEventQuery(start));
    ok(cuEventRecord(start, a));
    ok(launch_in(step, 1, 1, a, &[at, SLOW]));
    ok(cuEventRecord(end, a));
    ok(cuStreamWaitEvent(b, end, 0));
    ok(launch_in(step, 1, 1, b, &[at, 0]));
    ok(cuStreamSynchronize(b));
    ok(cuEventQuery(end));
    ok(cuEventSynchronize(end));
    assert_eq!(download::<u32>(at, 1), [stepped(2)]);
    let (result, time) = elapsed();
    assert!(result == 0 && time > 0.0, "{result} {time}");
    let untimed: u64 = get(|out| cuEventCreate(out, 2));
    ok(cuEventRecord(untimed, a));
    ok(cuEventSynchronize(untimed));
    assert_eq!(
        cuEventElapsedTime(Out::of(&mut 0.0), start, untimed),
        INVALID_HANDLE
    );
    assert_eq!(cuEventCreate(Out::of(&mut 0), 4), INVALID_VALUE);
    ok(cuEventDestroy_v2(untimed));
    assert_eq!(cuEventRecord(untimed, a), INVALID_HANDLE);
}

#[test]
fn an_unfinished_event_is_not_ready() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let event: u64 = get(|out| cuEventCreate(out, 0));
    let at = upload(&[0u32; 2]);
    ok(launch_in(
        program.function("wait"),
        1,
        1,
        stream,
        &[at, at + 4],
    ));
    ok(cuEventRecord(event, stream));
    assert_eq!(cuEventQuery(event), NOT_READY);
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    ok(cuMemsetD32_v2(at, 1, 1));
    ok(cuEventSynchronize(event));
    ok(cuEventQuery(event));
}

#[test]
fn an_asynchronous_copy_has_read_pageable_memory() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let at = upload(&[0u32; 2]);
    let target = upload(&[0u32; 1024]);
    let mut source = vec![5u32; 1024];
    // The copy waits behind a kernel that waits for us.
    ok(launch_in(
        program.function("wait"),
        1,
        1,
        stream,
        &[at, at + 4],
    ));
    ok(cuMemcpyHtoDAsync_v2(
        target,
        source.as_ptr() as u64,
        4096,
        stream,
    ));
    source.fill(6);
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    ok(cuMemsetD32_v2(at, 1, 1));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(target, 1024), [5; 1024]);
}

#[test]
fn pinned_copies_and_fills_are_in_order() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let pinned: u64 = get(|out| cuMemAllocHost_v2(out, 1 << 20));
    let (a, b) = (alloc(1 << 20), alloc(1 << 20));
    let step = program.function("step");
    for round in 0..10u32 {
        ok(cuMemsetD32Async(a, round, 1 << 18, stream));
        ok(launch_in(step, 1, 1, stream, &[a, 1000]));
        ok(cuMemcpyDtoDAsync_v2(b, a, 1 << 20, stream));
        ok(cuMemcpyDtoHAsync_v2(pinned, b, 1 << 20, stream));
        ok(cuStreamSynchronize(stream));
        // SAFETY: the driver gave a MiB, and the stream is idle.
        let values = unsafe { std::slice::from_raw_parts(pinned as *const u32, 1 << 18) };
        assert_eq!(values[0], round * 3 + 1);
        assert!(values[1..].iter().all(|&value| value == round));
    }
    ok(cuMemFreeHost(pinned));
}

struct Gate {
    entered: Mutex<Sender<()>>,
    leave: Mutex<Receiver<()>>,
}

extern "C" fn hold(data: u64) {
    // SAFETY: the test keeps the gate until the stream is idle.
    let gate = unsafe { &*(data as *const Gate) };
    gate.entered.lock().unwrap().send(()).unwrap();
    gate.leave.lock().unwrap().recv().unwrap();
}

#[test]
fn host_functions_hold_the_stream() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 0));
    let at = upload(&[1u32]);
    let ((entered, was_entered), (go, leave)) = (channel(), channel());
    let gate = Gate {
        entered: Mutex::new(entered),
        leave: Mutex::new(leave),
    };
    ok(launch_in(program.function("step"), 1, 1, stream, &[at, 0]));
    ok(cuLaunchHostFunc(
        stream,
        Some(hold),
        std::ptr::from_ref(&gate) as u64,
    ));
    ok(launch_in(program.function("step"), 1, 1, stream, &[at, 0]));
    was_entered.recv().unwrap();
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    go.send(()).unwrap();
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(at, 1), [stepped(2)]);
    assert_eq!(cuLaunchHostFunc(stream, None, 0), INVALID_VALUE);
}

#[test]
fn per_thread_variants_use_the_threads_stream() {
    let program = Program::new();
    let at = upload(&[0u32; 2]);
    ok(launch_in(program.function("wait"), 1, 1, 2, &[at, at + 4]));
    // NULL means the thread's stream here, which the kernel keeps busy.
    assert_eq!(cuStreamQuery_ptsz(0), NOT_READY);
    let other = get(|out| cuStreamCreate(out, 1));
    ok(cuMemsetD32Async(at, 1, 1, other));
    ok(cuStreamSynchronize_ptsz(0));
    assert_eq!(download::<u32>(at, 2), [1, 1]);
}

/// Random work in several streams, ordered by events alone: the answer is that of one after the other.
#[test]
fn random_work_ordered_by_events() {
    let program = Program::new();
    let mut seed = std::process::id() as u64 | 1 << 40;
    println!("seed {seed:#x}");
    let mut next = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let step = program.function("step");
    let streams: Vec<u64> = (0..4u32)
        .map(|i| get(|out| cuStreamCreate(out, i % 2)))
        .collect();
    const CELLS: usize = 5;
    let cells = upload(&[1u32; CELLS]);
    let mut model = [1u32; CELLS];
    let events: Vec<u64> = (0..CELLS)
        .map(|_| get(|out| cuEventCreate(out, 2)))
        .collect();
    for _ in 0..600 {
        let stream = match next(6) {
            4 => 0,
            5 => 2,
            at => streams[at as usize],
        };
        let (cell, other) = (next(CELLS as u64) as usize, next(CELLS as u64) as usize);
        let at = |cell: usize| cells + cell as u64 * 4;
        ok(cuStreamWaitEvent(stream, events[cell], 0));
        ok(cuStreamWaitEvent(stream, events[other], 0));
        match next(4) {
            0 => {
                ok(cuMemcpyDtoDAsync_v2(at(cell), at(other), 4, stream));
                model[cell] = model[other];
            }
            1 => {
                let value = next(1000) as u32;
                ok(cuMemsetD32Async(at(cell), value, 1, stream));
                model[cell] = value;
            }
            _ => {
                ok(launch_in(step, 1, 1, stream, &[at(cell), next(3000)]));
                model[cell] = model[cell].wrapping_mul(3).wrapping_add(1);
            }
        }
        ok(cuEventRecord(events[cell], stream));
        // What reads a cell must be over before the next one writes it.
        ok(cuEventRecord(events[other], stream));
    }
    ok(cuCtxSynchronize());
    assert_eq!(download::<u32>(cells, CELLS), model);
}

/// Programs that look names up without their suffix.
#[test]
fn the_oldest_names() {
    init();
    let context: u64 = get(|out| cuCtxCreate(out, 0, 0));
    let stream: u64 = get(|out| cuStreamCreate(out, 0));
    let event: u64 = get(|out| cuEventCreate(out, 0));
    ok(cuEventDestroy(event));
    ok(cuStreamDestroy(stream));
    assert_eq!(cuStreamDestroy(stream), INVALID_HANDLE);
    assert_eq!(get(|out| cuCtxPopCurrent(out)), context);
    ok(cuCtxPushCurrent(context));
    ok(cuCtxDestroy(context));
    assert_eq!(cuCtxDestroy(context), INVALID_CONTEXT);
}
