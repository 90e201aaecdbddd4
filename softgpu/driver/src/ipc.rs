//! Memory and events that other processes of the same devices use, by handles of 64 bytes.
//!
//! A handle names a file of the process that made it, which gives it to others ([`crate::descriptors`]): it serves while
//! that process lives, and what it names.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use crate::descriptors::{self, Owner};
use crate::error::{Error, Result};
use crate::memory::Ticket;

const MEMORY: u64 = u64::from_le_bytes(*b"sgpumem1");
const EVENT: u64 = u64::from_le_bytes(*b"sgpuevt1");

/// CUipcMemHandle and CUipcEventHandle.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpcHandle(pub [u8; 64]);

impl Default for IpcHandle {
    fn default() -> IpcHandle {
        IpcHandle([0; 64])
    }
}

/// Where another process has the memory of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub device: usize,
    /// In the file, in whole chunks.
    pub offset: u64,
    pub size: u64,
    /// Where in it the allocation begins, and its bytes.
    pub from: u64,
    pub bytes: u64,
}

fn pack(words: [u64; 8]) -> IpcHandle {
    let mut bytes = [0; 64];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    IpcHandle(bytes)
}

fn unpack(handle: &IpcHandle) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(handle.0.chunks_exact(8)) {
        *word = u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
    }
    words
}

/// What a handle says of the file: two words, of which the second has room for 8 bits more.
fn words(owner: Owner, more: u8) -> [u64; 2] {
    [
        u64::from(owner.process) << 32 | u64::from(owner.file),
        owner.secret << 8 | u64::from(more),
    ]
}

fn owner([first, second]: [u64; 2]) -> (Owner, u8) {
    let owner = Owner {
        process: (first >> 32) as u32,
        file: first as u32,
        secret: second >> 8,
    };
    (owner, second as u8)
}

/// A file of ours in another process. The name says that it is one.
fn open(owner: Owner, name: &str) -> Result<File> {
    if owner.process == std::process::id() {
        // cuda.h: a handle is not for the process that made it.
        return Err(Error::ERROR_INVALID_CONTEXT);
    }
    let gone = |_| Error::ERROR_INVALID_VALUE;
    let file = descriptors::fetch(owner).map_err(gone)?;
    let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(gone)?;
    match target
        .to_string_lossy()
        .starts_with(&format!("/memfd:{name} "))
    {
        true => Ok(file.into()),
        false => Err(Error::ERROR_INVALID_VALUE),
    }
}

pub fn memory_handle(file: RawFd, place: Place, ticket: Ticket) -> Result<IpcHandle> {
    let owner = descriptors::offer(file).ok_or(Error::ERROR_OPERATING_SYSTEM)?;
    let device = u8::try_from(place.device).map_err(|_| Error::ERROR_INVALID_DEVICE)?;
    let [first, second] = words(owner, device);
    Ok(pack([
        MEMORY,
        first,
        second,
        place.offset,
        place.size,
        place.from,
        place.bytes,
        ticket.word(),
    ]))
}

/// The file with the memory, and where in it.
pub fn open_memory(handle: &IpcHandle, name: &str) -> Result<(File, Place)> {
    let [magic, first, second, offset, size, from, bytes, ticket] = unpack(handle);
    if magic != MEMORY {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let (owner, device) = owner([first, second]);
    let file = open(owner, name)?;
    let length = file.metadata().map_err(|_| Error::ERROR_INVALID_VALUE)?;
    let within = offset
        .checked_add(size)
        .is_some_and(|end| end <= length.len());
    let inside = from.checked_add(bytes).is_some_and(|end| end <= size);
    if !within || !inside || bytes == 0 || !Ticket::new(ticket).is_good(&file) {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let place = Place {
        device: device.into(),
        offset,
        size,
        from,
        bytes,
    };
    Ok((file, place))
}

/// The recordings of an event, counted, in memory that processes share. Any values in it are tolerated.
#[repr(C)]
struct Counts {
    begun: AtomicU64,
    over: AtomicU64,
    /// Who recorded last.
    recorder: AtomicU32,
    /// Of the process that made it: which of its events this is.
    id: AtomicU64,
}

pub struct SharedEvent {
    counts: *const Counts,
    file: OwnedFd,
}

// SAFETY: the mapping lives as long as `self`, and all its fields are atomics.
unsafe impl Send for SharedEvent {}
// SAFETY: as above.
unsafe impl Sync for SharedEvent {}

const EVENT_NAME: &str = "softgpu-event";
const EVENT_BYTES: usize = 4096;

impl SharedEvent {
    pub fn create() -> Result<Arc<SharedEvent>> {
        // SAFETY: a literal name; the result is checked.
        let fd = unsafe { libc::memfd_create(c"softgpu-event".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(Error::ERROR_OPERATING_SYSTEM);
        }
        // SAFETY: just opened, owned by nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a valid descriptor.
        if unsafe { libc::ftruncate(file.as_raw_fd(), EVENT_BYTES as i64) } != 0 {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        static MADE: AtomicU64 = AtomicU64::new(0);
        let event = SharedEvent::map(file).map_err(|_| Error::ERROR_OUT_OF_MEMORY)?;
        let id = MADE.fetch_add(1, Relaxed) + 1;
        event.counts().id.store(id, Release);
        Ok(event)
    }

    pub fn open(handle: &IpcHandle) -> Result<Arc<SharedEvent>> {
        let [magic, first, second, id, ..] = unpack(handle);
        if magic != EVENT || id == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let (owner, _) = owner([first, second]);
        let file = open(owner, EVENT_NAME)?;
        let length = file.metadata().map_err(|_| Error::ERROR_INVALID_VALUE)?;
        if length.len() != EVENT_BYTES as u64 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let event = SharedEvent::map(file.into()).map_err(|_| Error::ERROR_OUT_OF_MEMORY)?;
        // The process may have destroyed that one, and have another behind the same descriptor.
        match event.counts().id.load(Acquire) == id {
            true => Ok(event),
            false => Err(Error::ERROR_INVALID_VALUE),
        }
    }

    fn map(file: OwnedFd) -> io::Result<Arc<SharedEvent>> {
        // SAFETY: maps the whole file, whose length is known, at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                EVENT_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Arc::new(SharedEvent {
            counts: at.cast_const().cast(),
            file,
        }))
    }

    fn counts(&self) -> &Counts {
        // SAFETY: mapped as long as `self` lives, page-aligned, all atomics.
        unsafe { &*self.counts }
    }

    pub fn handle(&self) -> Result<IpcHandle> {
        let owner = descriptors::offer(self.file.as_raw_fd());
        let [first, second] = words(owner.ok_or(Error::ERROR_OPERATING_SYSTEM)?, 0);
        let id = self.counts().id.load(Acquire);
        Ok(pack([EVENT, first, second, id, 0, 0, 0, 0]))
    }

    /// A recording begins; its number.
    pub fn begin(&self) -> u64 {
        self.counts().recorder.store(std::process::id(), Release);
        self.counts().begun.fetch_add(1, AcqRel) + 1
    }

    pub fn end(&self, number: u64) {
        self.counts().over.fetch_max(number, AcqRel);
    }

    /// The last recording.
    pub fn last(&self) -> u64 {
        self.counts().begun.load(Acquire)
    }

    /// A recording whose process is gone will never be more over than it is.
    pub fn is_over(&self, number: u64) -> bool {
        if self.counts().over.load(Acquire) >= number {
            return true;
        }
        let recorder = self.counts().recorder.load(Acquire);
        // A signal could not be sent to another user's.
        recorder == 0 || !Path::new(&format!("/proc/{recorder}")).exists()
    }

    pub fn wait(&self, number: u64) {
        let mut pause = Duration::from_micros(20);
        while !self.is_over(number) {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for SharedEvent {
    fn drop(&mut self) {
        descriptors::withdraw(self.file.as_raw_fd());
        // SAFETY: mapped in `map`; nothing borrows from it beyond `self`.
        unsafe { libc::munmap(self.counts as *mut libc::c_void, EVENT_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_not_for_their_maker_and_nonsense_is_refused() {
        let event = SharedEvent::create().unwrap();
        let refused = |handle: &IpcHandle| SharedEvent::open(handle).err();
        assert_eq!(
            refused(&event.handle().unwrap()),
            Some(Error::ERROR_INVALID_CONTEXT)
        );
        assert_eq!(
            refused(&IpcHandle::default()),
            Some(Error::ERROR_INVALID_VALUE)
        );
        // Some file of some other process.
        let stranger = pack([EVENT, 1 << 32, 1 << 8, 1, 0, 0, 0, 0]);
        assert_eq!(refused(&stranger), Some(Error::ERROR_INVALID_VALUE));
        let first = event.begin();
        assert!(!event.is_over(first));
        event.end(first);
        assert!(event.is_over(first) && event.last() == first);
    }
}
