use crate::common::*;
use softgpu_cuda::abi::{CopyAttributes, MemOp};
use std::time::Duration;

const GEQ: u32 = 0;
const EQ: u32 = 1;
const AND: u32 = 2;
const NOR: u32 = 3;

#[test]
fn streams_wait_for_values() {
    let program = Program::new();
    let [a, b] = [0, 0].map(|_| get(|out| cuStreamCreate(out, 1)));
    let flags = upload(&[0u32; 4]);
    let at = upload(&[1u32]);
    let step = program.function("step");
    for (comparison, wrong, right) in [(GEQ, 4, 5), (EQ, 6, 5), (AND, 8, 4), (NOR, u32::MAX, 0)] {
        ok(cuMemsetD32_v2(flags, wrong, 1));
        ok(cuStreamWaitValue32_v2(a, flags, 5, comparison));
        ok(launch_in(step, 1, 1, a, &[at, 0]));
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(cuStreamQuery(a), NOT_READY, "{comparison}");
        ok(cuStreamWriteValue32_v2(b, flags, right, 0));
        ok(cuStreamSynchronize(a));
    }
    assert_eq!(download::<u32>(at, 1), [121]);
    ok(cuStreamWaitValue64_v2(a, flags + 8, 1 << 40, EQ));
    ok(cuStreamWriteValue64_v2(b, flags + 8, 1 << 40, 0));
    ok(cuStreamSynchronize(a));
    assert_eq!(download::<u64>(flags + 8, 1), [1 << 40]);
    // The program itself may write what a stream waits for.
    let pinned: u64 = get(|out| cuMemAllocHost_v2(out, 64));
    // SAFETY: the driver gave 64 bytes.
    let word = unsafe { std::sync::atomic::AtomicU32::from_ptr(pinned as *mut u32) };
    word.store(0, std::sync::atomic::Ordering::SeqCst);
    ok(cuStreamWaitValue32(a, pinned, 9, EQ));
    assert_eq!(cuStreamQuery(a), NOT_READY);
    word.store(9, std::sync::atomic::Ordering::SeqCst);
    ok(cuStreamSynchronize(a));
    ok(cuMemFreeHost(pinned));
    assert_eq!(cuStreamWaitValue32(a, flags + 2, 0, EQ), INVALID_VALUE);
    assert_eq!(cuStreamWaitValue32(a, 0x1000, 0, EQ), INVALID_VALUE);
    assert_eq!(cuStreamWaitValue32(a, flags, 0, 4), INVALID_VALUE);
    assert_eq!(cuStreamWriteValue64(a, flags + 4, 0, 0), INVALID_VALUE);
    assert_eq!(cuStreamWriteValue32(a, flags, 0, 2), INVALID_VALUE);
    assert_eq!(cuStreamWriteValue32(77, flags, 0, 0), INVALID_HANDLE);
}

#[test]
fn several_at_once() {
    let _program = Program::new();
    let [a, b] = [0, 0].map(|_| get(|out| cuStreamCreate(out, 1)));
    let flags = upload(&[0u64; 2]);
    let op = |operation, address, value| MemOp {
        operation,
        address,
        value,
        flags: if operation == 1 { EQ } else { 0 },
        ..MemOp::default()
    };
    let waits = [op(1, flags, 3), op(5, flags + 8, 7), op(6, 0, 0)];
    ok(cuStreamBatchMemOp_v2(a, 3, In::of_slice(&waits), 0));
    assert_eq!(cuStreamQuery(a), NOT_READY);
    let writes = [op(2, flags, 3)];
    ok(cuStreamBatchMemOp_v2(b, 1, In::of_slice(&writes), 0));
    ok(cuStreamSynchronize(a));
    assert_eq!(download::<u64>(flags + 8, 1), [7]);
    let bad = [op(2, flags, 9), op(9, flags, 0)];
    assert_eq!(
        cuStreamBatchMemOp(a, 2, In::of_slice(&bad), 0),
        INVALID_VALUE
    );
    ok(cuStreamSynchronize(a));
    assert_eq!(download::<u32>(flags, 1), [3]);
}

#[test]
fn attributes_of_streams() {
    let _program = Program::new();
    let [a, b] = [0, 0].map(|_| get(|out| cuStreamCreateWithPriority(out, 1, -3)));
    let policy = [2u64, 0, 0, 0, 0, 0, 0, 0];
    ok(cuStreamSetAttribute(a, 3, In::of(&policy)));
    ok(cuStreamCopyAttributes(b, a));
    assert_eq!(get(|out| cuStreamGetAttribute(b, 3, out)), policy);
    let priority = get(|out| cuStreamGetAttribute(b, 8, out));
    assert_eq!(priority[0] as u32 as i32, -3);
    assert_eq!(get(|out| cuStreamGetPriority(b, out)), -3);
    assert_eq!(cuStreamSetAttribute(a, 8, In::of(&policy)), INVALID_VALUE);
    assert_eq!(
        cuStreamGetAttribute(77, 3, Out::of(&mut [0; 8])),
        INVALID_HANDLE
    );
    assert_eq!(get(|out| cuStreamGetDevice(a, out)), 0);
    let ids = [a, b].map(|stream| get::<u64>(|out| cuStreamGetId(stream, out)));
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn copies_in_batches() {
    let _program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let from = upload(&[1u32, 2, 3, 4]);
    let to = upload(&[0u32; 4]);
    let (targets, sources) = ([to, to + 12], [from, from + 4]);
    let mut failed = 0;
    let mut hints = [CopyAttributes {
        order: 1,
        ..CopyAttributes::default()
    }];
    let mut run = |hints: &[CopyAttributes], sizes: [usize; 2], stream| {
        let result = cuMemcpyBatchAsync(
            In::of_slice(&targets),
            In::of_slice(&sources),
            In::of_slice(&sizes),
            2,
            In::of_slice(hints),
            In::of(&0),
            hints.len(),
            Out::of(&mut failed),
            stream,
        );
        (result, failed)
    };
    assert_eq!(run(&hints, [8, 4], stream), (SUCCESS, usize::MAX));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(to, 4), [1, 2, 0, 2]);
    assert_eq!(run(&hints, [4, 1 << 30], stream), (INVALID_VALUE, 1));
    assert_eq!(run(&hints, [4, 4], 0), (INVALID_VALUE, usize::MAX));
    // Each copy has a valid order.
    assert_eq!(run(&[], [4, 4], stream).0, INVALID_VALUE);
    hints[0].order = 0;
    assert_eq!(run(&hints, [4, 4], stream).0, INVALID_VALUE);
}
