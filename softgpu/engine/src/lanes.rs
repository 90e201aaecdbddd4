//! The register file of the lanes that run together, and how an operation is applied to all of them.
//!
//! A register is a strip: its value in lane 0, in lane 1, and so on. Lanes come in words of 32, one bit each in a mask.
//! Handlers are compiled three times, for the processor's baseline, AVX2 with FMA, and AVX-512, and chosen once: without
//! the fused multiply-add of the hardware, `fma` is a call per lane.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::slice;
use std::sync::OnceLock;

use crate::AddressSpace;
use crate::facts::{FLUSHED, LAZY, UNIFORM, settling};
use crate::pattern::Pattern;
use crate::texture::Objects;

pub const WORD: usize = 32;
pub const MAX_LANES: usize = 1024;
pub const MAX_WORDS: usize = MAX_LANES / WORD;
pub type Mask = [u32; MAX_WORDS];

/// What the run loop does after a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Next,
    /// `Lanes::fault` says what happened.
    Fault,
}

/// # Safety
/// Registers, predicates and lists of the operation must belong to the program that the lanes were set up for.
pub type Handler = unsafe fn(&mut Lanes<'_>, &Op) -> Step;

/// How the run loop treats an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The handler does it all.
    Plain,
    /// The handler does it all, when all lanes that take part have come.
    Collective,
    /// May be what another lane waits for, or waits itself: atomics, volatile loads.
    Waiting,
    Branch,
    /// Branch by an index into a table.
    BranchTable,
    Call,
    CallIndirect,
    Return,
    Exit,
    Barrier,
    Trap,
    HostCall,
}

/// No guard.
pub const ALWAYS: u32 = u32::MAX;
/// No register.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
pub struct Op {
    pub run: Handler,
    /// Registers by their offset in bytes a lane; predicates by `slot << 1 | negated`.
    pub dst: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    /// Member mask of a collective, a register.
    pub d: u32,
    pub imm: u64,
    pub guard: u32,
    pub aux: u32,
    /// Which of [`Lanes::facts`] is its destination's; one that nobody reads where it has none.
    pub mark: u32,
    /// All who read its destination settle it, so that it may be lazy.
    pub lazy: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneFault {
    pub kind: crate::FaultKind,
    pub lane: usize,
    pub address: u64,
}

/// Everything that handlers touch.
pub struct Lanes<'a> {
    pub regs: *mut u8,
    pub preds: *mut u32,
    /// A strip that belongs to no register.
    pub scratch: *mut u8,
    /// Lanes, a multiple of 32, and their words.
    pub lanes: usize,
    pub words: usize,
    /// Lanes that the operation is for.
    pub mask: Mask,
    /// All lanes that still run are in `mask`; others may be overwritten, nobody reads them any more.
    pub full: bool,
    pub memory: &'a AddressSpace,
    /// Lanes from the start of one block to the start of the next.
    pub block_lanes: usize,
    pub shared: *mut u8,
    /// Bytes of shared memory of a block, and from one block's to the next's.
    pub shared_size: u64,
    pub shared_stride: usize,
    pub local: *mut u8,
    /// Local memory of a lane, in bytes.
    pub local_size: u64,
    /// Where the running function's frame starts in it.
    pub frame: u64,
    pub params: &'a [u8],
    pub lists: &'a [u32],
    pub objects: Option<&'a dyn Objects>,
    /// Where registers of 32 and of 16 bits begin, as offsets.
    pub words_from: u32,
    pub halves_from: u32,
    /// What is known of each register.
    pub facts: *mut u8,
    /// What a handler finds out about its destination.
    pub found: u8,
    /// [`crate::pattern::KEPT`] of them.
    pub patterns: *mut Pattern,
    pub fault: Option<LaneFault>,
}

pub trait Elem: Copy + Default + 'static {
    /// `new` where the bit is 1, `old` where it is 0; without a branch, so that it vectorises.
    fn blend(bit: u32, new: Self, old: Self) -> Self;
}
macro_rules! elems {
    ($($t:ty => $bits:ty, $to:expr, $from:expr;)*) => {
        $(impl Elem for $t {
            #[inline(always)]
            fn blend(bit: u32, new: Self, old: Self) -> Self {
                let mask = (0 as $bits).wrapping_sub(bit as $bits);
                $from(($to(new) & mask) | ($to(old) & !mask))
            }
        })*
    };
}
elems!(
    u8 => u8, |x| x, |x| x;
    i8 => i8, |x| x, |x| x;
    u16 => u16, |x| x, |x| x;
    i16 => i16, |x| x, |x| x;
    u32 => u32, |x| x, |x| x;
    i32 => i32, |x| x, |x| x;
    u64 => u64, |x| x, |x| x;
    i64 => i64, |x| x, |x| x;
    f32 => u32, f32::to_bits, f32::from_bits;
    f64 => u64, f64::to_bits, f64::from_bits;
);

impl Lanes<'_> {
    /// Start of a register's strip.
    ///
    /// # Safety
    /// `offset` must be a register of at least the size of `T`.
    #[inline(always)]
    pub unsafe fn reg<T: Elem>(&self, offset: u32) -> *mut T {
        // SAFETY: the file has `lanes` bytes for each byte of offset.
        unsafe { self.regs.add(offset as usize * self.lanes).cast() }
    }

    /// Bits of a predicate in a word of lanes, negation applied.
    ///
    /// # Safety
    /// `pred` must be a predicate of the program.
    #[inline(always)]
    pub unsafe fn pred(&self, pred: u32, word: usize) -> u32 {
        // SAFETY: the caller's promise.
        let bits = unsafe { *self.preds.add((pred >> 1) as usize * self.words + word) };
        bits ^ 0u32.wrapping_sub(pred & 1)
    }

    /// Set the active lanes of a predicate in a word.
    ///
    /// # Safety
    /// As for [`Self::pred`].
    #[inline(always)]
    pub unsafe fn set_pred(&mut self, pred: u32, word: usize, bits: u32) {
        let mask = self.mask[word];
        // SAFETY: the caller's promise.
        let place = unsafe { &mut *self.preds.add((pred >> 1) as usize * self.words + word) };
        *place = (*place & !mask) | (bits & mask);
    }

    /// Whether no lane is missing, not even one that has ended.
    #[inline(always)]
    pub fn everyone(&self) -> bool {
        self.full && self.mask[..self.words].iter().all(|&word| word == u32::MAX)
    }

    /// The words in which something is to be done, from the first to behind the last.
    #[inline(always)]
    pub fn active_words(&self) -> Option<(usize, usize)> {
        if self.full {
            return Some((0, self.words));
        }
        let mask = &self.mask[..self.words];
        let first = mask.iter().position(|&word| word != 0)?;
        let last = mask.iter().rposition(|&word| word != 0)?;
        Some((first, last + 1))
    }

    /// After an access that found no places: a fault, or nobody to do it for.
    #[inline(always)]
    pub fn failed(&self) -> Step {
        if self.fault.is_some() {
            Step::Fault
        } else {
            Step::Next
        }
    }

    pub fn fail(&mut self, kind: crate::FaultKind, lane: usize, address: u64) -> Step {
        self.fault = Some(LaneFault {
            kind,
            lane,
            address,
        });
        Step::Fault
    }
}

/// An operation that does the same in each lane.
pub trait Alu: 'static {
    type D: Elem;
    type A: Elem;
    type B: Elem;
    type C: Elem;
    /// Operands read, 1 to 3.
    const ARITY: usize;
    const SUBNORMALS: Subnormals = Subnormals::Any;
    fn f(a: Self::A, b: Self::B, c: Self::C) -> Self::D;

    /// The same for operands without subnormals.
    #[inline(always)]
    fn tame(a: Self::A, b: Self::B, c: Self::C) -> Self::D {
        Self::f(a, b, c)
    }
}

/// What an operation does about subnormal f32.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subnormals {
    Any,
    /// Gives none, and takes those of its f32 operands for zeros.
    Flushed,
    /// Gives none where its operands have none.
    Kept,
}

/// An operation on operands without subnormals.
struct Tame<O>(PhantomData<O>);

impl<O: Alu> Alu for Tame<O> {
    type D = O::D;
    type A = O::A;
    type B = O::B;
    type C = O::C;
    const ARITY: usize = O::ARITY;
    #[inline(always)]
    fn f(a: O::A, b: O::B, c: O::C) -> O::D {
        O::tame(a, b, c)
    }
}

/// Write the lanes of a mask. Loops over a single word come out scalar, so what AVX-512 has for this is named.
///
/// # Safety
/// Both pointers must be good for a word, and the processor must have the level.
#[inline(always)]
pub unsafe fn store_word<T: Elem, const LEVEL: u8>(d: *mut T, from: *const T, mask: u32) {
    if mask == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        if mask == u32::MAX {
            *d.cast::<[T; WORD]>() = *from.cast::<[T; WORD]>();
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if LEVEL == V4 {
            match size_of::<T>() {
                2 => {
                    let value = _mm512_loadu_epi16(from.cast());
                    _mm512_mask_storeu_epi16(d.cast(), mask, value);
                    return;
                }
                4 => {
                    for half in 0..2 {
                        let value = _mm512_loadu_epi32(from.cast::<i32>().add(half * 16));
                        _mm512_mask_storeu_epi32(
                            d.cast::<i32>().add(half * 16),
                            (mask >> (half * 16)) as u16,
                            value,
                        );
                    }
                    return;
                }
                8 => {
                    for part in 0..4 {
                        let value = _mm512_loadu_epi64(from.cast::<i64>().add(part * 8));
                        _mm512_mask_storeu_epi64(
                            d.cast::<i64>().add(part * 8),
                            (mask >> (part * 8)) as u8,
                            value,
                        );
                    }
                    return;
                }
                _ => {}
            }
        }
        for i in 0..WORD {
            *d.add(i) = T::blend(mask >> i & 1, *from.add(i), *d.add(i));
        }
    }
}

/// The top bits of 32 bytes.
///
/// # Safety
/// The pointer must be good for 32 bytes.
#[inline(always)]
pub unsafe fn top_bits(bytes: *const u8) -> u32 {
    // SAFETY: the caller's promise; SSE2 is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        let low = _mm_movemask_epi8(_mm_loadu_si128(bytes.cast())) as u32;
        let high = _mm_movemask_epi8(_mm_loadu_si128(bytes.add(16).cast())) as u32;
        low | high << 16
    }
    // SAFETY: the caller's promise.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        (0..WORD).fold(0, |bits, i| bits | u32::from(*bytes.add(i) >> 7) << i)
    }
}

/// All lanes, destination apart from the operands. Loops over a count that the compiler does not know: it vectorises
/// those, and unrolls loops over one word into scalar code.
#[inline(always)]
unsafe fn alu_apart<O: Alu>(d: &mut [O::D], a: *const O::A, b: *const O::B, c: *const O::C) {
    for (i, d) in d.iter_mut().enumerate() {
        // SAFETY: operands that are read are as long as the destination.
        unsafe {
            let second = if O::ARITY > 1 {
                *b.add(i)
            } else {
                O::B::default()
            };
            let third = if O::ARITY > 2 {
                *c.add(i)
            } else {
                O::C::default()
            };
            *d = O::f(*a.add(i), second, third);
        }
    }
}

/// The destination is also the first operand.
#[inline(always)]
unsafe fn alu_over_a<O: Alu>(d: &mut [O::D], b: *const O::B, c: *const O::C) {
    for (i, d) in d.iter_mut().enumerate() {
        // SAFETY: as above; the strip holds values of the operand's type, of the same size.
        unsafe {
            let first = *(&raw const *d).cast::<O::A>();
            let second = if O::ARITY > 1 {
                *b.add(i)
            } else {
                O::B::default()
            };
            let third = if O::ARITY > 2 {
                *c.add(i)
            } else {
                O::C::default()
            };
            *d = O::f(first, second, third);
        }
    }
}

/// The destination is also the second operand.
#[inline(always)]
unsafe fn alu_over_b<O: Alu>(d: &mut [O::D], a: *const O::A, c: *const O::C) {
    for (i, d) in d.iter_mut().enumerate() {
        // SAFETY: as above.
        unsafe {
            let second = *(&raw const *d).cast::<O::B>();
            let third = if O::ARITY > 2 {
                *c.add(i)
            } else {
                O::C::default()
            };
            *d = O::f(*a.add(i), second, third);
        }
    }
}

/// The destination is also the third operand, as in sums.
#[inline(always)]
unsafe fn alu_over_c<O: Alu>(d: &mut [O::D], a: *const O::A, b: *const O::B) {
    for (i, d) in d.iter_mut().enumerate() {
        // SAFETY: as above.
        unsafe {
            let third = *(&raw const *d).cast::<O::C>();
            *d = O::f(*a.add(i), *b.add(i), third);
        }
    }
}

/// Operands are the same in all lanes of a block, and so is the result.
#[inline(always)]
unsafe fn alu_uniform<O: Alu>(lanes: &mut Lanes<'_>, op: &Op) {
    // SAFETY: lowering gave registers of these sizes.
    unsafe {
        let d = lanes.reg::<O::D>(op.dst);
        let mut at = 0;
        while at < lanes.lanes {
            // Those that nobody reads lie idle.
            let end = (at + lanes.block_lanes).min(lanes.lanes);
            let second = if O::ARITY > 1 {
                *lanes.reg::<O::B>(op.b).add(at)
            } else {
                O::B::default()
            };
            let third = if O::ARITY > 2 {
                *lanes.reg::<O::C>(op.c).add(at)
            } else {
                O::C::default()
            };
            let value = O::f(*lanes.reg::<O::A>(op.a).add(at), second, third);
            if op.lazy {
                *d.add(at) = value;
            } else {
                slice::from_raw_parts_mut(d.add(at), end - at).fill(value);
            }
            at = end;
        }
    }
}

#[inline(always)]
unsafe fn alu_body<O: Alu, const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    // SAFETY: the caller's promise.
    unsafe {
        let known = lanes.known_of::<O>(op);
        let flushed = match O::SUBNORMALS {
            Subnormals::Any => 0,
            Subnormals::Flushed => FLUSHED,
            Subnormals::Kept => known & FLUSHED,
        };
        if lanes.full && known & UNIFORM != 0 {
            alu_uniform::<O>(lanes, op);
            lanes.found = UNIFORM | flushed | if op.lazy { LAZY } else { 0 };
            return Step::Next;
        }
        lanes.settle_operands::<O>(op);
        let tame = O::SUBNORMALS == Subnormals::Flushed
            && (known & FLUSHED != 0 || lanes.full && lanes.flushed::<O>(op));
        if tame {
            alu_strips::<Tame<O>, LEVEL>(lanes, op);
        } else {
            alu_strips::<O, LEVEL>(lanes, op);
        }
        // Lanes that do not take part keep what they have.
        lanes.found = if lanes.full {
            flushed
        } else {
            flushed & *lanes.facts.add(op.mark as usize)
        };
    }
    Step::Next
}

#[inline(always)]
unsafe fn alu_strips<O: Alu, const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) {
    // SAFETY: lowering gave registers of these sizes; unread operands are not dereferenced. Strips are equal or apart,
    // and the scratch strip is apart from all.
    unsafe {
        let (d, a) = (lanes.reg::<O::D>(op.dst), lanes.reg::<O::A>(op.a));
        let b = if O::ARITY > 1 {
            lanes.reg::<O::B>(op.b)
        } else {
            a.cast()
        };
        let c = if O::ARITY > 2 {
            lanes.reg::<O::C>(op.c)
        } else {
            a.cast()
        };
        let over = |operand: u32, place: usize| O::ARITY >= place && op.dst == operand;
        let (over_a, over_b, over_c) = (over(op.a, 1), over(op.b, 2), over(op.c, 3));
        if lanes.full {
            let n = lanes.words * WORD;
            match (over_a, over_b, over_c) {
                (false, false, false) => {
                    alu_apart::<O>(slice::from_raw_parts_mut(d, n), a, b, c);
                    return;
                }
                (true, false, false) if size_of::<O::D>() == size_of::<O::A>() => {
                    alu_over_a::<O>(slice::from_raw_parts_mut(d, n), b, c);
                    return;
                }
                (false, true, false) if O::ARITY > 1 && size_of::<O::D>() == size_of::<O::B>() => {
                    alu_over_b::<O>(slice::from_raw_parts_mut(d, n), a, c);
                    return;
                }
                (false, false, true) if O::ARITY > 2 && size_of::<O::D>() == size_of::<O::C>() => {
                    alu_over_c::<O>(slice::from_raw_parts_mut(d, n), a, b);
                    return;
                }
                _ => {}
            }
        }
        let Some((first, end)) = lanes.active_words() else {
            return;
        };
        let (at, n) = (first * WORD, (end - first) * WORD);
        let scratch = lanes.scratch.cast::<O::D>();
        alu_apart::<O>(
            slice::from_raw_parts_mut(scratch, n),
            a.add(at),
            b.add(at),
            c.add(at),
        );
        for word in first..end {
            let mask = if lanes.full {
                u32::MAX
            } else {
                lanes.mask[word & (MAX_WORDS - 1)]
            };
            store_word::<O::D, LEVEL>(d.add(word * WORD), scratch.add((word - first) * WORD), mask);
        }
    }
}

/// A comparison, or another operation whose result is a predicate.
pub trait Test: 'static {
    type A: Elem;
    type B: Elem;
    fn f(a: Self::A, b: Self::B) -> bool;
}

/// How a comparison's result meets the predicate operand of `setp`, in `Op::aux`.
pub const COMBINE_NONE: u32 = 0;
pub const COMBINE_AND: u32 = 1;
pub const COMBINE_OR: u32 = 2;
pub const COMBINE_XOR: u32 = 3;

#[inline(always)]
unsafe fn test_body<O: Test, const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    // SAFETY: lowering gave registers of these sizes, predicates in `dst`, `c` and the low half of `imm`.
    unsafe {
        let uniform = lanes.full && lanes.known(op.a) & lanes.known(op.b) & UNIFORM != 0;
        if !uniform {
            lanes.settle::<O::A>(op.a);
            lanes.settle::<O::B>(op.b);
        }
        let Some((first, end)) = lanes.active_words() else {
            return Step::Next;
        };
        let (at, n) = (first * WORD, (end - first) * WORD);
        let (a, b) = (
            lanes.reg::<O::A>(op.a).add(at),
            lanes.reg::<O::B>(op.b).add(at),
        );
        let bytes = slice::from_raw_parts_mut(lanes.scratch, n);
        if uniform {
            for (block, bytes) in bytes.chunks_mut(lanes.block_lanes).enumerate() {
                let at = block * lanes.block_lanes;
                bytes.fill(if O::f(*a.add(at), *b.add(at)) { 255 } else { 0 });
            }
        } else {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = if O::f(*a.add(i), *b.add(i)) { 255 } else { 0 };
            }
        }
        for word in first..end {
            if lanes.mask[word & (MAX_WORDS - 1)] == 0 {
                continue;
            }
            let mut bits = top_bits(lanes.scratch.add((word - first) * WORD));
            let mut inverse = !bits;
            if op.aux != COMBINE_NONE {
                let with = lanes.pred(op.c, word);
                (bits, inverse) = match op.aux {
                    COMBINE_AND => (bits & with, inverse & with),
                    COMBINE_OR => (bits | with, inverse | with),
                    _ => (bits ^ with, inverse ^ with),
                };
            }
            if op.dst != NONE {
                lanes.set_pred(op.dst, word, bits);
            }
            if op.imm as u32 != NONE {
                lanes.set_pred(op.imm as u32, word, inverse);
            }
        }
    }
    Step::Next
}

/// Sets of instructions that handlers are compiled for.
pub const BASE: u8 = 0;
pub const V3: u8 = 1;
pub const V4: u8 = 2;

/// Which set of handlers this processor takes.
fn level() -> u8 {
    static LEVEL: OnceLock<u8> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let v3 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let v4 = v3
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if v4 {
                return V4;
            }
            if v3 {
                return V3;
            }
        }
        BASE
    })
}

macro_rules! levels {
    ($pick:ident, $bound:ident, $body:ident) => {
        /// The handler for this processor.
        pub fn $pick<O: $bound>() -> Handler {
            unsafe fn base<O: $bound>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
                // SAFETY: the caller's promise is the body's.
                unsafe { $body::<O, BASE>(lanes, op) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi2,lzcnt,popcnt")]
            unsafe fn v3<O: $bound>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
                // SAFETY: as above.
                unsafe { $body::<O, V3>(lanes, op) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(
                enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,lzcnt,popcnt"
            )]
            unsafe fn v4<O: $bound>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
                // SAFETY: as above.
                unsafe { $body::<O, V4>(lanes, op) }
            }
            #[cfg(target_arch = "x86_64")]
            match level() {
                V4 => return v4::<O>,
                V3 => return v3::<O>,
                _ => {}
            }
            base::<O>
        }
    };
}
/// A handler written out by hand.
pub trait Body: 'static {
    /// # Safety
    /// As for [`Handler`].
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step;
}

#[inline(always)]
unsafe fn body_run<O: Body, const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    // SAFETY: the caller's promise.
    unsafe { O::run::<LEVEL>(lanes, op) }
}

levels!(settled_alu, Alu, alu_body);
levels!(body, Body, body_run);
levels!(settled_test, Test, test_body);

pub fn alu<O: Alu>() -> Handler {
    settling(settled_alu::<O>())
}

pub fn test<O: Test>() -> Handler {
    settling(settled_test::<O>())
}
