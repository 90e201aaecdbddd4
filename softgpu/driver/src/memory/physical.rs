//! Physical memory of devices: ranges of the process's one file, or, where other processes may have it, a file of its own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use super::GRANULARITY;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::ranges::Ranges;

/// Of the file of memory that may be shared; the device's number on the machine follows.
const SHARED_NAME: &str = "softgpu-memory-";
/// Nobody who has the file can take pages from under the others.
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Physical memory of one device, released when nobody holds or maps it.
pub struct Physical {
    pub device: usize,
    pub size: u64,
    origin: Origin,
    store: Arc<Store>,
}

enum Origin {
    /// A range of the process's file, from here on.
    Store(u64),
    /// A file of its own: the system keeps it as long as any process has it.
    Shared(OwnedFd),
    /// The same, of another process, which counts it.
    Imported(OwnedFd),
}

/// Where physical memory comes from.
pub(super) struct Store {
    pub file: OwnedFd,
    pub free: Mutex<Ranges>,
    pub ledger: Arc<Ledger>,
    pub total: u64,
}

impl Store {
    pub fn take(self: &Arc<Store>, device: usize, size: u64) -> Result<Arc<Physical>> {
        self.charged(device, size, || {
            let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
            let offset = free.take(size, GRANULARITY);
            offset.map(Origin::Store).ok_or(Error::ERROR_OUT_OF_MEMORY)
        })
    }

    /// Memory that other processes may have.
    pub fn take_shareable(self: &Arc<Store>, device: usize, size: u64) -> Result<Arc<Physical>> {
        self.charged(device, size, || {
            let file = shared_file(device, size);
            file.map(Origin::Shared)
                .map_err(|_| Error::ERROR_OUT_OF_MEMORY)
        })
    }

    fn charged(
        self: &Arc<Store>,
        device: usize,
        size: u64,
        make: impl FnOnce() -> Result<Origin>,
    ) -> Result<Arc<Physical>> {
        if !self.ledger.take(device, size, self.total) {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        match make() {
            Ok(origin) => Ok(Arc::new(Physical {
                device,
                size,
                origin,
                store: self.clone(),
            })),
            Err(error) => {
                self.ledger.give_back(device, size);
                Err(error)
            }
        }
    }

    /// Memory of this or another process, by a file of [`Physical::file`]'s. Not charged: whoever made it is.
    pub fn import(self: &Arc<Store>, file: OwnedFd) -> Result<Arc<Physical>> {
        let (device, size) = known(&file).ok_or(Error::ERROR_INVALID_VALUE)?;
        Ok(Arc::new(Physical {
            device,
            size,
            origin: Origin::Imported(file),
            store: self.clone(),
        }))
    }
}

impl Physical {
    /// The file that it is in, and where in it.
    pub(super) fn place(&self) -> (BorrowedFd<'_>, u64) {
        match &self.origin {
            Origin::Store(offset) => (self.store.file.as_fd(), *offset),
            Origin::Shared(file) | Origin::Imported(file) => (file.as_fd(), 0),
        }
    }

    /// The file by which other processes can have it, if they may.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.origin {
            Origin::Store(_) => None,
            Origin::Shared(file) | Origin::Imported(file) => Some(file.as_fd()),
        }
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        match &self.origin {
            Origin::Store(offset) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let file = self.store.file.as_raw_fd();
                // SAFETY: the range is ours and mapped nowhere; its pages go back to the system and read as zero later.
                unsafe { libc::fallocate(file, mode, *offset as i64, self.size as i64) };
                let mut free = self.store.free.lock().unwrap_or_else(|e| e.into_inner());
                free.give(*offset, self.size);
            }
            Origin::Shared(_) => {}
            Origin::Imported(_) => return,
        }
        self.store.ledger.give_back(self.device, self.size);
    }
}

fn shared_file(device: usize, size: u64) -> io::Result<OwnedFd> {
    let name = CString::new(format!("{SHARED_NAME}{device}"))?;
    // SAFETY: a C string; the result is checked.
    let file =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    // SAFETY: a valid descriptor.
    let made = unsafe {
        libc::ftruncate(file.as_raw_fd(), size as i64) == 0
            && libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) == 0
    };
    match made {
        true => Ok(file),
        false => Err(io::Error::last_os_error()),
    }
}

/// Device and bytes of a file that [`shared_file`] has made.
fn known(file: &OwnedFd) -> Option<(usize, u64)> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let name = link.to_str()?.strip_prefix("/memfd:")?;
    let device = name.strip_prefix(SHARED_NAME)?.split(' ').next()?;
    let device = device.parse().ok()?;
    // SAFETY: a valid descriptor.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    // SAFETY: `stat` is plain integers.
    let mut meta: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor, and a place for what is told of it.
    let told = unsafe { libc::fstat(file.as_raw_fd(), &mut meta) } == 0;
    let size = u64::try_from(meta.st_size).ok()?;
    let whole = size > 0 && size.is_multiple_of(GRANULARITY);
    (told && seals >= 0 && seals & SEALS == SEALS && whole).then_some((device, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_ours_are_memory() {
        let file = shared_file(3, GRANULARITY).unwrap();
        assert_eq!(known(&file), Some((3, GRANULARITY)));
        assert_eq!(known(&shared_file(0, 4096).unwrap()), None);
        let any: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert_eq!(known(&any), None);
        // One that could still be cut short.
        // SAFETY: a literal name.
        let loose = unsafe { libc::memfd_create(c"softgpu-memory-0".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: just opened, owned by nobody else.
        let loose = unsafe { OwnedFd::from_raw_fd(loose) };
        // SAFETY: a valid descriptor.
        assert_eq!(unsafe { libc::ftruncate(loose.as_raw_fd(), 2 << 20) }, 0);
        assert_eq!(known(&loose), None);
    }
}
