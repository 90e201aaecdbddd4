//! Two processes with one memory.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Stdio;

use crate::common::*;
use softgpu_cuda::abi::{MemAccessDesc, MemAllocationProp, MemLocation};
use softgpu_cuda::ipc::IpcHandle;

const MEMORY: &str = "SOFTGPU_TEST_IPC_MEMORY";
const EVENT: &str = "SOFTGPU_TEST_IPC_EVENT";
const ALONE: &str = "SOFTGPU_TEST_ALONE";
const LAZY: u32 = 1;

fn hex(handle: IpcHandle) -> String {
    handle.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_environment(name: &str) -> Option<IpcHandle> {
    let text = std::env::var(name).ok()?;
    let mut bytes = [0; 64];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    }
    Some(IpcHandle(bytes))
}

/// Not a test of its own: the other process.
#[test]
fn other_program() {
    let (Some(memory), Some(event)) = (from_environment(MEMORY), from_environment(EVENT)) else {
        return;
    };
    let program = Program::new();
    let open = |handle, flags| cuIpcOpenMemHandle_v2(Out::of(&mut 0), handle, flags);
    assert_eq!(open(memory, 0), INVALID_VALUE);
    let mut damaged = memory;
    damaged.0[40] = 0xff;
    damaged.0[46] = 0xff;
    assert_eq!(open(damaged, LAZY), INVALID_VALUE);
    let at: u64 = get(|out| cuIpcOpenMemHandle_v2(out, memory, LAZY));
    let event: u64 = get(|out| cuIpcOpenEventHandle(out, event));
    let (mut base, mut size) = (0, 0);
    ok(cuMemGetAddressRange_v2(
        Out::of(&mut base),
        Out::of(&mut size),
        at + 4,
    ));
    assert_eq!((base, size), (at, 4096));
    // Once more is the same place, until it is closed as often.
    assert_eq!(get(|out| cuIpcOpenMemHandle_v2(out, memory, LAZY)), at);
    ok(cuIpcCloseMemHandle(at));
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    // The other process records the event behind a kernel that waits for us.
    assert_eq!(cuEventQuery(event), NOT_READY);
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    ok(cuStreamWaitEvent(stream, event, 0));
    ok(launch_in(
        program.function("step"),
        1,
        1,
        stream,
        &[at + 8, 0],
    ));
    std::thread::sleep(std::time::Duration::from_millis(10));
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    ok(cuMemsetD32_v2(at, 1, 1));
    ok(cuEventSynchronize(event));
    ok(cuStreamSynchronize(stream));
    // What the other's kernel wrote before the event.
    assert_eq!(download::<u32>(at + 4, 1), [1]);
    ok(cuEventRecord(event, stream));
    ok(cuIpcCloseMemHandle(at));
    assert_eq!(cuIpcCloseMemHandle(at), INVALID_VALUE);
    assert_eq!(cuMemsetD32_v2(at, 1, 1), INVALID_VALUE);
    ok(cuEventDestroy_v2(event));
}

#[test]
fn memory_and_events_of_another_process() {
    let program = Program::new();
    // In the middle of a chunk, and not at its beginning.
    let _before = alloc(512);
    let at = alloc(4096);
    ok(cuMemsetD32_v2(at, 0, 1024));
    ok(cuMemsetD32_v2(at + 8, 5, 1));
    let memory: IpcHandle = get(|out| cuIpcGetMemHandle(out, at));
    let event: u64 = get(|out| cuEventCreate(out, 2 | 4));
    let shared: IpcHandle = get(|out| cuIpcGetEventHandle(out, event));
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    ok(launch_in(
        program.function("wait"),
        1,
        1,
        stream,
        &[at, at + 4],
    ));
    ok(cuEventRecord(event, stream));
    let home = std::env::var_os("SOFTGPU_HOME").unwrap();
    let other = crate::processes::child("ipc::other_program", home.as_ref())
        .env(MEMORY, hex(memory))
        .env(EVENT, hex(shared))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(other.status.success(), "{said}");
    ok(cuEventSynchronize(event));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<u32>(at, 3), [1, 1, 16]);
    ok(cuMemFree_v2(at));
}

#[test]
fn what_has_no_handle() {
    let _program = Program::new();
    let at = alloc(64);
    let memory: IpcHandle = get(|out| cuIpcGetMemHandle(out, at));
    // Not for the process that made it.
    assert_eq!(
        cuIpcOpenMemHandle(Out::of(&mut 0), memory, LAZY),
        INVALID_CONTEXT
    );
    let none = IpcHandle::default();
    assert_eq!(
        cuIpcOpenMemHandle_v2(Out::of(&mut 0), none, LAZY),
        INVALID_VALUE
    );
    assert_eq!(cuIpcOpenEventHandle(Out::of(&mut 0), none), INVALID_VALUE);
    let ordered: u64 = get(|out| cuMemAllocAsync(out, 64, 0));
    for address in [ordered, 0x1234] {
        let result = cuIpcGetMemHandle(Out::of(&mut IpcHandle::default()), address);
        assert_eq!(result, INVALID_VALUE);
    }
    let event: u64 = get(|out| cuEventCreate(out, 2));
    let result = cuIpcGetEventHandle(Out::of(&mut IpcHandle::default()), event);
    assert_eq!(result, INVALID_HANDLE);
    assert_eq!(cuIpcCloseMemHandle(at), INVALID_VALUE);
}

fn for_others(types: u32) -> MemAllocationProp {
    MemAllocationProp {
        kind: 1,
        handle_types: types,
        location: MemLocation { kind: 1, id: 0 },
        ..Default::default()
    }
}

/// Not a test of its own: a process that counts all memory of its device.
#[test]
fn alone_on_the_device() {
    const GRANULE: usize = 2 << 20;
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let _program = Program::new();
    let first = alloc(64);
    let handle: IpcHandle = get(|out| cuIpcGetMemHandle(out, first));
    assert_eq!(get(|out| cuIpcGetMemHandle(out, first + 8)), handle);
    ok(cuMemFree_v2(first));
    // Another for the memory that comes to its place.
    let next = alloc(64);
    assert_eq!(next, first);
    assert_ne!(get(|out| cuIpcGetMemHandle(out, next)), handle);
    let device: i32 = get(|out| cuDeviceGetAttribute(out, 103, 0));
    assert_eq!(device, 1);
    let shareable = for_others(1);
    let free = || {
        let (mut free, mut total) = (0, 0);
        ok(cuMemGetInfo_v2(Out::of(&mut free), Out::of(&mut total)));
        free
    };
    let before = free();
    let made: u64 = get(|out| cuMemCreate(out, GRANULE, In::of(&shareable), 0));
    let known: MemAllocationProp = get(|out| cuMemGetAllocationPropertiesFromHandle(out, made));
    assert_eq!(known.handle_types, 1);
    let file: i32 = get(|out| cuMemExportToShareableHandle(out, made, 1, 0));
    // SAFETY: made for this process, and nobody else has it.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    let number = |file: &OwnedFd| {
        // SAFETY: never read: it is a number.
        unsafe { In::<c_void>::at(file.as_raw_fd() as u64) }
    };
    let imported: u64 = get(|out| cuMemImportFromShareableHandle(out, number(&file), 1));
    assert_ne!(imported, made);
    drop(file);
    assert_eq!(free(), before - GRANULE, "charged once");
    let at: u64 = get(|out| cuMemAddressReserve(out, 2 * GRANULE, 0, 0, 0));
    let other = at + GRANULE as u64;
    let access = MemAccessDesc {
        location: MemLocation { kind: 1, id: 0 },
        flags: 3,
    };
    ok(cuMemMap(at, GRANULE, 0, made, 0));
    ok(cuMemMap(other, GRANULE, 0, imported, 0));
    ok(cuMemSetAccess(at, 2 * GRANULE, In::of(&access), 1));
    ok(cuMemsetD32_v2(at + 64, 7, 4));
    assert_eq!(download::<u32>(other + 64, 4), [7; 4]);
    let types: u64 = get(|out: Out<u64>| cuPointerGetAttribute(out.cast(), 14, other));
    assert_eq!(types, 1);
    // Whoever made it lets go: it is counted no more, and stays.
    ok(cuMemRelease(made));
    ok(cuMemUnmap(at, GRANULE));
    assert_eq!(free(), before);
    assert_eq!(download::<u32>(other + 64, 4), [7; 4]);
    ok(cuMemRelease(imported));
    ok(cuMemUnmap(other, GRANULE));
    assert_eq!(free(), before);
    ok(cuMemAddressFree(at, 2 * GRANULE));
}

#[test]
fn physical_memory_goes_by_descriptors_and_is_counted_once() {
    let home = tempfile::tempdir().unwrap();
    let alone = crate::processes::child("ipc::alone_on_the_device", home.path())
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success(), "{said}");
}

#[test]
fn what_no_descriptor_stands_for() {
    let _program = Program::new();
    let granule = 2 << 20;
    let refused = cuMemCreate(Out::of(&mut 0), granule, In::of(&for_others(2)), 0);
    assert_eq!(refused, 801);
    let own: u64 = get(|out| cuMemCreate(out, granule, In::of(&for_others(0)), 0));
    let shared: u64 = get(|out| cuMemCreate(out, granule, In::of(&for_others(1)), 0));
    let export =
        |handle, kind, flags| cuMemExportToShareableHandle(Out::of(&mut 0), handle, kind, flags);
    for (handle, kind, flags) in [(own, 1, 0), (shared, 2, 0), (shared, 1, 1), (0x50, 1, 0)] {
        assert_eq!(export(handle, kind, flags), INVALID_VALUE);
    }
    let any: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    for (number, kind) in [
        (any.as_raw_fd() as u64, 1),
        (any.as_raw_fd() as u64, 2),
        (1 << 20, 1),
        (u64::MAX, 1),
    ] {
        // SAFETY: never read: it is a number.
        let number = unsafe { In::<c_void>::at(number) };
        let code = cuMemImportFromShareableHandle(Out::of(&mut 0), number, kind);
        assert_eq!(code, INVALID_VALUE);
    }
    ok(cuMemRelease(own));
    ok(cuMemRelease(shared));
}
