//! Handles that C programs hold: numbers that lead to objects, never addresses, so that a stale or invented one is an
//! error and not a crash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use crate::error::{Error, Result};

/// Handles are never used twice and are told apart from the special stream handles 1 and 2.
static NEXT: AtomicU64 = AtomicU64::new(0x5047_0000_0010);

pub fn fresh() -> u64 {
    NEXT.fetch_add(16, Ordering::Relaxed)
}

/// Handles count upwards: one multiplication spreads them.
#[derive(Default)]
pub struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}

type Map<T> = HashMap<u64, Arc<T>, BuildHasherDefault<HandleHasher>>;

/// The living objects of one kind.
pub struct Registry<T> {
    map: RwLock<Map<T>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Registry {
            map: RwLock::default(),
        }
    }
}

impl<T> Registry<T> {
    pub fn insert(&self, handle: u64, object: Arc<T>) {
        self.map
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .insert(handle, object);
    }

    pub fn find(&self, handle: u64) -> Option<Arc<T>> {
        self.map
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(&handle)
            .cloned()
    }

    pub fn get(&self, handle: u64) -> Result<Arc<T>> {
        self.find(handle).ok_or(Error::ERROR_INVALID_HANDLE)
    }

    pub fn take(&self, handle: u64) -> Result<Arc<T>> {
        let mut map = self.map.write().unwrap_or_else(|e| e.into_inner());
        map.remove(&handle).ok_or(Error::ERROR_INVALID_HANDLE)
    }

    /// Removes those that `gone` names; they are dropped outside of the lock.
    pub fn remove_if(&self, gone: impl Fn(&T) -> bool) {
        let mut map = self.map.write().unwrap_or_else(|e| e.into_inner());
        let removed: Vec<Arc<T>> = map
            .extract_if(|_, object| gone(object))
            .map(|(_, o)| o)
            .collect();
        drop(map);
        drop(removed);
    }
}
