//! Instructions that multiply matrices which a warp holds together, and those that load, store and turn such matrices.
//!
//! A warp's lanes each hold a fragment; `layout` says who holds what. A handler gathers the fragments of one warp into
//! small arrays, computes, and scatters; warps know nothing of each other. All lanes of a warp must take part: PTX leaves
//! undefined what happens otherwise, here it is an illegal instruction.
//!
//! Numbers: PTX leaves precision and order of sums open. Products of f16, bf16, tf32 and fp8 are summed in f32, starting
//! from C, by fused multiply-adds in the order of k; a result in f16 is rounded once, at the end. f64 does the same in f64,
//! in the rounding mode of the instruction. Integers are exact: they wrap, or with `.satfinite` the exact sum is clamped.

mod element;
mod fragments;
mod layout;
mod lower;
mod multiply;
mod opcode;
mod shape;
mod tiles;
mod volta;

pub use lower::ALIGNED_SINCE;

use crate::FaultKind;
use crate::lanes::{Elem, Lanes, WORD};

/// One register of all lanes of a warp.
type Strip<T> = [T; WORD];

impl Lanes<'_> {
    /// Whether each warp takes part with all its lanes or not at all; else the fault is noted.
    fn whole_warps(&mut self) -> bool {
        let torn = (0..self.words).find(|&word| !matches!(self.mask[word], 0 | u32::MAX));
        if let Some(word) = torn {
            let lane = word * WORD + self.mask[word].trailing_zeros() as usize;
            self.fail(FaultKind::IllegalInstruction, lane, 0);
        }
        torn.is_none()
    }

    /// The warps that take part.
    fn warps(&self) -> impl Iterator<Item = usize> + use<> {
        let (mask, words) = (self.mask, self.words);
        (0..words).filter(move |&word| mask[word] != 0)
    }

    /// # Safety
    /// `register` must be one of at least the size of `T`, `warp` below `words`.
    #[inline(always)]
    unsafe fn strip<T: Elem>(&self, register: u32, warp: usize) -> *mut Strip<T> {
        // SAFETY: the caller's promise.
        unsafe { self.reg::<T>(register).add(warp * WORD).cast() }
    }
}
