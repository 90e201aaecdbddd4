//! Two processes with one memory.

use std::process::Stdio;

use crate::common::*;
use softgpu_cuda::ipc::IpcHandle;

const MEMORY: &str = "SOFTGPU_TEST_IPC_MEMORY";
const EVENT: &str = "SOFTGPU_TEST_IPC_EVENT";
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
