//! Pinned memory that kernels use. With unified addresses a kernel may use all host memory that CUDA has allocated, and nothing tells which of
//! it one will: to keep all of it the same on both sides would cost every launch. So pinned memory lies where the device can have it too,
//! and is shared (`shared.rs`) from when a kernel is given an address in it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rgpu_proto::{CudaError, calls};
use rustix::mm::MprotectFlags;

use super::context::current_device;
use super::host::settle;
use super::managed::close;
use crate::heap::GRANULE;
use crate::pool::READ_WRITE;
use crate::send;
use crate::session::Session;

/// Whether a kernel can use a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its addresses are the host's alone.
    Never,
    /// As soon as one is given an address in it.
    Possible,
    /// By physical memory of this id.
    Now(u64),
    /// It is the device's memory, too.
    ZeroCopy,
}

/// Has there been any such memory? Launches of most programs need not look.
static ANY: AtomicBool = AtomicBool::new(false);

/// Two threads may give kernels the same memory at once.
static SHARING: Mutex<()> = Mutex::new(());

/// Whole physical pieces, as the device maps them.
fn room(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(GRANULE)
}

/// Pages of the host's at addresses that the device can have too, if there are any.
pub fn open(session: &Session, bytes: u64, pages: usize) -> Option<u64> {
    let at = session.memory().virtual_memory.occupy(room(bytes)?)?;
    let access = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: addresses of the client's own window, where the program has nothing.
    let opened = unsafe { rustix::mm::mprotect(at as *mut c_void, pages, access) };
    if opened.is_err() {
        session.memory().virtual_memory.vacate(at);
        return None;
    }
    ANY.store(true, Ordering::Release);
    Some(at)
}

/// What a kernel's parameters name becomes the device's, too.
pub fn reach(session: &Session, params: &[u8]) -> Result<(), CudaError> {
    if !ANY.load(Ordering::Acquire) {
        return Ok(());
    }
    let (words, _) = params.as_chunks::<8>();
    let named: BTreeMap<u64, u64> = {
        let memory = session.memory();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        words
            .filter_map(|word| memory.host.reachable(word))
            .collect()
    };
    for (base, bytes) in named {
        let _one = SHARING.lock().unwrap_or_else(PoisonError::into_inner);
        if session.memory().host.reachable(base).is_some() {
            share(session, base, bytes)?;
        }
    }
    Ok(())
}

fn share(session: &Session, base: u64, bytes: u64) -> Result<(), CudaError> {
    let room = room(bytes).ok_or(CudaError::OUT_OF_MEMORY)?;
    let ordinal = session.devices.get(current_device(session)?)?.ordinal;
    // What is on its way to the host is there before the device has it.
    settle(session, base, bytes);
    if !reserve(session)? {
        session.memory().host.set_reach(base, Reach::Never);
        return Ok(());
    }
    let id = session.memory().virtual_memory.fresh();
    send::rgpuPhysicalCreate(session, id, ordinal, room)?;
    send::rgpuPhysicalMap(session, id, base)?;
    send::rgpuPhysicalAccess(session, base, room, ordinal, READ_WRITE)?;
    session.memory().host.set_reach(base, Reach::Now(id));
    session.share_news(base, base, bytes);
    Ok(())
}

/// Has the server keep the window of pinned memory, the first time; whether it could.
fn reserve(session: &Session) -> Result<bool, CudaError> {
    let (known, window) = {
        let memory = session.memory();
        let own = &memory.virtual_memory;
        (own.pinned_reserved, own.pinned_window())
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let window = window.ok_or(CudaError::OUT_OF_MEMORY)?;
    let mut reply = calls::rgpuAddressReserveReply::default();
    send::rgpuAddressReserve(session, window.len, GRANULE, window.base, &mut reply)?;
    let placed = reply.placed.get();
    let reserved = placed == window.base;
    if !reserved {
        send::rgpuAddressFree(session, placed, window.len)?;
    }
    session.memory().virtual_memory.pinned_reserved = Some(reserved);
    Ok(reserved)
}

/// The program, or its context, has given the block up, and all work that may use it is done.
pub fn release(session: &Session, base: u64, bytes: u64, reach: Reach) -> Result<(), CudaError> {
    let room = room(bytes).unwrap_or(bytes);
    if let Reach::Now(id) = reach {
        session.unshare(base);
        send::rgpuPhysicalUnmap(session, base, room)?;
        send::rgpuPhysicalRelease(session, id)?;
    }
    close(base, room);
    session.memory().virtual_memory.vacate(base);
    Ok(())
}
