//! Memory of blocks, kept by a thread from one block to the next.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;

/// Memory kept by a thread for its next block, in bytes.
const MAX_KEPT: usize = 64 << 20;
const MAX_ARENAS: usize = 8;
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
    /// The one used last is last.
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
            fits.map(|at| kept.remove(at))
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

    /// Those that were not used for longest go first: a program with kernels of many sizes would else get new pages for each launch.
    pub fn give_back(self) {
        if self.size > MAX_KEPT {
            return;
        }
        KEPT.with_borrow_mut(|kept| {
            kept.push(self);
            let mut held: usize = kept.iter().map(|arena| arena.size).sum();
            let too_much = kept.iter().enumerate().take_while(|(at, arena)| {
                let over = held > MAX_KEPT || kept.len() - at > MAX_ARENAS;
                held -= arena.size;
                over
            });
            let too_much = too_much.count();
            kept.drain(..too_much);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        KEPT.take();
        let starts: Vec<_> = (1..=20)
            .map(|pages| {
                let arena = Arena::take(pages * 4096, pages as u64);
                let start = arena.start;
                arena.give_back();
                start
            })
            .collect();
        let arena = Arena::take(20 * 4096, 20);
        assert_eq!(arena.start, starts[19]);
        arena.give_back();
        assert!(KEPT.with_borrow(|kept| kept.len() <= MAX_ARENAS));
        // More than may be kept altogether.
        for _ in 0..3 {
            let arenas = [0, 1].map(|_| Arena::take(MAX_KEPT / 2 + 4096, 0));
            arenas.into_iter().for_each(Arena::give_back);
        }
        let held: usize = KEPT.with_borrow(|kept| kept.iter().map(|arena| arena.size).sum());
        assert!(held <= MAX_KEPT, "{held} bytes are kept");
        Arena::take(MAX_KEPT + 4096, 0).give_back();
        assert!(KEPT.with_borrow(|kept| kept.iter().all(|arena| arena.size <= MAX_KEPT)));
    }
}
