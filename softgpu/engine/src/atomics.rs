//! Atomics: `atom` and `red` of single values, vectors and 128 bits.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use softgpu_ptx::{Instruction, Operand, ScalarType, ScalarType::*};

use crate::FaultKind;
use crate::access::{Places, SPACE, Shape};
use crate::build::{Field, VReg};
use crate::float::*;
use crate::instructions::{has, last_type};
use crate::lanes::{Handler, Kind, Lanes, NONE, Op, Step, WORD};
use crate::lower::{Lowering, Result, space_of};

/// What an atomic does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomic {
    Add,
    AddF,
    AddHalf,
    AddBrain,
    AddHalf2,
    AddBrain2,
    Min,
    MinS,
    Max,
    MaxS,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    Swap,
    MinHalf,
    MaxHalf,
    MinBrain,
    MaxBrain,
    MinHalf2,
    MaxHalf2,
    MinBrain2,
    MaxBrain2,
}

#[inline(always)]
fn update32(which: Atomic, old: u32, a: u32, b: u32) -> u32 {
    let halves = |f: fn(u16, u16) -> u16| {
        u32::from(f(old as u16, a as u16))
            | u32::from(f((old >> 16) as u16, (a >> 16) as u16)) << 16
    };
    match which {
        Atomic::Add => old.wrapping_add(a),
        Atomic::AddF => canon32(f32::from_bits(old) + f32::from_bits(a)).to_bits(),
        Atomic::AddHalf2 => halves(|x, y| f32_to_f16(f16_to_f32(x) + f16_to_f32(y))),
        Atomic::AddBrain2 => halves(|x, y| f32_to_bf16(bf16_to_f32(x) + bf16_to_f32(y))),
        Atomic::Min => old.min(a),
        Atomic::MinS => (old as i32).min(a as i32) as u32,
        Atomic::Max => old.max(a),
        Atomic::MaxS => (old as i32).max(a as i32) as u32,
        Atomic::Inc => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        Atomic::Dec => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
        Atomic::And => old & a,
        Atomic::Or => old | a,
        Atomic::Xor => old ^ a,
        Atomic::Exchange => a,
        Atomic::Swap => {
            if old == a {
                b
            } else {
                old
            }
        }
        Atomic::MinHalf2 => halves(|x, y| f32_to_f16(min32(f16_to_f32(x), f16_to_f32(y)))),
        Atomic::MaxHalf2 => halves(|x, y| f32_to_f16(max32(f16_to_f32(x), f16_to_f32(y)))),
        Atomic::MinBrain2 => halves(|x, y| f32_to_bf16(min32(bf16_to_f32(x), bf16_to_f32(y)))),
        Atomic::MaxBrain2 => halves(|x, y| f32_to_bf16(max32(bf16_to_f32(x), bf16_to_f32(y)))),
        _ => old,
    }
}

#[inline(always)]
fn update64(which: Atomic, old: u64, a: u64, b: u64) -> u64 {
    match which {
        Atomic::Add => old.wrapping_add(a),
        Atomic::AddF => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        Atomic::Min => old.min(a),
        Atomic::MinS => (old as i64).min(a as i64) as u64,
        Atomic::Max => old.max(a),
        Atomic::MaxS => (old as i64).max(a as i64) as u64,
        Atomic::And => old & a,
        Atomic::Or => old | a,
        Atomic::Xor => old ^ a,
        Atomic::Exchange => a,
        Atomic::Swap if old == a => b,
        _ => old,
    }
}

#[inline(always)]
fn update16(which: Atomic, old: u16, a: u16, b: u16) -> u16 {
    match which {
        Atomic::AddHalf => f32_to_f16(f16_to_f32(old) + f16_to_f32(a)),
        Atomic::AddBrain => f32_to_bf16(bf16_to_f32(old) + bf16_to_f32(a)),
        Atomic::MinHalf => f32_to_f16(min32(f16_to_f32(old), f16_to_f32(a))),
        Atomic::MaxHalf => f32_to_f16(max32(f16_to_f32(old), f16_to_f32(a))),
        Atomic::MinBrain => f32_to_bf16(min32(bf16_to_f32(old), bf16_to_f32(a))),
        Atomic::MaxBrain => f32_to_bf16(max32(bf16_to_f32(old), bf16_to_f32(a))),
        Atomic::Swap if old == a => b,
        _ => old,
    }
}

macro_rules! atomic {
    ($name:ident, $t:ty, $atomic:ty, $update:path) => {
        /// Lanes take their turns in order; each update is atomic for the whole machine.
        unsafe fn $name<const WHICH: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
            let which = ATOMICS[WHICH as usize];
            let size = size_of::<$t>() as u64;
            // SAFETY: registers are lowering's; host addresses were checked for size and alignment.
            unsafe {
                let Some(Places { first, end, shape }) = lanes.places(op, size) else {
                    return lanes.failed();
                };
                for word in first..end {
                    let a = lanes.reg::<$t>(op.b).add(word * WORD);
                    let b = if op.c != NONE {
                        lanes.reg::<$t>(op.c).add(word * WORD)
                    } else {
                        a
                    };
                    let mut left = lanes.mask[word];
                    while left != 0 {
                        let i = left.trailing_zeros() as usize;
                        left &= left - 1;
                        // Of equal addresses only the first is sure to be translated.
                        let place = if shape == Shape::Uniform {
                            0
                        } else {
                            (word - first) * WORD + i
                        };
                        let place = *lanes.scratch.cast::<u64>().add(place);
                        let target = <$atomic>::from_ptr(place as *mut $t);
                        let (a, b) = (*a.add(i), *b.add(i));
                        // The commonest one the processor does by itself.
                        let mut old = if which == Atomic::Add {
                            target.fetch_add(a, SeqCst)
                        } else {
                            target.load(Relaxed)
                        };
                        while which != Atomic::Add {
                            match target.compare_exchange_weak(
                                old,
                                $update(which, old, a, b),
                                SeqCst,
                                Relaxed,
                            ) {
                                Ok(_) => break,
                                Err(now) => old = now,
                            }
                        }
                        if op.dst != NONE {
                            *lanes.reg::<$t>(op.dst).add(word * WORD + i) = old;
                        }
                    }
                }
            }
            Step::Next
        }
    };
}
const ATOMICS: [Atomic; 17] = [
    Atomic::Add,
    Atomic::AddF,
    Atomic::AddHalf,
    Atomic::AddBrain,
    Atomic::AddHalf2,
    Atomic::AddBrain2,
    Atomic::Min,
    Atomic::MinS,
    Atomic::Max,
    Atomic::MaxS,
    Atomic::Inc,
    Atomic::Dec,
    Atomic::And,
    Atomic::Or,
    Atomic::Xor,
    Atomic::Exchange,
    Atomic::Swap,
];
atomic!(atomic16, u16, AtomicU16, update16);
atomic!(atomic32, u32, AtomicU32, update32);
atomic!(atomic64, u64, AtomicU64, update64);

pub fn atomic(which: Atomic, size: u32) -> Option<Handler> {
    macro_rules! pick {
        ($f:ident, $($n:literal),*) => {
            match which as u8 {
                $($n => $f::<$n>,)*
                _ => return None,
            }
        };
    }
    Some(match size {
        2 => pick!(atomic16, 2, 3, 16),
        4 => pick!(atomic32, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
        8 => pick!(atomic64, 0, 1, 6, 7, 8, 9, 12, 13, 14, 15, 16),
        _ => return None,
    })
}

/// Where the components of a vector's number stand in `aux`, and the number of the operation.
const COUNT: u32 = 8;
const NUMBER: u32 = 16;
const VECTOR_ATOMICS: [Atomic; 13] = [
    Atomic::AddF,
    Atomic::AddHalf,
    Atomic::AddBrain,
    Atomic::AddHalf2,
    Atomic::AddBrain2,
    Atomic::MinHalf,
    Atomic::MaxHalf,
    Atomic::MinBrain,
    Atomic::MaxBrain,
    Atomic::MinHalf2,
    Atomic::MaxHalf2,
    Atomic::MinBrain2,
    Atomic::MaxBrain2,
];

/// A vector whose components are updated one by one, each atomically: address in `a`, registers in lists at `b` and `dst`.
macro_rules! vector {
    ($name:ident, $t:ty, $atomic:ty, $update:path) => {
        unsafe fn $name(lanes: &mut Lanes<'_>, op: &Op) -> Step {
            let count = op.aux as usize >> COUNT & 15;
            let which = VECTOR_ATOMICS[op.aux as usize >> NUMBER];
            let size = (count * size_of::<$t>()) as u64;
            for word in 0..lanes.words {
                let mut left = lanes.mask[word];
                while left != 0 {
                    let lane = word * WORD + left.trailing_zeros() as usize;
                    left &= left - 1;
                    // SAFETY: lowering gave these registers; the place is checked before it is used.
                    unsafe {
                        let address = *lanes.reg::<u64>(op.a).add(lane);
                        if !address.is_multiple_of(size) {
                            return lanes.fail(FaultKind::Misaligned, lane, address);
                        }
                        let Some(place) = lanes.place(op.aux & SPACE, address, size, lane) else {
                            return lanes.fail(FaultKind::IllegalAddress, lane, address);
                        };
                        // All values first: a result may go where a value was.
                        let mut values = [<$t>::default(); 8];
                        for (part, value) in values.iter_mut().enumerate().take(count) {
                            *value = *lanes.reg::<$t>(lanes.lists[op.b as usize + part]).add(lane);
                        }
                        for (part, &a) in values.iter().enumerate().take(count) {
                            let target = <$atomic>::from_ptr((place as *mut $t).add(part));
                            let update = |old| Some($update(which, old, a, a));
                            let old = target.fetch_update(SeqCst, Relaxed, update).unwrap_or(0);
                            let dst = lanes.lists[op.dst as usize + part];
                            if dst != NONE {
                                *lanes.reg::<$t>(dst).add(lane) = old;
                            }
                        }
                    }
                }
            }
            Step::Next
        }
    };
}
vector!(vector16, u16, AtomicU16, update16);
vector!(vector32, u32, AtomicU32, update32);

/// Exchange of 16 bytes when they are as expected; what was there.
///
/// # Safety
/// The place must be there and aligned, and the processor must have the instruction.
#[cfg(target_arch = "x86_64")]
unsafe fn swap16(place: *mut u128, expected: u128, new: u128) -> u128 {
    let (mut low, mut high) = (expected as u64, (expected >> 64) as u64);
    // SAFETY: the caller's promise. The compiler keeps rbx for itself, so that it is put back.
    unsafe {
        std::arch::asm!(
            "xchg {new_low}, rbx",
            "lock cmpxchg16b [{place}]",
            "mov rbx, {new_low}",
            new_low = inout(reg) new as u64 => _,
            place = in(reg) place,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    u128::from(low) | u128::from(high) << 64
}

/// `atom.b128`: address in `a`; halves of the values in a list at `b`, those of the result at `dst`; bit 8 of `aux`: only if
/// equal.
#[cfg(target_arch = "x86_64")]
unsafe fn atomic128(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mut left = lanes.mask[word];
        while left != 0 {
            let lane = word * WORD + left.trailing_zeros() as usize;
            left &= left - 1;
            // SAFETY: lowering gave these registers, and saw that the processor has the instruction.
            unsafe {
                let address = *lanes.reg::<u64>(op.a).add(lane);
                if !address.is_multiple_of(16) {
                    return lanes.fail(FaultKind::Misaligned, lane, address);
                }
                let Some(place) = lanes.place(op.aux & SPACE, address, 16, lane) else {
                    return lanes.fail(FaultKind::IllegalAddress, lane, address);
                };
                let half =
                    |list: u32| u128::from(*lanes.reg::<u64>(lanes.lists[list as usize]).add(lane));
                let value = |list: u32| half(list) | half(list + 1) << 64;
                let place = place as *mut u128;
                let old = if op.aux & 1 << COUNT != 0 {
                    swap16(place, value(op.b), value(op.b + 2))
                } else {
                    let (new, mut seen) = (value(op.b), 0);
                    loop {
                        let found = swap16(place, seen, new);
                        if found == seen {
                            break found;
                        }
                        seen = found;
                    }
                };
                for (at, part) in [old as u64, (old >> 64) as u64].into_iter().enumerate() {
                    let dst = lanes.lists[op.dst as usize + at];
                    if dst != NONE {
                        *lanes.reg::<u64>(dst).add(lane) = part;
                    }
                }
            }
        }
    }
    Step::Next
}

fn handler128() -> Option<Handler> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("cmpxchg16b") {
        return Some(atomic128);
    }
    None
}

/// The operation that an opcode names for a type.
fn operation(instruction: &Instruction, ty: ScalarType) -> Option<Atomic> {
    let name = [
        "add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas",
    ]
    .into_iter()
    .find(|name| has(instruction, name))?;
    Some(match (name, ty) {
        ("add", F32 | F64) => Atomic::AddF,
        ("add", F16) => Atomic::AddHalf,
        ("add", BF16) => Atomic::AddBrain,
        ("add", F16x2) => Atomic::AddHalf2,
        ("add", BF16x2) => Atomic::AddBrain2,
        ("add", U32 | S32 | U64 | S64) => Atomic::Add,
        ("min", S32 | S64) => Atomic::MinS,
        ("max", S32 | S64) => Atomic::MaxS,
        ("min", U32 | U64) => Atomic::Min,
        ("max", U32 | U64) => Atomic::Max,
        ("min", F16) => Atomic::MinHalf,
        ("max", F16) => Atomic::MaxHalf,
        ("min", BF16) => Atomic::MinBrain,
        ("max", BF16) => Atomic::MaxBrain,
        ("min", F16x2) => Atomic::MinHalf2,
        ("max", F16x2) => Atomic::MaxHalf2,
        ("min", BF16x2) => Atomic::MinBrain2,
        ("max", BF16x2) => Atomic::MaxBrain2,
        ("inc", U32) => Atomic::Inc,
        ("dec", U32) => Atomic::Dec,
        ("and", B32 | B64 | U32 | S32 | U64 | S64) => Atomic::And,
        ("or", B32 | B64 | U32 | S32 | U64 | S64) => Atomic::Or,
        ("xor", B32 | B64 | U32 | S32 | U64 | S64) => Atomic::Xor,
        ("exch", B32 | B64 | B128 | U32 | S32 | U64 | S64 | F32 | F64) => Atomic::Exchange,
        ("cas", B16 | B32 | B64 | B128 | U32 | S32 | U64 | S64) => Atomic::Swap,
        _ => return None,
    })
}

impl Lowering<'_> {
    pub fn atomic(&mut self, instruction: &Instruction) -> Result<()> {
        let reduction = instruction.mnemonic() == "red";
        let ty = match last_type(instruction) {
            Some(Pred) | None => return self.unsupported(instruction),
            Some(ty) => ty,
        };
        let Some(which) = operation(instruction, ty) else {
            return self.unsupported(instruction);
        };
        let half = matches!(ty, F16 | BF16 | F16x2 | BF16x2);
        if has(instruction, "noftz") && !half {
            return self.unsupported(instruction);
        }
        if reduction && matches!(which, Atomic::Exchange | Atomic::Swap) {
            return self.unsupported(instruction);
        }
        let mut operands = instruction.operands.as_slice();
        if has(instruction, "L2::cache_hint") {
            operands = operands.split_last().map_or(operands, |(_, rest)| rest);
        }
        let dst = match operands {
            [dst, rest @ ..] if !reduction => {
                operands = rest;
                dst
            }
            _ => &Operand::Discard,
        };
        let (address, a, b) = match operands {
            [address, a] if which != Atomic::Swap => (address, a, None),
            [address, a, b] if which == Atomic::Swap => (address, a, Some(b)),
            _ => {
                return self.error(
                    instruction,
                    format!("`{}` has another number of operands", instruction.opcode),
                );
            }
        };
        let count = Self::vector_of(instruction);
        if count > 1 {
            return self.vector_atomic(instruction, which, ty, count, [dst, address, a]);
        }
        if ty == B128 {
            return self.atomic_wide(instruction, dst, address, a, b);
        }
        let Some(run) = atomic(which, ty.size()) else {
            return self.unsupported(instruction);
        };
        let a = self.source(instruction, a, ty)?;
        let b = match b {
            Some(b) => Some(self.source(instruction, b, ty)?),
            None => None,
        };
        let dst = match dst {
            Operand::Discard => None,
            operand => Some(self.destination(instruction, operand, ty)?),
        };
        let op = self.builder.push(run, Kind::Waiting);
        self.address(instruction, op, address, space_of(instruction))?;
        self.builder.reads(op, Field::B, a);
        match b {
            Some(b) => self.builder.reads(op, Field::C, b),
            None => self.builder.code[op].c = NONE,
        }
        match dst {
            Some(dst) => self.builder.writes(op, Field::Dst, dst),
            None => self.builder.code[op].dst = NONE,
        }
        Ok(())
    }

    /// Registers of a vector that is read, each of a type; of one that is written, none for `_`.
    fn vector_sources(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        ty: ScalarType,
        count: usize,
    ) -> Result<Vec<Option<VReg>>> {
        match operand {
            Operand::Vector(items) if items.len() == count => items
                .iter()
                .map(|item| self.source(instruction, item, ty).map(Some))
                .collect(),
            _ => self.error(
                instruction,
                format!("a vector of {count} registers is needed here"),
            ),
        }
    }

    fn vector_targets(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        ty: ScalarType,
        count: usize,
    ) -> Result<Vec<Option<VReg>>> {
        match operand {
            Operand::Discard => Ok(vec![None; count]),
            Operand::Vector(items) if items.len() == count => items
                .iter()
                .map(|item| match item {
                    Operand::Discard => Ok(None),
                    _ => self.destination(instruction, item, ty).map(Some),
                })
                .collect(),
            _ => self.error(
                instruction,
                format!("a vector of {count} registers is needed here"),
            ),
        }
    }

    fn vector_atomic(
        &mut self,
        instruction: &Instruction,
        which: Atomic,
        ty: ScalarType,
        count: usize,
        [dst, address, a]: [&Operand; 3],
    ) -> Result<()> {
        let most = if ty.size() == 2 { 8 } else { 4 };
        let number = VECTOR_ATOMICS.iter().position(|known| *known == which);
        let (Some(number), true) = (number, count <= most && ty != F64) else {
            return self.unsupported(instruction);
        };
        let named = space_of(instruction);
        if !matches!(named, crate::access::GLOBAL | crate::access::GENERIC) {
            return self.error(instruction, "vectors are updated in global memory only");
        }
        let (address, space) = self.address_register(instruction, address, named)?;
        let srcs = self.vector_sources(instruction, a, ty, count)?;
        let dsts = self.vector_targets(instruction, dst, ty, count)?;
        let run: Handler = if ty.size() == 2 { vector16 } else { vector32 };
        let op = self.builder.push(run, Kind::Waiting);
        self.builder.reads(op, Field::A, address);
        let (srcs, dsts) = (
            self.builder.list(op, &srcs, false),
            self.builder.list(op, &dsts, true),
        );
        let op = &mut self.builder.code[op];
        (op.b, op.dst) = (srcs, dsts);
        op.aux = space | (count as u32) << COUNT | (number as u32) << NUMBER;
        Ok(())
    }

    /// Operands of 128 bits are pairs of 64.
    fn atomic_wide(
        &mut self,
        instruction: &Instruction,
        dst: &Operand,
        address: &Operand,
        a: &Operand,
        b: Option<&Operand>,
    ) -> Result<()> {
        let Some(run) = handler128() else {
            return self.error(instruction, "this processor has no atomics of 128 bits");
        };
        let (address, space) =
            self.address_register(instruction, address, space_of(instruction))?;
        let mut srcs = self.vector_sources(instruction, a, B64, 2)?;
        if let Some(b) = b {
            srcs.extend(self.vector_sources(instruction, b, B64, 2)?);
        }
        let dsts = self.vector_targets(instruction, dst, B64, 2)?;
        let op = self.builder.push(run, Kind::Waiting);
        self.builder.reads(op, Field::A, address);
        let (srcs, dsts) = (
            self.builder.list(op, &srcs, false),
            self.builder.list(op, &dsts, true),
        );
        let op = &mut self.builder.code[op];
        (op.b, op.dst) = (srcs, dsts);
        op.aux = space | u32::from(b.is_some()) << COUNT;
        Ok(())
    }
}
