//! What the fake driver has for other processes: descriptors that stand for memory, and handles of events.

use std::ffi::c_void;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::ipc::IpcHandle;

use super::fake::{Code, alive, make, put, with};
use crate::driver::Driver;

/// With what handles of events begin.
pub const EVENT: [u8; 8] = *b"an event";

extern "C" fn retain(handle: *mut u64, address: *mut c_void) -> Code {
    match with(|world| world.memory.contains_key(&(address.addr() as u64))) {
        // SAFETY: the worker's own place.
        true => unsafe { put(handle, make().addr() as u64) },
        false => CudaError::INVALID_VALUE.0,
    }
}

extern "C" fn export(descriptor: *mut c_void, handle: u64, kind: u32, flags: u64) -> Code {
    let named = ptr::without_provenance_mut(handle as usize);
    alive(named, "memory handle");
    assert_eq!((kind, flags), (1, 0));
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    // SAFETY: the worker's own place, for a descriptor.
    unsafe { put(descriptor.cast(), file.into_raw_fd()) }
}

/// The descriptor must be open; it stays the worker's.
extern "C" fn import(handle: *mut u64, descriptor: *mut c_void, kind: u32) -> Code {
    assert_eq!(kind, 1);
    // SAFETY: whatever the number is, the result is checked.
    let copy = unsafe { libc::fcntl(descriptor.addr() as i32, libc::F_DUPFD_CLOEXEC, 0) };
    assert!(copy >= 0, "the worker imports a descriptor that it has not");
    // SAFETY: just made, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(copy) });
    // SAFETY: the worker's own place.
    unsafe { put(handle, make().addr() as u64) }
}

extern "C" fn get_event(handle: *mut IpcHandle, event: *mut c_void) -> Code {
    alive(event, "event");
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&EVENT);
    // SAFETY: the worker's own place.
    unsafe { put(handle, IpcHandle(bytes)) }
}

extern "C" fn open_event(event: *mut *mut c_void, handle: IpcHandle) -> Code {
    match handle.0.starts_with(&EVENT) {
        // SAFETY: the worker's own place.
        true => unsafe { put(event, make()) },
        false => CudaError::INVALID_VALUE.0,
    }
}

pub fn add_to(driver: &mut Driver) {
    driver.cuMemRetainAllocationHandle = Some(retain);
    driver.cuMemExportToShareableHandle = Some(export);
    driver.cuMemImportFromShareableHandle = Some(import);
    driver.cuIpcGetEventHandle = Some(get_event);
    driver.cuIpcOpenEventHandle = Some(open_event);
}
