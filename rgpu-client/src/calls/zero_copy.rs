//! Pinned memory on one host: the program, the worker and the device have the same pages at the same address. So kernels use what the program
//! sees, also while both run; copies are the device's own. Elsewhere, or where the server's driver has no such thing, pinned memory is moved
//! (`reach.rs`, `shared.rs`).

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::{CudaError, calls};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use zerocopy::IntoBytes;

use crate::log;
use crate::send;
use crate::session::Session;
use crate::shared::PAGE;

/// Pages that can neither go away nor change their number. They are the client's from the start, not of whoever touches them first.
fn pages(bytes: u64) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("rgpu-pinned", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// All that this machine has: nobody has more pages than that, and asking for them would cost others theirs.
fn fits(bytes: u64) -> bool {
    let all = rustix::system::sysinfo();
    bytes <= (all.totalram as u64).saturating_mul(all.mem_unit.into())
}

/// Addresses for the blocks of all sessions, that no driver uses for device memory and no kernel gives out by itself, so that they are free on
/// both sides.
#[derive(Default)]
struct Addresses {
    /// With a page between neighbours.
    taken: BTreeMap<u64, u64>,
}

const AREA: Range<u64> = 0x1800_0000_0000..0x1c00_0000_0000;

/// One descriptor is under way at a time: commands of two threads may be played in another order than they came.
static PASSING: Mutex<()> = Mutex::new(());

static ADDRESSES: Mutex<Addresses> = Mutex::new(Addresses {
    taken: BTreeMap::new(),
});

fn addresses() -> MutexGuard<'static, Addresses> {
    ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Addresses {
    /// Behind the last block, or in the first gap if there is no more room.
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let room = bytes.checked_next_multiple_of(PAGE)?.checked_add(PAGE)?;
        let last = self.taken.last_key_value();
        let end = last.map_or(AREA.start, |(base, room)| base + room);
        let at = match AREA.end - end >= room {
            true => end,
            false => self.gap(room)?,
        };
        self.taken.insert(at, room);
        Some(at)
    }

    fn gap(&self, room: u64) -> Option<u64> {
        let mut at = AREA.start;
        for (base, taken) in &self.taken {
            if base - at >= room {
                return Some(at);
            }
            at = base + taken;
        }
        None
    }
}

/// Whole pages, zero, that the device has too; `None` where that cannot be.
pub fn open(session: &Session, bytes: u64) -> Option<u64> {
    if !session.passes_descriptors() || session.memory().host.is_moved() || !fits(bytes) {
        return None;
    }
    let at = addresses().take(bytes)?;
    match share(session, at, bytes) {
        Ok(()) => Some(at),
        Err(error) => {
            if let Some(error) = error {
                log::info(|| {
                    format!("pinned memory is moved: the server cannot share it: {error}")
                });
                session.memory().host.move_always();
            }
            addresses().taken.remove(&at);
            None
        }
    }
}

/// `None` of this machine's errors: next time it may have the pages.
fn share(session: &Session, at: u64, bytes: u64) -> Result<(), Option<CudaError>> {
    let file = pages(bytes).map_err(|_| None)?;
    let (access, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
    );
    // SAFETY: NOREPLACE never touches a mapping that exists.
    let mapped =
        unsafe { rustix::mm::mmap(at as *mut c_void, bytes as usize, access, flags, &file, 0) };
    let mapped = mapped.map_err(|_| None)? as u64;
    let args = calls::rgpuHostShareArgs {
        base: at.into(),
        bytes: bytes.into(),
    };
    let op = calls::op::rgpuHostShare;
    let shared = match mapped == at {
        true => {
            let _one = PASSING.lock().unwrap_or_else(PoisonError::into_inner);
            session.call_with(op, args.as_bytes(), file.as_fd())
        }
        // An old kernel takes the address for a hint.
        false => Err(CudaError::NOT_SUPPORTED),
    };
    shared.map_err(|error| {
        unmap(mapped, bytes);
        (error != CudaError::OUT_OF_MEMORY).then_some(error)
    })
}

fn unmap(at: u64, bytes: u64) {
    // SAFETY: a mapping that `share` made, which nobody uses any more. Should it fail, it stays as it is.
    let _ = unsafe { rustix::mm::munmap(at as *mut c_void, bytes as usize) };
}

/// No work uses the block any more.
pub fn release(session: &Session, base: u64, bytes: u64) -> Result<(), CudaError> {
    let unshared = send::rgpuHostUnshare(session, base);
    unmap(base, bytes);
    addresses().taken.remove(&base);
    unshared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_once_and_again_when_they_are_free() {
        let mut addresses = Addresses::default();
        let first = addresses.take(1).unwrap();
        let second = addresses.take(PAGE).unwrap();
        assert_eq!((first, second), (AREA.start, AREA.start + 2 * PAGE));
        let rest = AREA.end - second - 3 * PAGE;
        assert!(addresses.take(rest + 1).is_none() && addresses.take(u64::MAX).is_none());
        let third = addresses.take(rest).unwrap();
        assert_eq!(third, second + 2 * PAGE);
        assert!(addresses.take(1).is_none());
        addresses.taken.remove(&second);
        assert_eq!(addresses.take(PAGE + 1), None);
        assert_eq!(addresses.take(PAGE), Some(second));
    }
}
