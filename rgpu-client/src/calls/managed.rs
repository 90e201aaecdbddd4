//! Managed memory and variables, and host memory that is mapped for the device: the calls. How it moves stands in `shared.rs`.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::frame::LANDED;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::capture;
use super::context::current_device;
use super::device::refuse;
use super::host;
use super::memory::allocate_for;
use crate::entry::{Needs, enter, put, required};
use crate::handles::{Kind, is_default_stream};
use crate::heap::Tag;
use crate::send;
use crate::servers::Of;
use crate::session::Session;
use crate::shared::{PAGE, Range};

const ATTACH_GLOBAL: u32 = 1;
const ATTACH_HOST: u32 = 2;
const ATTACH_SINGLE: u32 = 4;

/// Whose calls an allocation's memory is, besides the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    None,
    Managed,
    /// cuMemHostAlloc(DEVICEMAP), with its flags.
    Mapped(u32),
}

/// Whole pages of device memory that the host has at the same address, zero on both sides.
pub fn allocate(session: &Session, bytes: usize, sharing: Sharing) -> Result<u64, CudaError> {
    let size = bytes as u64;
    let pages = size.checked_next_multiple_of(PAGE);
    let pages = pages.ok_or(CudaError::OUT_OF_MEMORY)?;
    let device = current_device(session)? as usize;
    if !session.memory().has_window(device) {
        return Err(refuse(
            "memory that host and device share, where the driver chooses addresses",
        ));
    }
    let (context, tag) = (
        session.owner(),
        Tag {
            sharing,
            ..Tag::default()
        },
    );
    let at = allocate_for(session, device, context, size, tag)?;
    // SAFETY: addresses of the client's own window, where the program has nothing.
    let open = unsafe {
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        rustix::mm::mprotect(at as *mut c_void, pages as usize, access)
    };
    let ready = open
        .map_err(|_| CudaError::OUT_OF_MEMORY)
        .and_then(|()| send::rgpuMemset(session, at, 1, 0, pages, 0, LANDED));
    if let Err(error) = ready {
        close(at, pages);
        session.memory().free_now(session, at)?;
        return Err(error);
    }
    session.share(at, at, pages);
    Ok(at)
}

/// Device memory for host memory of the program's own, which is somewhere else.
pub fn behind(session: &Session, host: u64, bytes: u64, flags: u32) -> Result<u64, CudaError> {
    let device = current_device(session)? as usize;
    let (context, tag) = (
        session.owner(),
        Tag {
            sharing: Sharing::Mapped(flags),
            ..Tag::default()
        },
    );
    let at = allocate_for(session, device, context, bytes, tag)?;
    // As the shadow of memory that is new to the device.
    if let Err(error) = send::rgpuMemset(session, at, 1, 0, bytes, 0, LANDED) {
        session.memory().free_now(session, at)?;
        return Err(error);
    }
    session.share(host, at, bytes);
    Ok(at)
}

/// Gives the host's pages up; their addresses stay the window's.
pub(super) fn close(at: u64, bytes: u64) {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    let (place, bytes) = (at as *mut c_void, bytes as usize);
    // SAFETY: pages of the client's own window, which the program has given up. Should it fail, they stay as they are.
    let _ = unsafe { rustix::mm::mmap_anonymous(place, bytes, ProtFlags::empty(), flags) };
}

/// The program, or its context, has given up such memory.
pub fn given_up(range: &Range) {
    if range.is_in_window() {
        close(range.host, range.bytes);
    }
}

/// The host gets a managed variable at the driver's address. `owner`: the module or library that it ends with.
pub fn adopt(session: &Session, at: u64, bytes: u64, owner: u64) -> Result<(), CudaError> {
    let adopted = capture::apart(session, || session.share_variable(at, bytes, owner));
    adopted.map_err(|error| match error {
        CudaError::NOT_SUPPORTED => refuse(
            "a managed variable that the driver has placed where the program has something else",
        ),
        other => other,
    })
}

/// Variables that ended with their module or library.
pub fn end_variables(session: &Session, owner: u64) {
    for range in session.end_shared(owner) {
        session.memory().advices.forget(range.device);
    }
    session.memory().forget_globals(owner);
}

pub unsafe fn cuMemAllocManaged(address: *mut u64, bytes: usize, flags: u32) -> u32 {
    enter("cuMemAllocManaged", Needs::Context, |session| {
        required(address)?;
        if !matches!(flags, ATTACH_GLOBAL | ATTACH_HOST) || bytes == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        capture::probe(session)?;
        let placed = allocate(session, bytes, Sharing::Managed)?;
        // SAFETY: the caller's place.
        unsafe { put(address, placed) }
    })
}

/// Of pinned memory and registered memory, whatever its flags: with unified addresses all of it is mapped.
pub unsafe fn cuMemHostGetDevicePointer_v2(device: *mut u64, host: *mut c_void, flags: u32) -> u32 {
    enter("cuMemHostGetDevicePointer_v2", Needs::Context, |session| {
        let address = host as u64;
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let found = session.memory().find(address);
        let known = match found.map(|found| found.sharing()) {
            Some(Sharing::Mapped(_)) => Some(address),
            _ => host::device_address(session, address)?,
        };
        // SAFETY: the caller's place.
        unsafe { put(device, known.ok_or(CudaError::INVALID_VALUE)?) }
    })
}

/// Every stream sees all managed memory, so there is nothing to attach.
pub unsafe fn cuStreamAttachMemAsync(stream: u64, address: u64, bytes: usize, flags: u32) -> u32 {
    Of::Handle(stream).enter("cuStreamAttachMemAsync", Needs::Context, |session| {
        session.handles.check(Kind::Stream, stream)?;
        match flags {
            ATTACH_GLOBAL | ATTACH_HOST => {}
            ATTACH_SINGLE if !is_default_stream(stream) => {}
            _ => return Err(CudaError::INVALID_VALUE),
        }
        let found = session.memory().find(address);
        let managed = found.is_some_and(|found| {
            let whole = bytes == 0 || bytes as u64 == found.size;
            found.base == address && whole && found.sharing() == Sharing::Managed
        });
        match managed {
            true => Ok(()),
            false => Err(CudaError::INVALID_VALUE),
        }
    })
}
