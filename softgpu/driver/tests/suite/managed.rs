use crate::common::*;
use softgpu_cuda::abi::MemLocation;

const GLOBAL: u32 = 1;

/// `shared` and `second` are managed, `own` is not; the kernel adds `own` to `shared` and to what `second` points to.
const VARIABLES: &str = "
    .version 7.0
    .target sm_70
    .address_size 64
    .visible .global .align 4 .u32 own = 5;
    .visible .global .attribute(.managed) .align 4 .u32 shared[2] = {40, 41};
    .visible .global .attribute(.managed) .align 8 .u64 second = generic(shared) + 4;
    .visible .entry add()
    {
        .reg .b32 %r<3>; .reg .b64 %d;
        ld.global.u32 %r0, [own];
        ld.global.u32 %r1, [shared]; add.u32 %r1, %r1, %r0; st.global.u32 [shared], %r1;
        ld.global.u64 %d, [second];
        ld.u32 %r2, [%d]; add.u32 %r2, %r2, %r0; st.u32 [%d], %r2;
        ret;
    }";

fn attribute<T: Default>(which: u32, at: u64) -> T {
    get(|out| cuPointerGetAttribute(out.cast(), which, at))
}

#[test]
fn a_modules_managed_variables_are_the_hosts_too() {
    let program = Program::of(VARIABLES);
    let find = |name| {
        let name = text(name);
        let (mut address, mut size) = (0u64, 0);
        let (at, bytes) = (Out::of(&mut address), Out::of(&mut size));
        ok(cuModuleGetGlobal_v2(at, bytes, program.module, c(&name)));
        (address, size)
    };
    let ((own, _), (shared, size), (second, _)) = (find("own"), find("shared"), find("second"));
    assert_eq!(size, 8);
    assert_eq!(attribute::<u32>(8, own), 0);
    assert_eq!(attribute::<u32>(8, shared + 4), 1);
    assert_eq!(attribute::<u64>(1, shared), program.context);
    assert_eq!(attribute::<u64>(4, shared + 4), shared + 4);
    assert_eq!(attribute::<u64>(17, shared), 0);
    // SAFETY: managed variables, which no kernel uses while this does.
    let (values, pointer) = unsafe { (&mut *(shared as *mut [u32; 2]), *(second as *const u64)) };
    assert_eq!((*values, pointer), ([40, 41], shared + 4));
    ok(launch(program.function("add"), 1, 1, &[]));
    ok(cuCtxSynchronize());
    assert_eq!(*values, [45, 46]);
    values[0] = 1;
    ok(launch(program.function("add"), 1, 1, &[]));
    assert_eq!(download::<u32>(shared, 2), [6, 51]);
    ok(cuStreamAttachMemAsync(0, shared, 0, GLOBAL));
    assert_eq!(cuStreamAttachMemAsync(0, own, 0, GLOBAL), INVALID_VALUE);
    ok(cuMemAdvise(shared, 8, 1, 0));
    assert_eq!(cuMemAdvise(own, 4, 1, 0), INVALID_VALUE);
    // They are the module's, and no allocations.
    for variable in [own, shared] {
        assert_eq!(cuMemFree_v2(variable), INVALID_VALUE);
        assert_eq!(cuMemFreeAsync(variable, 0), INVALID_VALUE);
    }
    ok(cuModuleUnload(program.module));
    assert_eq!(
        cuPointerGetAttribute(Out::of(&mut 0u32).cast(), 8, shared),
        INVALID_VALUE
    );
}

#[test]
fn a_library_has_one_managed_variable_for_all_contexts() {
    init();
    let image = text(VARIABLES);
    let none = (In::null(), Out::null(), 0);
    let load = || {
        get(|out| {
            let (options, values, count) = none;
            let image = c(&image).cast();
            cuLibraryLoadData(out, image, options, values, count, options, values, count)
        })
    };
    let library: u64 = load();
    let (shared, own) = (text("shared"), text("own"));
    let find = || {
        let (mut address, mut size) = (0u64, 0);
        let places = (Out::of(&mut address), Out::of(&mut size));
        let result = cuLibraryGetManaged(places.0, places.1, library, c(&shared));
        (result, address, size)
    };
    // It is there once the library is in a context.
    assert_eq!(find().0, NOT_FOUND);
    let contexts: Vec<u64> = (0..2)
        .map(|device| get(|out| cuCtxCreate_v2(out, 0, device)))
        .collect();
    ok(cuCtxSetCurrent(contexts[0]));
    let (result, at, size) = find();
    assert_eq!((result, size), (SUCCESS, 8));
    let null = Out::null();
    assert_eq!(
        cuLibraryGetManaged(null, Out::null(), library, c(&shared)),
        INVALID_VALUE
    );
    ok(cuLibraryGetManaged(
        null,
        Out::of(&mut 0),
        library,
        c(&shared),
    ));
    let not_managed = cuLibraryGetManaged(null, Out::of(&mut 0), library, c(&own));
    assert_eq!(not_managed, NOT_FOUND);
    assert_eq!((attribute::<u32>(8, at), attribute::<u64>(1, at)), (1, 0));
    let name = text("add");
    let kernel: u64 = get(|out| cuLibraryGetKernel(out, library, c(&name)));
    let mut owns = Vec::new();
    for &context in &contexts {
        ok(cuCtxSetCurrent(context));
        ok(launch(kernel, 1, 1, &[]));
        ok(cuCtxSynchronize());
        let global = |name| get(|out| cuLibraryGetGlobal(out, Out::null(), library, c(name)));
        assert_eq!(global(&shared), at);
        owns.push(global(&own));
        assert_eq!(attribute::<i32>(9, at), 0);
    }
    assert_ne!(owns[0], owns[1]);
    // SAFETY: a managed variable, which no kernel uses while this does.
    let values = unsafe { &mut *(at as *mut [u32; 2]) };
    assert_eq!(*values, [50, 51]);
    // It outlives the context that it came with, and without a context it is still known.
    ok(cuCtxDestroy_v2(contexts[0]));
    ok(cuCtxSetCurrent(0));
    assert_eq!(find(), (SUCCESS, at, 8));
    values[1] = 0;
    ok(cuCtxSetCurrent(contexts[1]));
    ok(launch(kernel, 1, 1, &[]));
    ok(cuCtxSynchronize());
    assert_eq!(*values, [55, 5]);
    ok(cuLibraryUnload(library));
    let gone = cuPointerGetAttribute(Out::of(&mut 0u32).cast(), 8, at);
    assert_eq!(gone, INVALID_VALUE);
    ok(cuCtxDestroy_v2(contexts[1]));
}

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
