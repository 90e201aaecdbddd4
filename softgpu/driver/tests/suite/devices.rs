use crate::common::*;
use std::ffi::c_char;

#[test]
fn devices_say_what_they_are() {
    init();
    assert_eq!(get(|out| cuDeviceGetCount(out)), 2);
    assert_eq!(get(|out| cuDriverGetVersion(out)), 13_020);
    assert_eq!(cuDeviceGet(Out::of(&mut 0), 2), 101);
    assert_eq!(cuDeviceGet(Out::of(&mut 0), -1), 101);
    assert_eq!(cuDeviceGet(Out::null(), 0), INVALID_VALUE);
    let mut short = [1 as c_char; 8];
    ok(cuDeviceGetName(Out::of(&mut short[0]), 5, 0));
    assert_eq!(short.map(|byte| byte as u8), *b"soft\0\x01\x01\x01");
    let uuids = [0, 1].map(|device| get(|out| cuDeviceGetUuid_v2(out, device)));
    assert_ne!(uuids[0], uuids[1]);
    assert_eq!(get(|out| cuDeviceTotalMem_v2(out, 1)), 256 << 20);
    let (mut major, mut minor) = (0, 0);
    ok(cuDeviceComputeCapability(
        Out::of(&mut major),
        Out::of(&mut minor),
        0,
    ));
    assert_eq!((major, minor), (8, 6));
    let mut bus = [0 as c_char; 16];
    ok(cuDeviceGetPCIBusId(Out::of(&mut bus[0]), 16, 1));
    assert_eq!(get(|out| cuDeviceGetByPCIBusId(out, In::of_slice(&bus))), 1);
    assert_eq!(
        cuDeviceGetPCIBusId(Out::of(&mut bus[0]), 4, 1),
        INVALID_VALUE
    );
}

#[test]
fn attributes_have_values_up_to_the_last() {
    init();
    let value = |attribute| get(|out| cuDeviceGetAttribute(out, attribute, 0));
    assert_eq!(
        (value(1), value(10), value(75), value(76), value(41)),
        (1024, 32, 8, 6, 1)
    );
    (1..136).for_each(|attribute| {
        value(attribute);
    });
    for attribute in [0, 136, 200, u32::MAX] {
        assert_eq!(
            cuDeviceGetAttribute(Out::of(&mut 0), attribute, 0),
            INVALID_VALUE
        );
    }
}

#[test]
fn errors_have_names() {
    assert_eq!(name(700), "CUDA_ERROR_ILLEGAL_ADDRESS");
    let mut text: *const c_char = std::ptr::null();
    assert_eq!(cuGetErrorString(12345, Out::of(&mut text)), INVALID_VALUE);
    assert!(text.is_null());
}

#[test]
fn contexts_stack_on_threads() {
    init();
    std::thread::spawn(|| {
        assert_eq!(cuCtxSynchronize(), INVALID_CONTEXT);
        let a: u64 = get(|out| cuCtxCreate_v2(out, 0, 0));
        let b: u64 = get(|out| cuCtxCreate_v2(out, 0, 1));
        assert_eq!(get(|out| cuCtxGetCurrent(out)), b);
        assert_eq!(get(|out| cuCtxGetDevice(out)), 1);
        assert_eq!(get(|out| cuCtxPopCurrent_v2(out)), b);
        assert_eq!(get(|out| cuCtxGetCurrent(out)), a);
        ok(cuCtxPushCurrent_v2(b));
        ok(cuCtxSetCurrent(a));
        ok(cuCtxSetCurrent(0));
        assert_eq!(get(|out| cuCtxGetCurrent(out)), a);
        // What is current elsewhere is known there to be gone.
        let (tell, told) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            ok(cuCtxSetCurrent(a));
            answer.send(cuCtxSynchronize()).unwrap();
            told.recv().unwrap();
            cuCtxSynchronize()
        });
        assert_eq!(answered.recv().unwrap(), SUCCESS);
        ok(cuCtxDestroy_v2(b));
        ok(cuCtxDestroy_v2(a));
        assert_eq!(get(|out| cuCtxGetCurrent(out)), 0u64);
        assert_eq!(cuCtxSetCurrent(a), INVALID_CONTEXT);
        assert_eq!(cuCtxDestroy_v2(a), INVALID_CONTEXT);
        assert_eq!(cuCtxCreate_v2(Out::of(&mut 0), 3, 0), INVALID_VALUE);
        tell.send(()).unwrap();
        assert_eq!(other.join().unwrap(), 709);
    })
    .join()
    .unwrap();
}

#[test]
fn primary_context_is_counted() {
    init();
    let state = || {
        let (mut flags, mut active) = (0, 0);
        ok(cuDevicePrimaryCtxGetState(
            1,
            Out::of(&mut flags),
            Out::of(&mut active),
        ));
        (flags, active)
    };
    assert_eq!(cuDevicePrimaryCtxRelease_v2(1), INVALID_CONTEXT);
    ok(cuDevicePrimaryCtxSetFlags_v2(1, 4));
    let first: u64 = get(|out| cuDevicePrimaryCtxRetain(out, 1));
    assert_eq!(get(|out| cuDevicePrimaryCtxRetain(out, 1)), first);
    assert_eq!(cuCtxDestroy_v2(first), INVALID_CONTEXT);
    ok(cuDevicePrimaryCtxRelease_v2(1));
    assert_eq!(state(), (4, 1));
    ok(cuDevicePrimaryCtxRelease_v2(1));
    assert_eq!(state(), (4, 0));
    assert_eq!(cuCtxSetCurrent(first), INVALID_CONTEXT);
}

#[test]
fn limits_and_peers() {
    let program = Program::new();
    ok(cuCtxSetLimit(0, 4096));
    assert_eq!(get(|out| cuCtxGetLimit(out, 0)), 4096);
    assert_eq!(cuCtxGetLimit(Out::of(&mut 0), 99), INVALID_VALUE);
    assert_eq!(get(|out| cuDeviceCanAccessPeer(out, 0, 1)), 1);
    let other: u64 = get(|out| cuCtxCreate_v2(out, 0, 1));
    ok(cuCtxEnablePeerAccess(program.context, 0));
    assert_eq!(cuCtxEnablePeerAccess(program.context, 0), 704);
    ok(cuCtxDisablePeerAccess(program.context));
    assert_eq!(cuCtxDisablePeerAccess(program.context), 705);
    ok(cuCtxDestroy_v2(other));
}

#[test]
fn contexts_of_every_age() {
    init();
    let first: u64 = get(|out| cuCtxCreate(out, 0, 0));
    let third: u64 = get(|out| cuCtxCreate_v3(out, In::null(), 0, 0, 1));
    let fourth: u64 = get(|out| cuCtxCreate_v4(out, In::null(), 0, 0));
    assert_eq!(get(|out| cuCtxGetDevice_v2(out, third)), 1);
    assert_eq!(get(|out| cuCtxGetDevice_v2(out, 0)), 0);
    ok(cuCtxSynchronize_v2(third));
    assert_eq!(cuCtxSynchronize_v2(77), INVALID_CONTEXT);
    let ids = [first, third].map(|context| get::<u64>(|out| cuCtxGetId(context, out)));
    assert_ne!(ids[0], ids[1]);
    assert_eq!(get(|out| cuCtxGetApiVersion(first, out)), 3020);
    assert_eq!(get(|out| cuCtxGetSharedMemConfig(out)), 1);
    assert_eq!(cuCtxSetSharedMemConfig(3), INVALID_VALUE);
    ok(cuCtxResetPersistingL2Cache());
    let params = [1u64, 1, 0];
    assert_eq!(cuCtxCreate_v4(Out::of(&mut 0), In::of(&params), 0, 0), 801);
    assert_eq!(
        cuCtxCreate_v3(Out::of(&mut 0), In::of(&params).cast(), 1, 0, 0),
        224
    );
    // Attached twice, so that the first detaching leaves it.
    assert_eq!(get(|out| cuCtxAttach(out, 0)), fourth);
    ok(cuCtxDetach(fourth));
    assert_eq!(get(|out| cuCtxGetCurrent(out)), fourth);
    assert_eq!(cuCtxDetach(first), INVALID_CONTEXT);
    ok(cuCtxDetach(fourth));
    assert_eq!(cuCtxSetCurrent(fourth), INVALID_CONTEXT);
    ok(cuCtxDestroy_v2(third));
    ok(cuCtxDestroy_v2(first));
    let properties = get(|out| cuDeviceGetProperties(out, 0));
    assert_eq!((properties[0], properties[9]), (1024, 32));
    assert_eq!(
        cuDeviceGetLuid(Out::of(&mut (0 as c_char)), Out::of(&mut 0), 0),
        801
    );
    assert_eq!(get(|out| cuDeviceGetExecAffinitySupport(out, 0, 0)), 0);
}
