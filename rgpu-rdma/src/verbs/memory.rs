//! Memory that a device reaches.

use std::io;
use std::ptr::{self, NonNull};

use rdma_sys::{ibv_access_flags, ibv_dereg_mr, ibv_mr, ibv_pd, ibv_reg_mr};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A mapping of its own, so that nothing else shares its pages.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and no device has it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A registered mapping. Dropping it takes it from the device first.
pub struct Region {
    mr: NonNull<ibv_mr>,
    mapping: Mapping,
}

impl Region {
    /// # Safety
    /// `pd` lives longer than the region.
    pub unsafe fn new(
        pd: *mut ibv_pd,
        length: usize,
        access: ibv_access_flags,
    ) -> io::Result<Region> {
        // SAFETY: a new mapping at a place of the system's choice.
        let start = unsafe {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            mmap_anonymous(ptr::null_mut(), length, protection, flags)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping { start, length };
        // SAFETY: the mapping lives until after the region is deregistered.
        let mr = unsafe { ibv_reg_mr(pd, start.as_ptr().cast(), length, access.0 as i32) };
        let mr = NonNull::new(mr).ok_or_else(|| {
            let error = io::Error::last_os_error();
            io::Error::new(
                error.kind(),
                format!("{} KiB of memory cannot be locked for the device: {error}; raise the limit (ulimit -l, LimitMEMLOCK=)", length >> 10),
            )
        })?;
        Ok(Region { mr, mapping })
    }

    pub fn start(&self) -> *mut u8 {
        self.mapping.start.as_ptr()
    }

    pub fn local_key(&self) -> u32 {
        // SAFETY: registered.
        unsafe { self.mr.as_ref() }.lkey
    }

    pub fn remote_key(&self) -> u32 {
        // SAFETY: registered.
        unsafe { self.mr.as_ref() }.rkey
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: registered, once.
        unsafe { ibv_dereg_mr(self.mr.as_ptr()) };
    }
}
