//! The device address space of this process: one reserved window, and which of its pages are there.
//!
//! Device addresses are host addresses inside the window, so that a load is one load. The window is `PROT_NONE` until
//! memory is mapped into it, and a byte per 4 KiB page says where that is: kernels ask it before each access, so a wild
//! address is an answer and never a signal.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Granularity of residency, in bytes.
pub const PAGE: u64 = 4096;
const SHIFT: u32 = PAGE.trailing_zeros();
/// Host ranges that kernels may touch; pinned buffers are few.
const MAX_HOST_RANGES: usize = 65_536;

pub struct AddressSpace {
    base: u64,
    len: u64,
    /// One byte a page, 1 when resident; sparse, so that a window of 1 TiB costs what is mapped of it.
    resident: *mut u8,
    pages: usize,
    host: RwLock<Vec<(u64, u64)>>,
}

// SAFETY: `resident` is only read and written as atomics, and the mapping lives until drop.
unsafe impl Send for AddressSpace {}
// SAFETY: as above.
unsafe impl Sync for AddressSpace {}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl AddressSpace {
    /// Reserve `len` bytes at `hint`, or elsewhere when that is taken. Both in whole pages.
    pub fn reserve(hint: u64, len: u64) -> io::Result<AddressSpace> {
        if len == 0 || !len.is_multiple_of(PAGE) || !hint.is_multiple_of(PAGE) || len > 1 << 46 {
            return Err(invalid(format!(
                "cannot reserve {len:#x} bytes at {hint:#x}: whole pages up to 64 TiB are needed"
            )));
        }
        let size = len as usize;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: FIXED_NOREPLACE never touches an existing mapping.
        let at_hint = unsafe {
            mmap_anonymous(
                hint as *mut _,
                size,
                ProtFlags::empty(),
                flags | MapFlags::FIXED_NOREPLACE,
            )
        };
        let window = match at_hint {
            Ok(address) if address as u64 == hint => address,
            other => {
                if let Ok(address) = other {
                    // A kernel older than 4.17 takes the address for a hint.
                    // SAFETY: the mapping was made just now and nobody knows it.
                    unsafe { munmap(address, size)? };
                }
                // SAFETY: the kernel picks a free place.
                unsafe { mmap_anonymous(ptr::null_mut(), size, ProtFlags::empty(), flags)? }
            }
        };
        let pages = (len >> SHIFT) as usize;
        // SAFETY: the kernel picks a free place.
        let map = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                pages,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        match map {
            Ok(resident) => Ok(AddressSpace {
                base: window as u64,
                len,
                resident: resident.cast(),
                pages,
                host: RwLock::new(Vec::new()),
            }),
            Err(error) => {
                // SAFETY: the window was made above and nobody knows it.
                unsafe { munmap(window, size)? };
                Err(error.into())
            }
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The map of residency as the interpreter reads it.
    #[inline(always)]
    fn page(&self, index: usize) -> &AtomicU8 {
        debug_assert!(index < self.pages);
        // SAFETY: callers keep `index` below `pages`; the map lives as long as `self`; AtomicU8 is one byte.
        unsafe { AtomicU8::from_ptr(self.resident.add(index)) }
    }

    fn inside(&self, addr: u64, len: u64) -> io::Result<()> {
        let start = addr.wrapping_sub(self.base);
        if !addr.is_multiple_of(PAGE)
            || !len.is_multiple_of(PAGE)
            || len == 0
            || start >= self.len
            || len > self.len - start
        {
            return Err(invalid(format!(
                "{len:#x} bytes at {addr:#x} are not whole pages of the device window"
            )));
        }
        Ok(())
    }

    fn mark(&self, addr: u64, len: u64, value: u8) {
        let first = ((addr - self.base) >> SHIFT) as usize;
        for index in first..first + (len >> SHIFT) as usize {
            self.page(index).store(value, Ordering::Release);
        }
    }

    /// Map `len` bytes of `fd` at `addr`, shared, and let kernels use them.
    pub fn map(&self, addr: u64, len: u64, fd: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
        self.inside(addr, len)?;
        // SAFETY: the range lies in our own reservation, where nothing else was mapped; only raw accesses are made to it.
        unsafe {
            mmap(
                addr as *mut _,
                len as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED,
                fd,
                offset,
            )?
        };
        self.mark(addr, len, 1);
        Ok(())
    }

    /// Take the range away. The caller makes sure that no kernel that may use it is running.
    pub fn unmap(&self, addr: u64, len: u64) -> io::Result<()> {
        self.inside(addr, len)?;
        self.mark(addr, len, 0);
        // SAFETY: the range lies in our own reservation.
        unsafe {
            mmap_anonymous(
                addr as *mut _,
                len as usize,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
            )?
        };
        Ok(())
    }

    /// Whether all bytes of the range may be accessed: resident device memory or an allowed host range.
    #[inline(always)]
    pub fn check(&self, addr: u64, len: u64) -> bool {
        let start = addr.wrapping_sub(self.base);
        if len == 0 {
            return true;
        }
        if start < self.len && len <= self.len - start {
            let first = (start >> SHIFT) as usize;
            let last = ((start + len - 1) >> SHIFT) as usize;
            return (first..=last).all(|index| self.page(index).load(Ordering::Relaxed) != 0);
        }
        self.host_range(addr, len)
    }

    /// Whether an allowed host range covers these bytes.
    #[cold]
    pub fn host_range(&self, addr: u64, len: u64) -> bool {
        let host = self
            .host
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = host.partition_point(|&(start, _)| start <= addr);
        at > 0 && {
            let (start, size) = host[at - 1];
            addr - start < size && len <= size - (addr - start)
        }
    }

    /// Let kernels touch these bytes of the process, which the caller keeps mapped until [`Self::forbid_host`].
    pub fn allow_host(&self, addr: u64, len: u64) -> io::Result<()> {
        let end = addr.checked_add(len).filter(|_| len > 0);
        let Some(end) = end else {
            return Err(invalid(format!(
                "host range of {len:#x} bytes at {addr:#x} is empty or wraps around"
            )));
        };
        if addr < self.base + self.len && end > self.base {
            return Err(invalid(format!(
                "host range at {addr:#x} overlaps the device window"
            )));
        }
        let mut host = self
            .host
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = host.partition_point(|&(start, _)| start <= addr);
        let before = at > 0 && host[at - 1].0 + host[at - 1].1 > addr;
        let after = at < host.len() && host[at].0 < end;
        if before || after {
            return Err(invalid(format!(
                "host range at {addr:#x} overlaps another one"
            )));
        }
        if host.len() >= MAX_HOST_RANGES {
            return Err(invalid(format!("more than {MAX_HOST_RANGES} host ranges")));
        }
        host.insert(at, (addr, len));
        Ok(())
    }

    /// Take back a range given to [`Self::allow_host`], by its start.
    pub fn forbid_host(&self, addr: u64) -> io::Result<()> {
        let mut host = self
            .host
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match host.binary_search_by_key(&addr, |&(start, _)| start) {
            Ok(at) => {
                host.remove(at);
                Ok(())
            }
            Err(_) => Err(invalid(format!("no host range starts at {addr:#x}"))),
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // SAFETY: both mappings were made in `reserve`; nothing borrows from them beyond `self`.
        unsafe {
            let _ = munmap(self.base as *mut _, self.len as usize);
            let _ = munmap(self.resident.cast(), self.pages);
        }
    }
}
