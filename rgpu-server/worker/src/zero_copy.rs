//! Pinned memory of the client's program that this process has too: the same pages, at the same address, registered with the driver. Kernels
//! and copies use what the program sees. The pages come as a sealed memfd over the client's socket.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::driver::Driver;

/// Descriptors that may wait for their command.
const MAX_WAITING: usize = 4;
/// Most blocks of one session. A process has 65530 mappings at most, by default.
const MAX_BLOCKS: usize = 1 << 14;
/// Beyond these there are no addresses of programs.
const ADDRESSES: std::ops::Range<u64> = 1 << 16..1 << 47;
const PAGE: u64 = 4096;
/// CU_MEMHOSTREGISTER_PORTABLE and DEVICEMAP.
const FOR_ALL: u32 = 1 | 2;

/// Descriptors that have come with the client's bytes, in order. A client sends none but for [`Blocks::add`], and the next one when that is
/// answered.
#[derive(Default)]
pub struct Descriptors(Mutex<VecDeque<OwnedFd>>);

impl Descriptors {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is too much is closed.
    pub fn arrived(&self, fd: OwnedFd) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(fd);
        }
    }

    pub fn next(&self) -> Option<OwnedFd> {
        self.waiting().pop_front()
    }
}

/// Pages of a client's, mapped here as long as this lives.
struct Pages {
    base: u64,
    bytes: usize,
}

impl Pages {
    /// INVALID_VALUE for what no client asks for; NOT_SUPPORTED where something of this process is there already.
    fn map(file: &OwnedFd, base: u64, bytes: u64) -> Result<Pages, CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let end = base.checked_add(bytes).ok_or(invalid)?;
        let whole = base.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE) && bytes > 0;
        if !whole || base < ADDRESSES.start || end > ADDRESSES.end {
            return Err(invalid);
        }
        // A file that can shrink would kill whoever touches its pages.
        let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| invalid)?;
        let size = rustix::fs::fstat(file).map_err(|_| invalid)?.st_size;
        if !seals.contains(SealFlags::SHRINK) || u64::try_from(size) != Ok(bytes) {
            return Err(invalid);
        }
        let bytes = usize::try_from(bytes).map_err(|_| invalid)?;
        // SAFETY: NOREPLACE never touches a mapping that exists.
        let mapped = unsafe {
            rustix::mm::mmap(
                base as *mut c_void,
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
                file,
                0,
            )
        };
        match mapped {
            // An old kernel takes the address for a hint.
            Ok(at) if at as u64 != base => {
                drop(Pages {
                    base: at as u64,
                    bytes,
                });
                Err(CudaError::NOT_SUPPORTED)
            }
            Ok(_) => Ok(Pages { base, bytes }),
            Err(Errno::NOMEM) => Err(CudaError::OUT_OF_MEMORY),
            Err(_) => Err(CudaError::NOT_SUPPORTED),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made. Should it fail, it stays as it is.
        let _ = unsafe { rustix::mm::munmap(self.base as *mut c_void, self.bytes) };
    }
}

/// All of a session's, by address.
#[derive(Default)]
pub struct Blocks(BTreeMap<u64, Pages>);

impl Blocks {
    /// The device gets these pages at the address where the client has them, or not at all.
    pub fn add(
        &mut self,
        driver: &Arc<Driver>,
        file: Option<OwnedFd>,
        base: u64,
        bytes: u64,
    ) -> Result<(), CudaError> {
        // Something between client and server passes bytes alone.
        let file = file.ok_or(CudaError::NOT_SUPPORTED)?;
        if self.0.len() >= MAX_BLOCKS {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let pages = Pages::map(&file, base, bytes)?;
        let place = base as *mut c_void;
        // SAFETY: pages of this process's, which stay until they are unregistered.
        unsafe { driver_call!(driver.cuMemHostRegister_v2(place, pages.bytes, FOR_ALL)) }?;
        let mut device = 0;
        // SAFETY: a place for the address.
        let known =
            unsafe { driver_call!(driver.cuMemHostGetDevicePointer_v2(&mut device, place, 0)) };
        if known.is_err() || device != base {
            // SAFETY: registered above.
            unsafe { driver_call!(driver.cuMemHostUnregister(place)) }?;
            return Err(CudaError::NOT_SUPPORTED);
        }
        self.0.insert(base, pages);
        Ok(())
    }

    /// The program has given them up, and all work that may use them is done.
    pub fn remove(&mut self, driver: &Arc<Driver>, base: u64) -> Result<(), CudaError> {
        let pages = self.0.remove(&base).ok_or(CudaError::INVALID_VALUE)?;
        let place = pages.base as *mut c_void;
        // SAFETY: registered by `add`; where its context has been destroyed, the driver has forgotten it.
        let _ = unsafe { driver_call!(driver.cuMemHostUnregister(place)) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    const BASE: u64 = 0x2190_0000_0000;

    fn file(bytes: u64, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("pinned", flags).unwrap();
        rustix::fs::ftruncate(&file, bytes).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn pages_that_could_go_away_or_lie_elsewhere_are_refused() {
        let sealed = file(2 * PAGE, SealFlags::SHRINK);
        let invalid = Some(CudaError::INVALID_VALUE);
        let error = |file: &OwnedFd, base, bytes| Pages::map(file, base, bytes).err();
        assert_eq!(
            error(&file(2 * PAGE, SealFlags::GROW), BASE, 2 * PAGE),
            invalid
        );
        for (base, bytes) in [
            (BASE, PAGE),
            (BASE, 3 * PAGE),
            (BASE + 1, 2 * PAGE),
            (0, 2 * PAGE),
            (BASE, 0),
            (BASE, 2 * PAGE - 1),
            (u64::MAX - PAGE + 1, 2 * PAGE),
            (1 << 47, 2 * PAGE),
        ] {
            assert_eq!(error(&sealed, base, bytes), invalid, "{base:#x} {bytes}");
        }
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(error(&pipe, BASE, 2 * PAGE), invalid);
        let mapped = Pages::map(&sealed, BASE, 2 * PAGE).unwrap();
        assert_eq!(
            error(&sealed, BASE + PAGE, 2 * PAGE),
            Some(CudaError::NOT_SUPPORTED)
        );
        drop(mapped);
        drop(Pages::map(&sealed, BASE + PAGE, 2 * PAGE).unwrap());
    }

    #[test]
    fn descriptors_beyond_a_few_are_closed() {
        let waiting = Descriptors::default();
        for _ in 0..MAX_WAITING + 3 {
            waiting.arrived(file(PAGE, SealFlags::SHRINK));
        }
        let taken = std::iter::from_fn(|| waiting.next());
        assert_eq!(taken.count(), MAX_WAITING);
    }
}
