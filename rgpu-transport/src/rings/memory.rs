//! The memory of two rings, one a direction, as both ends map it. The peer may write anything to it at any time: nothing here is ever a
//! reference to bytes of the rings, and every position is checked against one that only this process knows.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes that may be under way in one direction; a power of two. Half a megabyte is some thousand launches, and stays in a core's cache.
pub const CAPACITY: usize = 512 << 10;
/// In front of the rings: what the two ends tell each other.
const HEAD: usize = 4096;
const LEN: usize = HEAD + 2 * CAPACITY;
/// Must not change for who has the memory: a file that shrinks kills whoever touches its pages.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// What the writing end of a ring tells.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Written {
    /// Bytes ever written.
    pub bytes: AtomicU64,
    /// The writer sleeps until there is room.
    pub parked: AtomicU32,
    /// Descriptors ever sent, each ahead of the bytes that it belongs to.
    pub descriptors: AtomicU32,
    /// One more than the core on which this end began to wait last.
    pub core: AtomicU32,
}

/// What the reading end of a ring tells.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Read {
    /// Bytes ever read.
    pub bytes: AtomicU64,
    /// A reader sleeps until there are bytes.
    pub parked: AtomicU32,
}

/// One direction.
#[repr(C)]
#[derive(Default)]
pub struct Side {
    pub written: Written,
    pub read: Read,
}

/// The mapping.
#[derive(Debug)]
pub struct Memory(*mut u8);

// SAFETY: the mapping belongs to this value; its head is atomics, and its rings are only copied from and to.
unsafe impl Send for Memory {}
// SAFETY: the same.
unsafe impl Sync for Memory {}

impl Memory {
    /// New rings, and the file that the peer maps them by.
    pub fn create() -> io::Result<(Memory, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("rgpu-rings", flags)?;
        rustix::fs::ftruncate(&file, LEN as u64)?;
        rustix::fs::fcntl_add_seals(&file, SEALS)?;
        Ok((Memory::map(&file)?, file))
    }

    /// Those that the peer has made.
    pub fn join(file: BorrowedFd<'_>) -> io::Result<Memory> {
        let seals = rustix::fs::fcntl_get_seals(file)?;
        let len = rustix::fs::fstat(file)?.st_size;
        if !seals.contains(SEALS) || usize::try_from(len) != Ok(LEN) {
            let why = "the peer's memory for rings is not sealed, or of another size";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Memory::map(file)
    }

    fn map(file: impl std::os::fd::AsFd) -> io::Result<Memory> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place that the system chooses.
        let at = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), LEN, access, MapFlags::SHARED, file, 0)
        }?;
        let memory = Memory(at.cast());
        // SAFETY: the mapping made above. A child that was forked has nothing to say to the peer.
        unsafe { rustix::mm::madvise(at, LEN, Advice::LinuxDontFork) }?;
        Ok(memory)
    }

    /// `direction`: 0 from who has made the rings to who has joined, 1 the other.
    pub fn side(&self, direction: usize) -> &Side {
        debug_assert!(direction < 2);
        // SAFETY: both lie in the head, aligned, for as long as the mapping; they are atomics, which the peer may change.
        unsafe { &*self.0.cast::<Side>().add(direction & 1) }
    }

    fn ring(&self, direction: usize) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.0.add(HEAD + (direction & 1) * CAPACITY) }
    }

    /// Copies to the ring what lies at a position, wrapping around; at most [`CAPACITY`] bytes.
    pub fn put(&self, direction: usize, position: u64, bytes: &[u8]) {
        let at = position as usize % CAPACITY;
        let (first, second) = bytes.split_at(bytes.len().min(CAPACITY - at));
        let second = &second[..second.len().min(at)];
        let ring = self.ring(direction);
        // SAFETY: both parts lie in the ring, by the lines above. The peer reads them only after the position is told, or gets what it asked for.
        unsafe {
            ring.add(at)
                .copy_from_nonoverlapping(first.as_ptr(), first.len());
            ring.copy_from_nonoverlapping(second.as_ptr(), second.len());
        }
    }

    /// Copies from the ring; at most [`CAPACITY`] bytes.
    pub fn get(&self, direction: usize, position: u64, bytes: &mut [u8]) {
        let at = position as usize % CAPACITY;
        let middle = bytes.len().min(CAPACITY - at);
        let (first, second) = bytes.split_at_mut(middle);
        let wrapped = second.len().min(at);
        let ring = self.ring(direction);
        // SAFETY: as in `put`. A peer that writes meanwhile mixes up its own bytes, which are checked once they are here.
        unsafe {
            first
                .as_mut_ptr()
                .copy_from_nonoverlapping(ring.add(at), first.len());
            second.as_mut_ptr().copy_from_nonoverlapping(ring, wrapped);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` has made, to which nothing refers any more.
        let _ = unsafe { rustix::mm::munmap(self.0.cast::<c_void>(), LEN) };
    }
}

const _: () = assert!(2 * size_of::<Side>() <= HEAD && CAPACITY.is_power_of_two());
