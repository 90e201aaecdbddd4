//! Virtual memory management: addresses, physical memory, and the one mapped to the other.

use std::ffi::c_void;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use super::{Handle, call};
use crate::abi::{In, MemAccessDesc, MemAllocationProp, MemLocation, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handles;
use crate::memory::GRANULARITY;
use crate::runtime::Runtime;

const TYPE_PINNED: u32 = 1;
const LOCATION_DEVICE: u32 = 1;
/// CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.
const HANDLE_POSIX_FILE: u32 = 1;
const ACCESS_NONE: u32 = 0;
const ACCESS_READ: u32 = 1;
const ACCESS_READ_WRITE: u32 = 3;
const MAX_DESCRIPTORS: usize = 1024;

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressReserve(
    address: Out<u64>,
    bytes: usize,
    alignment: usize,
    hint: u64,
    flags: u64,
) -> u32 {
    call(|runtime| {
        address.check()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        address.put(
            runtime
                .memory
                .reserve(bytes as u64, alignment as u64, hint)?,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressFree(address: u64, bytes: usize) -> u32 {
    call(|runtime| runtime.memory.unreserve(address, bytes as u64))
}

/// The machine's ordinal of the device that owns such memory, and whether other processes may have it.
fn owner(runtime: &Runtime, prop: In<MemAllocationProp>) -> Result<(usize, bool)> {
    let prop = prop.get()?;
    if prop.kind != TYPE_PINNED || prop.location.kind != LOCATION_DEVICE {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let shareable = match prop.handle_types {
        0 => false,
        HANDLE_POSIX_FILE => true,
        _ => return Err(Error::ERROR_NOT_SUPPORTED),
    };
    Ok((runtime.device(prop.location.id)?.ordinal, shareable))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAllocationGranularity(
    granularity: Out<usize>,
    prop: In<MemAllocationProp>,
    option: u32,
) -> u32 {
    call(|runtime| {
        owner(runtime, prop)?;
        // MINIMUM and RECOMMENDED.
        if option > 1 {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            granularity.put(GRANULARITY as usize)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemCreate(
    handle: Out<Handle>,
    bytes: usize,
    prop: In<MemAllocationProp>,
    flags: u64,
) -> u32 {
    call(|runtime| {
        handle.check()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let (device, shareable) = owner(runtime, prop)?;
        let physical = runtime.memory.create(device, bytes as u64, shareable)?;
        let created = handles::fresh();
        runtime.physical.insert(created, Arc::new(physical));
        handle.put(created)
    })
}

/// The memory lives on while it is mapped.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemRelease(handle: Handle) -> u32 {
    call(|runtime| {
        let released = runtime
            .physical
            .take(handle)
            .map_err(|_| Error::ERROR_INVALID_VALUE)?;
        drop(released);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemMap(
    address: u64,
    bytes: usize,
    offset: usize,
    handle: Handle,
    flags: u64,
) -> u32 {
    call(|runtime| {
        if flags != 0 || offset != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let physical = runtime
            .physical
            .find(handle)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        runtime.memory.map(address, bytes as u64, &physical)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemUnmap(address: u64, bytes: usize) -> u32 {
    call(|runtime| {
        if let Some(context) = Context::try_current() {
            context.drain();
        }
        runtime.still(|| runtime.memory.unmap(address, bytes as u64))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemSetAccess(
    address: u64,
    bytes: usize,
    access: In<MemAccessDesc>,
    count: usize,
) -> u32 {
    call(|runtime| {
        if count == 0 || count > MAX_DESCRIPTORS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // One address space for all devices: memory is usable as soon as one of them may use it.
        let mut usable = false;
        for description in access.list(count)? {
            if description.location.kind != LOCATION_DEVICE {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            runtime.device(description.location.id)?;
            usable |= match description.flags {
                ACCESS_NONE => false,
                ACCESS_READ_WRITE => true,
                // Pages of devices are writable or not there.
                ACCESS_READ => return Err(Error::ERROR_NOT_SUPPORTED),
                _ => return Err(Error::ERROR_INVALID_VALUE),
            };
        }
        runtime.still(|| runtime.memory.set_access(address, bytes as u64, usable))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAccess(flags: Out<u64>, location: In<MemLocation>, address: u64) -> u32 {
    call(|runtime| {
        let location = location.get()?;
        if location.kind != LOCATION_DEVICE {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.device(location.id)?;
        flags.put(if runtime.memory.access(address)? {
            ACCESS_READ_WRITE.into()
        } else {
            0
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRetainAllocationHandle(handle: Out<Handle>, address: u64) -> u32 {
    call(|runtime| {
        handle.check()?;
        let physical = runtime
            .memory
            .physical_at(address)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let created = handles::fresh();
        runtime.physical.insert(created, Arc::new(physical));
        handle.put(created)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAllocationPropertiesFromHandle(
    prop: Out<MemAllocationProp>,
    handle: Handle,
) -> u32 {
    call(|runtime| {
        let physical = runtime.physical.find(handle);
        let physical = physical.ok_or(Error::ERROR_INVALID_VALUE)?;
        let device = runtime
            .devices
            .iter()
            .position(|device| device.ordinal == physical.device);
        prop.put(MemAllocationProp {
            kind: TYPE_PINNED,
            handle_types: physical.file().map_or(0, |_| HANDLE_POSIX_FILE),
            location: MemLocation {
                kind: LOCATION_DEVICE,
                id: device.map_or(-1, |at| at as i32),
            },
            ..MemAllocationProp::default()
        })
    })
}

/// A descriptor of the caller's own by which other processes, too, can have the memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemExportToShareableHandle(
    shareable: Out<i32>,
    handle: Handle,
    kind: u32,
    flags: u64,
) -> u32 {
    call(|runtime| {
        shareable.check()?;
        if kind != HANDLE_POSIX_FILE || flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let physical = runtime.physical.find(handle);
        let physical = physical.ok_or(Error::ERROR_INVALID_VALUE)?;
        let file = physical.file().ok_or(Error::ERROR_INVALID_VALUE)?;
        let file = file.try_clone_to_owned();
        let file = file.map_err(|_| Error::ERROR_OPERATING_SYSTEM)?;
        shareable.put(file.into_raw_fd())
    })
}

/// The memory that a descriptor of this or another process's stands for; the descriptor stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemImportFromShareableHandle(
    handle: Out<Handle>,
    shareable: In<c_void>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        handle.check()?;
        let descriptor = i32::try_from(shareable.address());
        let descriptor = descriptor.map_err(|_| Error::ERROR_INVALID_VALUE)?;
        if kind != HANDLE_POSIX_FILE {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: a number; the result is checked.
        let file = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
        if file < 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: just made, owned by nobody else.
        let physical = runtime
            .memory
            .import_physical(unsafe { OwnedFd::from_raw_fd(file) })?;
        let mut visible = runtime.devices.iter();
        if !visible.any(|device| device.ordinal == physical.device) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let created = handles::fresh();
        runtime.physical.insert(created, Arc::new(physical));
        handle.put(created)
    })
}
