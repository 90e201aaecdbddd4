//! Memory of blocks, kept by a thread from one block to the next.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;

/// Memory kept by a thread for its next block, in bytes.
const MAX_KEPT: usize = 64 << 20;
pub const ALIGN: usize = 64;

/// Zeroed memory that is used again and again.
pub struct Arena {
    pub start: *mut u8,
    size: usize,
    /// What the constant strips were filled for.
    pub stamp: u64,
}

// SAFETY: an arena is owned memory.
unsafe impl Send for Arena {}

thread_local! {
    static KEPT: RefCell<Vec<Arena>> = const { RefCell::new(Vec::new()) };
}

impl Arena {
    pub fn take(size: usize, stamp: u64) -> Arena {
        let kept = KEPT.with_borrow_mut(|kept| {
            let same = kept
                .iter()
                .position(|arena| arena.stamp == stamp && arena.size >= size);
            let fits = same.or_else(|| {
                kept.iter()
                    .position(|arena| arena.size >= size && arena.size <= size * 4)
            });
            fits.map(|at| kept.swap_remove(at))
        });
        kept.unwrap_or_else(|| {
            let size = size.max(ALIGN).next_multiple_of(4096);
            let layout = Layout::from_size_align(size, ALIGN).expect("sizes of blocks are bounded");
            // SAFETY: the size is not zero.
            let start = unsafe { alloc_zeroed(layout) };
            if start.is_null() {
                handle_alloc_error(layout);
            }
            Arena {
                start,
                size,
                stamp: 0,
            }
        })
    }

    pub fn give_back(self) {
        KEPT.with_borrow_mut(|kept| {
            let held: usize = kept.iter().map(|arena| arena.size).sum();
            if kept.len() < 8 && held + self.size <= MAX_KEPT {
                kept.push(self);
            }
        });
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if !self.start.is_null() {
            let layout =
                Layout::from_size_align(self.size, ALIGN).expect("it was allocated with this");
            // SAFETY: allocated with this layout in `take`.
            unsafe { dealloc(self.start, layout) };
        }
    }
}
