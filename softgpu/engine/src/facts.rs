//! What is known of registers without a look at their strips.
//!
//! Most of what kernels compute is the same in all lanes of a block (loop counters, addresses of weights), and hardly any float is
//! subnormal. A byte for each strip remembers what its last writer found, so that the next reader need not find it again. Whoever
//! writes a strip and says nothing has its byte cleared by the run loop.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::lanes::{Alu, Elem, Handler, Lanes, Op};

/// All lanes of a block hold the same.
pub const UNIFORM: u8 = 1;
/// No lane holds a subnormal f32.
pub const FLUSHED: u8 = 2;
/// How it lies as an address is in the cache of patterns.
pub const SURVEYED: u8 = 4;
/// Only the first lane of each block holds the value that all have: nobody has read it yet who needs the others.
pub const LAZY: u8 = 8;
/// Written by operations that the run loop does not watch: nothing is ever known.
pub const UNTRACKED: u8 = 128;

/// The byte of the register at an offset: registers are no smaller than 16 bits.
pub fn slot(offset: u32) -> u32 {
    offset >> 1
}

pub fn is_subnormal(bits: u32) -> bool {
    bits & 0x7f80_0000 == 0 && bits & 0x007f_ffff != 0
}

/// Handlers that [settle](Lanes::settle) what they read, and so may be given registers that are lazy.
static SETTLING: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

pub fn settling(run: Handler) -> Handler {
    let mut all = SETTLING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    all.insert(run as usize);
    run
}

pub fn settles(run: Handler) -> bool {
    let all = SETTLING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    all.contains(&(run as usize))
}

impl Lanes<'_> {
    /// See to it that all lanes of a register hold its value.
    ///
    /// # Safety
    /// `register` must be one of the program's, of the size of `T`.
    #[inline(always)]
    pub unsafe fn settle<T: Elem>(&mut self, register: u32) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.known(register) & LAZY != 0 {
                self.spread::<T>(register);
            }
        }
    }

    #[inline(always)]
    unsafe fn spread<T: Elem>(&mut self, register: u32) {
        // SAFETY: the caller's promise.
        unsafe {
            let strip = std::slice::from_raw_parts_mut(self.reg::<T>(register), self.lanes);
            for block in strip.chunks_mut(self.block_lanes) {
                block.fill(block[0]);
            }
            *self.facts.add(slot(register) as usize) &= !LAZY;
        }
    }

    /// The same for a register of any size, before some of its lanes are written.
    ///
    /// # Safety
    /// `register` must be one of the program's.
    #[cold]
    #[inline(never)]
    pub unsafe fn settle_any(&mut self, register: u32) {
        // SAFETY: registers lie by their sizes.
        unsafe {
            match () {
                () if register < self.words_from => self.spread::<u64>(register),
                () if register < self.halves_from => self.spread::<u32>(register),
                () => self.spread::<u16>(register),
            }
        }
    }

    /// See to it for all operands that an operation reads.
    ///
    /// # Safety
    /// The operation must be the program's.
    #[inline(always)]
    pub unsafe fn settle_operands<O: Alu>(&mut self, op: &Op) {
        // SAFETY: lowering gave registers of these sizes.
        unsafe {
            self.settle::<O::A>(op.a);
            if O::ARITY > 1 {
                self.settle::<O::B>(op.b);
            }
            if O::ARITY > 2 {
                self.settle::<O::C>(op.c);
            }
        }
    }

    /// What is known of a register.
    ///
    /// # Safety
    /// `register` must be one of the program's.
    #[inline(always)]
    pub unsafe fn known(&self, register: u32) -> u8 {
        // SAFETY: there is a byte for each register.
        unsafe { *self.facts.add(slot(register) as usize) }
    }

    /// Add to what is known of a register.
    ///
    /// # Safety
    /// As for [`Self::known`].
    #[inline(always)]
    pub unsafe fn learn(&mut self, register: u32, fact: u8) {
        // SAFETY: as above.
        unsafe {
            let known = self.facts.add(slot(register) as usize);
            if *known & UNTRACKED == 0 {
                *known |= fact;
            }
        }
    }

    /// A register has been written by an operation that watches its own: forget, and note what was found.
    ///
    /// # Safety
    /// As for [`Self::known`].
    #[inline(always)]
    pub unsafe fn relearn(&mut self, register: u32, fact: u8) {
        // SAFETY: as above.
        unsafe {
            let known = self.facts.add(slot(register) as usize);
            if *known & UNTRACKED == 0 {
                *known = fact;
            }
        }
    }

    /// What is known of all operands that an operation reads.
    ///
    /// # Safety
    /// The operation must be the program's.
    #[inline(always)]
    pub unsafe fn known_of<O: Alu>(&self, op: &Op) -> u8 {
        // SAFETY: the caller's promise.
        unsafe {
            let mut known = self.known(op.a);
            if O::ARITY > 1 {
                known &= self.known(op.b);
            }
            if O::ARITY > 2 {
                known &= self.known(op.c);
            }
            known
        }
    }

    /// Whether the f32 operands that an operation reads are free of subnormals, all lanes looked at where it is not known.
    ///
    /// # Safety
    /// The operation must be the program's, its operands f32.
    #[inline(always)]
    pub unsafe fn flushed<O: Alu>(&mut self, op: &Op) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            self.is_flushed(op.a)
                && (O::ARITY < 2 || self.is_flushed(op.b))
                && (O::ARITY < 3 || self.is_flushed(op.c))
        }
    }

    #[inline(always)]
    unsafe fn is_flushed(&mut self, register: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if self.known(register) & FLUSHED != 0 {
                return true;
            }
            let strip = std::slice::from_raw_parts(self.reg::<u32>(register), self.lanes);
            // Without the sign, and one less: zero becomes the largest, subnormals the smallest.
            let least = strip.iter().fold(u32::MAX, |least, bits| {
                least.min((bits << 1).wrapping_sub(1))
            });
            let clean = least >= 0x00ff_ffff;
            if clean {
                self.learn(register, FLUSHED);
            }
            clean
        }
    }
}
