//! Where accesses go: spaces, addresses and their checks. The loads and stores themselves are in `transfer`.
//!
//! Other blocks, and the host, may touch the same bytes at the same time: device memory is only accessed by volatile
//! reads and writes through raw pointers, or by atomics. Every access is checked against the address space first; a word
//! of 32 lanes with neighbouring or equal addresses needs one check.

use std::slice;
use std::sync::atomic::{Ordering::AcqRel, Ordering::SeqCst, fence};

use crate::FaultKind;
use crate::lanes::{BASE, Elem, Lanes, MAX_WORDS, Op, Step, WORD, store_word};

/// Shared, local and parameter memory as generic addresses: above what a process can map, so that nothing else is there.
pub const SHARED_WINDOW: u64 = 1 << 48;
pub const LOCAL_WINDOW: u64 = (1 << 48) + (1 << 40);
pub const PARAM_WINDOW: u64 = (1 << 48) + (2 << 40);
pub const WINDOW: u64 = 1 << 40;

/// Where an address points, in the low bits of `Op::aux`.
pub const GENERIC: u32 = 0;
pub const GLOBAL: u32 = 1;
pub const SHARED: u32 = 2;
pub const LOCAL: u32 = 3;
/// Parameters of the kernel.
pub const PARAM: u32 = 4;
pub const SPACE: u32 = 7;
/// How the address is given: no register, a 32-bit or a 64-bit one.
pub const BASE32: u32 = 1 << 3;
pub const BASE64: u32 = 1 << 4;
/// The offset counts from the function's frame.
pub const FRAME: u32 = 1 << 5;
/// Components of a vector, from this bit on; 0 stands for one.
pub const VECTOR: u32 = 8;

/// How the addresses of the lanes lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Scatter,
    Uniform,
    Contiguous,
}

/// Lanes of an access, whole words; their host addresses are in the scratch strip, from its start.
pub struct Places {
    pub first: usize,
    pub end: usize,
    pub shape: Shape,
}

/// What one pass over the addresses finds.
struct Survey {
    low: u64,
    high: u64,
    /// All of them, or-ed: the low bits tell alignment.
    joined: u64,
    /// Zero when each is `step` behind the one before.
    differs: u64,
}

#[inline(always)]
fn survey(at: &[u64], step: u64) -> Survey {
    let (mut low, mut high, mut joined, mut differs) = (u64::MAX, 0, 0, 0);
    let base = at[0];
    for (i, &address) in at.iter().enumerate() {
        low = low.min(address);
        high = high.max(address);
        joined |= address;
        differs |= address ^ base.wrapping_add((i as u64).wrapping_mul(step));
    }
    Survey {
        low,
        high,
        joined,
        differs,
    }
}

impl Lanes<'_> {
    /// Address that each lane gives, from the first of a word on.
    ///
    /// # Safety
    /// The operation must have an address.
    #[inline(always)]
    pub unsafe fn addresses(&self, op: &Op, first: usize, at: &mut [u64]) {
        let offset = op
            .imm
            .wrapping_add(if op.aux & FRAME != 0 { self.frame } else { 0 });
        // SAFETY: lowering gave a register of that size.
        unsafe {
            if op.aux & BASE64 != 0 {
                let base = self.reg::<u64>(op.a).add(first * WORD);
                for (i, at) in at.iter_mut().enumerate() {
                    *at = (*base.add(i)).wrapping_add(offset);
                }
            } else if op.aux & BASE32 != 0 {
                let base = self.reg::<u32>(op.a).add(first * WORD);
                for (i, at) in at.iter_mut().enumerate() {
                    *at = u64::from((*base.add(i)).wrapping_add(offset as u32));
                }
            } else {
                at.fill(offset);
            }
        }
    }

    /// See to it that all lanes hold the address.
    ///
    /// # Safety
    /// The operation must be the program's.
    #[inline(always)]
    pub unsafe fn settle_address(&mut self, op: &Op) {
        // SAFETY: lowering gave a register of that size.
        unsafe {
            match op.aux & (BASE32 | BASE64) {
                0 => {}
                BASE32 => self.settle::<u32>(op.a),
                _ => self.settle::<u64>(op.a),
            }
        }
    }

    /// Host address of `size` bytes at an address of a space, if they are there.
    #[inline(always)]
    pub fn place(&self, space: u32, address: u64, size: u64, lane: usize) -> Option<u64> {
        let fits = |offset: u64, limit: u64| size <= limit && offset <= limit - size;
        match space {
            SHARED => fits(address, self.shared_size).then(|| {
                self.shared as u64
                    + ((lane / self.block_lanes) * self.shared_stride) as u64
                    + address
            }),
            LOCAL => fits(address, self.local_size)
                .then(|| self.local as u64 + lane as u64 * self.local_size + address),
            PARAM => fits(address, self.params.len() as u64)
                .then(|| self.params.as_ptr() as u64 + address),
            GLOBAL => self.memory.check(address, size).then_some(address),
            _ => match address.wrapping_sub(SHARED_WINDOW) / WINDOW {
                0 => self.place(SHARED, address - SHARED_WINDOW, size, lane),
                1 => self.place(LOCAL, address - LOCAL_WINDOW, size, lane),
                2 => self.place(PARAM, address - PARAM_WINDOW, size, lane),
                _ => self.place(GLOBAL, address, size, lane),
            },
        }
    }

    /// Host address of `size` bytes at a generic address of a lane.
    pub fn host_address(&self, lane: usize, address: u64, size: u64) -> Option<u64> {
        self.place(GENERIC, address, size, lane)
    }

    /// The first lane whose access is not right, noted; or host addresses for all, one by one.
    #[cold]
    #[inline(never)]
    fn places_each(&mut self, op: &Op, first: usize, size: u64, at: &mut [u64]) -> bool {
        let space = op.aux & SPACE;
        for (i, at) in at.iter_mut().enumerate() {
            let lane = first * WORD + i;
            if self.mask[lane / WORD] >> (lane % WORD) & 1 == 0 {
                continue;
            }
            if *at & (size - 1) != 0 {
                self.fail(FaultKind::Misaligned, lane, *at);
                return false;
            }
            match self.place(space, *at, size, lane) {
                Some(place) => *at = place,
                None => {
                    self.fail(FaultKind::IllegalAddress, lane, *at);
                    return false;
                }
            }
        }
        true
    }

    /// Check an access and find where it goes. `None`: there is nothing to do, or the fault is noted.
    ///
    /// # Safety
    /// The operation's registers must be the program's.
    #[inline(always)]
    pub unsafe fn places(&mut self, op: &Op, size: u64) -> Option<Places> {
        let mask = &self.mask[..self.words];
        let first = mask.iter().position(|&word| word != 0)?;
        let end = mask.iter().rposition(|&word| word != 0)? + 1;
        // SAFETY: the scratch strip has 8 bytes for each lane.
        let at =
            unsafe { slice::from_raw_parts_mut(self.scratch.cast::<u64>(), (end - first) * WORD) };
        // SAFETY: the caller's promise.
        unsafe { self.addresses(op, first, at) };
        let mut whole = true;
        let some = at[self.mask[first].trailing_zeros() as usize];
        for word in first..end {
            let mask = self.mask[word];
            if mask != u32::MAX {
                // Lanes that are not active repeat one that is.
                whole = false;
                for (i, at) in at[(word - first) * WORD..][..WORD].iter_mut().enumerate() {
                    *at = u64::blend(mask >> i & 1, *at, some);
                }
            }
        }
        let seen = survey(at, size);
        let (low, range) = (seen.low, (seen.high - seen.low).wrapping_add(size));
        let aligned = seen.joined & (size - 1) == 0;
        let (space, base) = match op.aux & SPACE {
            GENERIC if seen.high < SHARED_WINDOW => (GLOBAL, 0),
            GENERIC if low >= SHARED_WINDOW && seen.high < LOCAL_WINDOW => (SHARED, SHARED_WINDOW),
            GENERIC if low >= LOCAL_WINDOW && seen.high < PARAM_WINDOW => (LOCAL, LOCAL_WINDOW),
            space => (space, 0),
        };
        let last = seen.high.wrapping_sub(base).saturating_add(size);
        let good = aligned
            && match space {
                // One check for all, where they are near each other.
                GLOBAL => range <= 1 << 18 && self.memory.check(low, range),
                SHARED => last <= self.shared_size,
                LOCAL => last <= self.local_size,
                PARAM => low == seen.high && last <= self.params.len() as u64,
                _ => false,
            };
        if !good {
            return self.places_each(op, first, size, at).then_some(Places {
                first,
                end,
                shape: Shape::Scatter,
            });
        }
        let uniform = low == seen.high;
        let near = |shared: bool| match () {
            () if uniform => Shape::Uniform,
            () if whole && seen.differs == 0 && (!shared || self.lanes <= self.block_lanes) => {
                Shape::Contiguous
            }
            () => Shape::Scatter,
        };
        let shape = match space {
            GLOBAL => near(false),
            PARAM => {
                at[0] = self.params.as_ptr() as u64 + low;
                Shape::Uniform
            }
            SHARED => {
                let shape = near(true);
                let shift = (self.shared as u64).wrapping_sub(base);
                if self.lanes <= self.block_lanes {
                    for at in at.iter_mut() {
                        *at = at.wrapping_add(shift);
                    }
                    shape
                } else {
                    let mut i = 0;
                    while i < at.len() {
                        let block = (first * WORD + i) / self.block_lanes;
                        let stop = ((block + 1) * self.block_lanes - first * WORD).min(at.len());
                        let shift = shift.wrapping_add((block * self.shared_stride) as u64);
                        for at in &mut at[i..stop] {
                            *at = at.wrapping_add(shift);
                        }
                        i = stop;
                    }
                    Shape::Scatter
                }
            }
            _ => {
                let shift = (self.local as u64)
                    .wrapping_sub(base)
                    .wrapping_add((first * WORD) as u64 * self.local_size);
                for (i, at) in at.iter_mut().enumerate() {
                    *at = at
                        .wrapping_add(shift)
                        .wrapping_add(i as u64 * self.local_size);
                }
                Shape::Scatter
            }
        };
        Some(Places { first, end, shape })
    }
}

/// `fence.sc`, `membar`
pub unsafe fn fence_all(_lanes: &mut Lanes<'_>, _op: &Op) -> Step {
    fence(SeqCst);
    Step::Next
}

/// Other fences; also around loads that acquire and stores that release.
pub unsafe fn fence_order(_lanes: &mut Lanes<'_>, _op: &Op) -> Step {
    fence(AcqRel);
    Step::Next
}

/// The address that an operand gives, as a 64-bit value.
pub unsafe fn effective_address(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let Some((first, end)) = lanes.active_words() else {
        return Step::Next;
    };
    // SAFETY: the scratch strip has 8 bytes for each lane; lowering gave a 64-bit destination.
    unsafe {
        let at = slice::from_raw_parts_mut(lanes.scratch.cast::<u64>(), (end - first) * WORD);
        lanes.addresses(op, first, at);
        for word in first..end {
            let mask = lanes.mask[word & (MAX_WORDS - 1)];
            let from = at[(word - first) * WORD..].as_ptr();
            let to = lanes.reg::<u64>(op.dst).add(word * WORD);
            store_word::<u64, { BASE }>(to, from, mask);
        }
    }
    Step::Next
}

/// Address of a variable in the function's frame.
pub unsafe fn frame_address(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let value = lanes.frame.wrapping_add(op.imm);
    for lane in 0..lanes.lanes {
        if lanes.full || lanes.mask[lane / WORD] >> (lane % WORD) & 1 != 0 {
            // SAFETY: lowering gave a register of the size in `aux`.
            unsafe {
                if op.aux == 8 {
                    *lanes.reg::<u64>(op.dst).add(lane) = value;
                } else {
                    *lanes.reg::<u32>(op.dst).add(lane) = value as u32;
                }
            }
        }
    }
    Step::Next
}

/// Whether a generic address lies in the space of `Op::aux`.
pub unsafe fn is_space(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mut bits = 0u32;
        for i in 0..WORD {
            // SAFETY: lowering gave a 64-bit register and a predicate.
            let address = unsafe { *lanes.reg::<u64>(op.a).add(word * WORD + i) };
            let found = match address.wrapping_sub(SHARED_WINDOW) / WINDOW {
                0 => SHARED,
                1 => LOCAL,
                2 => PARAM,
                _ => GLOBAL,
            };
            bits |= u32::from(found == op.aux) << i;
        }
        // SAFETY: as above.
        unsafe { lanes.set_pred(op.dst, word, bits) };
    }
    Step::Next
}
