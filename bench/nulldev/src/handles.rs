//! Handles that programs hold: numbers that lead to objects, never addresses, so that a stale or invented one is an error and no crash. Looking
//! one up takes no lock. Objects are never freed, since another thread may be looking at one; they are few or used again.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::errors::{Error, Result};

const CHUNKS: usize = 1 << 10;
const CHUNK: usize = 1 << 10;
// A handle: kind, generation, index, and four bits of nothing.
const INDEX: u32 = 4;
const GENERATION: u32 = 24;
const KIND: u32 = 44;

struct Slot<T> {
    /// 0: free.
    handle: AtomicU64,
    object: AtomicPtr<T>,
}

#[derive(Default)]
struct Free {
    /// Index and generation.
    used_before: Vec<(u64, u64)>,
    /// Never used from here on.
    rest: u64,
}

/// The living objects of one kind.
pub struct Table<T: 'static> {
    kind: u64,
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    free: Mutex<Free>,
}

impl<T: Sync> Table<T> {
    /// `kind` is not 0, so that no handle is one of CUDA's special ones.
    pub const fn new(kind: u64) -> Table<T> {
        let free = Free {
            used_before: Vec::new(),
            rest: 0,
        };
        Table {
            kind,
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(free),
        }
    }

    fn slot(&self, handle: u64) -> Option<&Slot<T>> {
        let index = (handle >> INDEX) as usize % (CHUNKS * CHUNK);
        let slot = &self.chunks[index / CHUNK].get()?[index % CHUNK];
        (slot.handle.load(Ordering::Acquire) == handle && handle != 0).then_some(slot)
    }

    pub fn get(&self, handle: u64) -> Result<&'static T> {
        let slot = self.slot(handle).ok_or(Error::INVALID_HANDLE)?;
        // SAFETY: `insert` has put a reference there before it wrote the handle, and only references are put there.
        Ok(unsafe { &*slot.object.load(Ordering::Acquire) })
    }

    /// `make` gets the object's handle.
    pub fn insert(&self, make: impl FnOnce(u64) -> &'static T) -> Result<&'static T> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, generation) = match free.used_before.pop() {
            Some(place) => place,
            None if free.rest as usize == CHUNKS * CHUNK => return Err(Error::OUT_OF_MEMORY),
            None => {
                free.rest += 1;
                (free.rest - 1, 0)
            }
        };
        drop(free);
        let handle = (self.kind << KIND) | (generation << GENERATION) | (index << INDEX);
        let object = make(handle);
        let chunk = self.chunks[index as usize / CHUNK].get_or_init(|| {
            let empty = || Slot {
                handle: AtomicU64::new(0),
                object: AtomicPtr::default(),
            };
            std::iter::repeat_with(empty).take(CHUNK).collect()
        });
        let slot = &chunk[index as usize % CHUNK];
        slot.object
            .store(std::ptr::from_ref(object).cast_mut(), Ordering::Release);
        slot.handle.store(handle, Ordering::Release);
        Ok(object)
    }

    /// The object, whose handle ends.
    pub fn remove(&self, handle: u64) -> Result<&'static T> {
        let object = self.get(handle)?;
        let slot = self.slot(handle).ok_or(Error::INVALID_HANDLE)?;
        slot.handle
            .compare_exchange(handle, 0, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| Error::INVALID_HANDLE)?;
        let index = (handle >> INDEX) & ((1 << (GENERATION - INDEX)) - 1);
        let generation = ((handle >> GENERATION) + 1) & ((1 << (KIND - GENERATION)) - 1);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.used_before.push((index, generation));
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_ends_with_its_object() {
        static TABLE: Table<u32> = Table::new(3);
        let mut handles = Vec::new();
        for _ in 0..CHUNK + 1 {
            TABLE
                .insert(|handle| {
                    handles.push(handle);
                    &7
                })
                .unwrap();
        }
        assert_eq!(TABLE.get(handles[CHUNK]), Ok(&7));
        for wrong in [0, 1, handles[0] + 1, handles[0] | (1 << 30), u64::MAX] {
            assert_eq!(TABLE.get(wrong), Err(Error::INVALID_HANDLE), "{wrong:#x}");
        }
        assert_eq!(TABLE.remove(handles[0]), Ok(&7));
        assert_eq!(TABLE.remove(handles[0]), Err(Error::INVALID_HANDLE));
        let mut again = 0;
        TABLE
            .insert(|handle| {
                again = handle;
                &8
            })
            .unwrap();
        assert_ne!(again, handles[0]);
        assert_eq!(TABLE.get(again), Ok(&8));
        assert_eq!(TABLE.get(handles[0]), Err(Error::INVALID_HANDLE));
    }
}
