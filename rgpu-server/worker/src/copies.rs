//! Buffers for copies between graphs and the client's memory. A graph's node copies from or to such a buffer; the client fills it before
//! each launch, or takes from it what the launch has brought.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use crate::reaper::Pointer;

/// Most bytes of all buffers of a session.
const MOST: u64 = 1 << 30;

/// The last launch that uses a buffer.
#[derive(Clone, Copy)]
pub struct Last {
    pub event: Pointer,
    pub context: u64,
    /// `Handles::contexts_ended` when the event was made: later the event may have gone with its context.
    pub contexts_ended: u64,
}

#[derive(Default)]
struct Use {
    last: Option<Last>,
    /// A launch has written bytes that the client has not got.
    undelivered: bool,
    /// No graph has it any more.
    orphan: bool,
}

pub struct HostCopy {
    pub number: u64,
    pub to_device: bool,
    /// What the client calls the place: an address of its own, and columns, rows and slices behind it.
    pub host: u64,
    pub place: [u64; 3],
    data: *mut u8,
    len: usize,
    /// Which byte of the client's the first one is, behind `host`.
    pub offset: u64,
    in_use: Mutex<Use>,
    owner: Arc<Totals>,
}

// SAFETY: `data` is the copy's own memory. Its bytes are only ever copied, by pointer; the driver's threads do that too, when the client's
// program says so, as with memory that device and host share.
unsafe impl Send for HostCopy {}
// SAFETY: as above.
unsafe impl Sync for HostCopy {}

/// What outlives a copy.
#[derive(Default)]
struct Totals {
    bytes: AtomicU64,
    /// Events of copies that are gone: destroyed where the driver may be called.
    events: Mutex<Vec<Last>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostCopy {
    pub fn address(&self) -> *mut c_void {
        self.data.cast()
    }

    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether a driver's pointer leads into it.
    fn holds(&self, pointer: usize) -> bool {
        let start = self.data.addr();
        (start..start + self.len).contains(&pointer)
    }

    fn within(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len)?;
        // SAFETY: within the memory.
        (end <= self.len).then(|| unsafe { self.data.add(offset) })
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CudaError> {
        let place = self
            .within(offset, bytes.len())
            .ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: `bytes.len()` bytes of the memory.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    pub fn read(&self, offset: u64, len: usize, to: &mut Vec<u8>) -> Result<(), CudaError> {
        let place = self.within(offset, len).ok_or(CudaError::INVALID_VALUE)?;
        to.reserve_exact(len);
        // SAFETY: `len` bytes of the memory, and room for as many.
        unsafe {
            place.copy_to_nonoverlapping(to.as_mut_ptr().add(to.len()), len);
            to.set_len(to.len() + len);
        }
        Ok(())
    }

    pub fn last(&self) -> Option<Last> {
        lock(&self.in_use).last
    }

    /// A launch uses it, and has done so when the event comes; returns the event of the launch before.
    pub fn used(&self, last: Last) -> Option<Last> {
        let mut in_use = lock(&self.in_use);
        in_use.undelivered |= !self.to_device;
        in_use.last.replace(last)
    }
}

impl Drop for HostCopy {
    fn drop(&mut self) {
        if let Some(last) = lock(&self.in_use).last {
            lock(&self.owner.events).push(last);
        }
        self.owner
            .bytes
            .fetch_sub(self.len as u64, Ordering::Relaxed);
        // SAFETY: made by `HostCopies::create` with this length.
        drop(unsafe { Vec::from_raw_parts(self.data, self.len, self.len) });
    }
}

/// The copies of a session.
#[derive(Default)]
pub struct HostCopies {
    live: Mutex<HashMap<u64, Arc<HostCopy>>>,
    last: AtomicU64,
    totals: Arc<Totals>,
}

impl HostCopies {
    /// A buffer for `len` bytes that the client has `offset` bytes behind `host`.
    pub fn create(
        &self,
        to_device: bool,
        (host, place): (u64, [u64; 3]),
        offset: u64,
        len: u64,
    ) -> Result<Arc<HostCopy>, CudaError> {
        let len = len.max(1);
        let total = self.totals.bytes.fetch_add(len, Ordering::Relaxed);
        if len > MOST || total > MOST - len {
            self.totals.bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let bytes = vec![0_u8; len as usize].into_boxed_slice();
        let copy = Arc::new(HostCopy {
            number: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            to_device,
            host,
            place,
            data: Box::into_raw(bytes).cast(),
            len: len as usize,
            offset,
            in_use: Mutex::default(),
            owner: self.totals.clone(),
        });
        lock(&self.live).insert(copy.number, copy.clone());
        Ok(copy)
    }

    pub fn get(&self, number: u64) -> Option<Arc<HostCopy>> {
        lock(&self.live).get(&number).cloned()
    }

    /// The copy whose buffer a driver's pointer leads to.
    pub fn at(&self, pointer: *const c_void) -> Option<Arc<HostCopy>> {
        lock(&self.live)
            .values()
            .find(|copy| copy.holds(pointer.addr()))
            .cloned()
    }

    /// The client has got what the launches have brought.
    pub fn delivered(&self, copy: &HostCopy) {
        let mut live = lock(&self.live);
        let mut in_use = lock(&copy.in_use);
        in_use.undelivered = false;
        if in_use.orphan {
            live.remove(&copy.number);
        }
    }

    /// No graph has the copy any more.
    fn abandon(&self, number: u64) {
        let mut live = lock(&self.live);
        let gone = live.get(&number).is_some_and(|copy| {
            let mut in_use = lock(&copy.in_use);
            in_use.orphan = true;
            !in_use.undelivered
        });
        // Outside of the copy's own lock: this may be its end.
        let copy = if gone { live.remove(&number) } else { None };
        drop(live);
        drop(copy);
    }

    /// Events that nobody uses any more.
    pub fn take_events(&self) -> Vec<Last> {
        std::mem::take(&mut *lock(&self.totals.events))
    }
}

/// A graph's share in a copy.
pub struct Share {
    pub copies: Arc<HostCopies>,
    pub number: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.copies.abandon(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Last {
        Last {
            event: Pointer(std::ptr::null_mut()),
            context: 1,
            contexts_ended: 0,
        }
    }

    #[test]
    fn a_copy_stays_until_its_graph_is_gone_and_its_bytes_are_fetched() {
        let copies = Arc::new(HostCopies::default());
        let copy = copies.create(false, (0x1000, [4, 0, 0]), 4, 16).unwrap();
        let share = Share {
            copies: copies.clone(),
            number: copy.number,
        };
        copy.write(4, b"brought").unwrap();
        assert!(copy.write(10, b"brought").is_err());
        copy.used(event());
        drop(share);
        let found = copies.get(copy.number).unwrap();
        let mut bytes = Vec::new();
        found.read(4, 7, &mut bytes).unwrap();
        assert_eq!(bytes, b"brought");
        assert!(found.read(u64::MAX, 7, &mut bytes).is_err());
        copies.delivered(&copy);
        assert!(copies.get(copy.number).is_none());
        drop((copy, found));
        assert_eq!(copies.take_events().len(), 1);
        assert_eq!(copies.totals.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_buffers_together_are_bounded() {
        let copies = HostCopies::default();
        assert!(copies.create(true, (0, [0; 3]), 0, MOST + 1).is_err());
        let first = copies.create(true, (0, [0; 3]), 0, 4096).unwrap();
        assert!(copies.create(true, (0, [0; 3]), 0, MOST - 4095).is_err());
        // SAFETY: within the memory.
        assert!(copies.at(unsafe { first.address().add(5) }).is_some());
        assert!(copies.at(std::ptr::null()).is_none());
    }
}
