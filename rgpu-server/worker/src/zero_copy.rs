//! Pinned memory of the client's program that this process has too: the same pages, at the same address, registered with the driver. Kernels
//! and copies use what the program sees. The pages come as a sealed memfd over the client's socket.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Files that have come with the client's bytes. A client sends none but for [`Blocks::add`], which names it by its inode: commands of two threads
/// may be played in another order than they came.
#[derive(Default)]
pub struct Descriptors {
    waiting: Mutex<VecDeque<OwnedFd>>,
    /// Whether one may come. Receiving them costs each read of a socket; a client that has its first one lost for that sends it again.
    expected: AtomicBool,
}

/// A file that can shrink would kill whoever touches its pages, and what is no memory has no seals: above all the other end of this session's socket,
/// which must not be kept open here.
fn is_sealed(fd: &OwnedFd) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

impl Descriptors {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<OwnedFd>> {
        let waiting = self.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on they are received; whether they have been before.
    pub fn expect(&self) -> bool {
        self.expected.swap(true, Ordering::Relaxed)
    }

    pub fn are_expected(&self) -> bool {
        self.expected.load(Ordering::Relaxed)
    }

    /// What is too much, or no memory, is closed.
    pub fn arrived(&self, fd: OwnedFd) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING && is_sealed(&fd) {
            waiting.push_back(fd);
        }
    }

    /// The one with this inode; those that came before it have lost their command.
    pub fn take(&self, inode: u64) -> Option<OwnedFd> {
        let mut waiting = self.waiting();
        let is_it = |fd: &OwnedFd| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_ino == inode);
        let at = waiting.iter().position(is_it)?;
        waiting.drain(..=at).next_back()
    }
}

/// Pages of a client's, mapped here as long as this lives.
struct Pages {
    base: u64,
    bytes: usize,
}

impl Pages {
    /// INVALID_VALUE for what no client asks for; ALREADY_MAPPED where something of this process is there.
    fn map(file: &OwnedFd, base: u64, bytes: u64) -> Result<Pages, CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let end = base.checked_add(bytes).ok_or(invalid)?;
        let whole = base.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE) && bytes > 0;
        if !whole || base < ADDRESSES.start || end > ADDRESSES.end {
            return Err(invalid);
        }
        // Registering would make missing pages, and they would be this process's.
        let stat = rustix::fs::fstat(file).map_err(|_| invalid)?;
        let there = u64::try_from(stat.st_blocks)
            .unwrap_or(0)
            .saturating_mul(512);
        if !is_sealed(file) || u64::try_from(stat.st_size) != Ok(bytes) || there < bytes {
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
                Err(CudaError::ALREADY_MAPPED)
            }
            Ok(_) => Ok(Pages { base, bytes }),
            Err(Errno::EXIST) => Err(CudaError::ALREADY_MAPPED),
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

/// All of a session's.
#[derive(Default)]
pub struct Blocks {
    /// By address.
    all: BTreeMap<u64, Pages>,
    bytes: u64,
}

/// Most of one session: pages that a driver has pinned cannot be swapped out.
fn most() -> u64 {
    let all = rustix::system::sysinfo();
    (all.totalram as u64).saturating_mul(all.mem_unit.into()) / 2
}

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
        let total = self.bytes.checked_add(bytes);
        if self.all.len() >= MAX_BLOCKS || total.is_none_or(|total| total > most()) {
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
        self.all.insert(base, pages);
        self.bytes += bytes;
        Ok(())
    }

    pub fn holds(&self, address: u64) -> bool {
        let before = self.all.range(..=address).next_back();
        before.is_some_and(|(base, pages)| address - base < pages.bytes as u64)
    }

    /// The program has given them up, and all work that may use them is done.
    pub fn remove(&mut self, driver: &Arc<Driver>, base: u64) -> Result<(), CudaError> {
        let pages = self.all.get(&base).ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: registered by `add`.
        let result = unsafe { driver_call!(driver.cuMemHostUnregister(base as *mut c_void)) };
        match result {
            // With its context the driver has forgotten it.
            Ok(()) | Err(CudaError::HOST_MEMORY_NOT_REGISTERED | CudaError::INVALID_VALUE) => {
                self.bytes -= pages.bytes as u64;
                self.all.remove(&base);
                Ok(())
            }
            // The device still has the pages.
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FallocateFlags, MemfdFlags};

    const BASE: u64 = 0x2190_0000_0000;

    fn file(bytes: u64, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("pinned", flags).unwrap();
        rustix::fs::ftruncate(&file, bytes).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
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
            Some(CudaError::ALREADY_MAPPED)
        );
        let holes = rustix::fs::memfd_create("holes", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&holes, 1 << 40).unwrap();
        rustix::fs::fcntl_add_seals(&holes, SealFlags::SHRINK).unwrap();
        assert_eq!(error(&holes, BASE, 1 << 40), invalid);
        drop(mapped);
        drop(Pages::map(&sealed, BASE + PAGE, 2 * PAGE).unwrap());
    }

    #[test]
    fn descriptors_of_memory_wait_for_their_command() {
        let waiting = Descriptors::default();
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        waiting.arrived(socket.into());
        waiting.arrived(file(PAGE, SealFlags::GROW));
        assert!(waiting.waiting().is_empty());
        let mut inodes = Vec::new();
        for _ in 0..MAX_WAITING + 3 {
            let file = file(PAGE, SealFlags::SHRINK);
            inodes.push(rustix::fs::fstat(&file).unwrap().st_ino);
            waiting.arrived(file);
        }
        assert_eq!(waiting.waiting().len(), MAX_WAITING);
        assert!(waiting.take(inodes[1]).is_some());
        assert!(waiting.take(inodes[0]).is_none() && waiting.take(inodes[MAX_WAITING]).is_none());
        assert!(waiting.take(inodes[2]).is_some());
    }
}
