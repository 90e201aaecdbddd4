//! Loads and stores: once for all lanes, in groups, or lane by lane, as the addresses allow.

use std::marker::PhantomData;
use std::ptr::{read_volatile, write_volatile};
use std::slice;

use crate::access::{
    BASE32, BASE64, FRAME, GENERIC, LOCAL, LOCAL_WINDOW, Places, SPACE, Shape, VECTOR, WINDOW,
};
use crate::facts::{FLUSHED, LAZY, UNIFORM, is_subnormal, settling};
use crate::lanes::{
    Body, Elem, Handler, Lanes, MAX_WORDS, NONE, Op, Step, V4, WORD, body, store_word,
};
use crate::pattern::{GROUP, NEXT, SAME};

/// Copy between device memory, which others may touch meanwhile, and registers: the compiler sees no access that it
/// could take apart or repeat.
///
/// # Safety
/// Both ranges must be there, apart, and `bytes` a multiple of 64.
#[inline(always)]
unsafe fn copy_lines(to: u64, from: u64, bytes: u64) {
    // SAFETY: the caller's promise; SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {bytes}, 64",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            bytes = inout(reg) bytes => _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
    }
    // SAFETY: the caller's promise.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        for at in 0..bytes {
            write_volatile(
                (to + at) as *mut u8,
                read_volatile((from + at) as *const u8),
            );
        }
    }
}

/// The same with whole vectors, where there are such: what reads them next waits for stores that are smaller. A multiple of 16 bytes.
///
/// # Safety
/// As above; the processor must have the level.
#[inline(always)]
unsafe fn copy_group<const LEVEL: u8>(to: u64, from: u64, bytes: usize) {
    // SAFETY: the caller's promise.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        let mut at = 0;
        while LEVEL == V4 && at + 64 <= bytes as u64 {
            std::arch::asm!(
                "vmovdqu64 zmm0, [{from}]",
                "vmovdqu64 [{to}], zmm0",
                from = in(reg) from + at,
                to = in(reg) to + at,
                out("xmm0") _,
                options(nostack, preserves_flags),
            );
            at += 64;
        }
        while at < bytes as u64 {
            std::arch::asm!(
                "movups {a}, [{from}]",
                "movups [{to}], {a}",
                from = in(reg) from + at,
                to = in(reg) to + at,
                a = out(xmm_reg) _,
                options(nostack, preserves_flags),
            );
            at += 16;
        }
    }
    // SAFETY: the caller's promise.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        copy_lines(to, from, bytes as u64);
    }
}

/// A memory element that fills a register of another size.
pub trait Fill<R: Elem>: Elem {
    fn fill(self) -> R;
    fn cut(register: R) -> Self;
}
macro_rules! fills {
    ($($m:ty => $($r:ty),*;)*) => {
        $($(impl Fill<$r> for $m {
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "one text for all widths")]
            fn fill(self) -> $r {
                self as $r
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "one text for all widths")]
            fn cut(register: $r) -> $m {
                register as $m
            }
        })*)*
    };
}
fills!(
    u8 => u16, u32, u64;
    i8 => u16, u32, u64;
    u16 => u16, u32, u64;
    i16 => u32, u64;
    u32 => u32, u64;
    i32 => u64;
    u64 => u64;
);

pub struct Load<M, R>(PhantomData<(M, R)>);
impl<M: Fill<R>, R: Elem + Into<u64>> Body for Load<M, R> {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        let count = (op.aux >> VECTOR).max(1) as usize;
        // SAFETY: registers are lowering's.
        let step = unsafe {
            if lanes.full && load_uniform::<M, R>(lanes, op, count) {
                Step::Next
            } else {
                lanes.settle_address(op);
                if lanes.full && load_groups::<M, R, LEVEL>(lanes, op, count) {
                    Step::Next
                } else {
                    load_each::<M, R, LEVEL>(lanes, op, count)
                }
            }
        };
        if op.aux >> VECTOR != 0 {
            let found = lanes.found;
            for part in 0..count {
                let register = lanes.lists[op.dst as usize + part];
                if register != NONE {
                    // SAFETY: lowering has this operation note what it finds.
                    unsafe { lanes.relearn(register, found) };
                }
            }
        }
        step
    }
}

/// The register of one element of a load or store.
#[inline(always)]
fn part_of(lanes: &Lanes<'_>, op: &Op, register: u32, part: usize) -> u32 {
    if op.aux >> VECTOR == 0 {
        register
    } else {
        lanes.lists[register as usize + part]
    }
}

/// A load of all lanes from an address that is known to be the same in all lanes of a block. False: nothing was done.
#[inline(always)]
unsafe fn load_uniform<M: Fill<R>, R: Elem + Into<u64>>(
    lanes: &mut Lanes<'_>,
    op: &Op,
    count: usize,
) -> bool {
    let size = size_of::<M>() as u64 * count as u64;
    let based = op.aux & (BASE32 | BASE64) != 0;
    // SAFETY: the register is lowering's.
    let uniform = !based || unsafe { lanes.known(op.a) } & UNIFORM != 0;
    if !uniform || lanes.block_lanes < WORD || op.aux & FRAME != 0 || op.aux & SPACE == LOCAL {
        return false;
    }
    // All are found before the first is read into what may be the address's register.
    let mut places = [0u64; MAX_WORDS];
    let blocks = lanes.lanes.div_ceil(lanes.block_lanes).min(MAX_WORDS);
    for (block, place) in places.iter_mut().enumerate().take(blocks) {
        let lane = block * lanes.block_lanes;
        // SAFETY: as above.
        let base = unsafe { lanes.based(op, lane) };
        let address = if op.aux & BASE32 != 0 {
            u64::from((base as u32).wrapping_add(op.imm as u32))
        } else {
            base.wrapping_add(op.imm)
        };
        let local = address.wrapping_sub(LOCAL_WINDOW) < WINDOW && op.aux & SPACE == GENERIC;
        match lanes.place(op.aux & SPACE, address, size, lane) {
            Some(found) if !local && address & (size - 1) == 0 => *place = found,
            _ => return false,
        }
    }
    let mut found = UNIFORM | FLUSHED | if op.lazy { LAZY } else { 0 };
    for part in 0..count {
        let register = part_of(lanes, op, op.dst, part);
        if register == NONE {
            continue;
        }
        for (block, &place) in places.iter().enumerate().take(blocks) {
            let from = block * lanes.block_lanes;
            let lanes_here = lanes.block_lanes.min(lanes.lanes - from);
            // SAFETY: the places were checked; the register has so many lanes.
            unsafe {
                let value: R = read_volatile((place as *const M).add(part)).fill();
                let d = lanes.reg::<R>(register).add(from);
                if op.lazy {
                    *d = value;
                } else {
                    slice::from_raw_parts_mut(d, lanes_here).fill(value);
                }
                if size_of::<R>() != 4 || is_subnormal(value.into() as u32) {
                    found &= !FLUSHED;
                }
            }
        }
    }
    lanes.found = found;
    true
}

/// A load of all lanes, whose addresses are looked at in groups. False: nothing was done.
#[inline(always)]
unsafe fn load_groups<M: Fill<R>, R: Elem + Into<u64>, const LEVEL: u8>(
    lanes: &mut Lanes<'_>,
    op: &Op,
    count: usize,
) -> bool {
    let size = size_of::<M>() as u64 * count as u64;
    // SAFETY: registers are lowering's; the view was checked for `size` bytes and alignment.
    unsafe {
        let Some(view) = lanes.pattern_of::<LEVEL>(op, size) else {
            return false;
        };
        let pattern = &*view.pattern;
        let copies = count == 1 && size_of::<M>() == size_of::<R>();
        if count > 1 && pattern.worst != SAME {
            return false;
        }
        let n = lanes.lanes;
        if view.stride == 0 && pattern.whole == NEXT && copies {
            let from = lanes.based(op, 0).wrapping_add(view.shift);
            copy_group::<LEVEL>(lanes.reg::<R>(op.dst) as u64, from, n * size as usize);
            return true;
        }
        // Found before the first is read into what may be the address's register.
        let starts = lanes.starts(op, view);
        let same = view.stride == 0 && pattern.whole == SAME;
        let mut found = match () {
            () if !same => 0,
            () if lanes.block_lanes < WORD => FLUSHED,
            () => UNIFORM | FLUSHED,
        };
        for part in 0..count {
            let register = part_of(lanes, op, op.dst, part);
            if register == NONE {
                continue;
            }
            let d = lanes.reg::<R>(register);
            if same {
                let value: R = read_volatile((*starts as *const M).add(part)).fill();
                slice::from_raw_parts_mut(d, n).fill(value);
                if size_of::<R>() != 4 || is_subnormal(value.into() as u32) {
                    found &= !FLUSHED;
                }
                continue;
            }
            for (group, &kind) in pattern.groups[..n / GROUP].iter().enumerate() {
                let (d, start) = (d.add(group * GROUP), *starts.add(group));
                match kind {
                    SAME => {
                        let value = read_volatile((start as *const M).add(part)).fill();
                        *d.cast::<[R; GROUP]>() = [value; GROUP];
                    }
                    NEXT if copies => copy_group::<LEVEL>(d as u64, start, GROUP * size_of::<R>()),
                    _ => {
                        let shift = start.wrapping_sub(lanes.based(op, group * GROUP));
                        for i in 0..GROUP {
                            let place = lanes.based(op, group * GROUP + i).wrapping_add(shift);
                            *d.add(i) = read_volatile(place as *const M).fill();
                        }
                    }
                }
            }
        }
        lanes.found = found;
    }
    true
}

/// A load lane by lane, of those that take part.
#[inline(always)]
unsafe fn load_each<M: Fill<R>, R: Elem, const LEVEL: u8>(
    lanes: &mut Lanes<'_>,
    op: &Op,
    count: usize,
) -> Step {
    let size = size_of::<M>() as u64 * count as u64;
    // SAFETY: registers are lowering's; host addresses were checked for `size` bytes and alignment.
    unsafe {
        let Some(Places { first, end, shape }) = lanes.places(op, size) else {
            return lanes.failed();
        };
        let n = (end - first) * WORD;
        let at = slice::from_raw_parts(lanes.scratch.cast::<u64>(), n);
        for part in 0..count {
            let register = part_of(lanes, op, op.dst, part);
            if register == NONE {
                continue;
            }
            let d = lanes.reg::<R>(register).add(first * WORD);
            if shape == Shape::Contiguous && count == 1 && size_of::<M>() == size_of::<R>() {
                copy_lines(d as u64, at[0], n as u64 * size);
                continue;
            }
            let uniform = if shape == Shape::Uniform {
                read_volatile((at[0] as *const M).add(part)).fill()
            } else {
                R::default()
            };
            for word in first..end {
                let mut left = lanes.mask[word & (MAX_WORDS - 1)];
                let (d, at) = (
                    d.add((word - first) * WORD),
                    &at[(word - first) * WORD..][..WORD],
                );
                if shape == Shape::Uniform {
                    store_word::<R, LEVEL>(d, [uniform; WORD].as_ptr(), left);
                } else if left == u32::MAX {
                    for (i, &place) in at.iter().enumerate() {
                        *d.add(i) = read_volatile((place as *const M).add(part)).fill();
                    }
                } else {
                    while left != 0 {
                        let i = left.trailing_zeros() as usize;
                        left &= left - 1;
                        *d.add(i) =
                            read_volatile((at[i & (WORD - 1)] as *const M).add(part)).fill();
                    }
                }
            }
        }
    }
    Step::Next
}

pub struct Store<M, R>(PhantomData<(M, R)>);
impl<M: Fill<R>, R: Elem> Body for Store<M, R> {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        let count = (op.aux >> VECTOR).max(1) as usize;
        // SAFETY: registers are lowering's.
        unsafe {
            lanes.settle_address(op);
            if op.aux >> VECTOR == 0 {
                lanes.settle::<R>(op.b);
            }
            if count == 1 && lanes.full && store_groups::<M, R, LEVEL>(lanes, op) {
                return Step::Next;
            }
            store_each::<M, R>(lanes, op, count)
        }
    }
}

/// A store of all lanes, whose addresses are looked at in groups. False: nothing was done.
#[inline(always)]
unsafe fn store_groups<M: Fill<R>, R: Elem, const LEVEL: u8>(
    lanes: &mut Lanes<'_>,
    op: &Op,
) -> bool {
    let size = size_of::<M>() as u64;
    // SAFETY: registers are lowering's; the view was checked for `size` bytes and alignment.
    unsafe {
        let Some(view) = lanes.pattern_of::<LEVEL>(op, size) else {
            return false;
        };
        let pattern = &*view.pattern;
        let copies = size_of::<M>() == size_of::<R>();
        let n = lanes.lanes;
        if view.stride == 0 && pattern.whole == NEXT && copies && lanes.everyone() {
            let to = lanes.based(op, 0).wrapping_add(view.shift);
            copy_group::<LEVEL>(to, lanes.reg::<R>(op.b) as u64, n * size as usize);
            return true;
        }
        let starts = lanes.starts(op, view);
        for (group, &kind) in pattern.groups[..n / GROUP].iter().enumerate() {
            let (from, start) = (lanes.reg::<R>(op.b).add(group * GROUP), *starts.add(group));
            // Lanes that have ended store nothing.
            let here = lanes.mask[group * GROUP / WORD] >> (group * GROUP % WORD);
            let mut left = here & ((1 << GROUP) - 1);
            if kind == NEXT && copies && left == (1 << GROUP) - 1 {
                copy_group::<LEVEL>(start, from as u64, GROUP * size_of::<R>());
                continue;
            }
            let shift = start.wrapping_sub(lanes.based(op, group * GROUP));
            while left != 0 {
                let i = left.trailing_zeros() as usize;
                left &= left - 1;
                let place = lanes.based(op, group * GROUP + i).wrapping_add(shift);
                write_volatile(place as *mut M, M::cut(*from.add(i)));
            }
        }
    }
    true
}

/// A store lane by lane, of those that take part.
#[inline(always)]
unsafe fn store_each<M: Fill<R>, R: Elem>(lanes: &mut Lanes<'_>, op: &Op, count: usize) -> Step {
    let size = size_of::<M>() as u64 * count as u64;
    // SAFETY: registers are lowering's; host addresses were checked for `size` bytes and alignment.
    unsafe {
        let Some(Places { first, end, shape }) = lanes.places(op, size) else {
            return lanes.failed();
        };
        let n = (end - first) * WORD;
        let at = slice::from_raw_parts(lanes.scratch.cast::<u64>(), n);
        for part in 0..count {
            let register = part_of(lanes, op, op.b, part);
            let from = lanes.reg::<R>(register).add(first * WORD);
            if shape == Shape::Contiguous && count == 1 && size_of::<M>() == size_of::<R>() {
                copy_lines(at[0], from as u64, n as u64 * size);
                continue;
            }
            for word in first..end {
                let mut left = lanes.mask[word & (MAX_WORDS - 1)];
                let (from, at) = (
                    from.add((word - first) * WORD),
                    &at[(word - first) * WORD..][..WORD],
                );
                if left == u32::MAX {
                    for (i, &place) in at.iter().enumerate() {
                        write_volatile((place as *mut M).add(part), M::cut(*from.add(i)));
                    }
                } else {
                    while left != 0 {
                        let i = left.trailing_zeros() as usize;
                        left &= left - 1;
                        write_volatile(
                            (at[i & (WORD - 1)] as *mut M).add(part),
                            M::cut(*from.add(i)),
                        );
                    }
                }
            }
        }
    }
    Step::Next
}

/// Handlers of a load and a store of elements of `memory` bytes from and to registers of `register` bytes.
pub fn handlers(memory: u32, signed: bool, register: u32) -> Option<(Handler, Handler)> {
    macro_rules! both {
        ($m:ty, $r:ty) => {
            (
                settling(body::<Load<$m, $r>>()),
                settling(body::<Store<$m, $r>>()),
            )
        };
    }
    Some(match (memory, signed, register) {
        (1, false, 2) => both!(u8, u16),
        (1, false, 4) => both!(u8, u32),
        (1, false, 8) => both!(u8, u64),
        (1, true, 2) => both!(i8, u16),
        (1, true, 4) => both!(i8, u32),
        (1, true, 8) => both!(i8, u64),
        (2, _, 2) => both!(u16, u16),
        (2, false, 4) => both!(u16, u32),
        (2, false, 8) => both!(u16, u64),
        (2, true, 4) => both!(i16, u32),
        (2, true, 8) => both!(i16, u64),
        (4, _, 4) => both!(u32, u32),
        (4, false, 8) => both!(u32, u64),
        (4, true, 8) => both!(i32, u64),
        (8, _, 8) => both!(u64, u64),
        _ => return None,
    })
}
