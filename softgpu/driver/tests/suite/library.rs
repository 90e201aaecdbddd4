//! The shared library, loaded as programs load it.

use std::ffi::c_void;

use crate::common::*;

const FUNCTIONS: &str = include_str!("../../../../rgpu-proto/api/cuda_functions.tsv");

fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .filter(|name| name.starts_with("cu"))
}

#[test]
fn every_function_of_cuda_h_is_there() {
    let path = std::env::current_exe()
        .unwrap()
        .with_file_name("libsoftgpu_cuda.so");
    // SAFETY: our own library, whose initialisers do nothing.
    let library = unsafe { libloading::Library::new(&path) }.unwrap();
    for name in names() {
        // SAFETY: looked up, not called.
        let symbol = unsafe { library.get::<*const c_void>(name.as_bytes()) };
        assert!(symbol.is_ok(), "{name} is not exported");
    }
}

#[test]
fn what_is_not_served_says_so() {
    init();
    assert_eq!(cuMulticastCreate(), 801);
    assert_eq!(name(801), "CUDA_ERROR_NOT_SUPPORTED");
}

fn look_up(name: &str, version: i32, flags: u64) -> (u32, u32, usize) {
    let name = text(name);
    let (mut function, mut status) = (std::ptr::null(), 9);
    let result = cuGetProcAddress_v2(
        c(&name),
        Out::of(&mut function),
        version,
        flags,
        Out::of(&mut status),
    );
    (result, status, function as usize)
}

#[test]
fn addresses_by_name_and_version() {
    let same = |found: (u32, u32, usize), function: *const c_void| {
        assert_eq!(found, (0, 0, function as usize));
    };
    same(
        look_up("cuMemAlloc", 12_040, 0),
        cuMemAlloc_v2 as *const c_void,
    );
    same(look_up("cuInit", 2000, 0), cuInit as *const c_void);
    same(
        look_up("cuGraphAddKernelNode", 11_080, 0),
        cuGraphAddKernelNode as *const c_void,
    );
    same(
        look_up("cuGraphAddKernelNode", 12_000, 0),
        cuGraphAddKernelNode_v2 as *const c_void,
    );
    same(
        look_up("cuGraphInstantiate", 12_000, 0),
        cuGraphInstantiateWithFlags as *const c_void,
    );
    same(
        look_up("cuLaunchKernel", 12_000, 2),
        cuLaunchKernel_ptsz as *const c_void,
    );
    same(
        look_up("cuMemcpyHtoD", 12_000, 2),
        cuMemcpyHtoD_v2_ptds as *const c_void,
    );
    same(
        look_up("cuMemcpyHtoD", 12_000, 1),
        cuMemcpyHtoD_v2 as *const c_void,
    );
    // Variants of many ages.
    let ages: [(&str, i32, *const c_void); 8] = [
        (
            "cuStreamGetCaptureInfo",
            10_010,
            cuStreamGetCaptureInfo as _,
        ),
        (
            "cuStreamGetCaptureInfo",
            12_000,
            cuStreamGetCaptureInfo_v2 as _,
        ),
        (
            "cuStreamGetCaptureInfo",
            12_030,
            cuStreamGetCaptureInfo_v3 as _,
        ),
        ("cuMemAdvise", 12_010, cuMemAdvise as _),
        ("cuMemAdvise", 12_020, cuMemAdvise_v2 as _),
        ("cuGraphGetEdges", 12_000, cuGraphGetEdges as _),
        ("cuLinkCreate", 12_000, cuLinkCreate_v2 as _),
        ("cuGraphExecUpdate", 11_080, cuGraphExecUpdate as _),
    ];
    for (name, version, function) in ages {
        same(look_up(name, version, 0), function);
    }
    // Too young for who asks.
    assert_eq!(look_up("cuLibraryLoadData", 11_080, 0), (0, 2, 0));
    assert_eq!(look_up("cuLaunchKernel", 6_000, 2), (0, 2, 0));
    // What would only be refused is not there.
    assert_eq!(look_up("cuMulticastCreate", 12_000, 0), (0, 1, 0));
    assert_eq!(look_up("cuNonsense", 12_000, 0), (0, 1, 0));
    assert_eq!(look_up("cuInit", 12_000, 3).0, INVALID_VALUE);
    let name = text("cuNonsense");
    assert_eq!(
        cuGetProcAddress(c(&name), Out::of(&mut std::ptr::null()), 12_000, 0),
        NOT_FOUND
    );
}
