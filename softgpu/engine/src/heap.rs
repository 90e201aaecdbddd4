//! The memory that device-side `malloc` gives out. What is in use is noted outside of it, where kernels cannot write.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Allocations are multiples of this, and aligned to it.
const UNIT: u64 = 16;

/// A range of device memory that kernels of a context allocate from; allocations outlive launches.
pub struct Heap {
    base: u64,
    state: Mutex<State>,
}

struct State {
    /// Start to length, both of what is free and what is taken.
    free: BTreeMap<u64, u64>,
    taken: BTreeMap<u64, u64>,
}

impl Heap {
    /// The caller keeps the range mapped as long as kernels may use the heap.
    pub fn new(base: u64, size: u64) -> Heap {
        let free = BTreeMap::from([(base, size)]);
        Heap {
            base,
            state: Mutex::new(State {
                free,
                taken: BTreeMap::new(),
            }),
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Address of so many bytes, or 0 when there are not that many in one piece.
    pub fn allocate(&self, bytes: u64) -> u64 {
        let Some(bytes) = bytes.max(1).checked_next_multiple_of(UNIT) else {
            return 0;
        };
        let mut state = self.state();
        let found = state.free.iter().find(|&(_, &length)| length >= bytes);
        let Some((&start, &length)) = found else {
            return 0;
        };
        state.free.remove(&start);
        if length > bytes {
            state.free.insert(start + bytes, length - bytes);
        }
        state.taken.insert(start, bytes);
        start
    }

    /// Takes an allocation back. False: there is none at this address.
    pub fn free(&self, address: u64) -> bool {
        let mut state = self.state();
        let Some(mut length) = state.taken.remove(&address) else {
            return false;
        };
        let mut start = address;
        if let Some(next) = state.free.remove(&(address + length)) {
            length += next;
        }
        if let Some((&before, &size)) = state.free.range(..address).next_back()
            && before + size == address
        {
            start = before;
            length += size;
        }
        state.free.insert(start, length);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_is_whole_again() {
        let heap = Heap::new(4096, 160);
        let all: Vec<u64> = (0..10).map(|_| heap.allocate(9)).collect();
        assert_eq!(all, (0..10).map(|i| 4096 + 16 * i).collect::<Vec<_>>());
        assert_eq!(heap.allocate(1), 0);
        for at in [3, 1, 2, 9, 0, 5, 4, 8, 7, 6] {
            assert!(heap.free(all[at]));
            assert!(!heap.free(all[at]));
        }
        assert!(!heap.free(5000));
        assert_eq!(heap.allocate(161), 0);
        assert_eq!(heap.allocate(u64::MAX), 0);
        assert_eq!(heap.allocate(160), 4096);
    }
}
