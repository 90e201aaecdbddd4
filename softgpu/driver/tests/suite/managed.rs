use crate::common::*;
use softgpu_cuda::abi::MemLocation;

const GLOBAL: u32 = 1;

fn managed(bytes: usize) -> u64 {
    get(|out| cuMemAllocManaged(out, bytes, GLOBAL))
}

#[test]
fn host_and_device_share_it() {
    let program = Program::new();
    let at = managed(4096);
    // SAFETY: managed memory of 4096 bytes, which no kernel uses while this does.
    let values = unsafe { std::slice::from_raw_parts_mut(at as *mut u32, 1024) };
    for (index, value) in values.iter_mut().enumerate() {
        *value = index as u32;
    }
    ok(launch(program.function("add"), 4, 256, &[at, 10]));
    ok(cuCtxSynchronize());
    assert!((0..1024).all(|index| values[index] == index as u32 + 10));
    let is = |which| get::<u32>(|out| cuPointerGetAttribute(out.cast(), which, at + 8));
    assert_eq!((is(8) & 1, is(2)), (1, 2));
    assert_eq!(
        get::<u64>(|out| cuPointerGetAttribute(out.cast(), 4, at + 8)),
        at + 8
    );
    ok(cuStreamAttachMemAsync(0, at, 0, GLOBAL));
    let stream: u64 = get(|out| cuStreamCreate(out, 0));
    ok(cuStreamAttachMemAsync(stream, at, 4096, 4));
    assert_eq!(cuStreamAttachMemAsync(0, at, 0, 4), INVALID_VALUE);
    assert_eq!(cuStreamAttachMemAsync(stream, at, 8, 4), INVALID_VALUE);
    ok(cuMemFree_v2(at));
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    assert_eq!(cuMemAllocManaged(Out::of(&mut 0), 0, GLOBAL), INVALID_VALUE);
    assert_eq!(cuMemAllocManaged(Out::of(&mut 0), 8, 4), INVALID_VALUE);
    assert_eq!(get(|out| cuDeviceGetAttribute(out, 83, 0)), 1);
}

#[test]
fn advice_is_remembered() {
    let _program = Program::new();
    let at = managed(1 << 20);
    let word = |which, from: u64, bytes| {
        get::<i32>(|out| cuMemRangeGetAttribute(out.cast(), 4, which, at + from, bytes))
    };
    assert_eq!(
        (word(1, 0, 4096), word(2, 0, 4096), word(4, 0, 4096)),
        (0, -2, -2)
    );
    ok(cuMemAdvise(at, 8192, 1, 0));
    ok(cuMemAdvise(at + 4096, 8192, 3, 1));
    ok(cuMemAdvise(at, 8192, 5, -1));
    ok(cuMemAdvise(at, 4096, 5, 0));
    ok(cuMemPrefetchAsync(at, 4096, -1, 0));
    assert_eq!((word(1, 0, 8192), word(1, 0, 12288)), (1, 0));
    assert_eq!((word(2, 4096, 8192), word(2, 0, 8192)), (1, -2));
    assert_eq!((word(4, 0, 4096), word(4, 0, 8192)), (-1, -2));
    assert_eq!((word(7, 0, 4096), word(5, 4096, 10)), (2, 1));
    let mut by = [7i32; 3];
    ok(cuMemRangeGetAttribute(
        Out::of(&mut by[0]).cast(),
        12,
        3,
        at,
        4096,
    ));
    assert_eq!(by, [-1, 0, -2]);
    ok(cuMemAdvise_v2(at, 8192, 2, MemLocation::default()));
    ok(cuMemAdvise_v2(at, 8192, 3, MemLocation { kind: 2, id: 0 }));
    ok(cuMemPrefetchAsync_v2(
        at,
        8192,
        MemLocation { kind: 1, id: 1 },
        0,
        0,
    ));
    let (mut mostly, mut preferred) = (9i32, 9i32);
    let places = [
        Out::of(&mut mostly).cast::<std::ffi::c_void>(),
        Out::of(&mut preferred).cast(),
    ];
    ok(cuMemRangeGetAttributes(
        In::of_slice(&places),
        In::of_slice(&[4usize, 4]),
        In::of_slice(&[1u32, 2]),
        2,
        at,
        8192,
    ));
    assert_eq!((mostly, preferred), (0, -1));
    assert_eq!(word(4, 0, 8192), 1);
    assert_eq!(cuMemAdvise(at, 8192, 3, 5), 101);
    assert_eq!(cuMemAdvise(at, 8192, 77, 0), INVALID_VALUE);
    assert_eq!(cuMemAdvise(at, 2 << 20, 1, 0), INVALID_VALUE);
    assert_eq!(cuMemPrefetchAsync(at, 0, 0, 0), INVALID_VALUE);
    let plain = alloc(64);
    assert_eq!(cuMemAdvise(plain, 64, 1, 0), INVALID_VALUE);
    assert_eq!(cuMemPrefetchAsync(plain, 64, 0, 0), INVALID_VALUE);
    ok(cuMemFree_v2(at));
}

/// Kernels use pinned and registered memory where it is.
#[test]
fn zero_copy() {
    let program = Program::new();
    let add = program.function("add");
    let pinned: u64 = get(|out| cuMemHostAlloc(out, 4096, 2));
    assert_eq!(get(|out| cuMemHostGetFlags(out, pinned)), 2);
    let device: u64 = get(|out| cuMemHostGetDevicePointer_v2(out, pinned, 0));
    // SAFETY: the driver gave a page, which no kernel uses while this does.
    let values = unsafe { std::slice::from_raw_parts_mut(pinned as *mut u32, 1024) };
    values.fill(5);
    ok(launch(add, 4, 256, &[device, 3]));
    ok(cuCtxSynchronize());
    assert!(values.iter().all(|&value| value == 8));
    ok(cuMemFreeHost(pinned));

    let mut own = vec![1u32; 5000];
    let (at, bytes) = (own.as_mut_ptr() as u64, 4 * own.len());
    assert_eq!(cuMemHostUnregister(at), 713);
    ok(cuMemHostRegister_v2(at, bytes, 2));
    assert_eq!(cuMemHostRegister_v2(at + 8, 16, 0), 712);
    let device: u64 = get(|out| cuMemHostGetDevicePointer_v2(out, at + 400, 0));
    ok(launch(add, 1, 256, &[device, 3]));
    ok(cuCtxSynchronize());
    assert!(own[100..356].iter().all(|&value| value == 4) && own[356] == 1);
    ok(cuMemHostUnregister(at));
    assert_eq!(
        cuMemHostGetDevicePointer_v2(Out::of(&mut 0), at, 0),
        INVALID_VALUE
    );
}
