use crate::common::*;
use softgpu_cuda::abi::{MemAccessDesc, MemAllocationProp, MemLocation, Memcpy2d};

const GRANULE: usize = 2 << 20;
/// Where remoting clients ask for addresses: the second half of the window.
const HINT: u64 = 0x2080_0000_0000;

#[test]
fn what_is_written_is_read() {
    let _program = Program::new();
    let values: Vec<u32> = (0..100_000).collect();
    let a = upload(&values);
    let b = alloc(400_000);
    assert_eq!(a % 256, 0);
    ok(cuMemcpyDtoD_v2(b, a, 400_000));
    assert_eq!(download::<u32>(b, 100_000), values);
    ok(cuMemsetD32_v2(b + 4, 0x01020304, 10));
    ok(cuMemsetD16_v2(b + 2, 0xbeef, 1));
    ok(cuMemsetD8_v2(b, 9, 1));
    let bytes = download::<u8>(b, 12);
    assert_eq!(bytes, [9, 0, 0xef, 0xbe, 4, 3, 2, 1, 4, 3, 2, 1]);
    assert_eq!(download::<u32>(b + 44, 2), [11, 12]);
    assert_eq!(cuMemsetD32_v2(b + 2, 0, 1), INVALID_VALUE);
    ok(cuMemFree_v2(b));
    ok(cuMemFree_v2(a));
    assert_eq!(cuMemFree_v2(a), INVALID_VALUE);
    ok(cuMemFree_v2(0));
}

#[test]
fn ranges_are_checked() {
    let _program = Program::new();
    let a = alloc(1000);
    let host = [0u8; 2000];
    let from = host.as_ptr() as u64;
    assert_eq!(cuMemcpyHtoD_v2(a, from, 1001), INVALID_VALUE);
    assert_eq!(cuMemcpyHtoD_v2(a + 999, from, 2), INVALID_VALUE);
    assert_eq!(cuMemcpyHtoD_v2(a, 0, 10), INVALID_VALUE);
    assert_eq!(cuMemcpyHtoD_v2(0, from, 10), INVALID_VALUE);
    assert_eq!(cuMemcpyHtoD_v2(from, from, 10), INVALID_VALUE);
    assert_eq!(cuMemcpyDtoD_v2(a, a + (1 << 40), 10), INVALID_VALUE);
    assert_eq!(cuMemsetD8_v2(a, 0, usize::MAX), INVALID_VALUE);
    ok(cuMemcpyHtoD_v2(a, from, 0));
    let (mut base, mut size) = (0, 0);
    ok(cuMemGetAddressRange_v2(
        Out::of(&mut base),
        Out::of(&mut size),
        a + 999,
    ));
    assert_eq!((base, size), (a, 1000));
    assert_eq!(
        cuMemGetAddressRange_v2(Out::null(), Out::null(), 5),
        NOT_FOUND
    );
    assert_eq!(cuMemAlloc_v2(Out::of(&mut 0), 0), INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Out::of(&mut 0), usize::MAX), OUT_OF_MEMORY);
    assert_eq!(cuMemAlloc_v2(Out::of(&mut 0), 300 << 20), OUT_OF_MEMORY);
    let (mut address, mut pitch) = (0, 0);
    ok(cuMemAllocPitch_v2(
        Out::of(&mut address),
        Out::of(&mut pitch),
        100,
        10,
        4,
    ));
    assert!(pitch >= 100 && pitch % 256 == 0);
}

#[test]
fn host_memory() {
    let program = Program::new();
    let pinned: u64 = get(|out| cuMemHostAlloc(out, 4096, 2));
    assert_eq!(get(|out| cuMemHostGetFlags(out, pinned)), 2);
    assert_eq!(
        get(|out| cuMemHostGetDevicePointer_v2(out, pinned, 0)),
        pinned
    );
    let numbers = pinned as *mut u32;
    // SAFETY: the driver gave these 4096 bytes.
    unsafe { (0..1024).for_each(|i| numbers.add(i).write(i as u32)) };
    // Kernels use it in place.
    ok(launch(program.function("add"), 4, 256, &[pinned, 5]));
    ok(cuCtxSynchronize());
    // SAFETY: as above.
    unsafe { (0..1024).for_each(|i| assert_eq!(numbers.add(i).read(), i as u32 + 5)) };
    ok(cuMemFreeHost(pinned));
    assert_eq!(cuMemFreeHost(pinned), INVALID_VALUE);

    let mut mine = vec![1u32; 4096];
    let at = mine.as_mut_ptr() as u64;
    ok(cuMemHostRegister_v2(at, 16_384, 0));
    assert_eq!(cuMemHostRegister_v2(at + 4, 4, 0), 712);
    ok(launch(program.function("add"), 4, 1024, &[at, 1]));
    ok(cuCtxSynchronize());
    ok(cuMemHostUnregister(at));
    assert_eq!(cuMemHostUnregister(at), 713);
    assert!(mine.iter().all(|&n| n == 2));
}

#[test]
fn pointers_are_known() {
    let program = Program::new();
    let a = alloc(1000);
    let attribute = |which, pointer| {
        let mut value = 0u64;
        let out = Out::of(&mut value);
        (cuPointerGetAttribute(out.cast(), which, pointer), value)
    };
    assert_eq!(attribute(1, a), (0, program.context));
    assert_eq!(attribute(2, a + 5), (0, 2));
    assert_eq!(attribute(11, a + 5), (0, a));
    assert_eq!(attribute(12, a + 5), (0, 1000));
    let host = 7u32;
    assert_eq!(
        attribute(2, std::ptr::from_ref(&host) as u64).0,
        INVALID_VALUE
    );
    let (mut kind, mut start) = (9u32, 9u64);
    let places = [
        std::ptr::from_mut(&mut kind) as u64,
        std::ptr::from_mut(&mut start) as u64,
    ];
    let which = [2u32, 11];
    ok(cuPointerGetAttributes(
        2,
        In::of_slice(&which),
        In::of_slice(&places),
        std::ptr::from_ref(&host) as u64,
    ));
    assert_eq!((kind, start), (0, 0));
}

fn physical() -> MemAllocationProp {
    MemAllocationProp {
        kind: 1,
        location: MemLocation { kind: 1, id: 0 },
        ..Default::default()
    }
}

fn access() -> MemAccessDesc {
    MemAccessDesc {
        location: MemLocation { kind: 1, id: 0 },
        flags: 3,
    }
}

#[test]
fn virtual_memory_goes_where_it_is_asked_for() {
    let program = Program::new();
    let prop = physical();
    assert_eq!(
        get(|out| cuMemGetAllocationGranularity(out, In::of(&prop), 0)),
        GRANULE
    );
    let at: u64 = get(|out| cuMemAddressReserve(out, 4 * GRANULE, 0, HINT, 0));
    assert_eq!(at, HINT);
    // Taken: somewhere else.
    let other: u64 = get(|out| cuMemAddressReserve(out, GRANULE, 0, HINT + GRANULE as u64, 0));
    assert!(other + GRANULE as u64 <= HINT || other >= HINT + 4 * GRANULE as u64);
    assert_eq!(
        cuMemAddressReserve(Out::of(&mut 0), GRANULE + 1, 0, 0, 0),
        INVALID_VALUE
    );
    let memory: u64 = get(|out| cuMemCreate(out, 2 * GRANULE, In::of(&prop), 0));
    let free = || {
        let (mut free, mut total) = (0, 0);
        ok(cuMemGetInfo_v2(Out::of(&mut free), Out::of(&mut total)));
        free
    };
    ok(cuMemMap(at, 2 * GRANULE, 0, memory, 0));
    assert_eq!(
        cuMemMap(at + GRANULE as u64, 2 * GRANULE, 0, memory, 0),
        INVALID_VALUE
    );
    // Mapped, and not yet to be used.
    let values: Vec<u32> = (0..1024).collect();
    assert_eq!(
        cuMemcpyHtoD_v2(at, values.as_ptr() as u64, 4096),
        INVALID_VALUE
    );
    ok(cuMemSetAccess(at, 2 * GRANULE, In::of(&access()), 1));
    ok(cuMemcpyHtoD_v2(at, values.as_ptr() as u64, 4096));
    ok(launch(program.function("add"), 4, 256, &[at, 1]));
    assert_eq!(download::<u32>(at, 3), [1, 2, 3]);
    // The same memory at two addresses.
    ok(cuMemMap(at + 2 * GRANULE as u64, 2 * GRANULE, 0, memory, 0));
    ok(cuMemSetAccess(
        at + 2 * GRANULE as u64,
        2 * GRANULE,
        In::of(&access()),
        1,
    ));
    assert_eq!(download::<u32>(at + 2 * GRANULE as u64, 3), [1, 2, 3]);
    ok(cuMemRelease(memory));
    assert_eq!(cuMemAddressFree(at, 4 * GRANULE), INVALID_VALUE);
    let before = free();
    ok(cuMemUnmap(at, 4 * GRANULE));
    assert_eq!(cuMemUnmap(at, 4 * GRANULE), INVALID_VALUE);
    assert!(free() >= before + 2 * GRANULE);
    ok(cuMemAddressFree(at, 4 * GRANULE));
    ok(cuMemAddressFree(other, GRANULE));
}

#[test]
fn allocations_stay_out_of_the_upper_half() {
    let _program = Program::new();
    let blocks: Vec<u64> = (0..20).map(|i| alloc(1 << (i + 4))).collect();
    assert!(blocks.iter().all(|&at| at < HINT), "{blocks:x?}");
    blocks.iter().for_each(|&at| ok(cuMemFree_v2(at)));
}

#[test]
fn rows_of_an_image() {
    let _program = Program::new();
    let mut host: Vec<u8> = (0..200).collect();
    let image = alloc(16 * 8);
    ok(cuMemsetD2D8_v2(image, 16, 9, 16, 8));
    // 5 rows of 10 bytes, from rows of 20 on the host to rows of 16 on the device, at (2, 1).
    let down = Memcpy2d {
        src_type: 1,
        src_host: host.as_ptr() as u64,
        src_x: 3,
        src_pitch: 20,
        dst_type: 2,
        dst_device: image,
        dst_x: 2,
        dst_y: 1,
        dst_pitch: 16,
        width: 10,
        height: 5,
        ..Default::default()
    };
    ok(cuMemcpy2D_v2(In::of(&down)));
    let bytes = download::<u8>(image, 128);
    for (at, &byte) in bytes.iter().enumerate() {
        let (x, y) = (at % 16, at / 16);
        let inside = (2..12).contains(&x) && (1..6).contains(&y);
        let expected = if inside { (y - 1) * 20 + x - 2 + 3 } else { 9 };
        assert_eq!(byte as usize, expected, "({x}, {y})");
    }
    // And back, to the host.
    host.fill(0);
    let up = Memcpy2d {
        src_type: 2,
        src_device: image,
        src_x: 2,
        src_y: 1,
        src_pitch: 16,
        dst_type: 1,
        dst_host: host.as_mut_ptr() as u64,
        dst_pitch: 10,
        width: 10,
        height: 5,
        ..Default::default()
    };
    ok(cuMemcpy2DAsync_v2(In::of(&up), 0));
    assert_eq!(host[..12], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 23, 24]);
    assert_eq!(host[50], 0);
    let array = Memcpy2d { src_type: 3, ..up };
    assert_eq!(cuMemcpy2D_v2(In::of(&array)), INVALID_HANDLE);
    let unknown = Memcpy2d { src_type: 77, ..up };
    assert_eq!(cuMemcpy2D_v2(In::of(&unknown)), INVALID_VALUE);
    let narrow = Memcpy2d { dst_pitch: 9, ..up };
    assert_eq!(cuMemcpy2D_v2(In::of(&narrow)), INVALID_VALUE);
    let far = Memcpy2d {
        src_y: usize::MAX,
        ..up
    };
    assert_eq!(cuMemcpy2D_v2(In::of(&far)), INVALID_VALUE);
}
