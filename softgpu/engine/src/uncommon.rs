//! Integer instructions that few programs have: masks and fields, pairs of 16 bits, products of 24 bits.

use softgpu_ptx::Instruction;
use softgpu_ptx::ScalarType::*;

use crate::arith::Plan;
use crate::instructions::has;
use crate::lanes::Handler;
use crate::rare::{rare, rare_op};

// `aux` of several: how counts of 32 and more are meant.
const CLAMP: u32 = 1;
const SIGNED: u32 = 2;
// `aux` of pairs: the operation in the low bits.
const PAIR_ADD: u32 = 0;
const PAIR_MIN: u32 = 1;
const PAIR_MAX: u32 = 2;
const PAIR_SIGNED: u32 = 4;
const RELU: u32 = 8;
const SAT: u32 = 4;

rare_op!(FindNth, u32, |mask: u32, base: u32, offset: i32; _aux| {
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let set = |at: &u32| mask >> at & 1 != 0;
    let skip = offset.unsigned_abs() as usize - 1;
    let found = if offset > 0 {
        (base..32).filter(set).nth(skip)
    } else {
        (0..=base).rev().filter(set).nth(skip)
    };
    found.unwrap_or(u32::MAX)
});

rare_op!(Extend, u32, |a: u32, b: u32; aux| {
    if b >= 32 && aux & CLAMP != 0 {
        return a;
    }
    match b & 31 {
        0 => 0,
        width if aux & SIGNED != 0 => ((a << (32 - width)) as i32 >> (32 - width)) as u32,
        width => a & ((1 << width) - 1),
    }
});

rare_op!(BitMask, u32, |a: u32, b: u32; aux| {
    let (position, width) = if aux & CLAMP != 0 {
        (a.min(32), b.min(32))
    } else {
        (a & 31, b & 31)
    };
    let ones = |count: u32| ((1u64 << count) - 1) as u32;
    ones((position + width).min(32)) & !ones(position)
});

rare_op!(Pair, u32, |a: u32, b: u32; aux| {
    let half = |x: u32, y: u32| {
        let (x, y) = if aux & PAIR_SIGNED != 0 {
            (i32::from(x as u16 as i16), i32::from(y as u16 as i16))
        } else {
            (i32::from(x as u16), i32::from(y as u16))
        };
        let result = match aux & 3 {
            PAIR_ADD => x + y,
            PAIR_MIN => x.min(y),
            _ => x.max(y),
        };
        let result = if aux & RELU != 0 { result.max(0) } else { result };
        u32::from(result as u16)
    };
    half(a, b) | half(a >> 16, b >> 16) << 16
});

rare_op!(MinMaxRelu, i32, |a: i32, b: i32; aux| {
    let result = if aux == PAIR_MIN { a.min(b) } else { a.max(b) };
    result.max(0)
});

/// Bits 47 to 16 of a product of 24 bits, and a sum with it.
fn high24(a: u32, b: u32, c: u32, aux: u32) -> u32 {
    if aux & SIGNED != 0 {
        let cut = |x: u32| i64::from((x << 8) as i32 >> 8);
        let product = ((cut(a) * cut(b)) >> 16) as i32;
        let sum = if aux & SAT != 0 {
            product.saturating_add(c as i32)
        } else {
            product.wrapping_add(c as i32)
        };
        return sum as u32;
    }
    let cut = |x: u32| u64::from(x & 0xff_ffff);
    (((cut(a) * cut(b)) >> 16) as u32).wrapping_add(c)
}
rare_op!(Mul24Hi, u32, |a: u32, b: u32; aux| high24(a, b, 0, aux));
rare_op!(Mad24Hi, u32, |a: u32, b: u32, c: u32; aux| high24(a, b, c, aux));

/// What the instruction becomes, if it is one of these.
pub fn plan(instruction: &Instruction) -> Option<Plan> {
    let plan = |run: Handler, srcs: usize, aux: u32| {
        Some(Plan {
            run,
            dst: B32,
            srcs: vec![B32; srcs],
            aux,
        })
    };
    let flag = |word: &str, bit: u32| if has(instruction, word) { bit } else { 0 };
    let one_of = |words: [&str; 2]| words.iter().filter(|word| has(instruction, word)).count() == 1;
    match instruction.mnemonic() {
        "fns" => plan(rare::<FindNth>(), 3, 0),
        "szext" if one_of(["clamp", "wrap"]) && one_of(["u32", "s32"]) => plan(
            rare::<Extend>(),
            2,
            flag("clamp", CLAMP) | flag("s32", SIGNED),
        ),
        "bmsk" if one_of(["clamp", "wrap"]) => plan(rare::<BitMask>(), 2, flag("clamp", CLAMP)),
        name @ ("add" | "min" | "max") if one_of(["u16x2", "s16x2"]) => {
            let which = match name {
                "add" => PAIR_ADD,
                "min" => PAIR_MIN,
                _ => PAIR_MAX,
            };
            let signed = flag("s16x2", PAIR_SIGNED);
            let relu = flag("relu", RELU);
            if relu != 0 && (signed == 0 || which == PAIR_ADD) || has(instruction, "sat") {
                return None;
            }
            plan(rare::<Pair>(), 2, which | signed | relu)
        }
        name @ ("min" | "max") if has(instruction, "relu") && has(instruction, "s32") => plan(
            rare::<MinMaxRelu>(),
            2,
            if name == "min" { PAIR_MIN } else { PAIR_MAX },
        ),
        name @ ("mul24" | "mad24") if has(instruction, "hi") => {
            let aux = flag("s32", SIGNED) | flag("sat", SAT);
            if aux & SAT != 0 && (name == "mul24" || aux & SIGNED == 0) {
                return None;
            }
            match name {
                "mul24" => plan(rare::<Mul24Hi>(), 2, aux),
                _ => plan(rare::<Mad24Hi>(), 3, aux),
            }
        }
        _ => None,
    }
}
