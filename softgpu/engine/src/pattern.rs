//! How the addresses in a register lie, for loads and stores that all lanes make.
//!
//! In blocks of two dimensions, lanes of one row read neighbours or all the same, and the next row another piece. So lanes are looked at
//! in groups of 16: each is one read for all, one copy, or 16 accesses. What was found is kept until the register is written, since
//! unrolled loops read at many distances from one address.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::access::{
    BASE32, BASE64, FRAME, GENERIC, GLOBAL, LOCAL_WINDOW, SHARED, SHARED_WINDOW, SPACE,
};
use crate::facts::SURVEYED;
use crate::lanes::{Elem, Lanes, MAX_LANES, Op, V4};

pub const GROUP: usize = 16;
/// Patterns that are kept.
pub const KEPT: usize = 16;

/// All addresses are equal.
pub const SAME: u8 = 0;
/// Each is one element behind the one before.
pub const NEXT: u8 = 1;
pub const APART: u8 = 2;

pub struct Pattern {
    register: u32,
    /// Bytes of an element, which say what `NEXT` is.
    size: u32,
    low: u64,
    high: u64,
    /// All of them, or-ed: the low bits tell alignment.
    joined: u64,
    /// Of all lanes together.
    pub whole: u8,
    /// The last of the kinds that are among the groups.
    pub worst: u8,
    pub groups: [u8; MAX_LANES / GROUP],
}

/// An access that has been checked.
#[derive(Clone, Copy)]
pub struct View {
    pub pattern: *const Pattern,
    /// From an address to the host's, in the first block.
    pub shift: u64,
    /// Bytes more in each block that follows.
    pub stride: u64,
}

/// A register's value as an address.
trait Address: Elem {
    fn wide(self) -> u64;

    /// Eight of them.
    ///
    /// # Safety
    /// They must be there, and the processor must have AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn eight(from: *const Self) -> __m512i;
}

impl Address for u64 {
    #[inline(always)]
    fn wide(self) -> u64 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn eight(from: *const u64) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
}

impl Address for u32 {
    #[inline(always)]
    fn wide(self) -> u64 {
        self.into()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn eight(from: *const u32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtepu32_epi64(_mm256_loadu_si256(from.cast())) }
    }
}

impl Pattern {
    /// # Safety
    /// The strip must have so many lanes, a multiple of 32.
    #[inline(always)]
    unsafe fn fill<T: Address, const LEVEL: u8>(
        &mut self,
        strip: *const T,
        lanes: usize,
        step: u64,
    ) {
        let groups = &mut self.groups[..lanes / GROUP];
        // SAFETY: the caller's promise.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if LEVEL == V4 {
                (self.low, self.high, self.joined) = look_wide(strip, step, groups);
            }
            if LEVEL != V4 {
                (self.low, self.high, self.joined) = look(strip, step, groups);
            }
            let first = (*strip).wide();
            let mut chained = true;
            for (at, &kind) in groups.iter().enumerate() {
                let start = first.wrapping_add((at * GROUP) as u64 * step);
                chained &= kind == NEXT && (*strip.add(at * GROUP)).wide() == start;
            }
            self.whole = match () {
                () if self.low == self.high => SAME,
                () if chained => NEXT,
                () => APART,
            };
            self.worst = groups.iter().copied().max().unwrap_or(APART);
        }
    }
}

/// Lowest and highest address, all or-ed, and each group's kind.
///
/// # Safety
/// The strip must have as many lanes as the groups.
#[inline(always)]
unsafe fn look<T: Address>(strip: *const T, step: u64, groups: &mut [u8]) -> (u64, u64, u64) {
    let (mut low, mut high, mut joined) = (u64::MAX, 0, 0);
    for (at, kind) in groups.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let lanes = unsafe { *strip.add(at * GROUP).cast::<[T; GROUP]>() }.map(T::wide);
        let (mut same, mut next) = (0, 0);
        for (i, address) in lanes.into_iter().enumerate() {
            low = low.min(address);
            high = high.max(address);
            joined |= address;
            same |= address ^ lanes[0];
            next |= address ^ lanes[0].wrapping_add(i as u64 * step);
        }
        *kind = kind_of(same != 0, next != 0);
    }
    (low, high, joined)
}

#[inline(always)]
fn kind_of(differ: bool, gaps: bool) -> u8 {
    u8::from(differ) + u8::from(differ & gaps)
}

/// The same with AVX-512, which the compiler does not find by itself.
///
/// # Safety
/// As for [`look`]; the processor must have AVX-512.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn look_wide<T: Address>(strip: *const T, step: u64, groups: &mut [u8]) -> (u64, u64, u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let s = step as i64;
        let near = _mm512_setr_epi64(0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s);
        let far = _mm512_add_epi64(near, _mm512_set1_epi64(8 * s));
        let mut low = _mm512_set1_epi64(-1);
        let mut high = _mm512_setzero_si512();
        let mut joined = high;
        for (at, kind) in groups.iter_mut().enumerate() {
            let from = strip.add(at * GROUP);
            let (a, b) = (T::eight(from), T::eight(from.add(8)));
            let first = _mm512_set1_epi64((*from).wide() as i64);
            low = _mm512_min_epu64(low, _mm512_min_epu64(a, b));
            high = _mm512_max_epu64(high, _mm512_max_epu64(a, b));
            joined = _mm512_or_si512(joined, _mm512_or_si512(a, b));
            let differ = _mm512_cmpneq_epu64_mask(a, first) | _mm512_cmpneq_epu64_mask(b, first);
            let gaps = _mm512_cmpneq_epu64_mask(a, _mm512_add_epi64(first, near))
                | _mm512_cmpneq_epu64_mask(b, _mm512_add_epi64(first, far));
            *kind = kind_of(differ != 0, gaps != 0);
        }
        (
            _mm512_reduce_min_epu64(low),
            _mm512_reduce_max_epu64(high),
            _mm512_reduce_or_epi64(joined) as u64,
        )
    }
}

impl Lanes<'_> {
    /// What the address's register holds in a lane.
    ///
    /// # Safety
    /// The operation must be the program's.
    #[inline(always)]
    pub unsafe fn based(&self, op: &Op, lane: usize) -> u64 {
        // SAFETY: lowering gave a register of that size.
        unsafe {
            match op.aux & (BASE32 | BASE64) {
                0 => 0,
                BASE32 => (*self.reg::<u32>(op.a).add(lane)).wide(),
                _ => *self.reg::<u64>(op.a).add(lane),
            }
        }
    }

    /// Host address of the first lane of each group, in the scratch strip.
    ///
    /// # Safety
    /// The view must be that of the operation.
    #[inline(always)]
    pub unsafe fn starts(&mut self, op: &Op, view: View) -> *const u64 {
        let starts = self.scratch.cast::<u64>();
        let mut shift = view.shift;
        let mut left = self.block_lanes;
        for group in 0..self.lanes / GROUP {
            // SAFETY: the caller's promise; the strip has 8 bytes for each lane.
            unsafe {
                *starts.add(group) = self.based(op, group * GROUP).wrapping_add(shift);
            }
            left -= GROUP.min(left);
            if left == 0 {
                left = self.block_lanes;
                shift = shift.wrapping_add(view.stride);
            }
        }
        starts
    }

    /// Check an access that all lanes make by addresses in a register. `None`: look at each lane.
    ///
    /// # Safety
    /// The operation must be the program's, and all lanes take part.
    #[inline(always)]
    pub unsafe fn pattern_of<const LEVEL: u8>(&mut self, op: &Op, size: u64) -> Option<View> {
        if op.aux & FRAME != 0 || op.aux & (BASE32 | BASE64) == 0 {
            return None;
        }
        let narrow = op.aux & BASE32 != 0;
        // SAFETY: the program's register; there are `KEPT` patterns.
        let pattern = unsafe {
            let pattern = &mut *self.patterns.add(op.a as usize / 8 % KEPT);
            let kept = self.known(op.a) & SURVEYED != 0
                && pattern.register == op.a
                && u64::from(pattern.size) == size;
            if !kept {
                (pattern.register, pattern.size) = (op.a, size as u32);
                if narrow {
                    pattern.fill::<u32, LEVEL>(self.reg(op.a), self.lanes, size);
                } else {
                    pattern.fill::<u64, LEVEL>(self.reg(op.a), self.lanes, size);
                }
                self.learn(op.a, SURVEYED);
            }
            &*pattern
        };
        let offset = if narrow {
            i64::from(op.imm as i32)
        } else {
            op.imm as i64
        };
        let low = pattern.low.checked_add_signed(offset)?;
        let high = pattern.high.checked_add_signed(offset)?;
        if narrow && high > u64::from(u32::MAX) || (pattern.joined | op.imm) & (size - 1) != 0 {
            return None;
        }
        let space = match op.aux & SPACE {
            GENERIC if high < SHARED_WINDOW => GLOBAL,
            GENERIC if low >= SHARED_WINDOW && high < LOCAL_WINDOW => SHARED,
            space => space,
        };
        let mut view = View {
            pattern,
            shift: offset as u64,
            stride: 0,
        };
        let good = match space {
            GLOBAL => {
                let range = (high - low).saturating_add(size);
                range <= 1 << 18 && self.memory.check(low, range)
            }
            SHARED => {
                let window = if op.aux & SPACE == GENERIC {
                    SHARED_WINDOW
                } else {
                    0
                };
                view.shift = (self.shared as u64)
                    .wrapping_add(offset as u64)
                    .wrapping_sub(window);
                if self.lanes > self.block_lanes {
                    view.stride = self.shared_stride as u64;
                }
                let last = (high - window).saturating_add(size);
                last <= self.shared_size && self.block_lanes.is_multiple_of(GROUP)
            }
            _ => false,
        };
        good.then_some(view)
    }
}
