use crate::common::*;
use softgpu_cuda::abi::{MemAccessDesc, MemLocation, MemPoolProps};

const MIB: usize = 1 << 20;
const RELEASE_THRESHOLD: u32 = 4;
const RESERVED: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED: u32 = 7;
const USED_HIGH: u32 = 8;

fn props(device: i32) -> MemPoolProps {
    MemPoolProps {
        kind: 1,
        handle_types: 0,
        location: MemLocation {
            kind: 1,
            id: device,
        },
        win32: 0,
        max_size: 0,
        rest: [0; 56],
    }
}

fn pool(props: MemPoolProps) -> u64 {
    get(|out| cuMemPoolCreate(out, In::of(&props)))
}

fn value(pool: u64, attribute: u32) -> u64 {
    get::<u64>(|out| cuMemPoolGetAttribute(pool, attribute, out.cast()))
}

fn set(pool: u64, attribute: u32, value: u64) -> u32 {
    cuMemPoolSetAttribute(pool, attribute, In::of(&value).cast())
}

#[test]
fn memory_comes_and_goes_in_stream_order() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let flags = upload(&[0u32; 2]);
    ok(launch_in(
        program.function("wait"),
        1,
        1,
        stream,
        &[flags, flags + 4],
    ));
    let a: u64 = get(|out| cuMemAllocAsync(out, 4 * MIB, stream));
    ok(cuMemsetD32Async(a, 7, MIB, stream));
    ok(launch_in(program.function("add"), 1, 32, stream, &[a, 1]));
    ok(cuMemcpyDtoDAsync_v2(flags, a, 4, stream));
    ok(cuMemFreeAsync(a, stream));
    // Gone for the program, while the stream still uses it.
    assert_eq!(cuMemFreeAsync(a, stream), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(a), INVALID_VALUE);
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    ok(cuMemsetD32_v2(flags, 1, 1));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(flags, 1), [8]);
    assert_eq!(cuMemAllocAsync(Out::of(&mut 0), 0, stream), INVALID_VALUE);
    assert_eq!(cuMemFreeAsync(0x1234, stream), INVALID_VALUE);
    for bytes in [1 << 40, usize::MAX] {
        let result = cuMemAllocAsync(Out::of(&mut 0), bytes, stream);
        assert_eq!(result, OUT_OF_MEMORY);
    }
    // Each kind of free takes memory of the other kind.
    let plain = alloc(4 * MIB);
    ok(cuMemFreeAsync(plain, stream));
    let ordered: u64 = get(|out| cuMemAllocAsync(out, 64, stream));
    ok(cuMemFree_v2(ordered));
    ok(cuStreamSynchronize(stream));
}

/// More than the device has, one after the other and all enqueued.
#[test]
fn frees_that_are_enqueued_are_waited_for() {
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let own = pool(MemPoolProps {
        max_size: 16 * MIB,
        ..props(0)
    });
    for _ in 0..8 {
        let at: u64 = get(|out| cuMemAllocFromPoolAsync(out, 10 * MIB, own, stream));
        ok(cuMemsetD8Async(at, 1, 4, stream));
        ok(launch_in(
            program.function("step"),
            1,
            1,
            stream,
            &[at, 2000],
        ));
        ok(cuMemFreeAsync(at, stream));
    }
    ok(cuStreamSynchronize(stream));
    assert_eq!(
        cuMemAllocFromPoolAsync(Out::of(&mut 0), 17 * MIB, own, stream),
        OUT_OF_MEMORY
    );
    ok(cuMemPoolDestroy(own));
}

#[test]
fn pools_keep_what_they_are_told_to() {
    let _program = Program::new();
    let own = pool(props(0));
    assert_eq!(value(own, RELEASE_THRESHOLD), 0);
    let take = |bytes| get::<u64>(|out| cuMemAllocFromPoolAsync(out, bytes, own, 0));
    let a = take(8 * MIB);
    assert_eq!(
        (value(own, RESERVED), value(own, USED)),
        (8 * MIB as u64, 8 * MIB as u64)
    );
    assert_eq!(
        get::<u64>(|out| cuPointerGetAttribute(out.cast(), 17, a)),
        own
    );
    ok(cuMemFreeAsync(a, 0));
    assert_eq!((value(own, RESERVED), value(own, USED)), (0, 0));
    ok(set(own, RELEASE_THRESHOLD, u64::MAX));
    let a = take(8 * MIB);
    ok(cuMemFreeAsync(a, 0));
    assert_eq!((value(own, RESERVED), value(own, USED)), (8 << 20, 0));
    assert_eq!(take(8 * MIB), a);
    ok(cuMemPoolTrimTo(own, 0));
    assert_eq!(value(own, RESERVED), 8 << 20);
    ok(cuMemFreeAsync(a, 0));
    ok(cuMemPoolTrimTo(own, 8 * MIB));
    assert_eq!(value(own, RESERVED), 8 << 20);
    ok(cuMemPoolTrimTo(own, 0));
    assert_eq!(value(own, RESERVED), 0);
    assert_eq!(
        (value(own, RESERVED_HIGH), value(own, USED_HIGH)),
        (8 << 20, 8 << 20)
    );
    ok(set(own, USED_HIGH, 0));
    assert_eq!(value(own, USED_HIGH), 0);
    assert_eq!(set(own, USED_HIGH, 5), INVALID_VALUE);
    assert_eq!(set(own, USED, 0), INVALID_VALUE);
    assert_eq!(set(own, 99, 0), INVALID_VALUE);
    let reuse = 0u32;
    ok(cuMemPoolSetAttribute(own, 1, In::of(&reuse).cast()));
    assert_eq!(
        get::<u32>(|out| cuMemPoolGetAttribute(own, 1, out.cast())),
        0
    );
    // What the program still has outlives the pool.
    let last = take(4 * MIB);
    ok(cuMemPoolDestroy(own));
    assert_eq!(cuMemPoolDestroy(own), INVALID_VALUE);
    assert_eq!(cuMemPoolTrimTo(own, 0), INVALID_VALUE);
    ok(cuMemsetD32_v2(last, 1, MIB));
    ok(cuMemFreeAsync(last, 0));
}

#[test]
fn devices_have_pools() {
    let _program = Program::new();
    let default: u64 = get(|out| cuDeviceGetDefaultMemPool(out, 1));
    assert_eq!(get(|out| cuDeviceGetMemPool(out, 1)), default);
    assert_eq!(cuMemPoolDestroy(default), INVALID_VALUE);
    let own = pool(props(1));
    assert_eq!(cuDeviceSetMemPool(0, own), INVALID_VALUE);
    ok(cuDeviceSetMemPool(1, own));
    assert_eq!(get(|out| cuDeviceGetMemPool(out, 1)), own);
    ok(cuMemPoolDestroy(own));
    assert_eq!(get(|out| cuDeviceGetMemPool(out, 1)), default);
    assert_eq!(cuDeviceGetDefaultMemPool(Out::of(&mut 0), 2), 101);
    assert_eq!(get(|out| cuDeviceGetAttribute(out, 115, 0)), 1);
    let bad = |change: fn(&mut MemPoolProps)| {
        let mut props = props(0);
        change(&mut props);
        cuMemPoolCreate(Out::of(&mut 0), In::of(&props))
    };
    assert_eq!(bad(|props| props.kind = 0), INVALID_VALUE);
    assert_eq!(bad(|props| props.handle_types = 1), 801);
    assert_eq!(bad(|props| props.location.id = 9), 101);
}

#[test]
fn access_of_other_devices() {
    let _program = Program::new();
    let own = pool(props(0));
    let location = |id| MemLocation { kind: 1, id };
    let access = |id| get(|out| cuMemPoolGetAccess(out, own, In::of(&location(id))));
    assert_eq!((access(0), access(1)), (3, 0));
    let describe = |id, flags| MemAccessDesc {
        location: location(id),
        flags,
    };
    let set = |id, flags| cuMemPoolSetAccess(own, In::of(&describe(id, flags)), 1);
    ok(set(1, 3));
    assert_eq!(access(1), 3);
    ok(set(1, 0));
    assert_eq!(access(1), 0);
    assert_eq!(set(0, 0), 101);
    assert_eq!(set(1, 9), INVALID_VALUE);
    assert_eq!(set(7, 3), 101);
    ok(cuMemPoolDestroy(own));
}
