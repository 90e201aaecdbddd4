use crate::common::*;
use softgpu_cuda::abi::{KernelNode, KernelNodeV2};
use std::ffi::{CStr, c_char};

fn load(image: &str) -> u64 {
    let image = text(image);
    get(|out| {
        cuLibraryLoadData(
            out,
            c(&image).cast(),
            In::null(),
            Out::null(),
            0,
            In::null(),
            Out::null(),
            0,
        )
    })
}

fn kernel(library: u64, name: &str) -> u64 {
    let name = text(name);
    get(|out| cuLibraryGetKernel(out, library, c(&name)))
}

#[test]
fn a_librarys_kernels_run_in_every_context() {
    init();
    // Without a context.
    let library = load(PTX);
    let step = kernel(library, "step");
    let contexts: Vec<u64> = (0..2)
        .map(|device| get(|out| cuCtxCreate_v2(out, 0, device)))
        .collect();
    for &context in &contexts {
        ok(cuCtxSetCurrent(context));
        let stream: u64 = get(|out| cuStreamCreate(out, 0));
        let at = upload(&[1u32]);
        ok(launch_in(step, 1, 1, stream, &[at, 0]));
        ok(launch(step, 1, 1, &[at, 0]));
        let function: u64 = get(|out| cuKernelGetFunction(out, step));
        assert_eq!(get(|out| cuKernelGetFunction(out, step)), function);
        ok(launch(function, 1, 1, &[at, 0]));
        assert_eq!(download::<u32>(at, 1), [40]);
        let module: u64 = get(|out| cuLibraryGetModule(out, library));
        assert_eq!(get(|out| cuFuncGetModule(out, function)), module);
        assert_eq!(cuModuleUnload(module), 800);
        assert!(get(|out| cuOccupancyMaxActiveBlocksPerMultiprocessor(out, step, 32, 0)) > 0);
    }
    // A stream says which context a kernel runs in.
    let other: u64 = get(|out| cuStreamCreate(out, 0));
    let there = upload(&[1u32]);
    ok(cuCtxSetCurrent(contexts[0]));
    ok(launch_in(step, 1, 1, other, &[there, 0]));
    ok(cuStreamSynchronize(other));
    ok(cuCtxSetCurrent(contexts[1]));
    assert_eq!(download::<u32>(there, 1), [4]);

    ok(cuCtxDestroy_v2(contexts[1]));
    ok(cuCtxSetCurrent(contexts[0]));
    let function: u64 = get(|out| cuKernelGetFunction(out, step));
    ok(cuLibraryUnload(library));
    assert_eq!(cuLibraryUnload(library), INVALID_HANDLE);
    assert_eq!(launch(function, 1, 1, &[there, 0]), INVALID_HANDLE);
    assert_eq!(launch(step, 1, 1, &[there, 0]), INVALID_HANDLE);
    assert_eq!(cuKernelGetFunction(Out::of(&mut 0), step), INVALID_HANDLE);
    ok(cuCtxDestroy_v2(contexts[0]));
}

#[test]
fn variables_are_the_contexts() {
    let program = Program::new();
    let library = load(PTX);
    let counter = text("counter");
    let (mut address, mut size) = (0, 0);
    ok(cuLibraryGetGlobal(
        Out::of(&mut address),
        Out::of(&mut size),
        library,
        c(&counter),
    ));
    assert_eq!(size, 4);
    ok(launch(kernel(library, "count"), 1, 5, &[]));
    ok(launch(program.function("count"), 1, 32, &[]));
    assert_eq!(download::<u32>(address, 1), [12]);
    let missing = text("missing");
    for name in [&counter, &missing] {
        let result = cuLibraryGetManaged(Out::of(&mut 0), Out::null(), library, c(name));
        assert_eq!(result, NOT_FOUND);
    }
    assert_eq!(
        cuLibraryGetGlobal(Out::null(), Out::null(), library, c(&missing)),
        NOT_FOUND
    );
    ok(cuLibraryUnload(library));
}

#[test]
fn kernels_say_what_they_are() {
    let program = Program::new();
    let library = load(PTX);
    let count = get(|out| cuLibraryGetKernelCount(out, library));
    assert_eq!(
        count,
        get(|out| cuModuleGetFunctionCount(out, program.module))
    );
    let mut kernels = vec![0u64; count as usize];
    ok(cuLibraryEnumerateKernels(
        Out::of(&mut kernels[0]),
        count,
        library,
    ));
    let mixed = kernel(library, "mixed");
    assert!(kernels.contains(&mixed));
    assert_eq!(get(|out| cuKernelGetLibrary(out, mixed)), library);
    let mut name: *const c_char = std::ptr::null();
    ok(cuKernelGetName(Out::of(&mut name), mixed));
    // SAFETY: the name lives as long as the library.
    assert_eq!(unsafe { CStr::from_ptr(name) }.to_str(), Ok("mixed"));
    let info = |index| {
        let (mut offset, mut size) = (0, 0);
        let result = cuKernelGetParamInfo(mixed, index, Out::of(&mut offset), Out::of(&mut size));
        (result, offset, size)
    };
    assert_eq!(
        [info(0), info(1), info(2), info(3)],
        [(0, 0, 1), (0, 8, 8), (0, 16, 2), (0, 20, 4)]
    );
    assert_eq!(info(4).0, INVALID_VALUE);
    let function: u64 = get(|out| cuKernelGetFunction(out, mixed));
    assert_eq!(
        cuFuncGetParamInfo(function, 4, Out::of(&mut 0), Out::null()),
        INVALID_VALUE
    );
    let missing = text("missing");
    assert_eq!(
        cuLibraryGetKernel(Out::of(&mut 0), library, c(&missing)),
        NOT_FOUND
    );
    // A kernel is no function to those who ask about functions.
    assert_eq!(
        cuFuncGetAttribute(Out::of(&mut 0), 0, mixed),
        INVALID_HANDLE
    );
    ok(cuLibraryUnload(library));
}

#[test]
fn attributes_are_the_devices() {
    let _program = Program::new();
    let library = load(PTX);
    let neighbour = kernel(library, "neighbour");
    let shared = |device| get(|out| cuKernelGetAttribute(out, 8, neighbour, device));
    assert_eq!(shared(0), 48 << 10);
    ok(cuKernelSetAttribute(8, 64 << 10, neighbour, 0));
    assert_eq!((shared(0), shared(1)), (64 << 10, 48 << 10));
    assert_eq!(
        cuKernelSetAttribute(8, 1 << 20, neighbour, 0),
        INVALID_VALUE
    );
    assert_eq!(cuKernelSetAttribute(8, 0, neighbour, 2), 101);
    ok(cuKernelSetCacheConfig(neighbour, 1, 0));
    let at = alloc(32 * 4);
    let values = [at];
    let pointers = [values.as_ptr() as u64];
    ok(cuLaunchKernel(
        neighbour,
        1,
        1,
        1,
        32,
        1,
        1,
        60 << 10,
        0,
        In::of_slice(&pointers),
        In::null(),
    ));
    ok(cuCtxSynchronize());
    let function: u64 = get(|out| cuKernelGetFunction(out, neighbour));
    assert_eq!(get(|out| cuFuncGetAttribute(out, 8, function)), 64 << 10);
    ok(cuLibraryUnload(library));
}

#[test]
fn graphs_take_kernels() {
    let program = Program::new();
    let library = load(PTX);
    let at = upload(&[1u32]);
    let values = [at, 0];
    let pointers = [
        std::ptr::from_ref(&values[0]) as u64,
        std::ptr::from_ref(&values[1]) as u64,
    ];
    let graph: u64 = get(|out| cuGraphCreate(out, 0));
    let params = KernelNodeV2 {
        node: KernelNode {
            function: 0,
            grid: [1; 3],
            block: [1; 3],
            shared: 0,
            params: pointers.as_ptr() as u64,
            extra: 0,
        },
        kernel: kernel(library, "step"),
        context: program.context,
    };
    let _node: u64 = get(|out| cuGraphAddKernelNode_v2(out, graph, In::null(), 0, In::of(&params)));
    let exec: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuGraphLaunch(exec, 0));
    assert_eq!(download::<u32>(at, 1), [4]);
    let none = KernelNodeV2 {
        kernel: 0,
        ..params
    };
    assert_eq!(
        cuGraphAddKernelNode_v2(Out::of(&mut 0), graph, In::null(), 0, In::of(&none)),
        INVALID_HANDLE
    );
    ok(cuGraphExecDestroy(exec));
    ok(cuGraphDestroy(graph));
    ok(cuLibraryUnload(library));
}

#[test]
fn libraries_of_files_and_bad_ones() {
    let _program = Program::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels.ptx");
    std::fs::write(&path, PTX).unwrap();
    let from = |path: &str, options: &[u32]| {
        let path = text(path);
        let mut library = 0u64;
        let result = cuLibraryLoadFromFile(
            Out::of(&mut library),
            c(&path),
            In::null(),
            Out::null(),
            0,
            In::of_slice(options),
            Out::null(),
            options.len() as u32,
        );
        (result, library)
    };
    let (result, library) = from(path.to_str().unwrap(), &[1]);
    ok(result);
    ok(cuLibraryUnload(library));
    assert_eq!(from("/does/not/exist.ptx", &[]).0, 301);
    assert_eq!(from(path.to_str().unwrap(), &[7]).0, INVALID_VALUE);
    let broken = text(".version 7.8\n.target sm_70\n.bogus\n");
    let mut log = [1 as c_char; 100];
    let options = [5u32, 6];
    let mut values = [log.as_mut_ptr() as u64, 100];
    let result = cuLibraryLoadData(
        Out::of(&mut 0),
        c(&broken).cast(),
        In::of_slice(&options),
        Out::of(&mut values[0]),
        2,
        In::null(),
        Out::null(),
        0,
    );
    assert_eq!(result, INVALID_PTX);
    // SAFETY: the driver terminates what it writes.
    let said = unsafe { CStr::from_ptr(log.as_ptr()) }.to_str().unwrap();
    assert!(said.contains("line 3"), "{said}");
    assert_eq!(get(|out| cuModuleGetLoadingMode(out)), 2);
}
