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
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use zerocopy::IntoBytes;

use crate::log;
use crate::send;
use crate::session::Session;
use crate::shared::PAGE;
use crate::thread;

/// Memory that can neither go away nor change its size.
fn file(bytes: u64) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("rgpu-pinned", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
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

/// One descriptor is under way at a time: the server keeps few.
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

/// Why there are no such pages.
enum Refused {
    /// The address is not free on both sides.
    Taken,
    /// Now; next time there may be.
    Now,
    /// The server, or its driver, has no such thing.
    Always(CudaError),
}

/// Addresses that are tried.
const TRIES: usize = 8;

/// Whole pages, zero, that the device has too; `None` where that cannot be.
pub fn open(session: &Session, bytes: u64) -> Option<u64> {
    if !session.passes_descriptors() || !fits(bytes) {
        return None;
    }
    for _ in 0..TRIES {
        if session.memory().host.is_moved() {
            return None;
        }
        let at = addresses().take(bytes)?;
        match share(session, at, bytes) {
            Ok(()) => return Some(at),
            // It stays taken, so that the next one is tried.
            Err(Refused::Taken) => continue,
            Err(Refused::Now) => {}
            Err(Refused::Always(error)) => {
                log::info(|| {
                    format!("pinned memory is moved: the server cannot share it: {error}")
                });
                session.memory().host.move_always();
            }
        }
        addresses().taken.remove(&at);
        return None;
    }
    None
}

fn share(session: &Session, at: u64, bytes: u64) -> Result<(), Refused> {
    let now = |_| Refused::Now;
    let file = file(bytes).map_err(now)?;
    let (access, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
    );
    let place = at as *mut c_void;
    // SAFETY: NOREPLACE never touches a mapping that exists.
    let mapped = unsafe { rustix::mm::mmap(place, bytes as usize, access, flags, &file, 0) };
    let mapped = match mapped {
        Ok(mapped) => mapped as u64,
        Err(Errno::EXIST) => return Err(Refused::Taken),
        Err(_) => return Err(Refused::Now),
    };
    let shared = match mapped == at {
        true => offer(session, at, bytes, &file),
        // An old kernel takes the address for a hint.
        false => Err(Refused::Taken),
    };
    if shared.is_err() {
        unmap(mapped, bytes);
    }
    shared
}

fn offer(session: &Session, at: u64, bytes: u64, file: &OwnedFd) -> Result<(), Refused> {
    let now = |_| Refused::Now;
    // The pages are the client's, not of whoever touches them first.
    let fill = || rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes);
    rustix::io::retry_on_intr(fill).map_err(now)?;
    let args = calls::rgpuHostShareArgs {
        base: at.into(),
        bytes: bytes.into(),
        inode: rustix::fs::fstat(file).map_err(now)?.st_ino.into(),
    };
    let _one = PASSING.lock().unwrap_or_else(PoisonError::into_inner);
    let op = calls::op::rgpuHostShare;
    let share = || session.call_with(op, args.as_bytes(), file.as_fd());
    let shared = match share() {
        // The server had to hear first that a file comes.
        Err(CudaError::NOT_READY) => share(),
        shared => shared,
    };
    match shared {
        Ok(()) => Ok(()),
        Err(CudaError::ALREADY_MAPPED | CudaError::HOST_MEMORY_ALREADY_REGISTERED) => {
            Err(Refused::Taken)
        }
        Err(error @ (CudaError::NOT_SUPPORTED | CudaError::INVALID_VALUE)) => {
            Err(Refused::Always(error))
        }
        Err(_) => Err(Refused::Now),
    }
}

fn unmap(at: u64, bytes: u64) {
    // SAFETY: a mapping that `share` made, which nobody uses any more. Should it fail, it stays as it is.
    let _ = unsafe { rustix::mm::munmap(at as *mut c_void, bytes as usize) };
}

/// No work uses the block any more. `context`: of the block.
pub fn release(session: &Session, base: u64, bytes: u64, context: u64) -> Result<(), CudaError> {
    let unshared = thread::within(context, || send::rgpuHostUnshare(session, base));
    if unshared.is_err() && session.gone().is_none() {
        // The device still has the pages, and their address stays taken.
        return unshared;
    }
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
