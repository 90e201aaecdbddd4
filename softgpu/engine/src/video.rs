//! Video instructions: arithmetic on bytes and halves picked from 32-bit registers.
//!
//! Lowering makes one number of all modifiers and selectors; the lanes take it apart again.

use softgpu_ptx::{Instruction, Operand, ScalarType::B32};

use crate::bits;
use crate::build::VReg;
use crate::instructions::has;
use crate::kernel::Constant;
use crate::lanes::alu;
use crate::lower::{Lowering, Result};
use crate::rare::{rare, rare_op};

const OPS: [&str; 9] = [
    "vadd", "vsub", "vabsdiff", "vmin", "vmax", "vshl", "vshr", "vset", "vavrg",
];
const COMPARISONS: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];

// `aux` of scalar instructions.
const OP: u32 = 0; // 4 bits
const COMPARISON: u32 = 4; // 3 bits
const SELECT_A: u32 = 7; // 3 bits
const SELECT_B: u32 = 10; // 3 bits
const SELECT_D: u32 = 13; // 3 bits
const SECOND: u32 = 16; // 2 bits: none, add, min, max
const SIGNED_A: u32 = 18;
const SIGNED_B: u32 = 19;
const SIGNED_D: u32 = 20;
const SAT: u32 = 21;
const CLAMP: u32 = 22;
// `aux` of `vmad`, apart from selectors and signs.
const NEGATE_PRODUCT: u32 = 0;
const NEGATE_C: u32 = 1;
const PLUS_ONE: u32 = 2;
const SHIFT: u32 = 3; // 2 bits: none, 7, 15
// `aux` of SIMD instructions: operation and comparison as above, then these.
const MASK: u32 = 7; // 4 bits
const ADD: u32 = 11;

fn field(aux: u32, at: u32, count: u32) -> u32 {
    aux >> at & ((1 << count) - 1)
}

/// Part of a register: 0 is all of it, 1 to 4 its bytes, 5 and 6 its halves.
fn part(value: u32, select: u32, signed: bool) -> i128 {
    let (cut, width) = match select {
        0 => (value, 32),
        1..=4 => (value >> (8 * (select - 1)), 8),
        _ => (value >> (16 * (select - 5)), 16),
    };
    extend(cut, width, signed)
}

fn extend(value: u32, width: u32, signed: bool) -> i128 {
    let up = 32 - width;
    if signed {
        i128::from((value << up) as i32 >> up)
    } else {
        i128::from(value << up >> up)
    }
}

fn clamp(value: i128, width: u32, signed: bool) -> i128 {
    if signed {
        value.clamp(-1 << (width - 1), (1 << (width - 1)) - 1)
    } else {
        value.clamp(0, (1 << width) - 1)
    }
}

fn compute(op: u32, comparison: u32, a: i128, b: i128) -> i128 {
    match OPS[op as usize % OPS.len()] {
        "vadd" => a + b,
        "vsub" => a - b,
        "vabsdiff" => (a - b).abs(),
        "vmin" => a.min(b),
        "vmax" => a.max(b),
        "vshl" => a << b,
        "vshr" => a >> b,
        "vavrg" if a + b >= 0 => (a + b + 1) >> 1,
        "vavrg" => (a + b) >> 1,
        _ => i128::from(match COMPARISONS[comparison as usize % COMPARISONS.len()] {
            "eq" => a == b,
            "ne" => a != b,
            "lt" => a < b,
            "le" => a <= b,
            "gt" => a > b,
            _ => a >= b,
        }),
    }
}

rare_op!(Scalar, u32, |a: u32, b: u32, c: u32; aux| {
    let flag = |at| field(aux, at, 1) != 0;
    let op = field(aux, OP, 4);
    let shifts = matches!(OPS[op as usize % OPS.len()], "vshl" | "vshr");
    let ta = part(a, field(aux, SELECT_A, 3), flag(SIGNED_A));
    let mut tb = part(b, field(aux, SELECT_B, 3), flag(SIGNED_B) && !shifts);
    if shifts {
        // No 32-bit value has more than 32 bits to lose.
        tb = if flag(CLAMP) { tb.min(32) } else { tb & 31 };
    }
    let select = field(aux, SELECT_D, 3);
    let width = match select {
        0 => 32,
        1..=4 => 8,
        _ => 16,
    };
    let signed = flag(SIGNED_D);
    let mut value = compute(op, field(aux, COMPARISON, 3), ta, tb);
    if flag(SAT) {
        value = clamp(value, width, signed);
    }
    let value = value as u32;
    if select != 0 {
        let at = if select <= 4 { 8 * (select - 1) } else { 16 * (select - 5) };
        let ones = ((1u64 << width) - 1) as u32;
        return c & !(ones << at) | (value & ones) << at;
    }
    match field(aux, SECOND, 2) {
        0 => value,
        1 => value.wrapping_add(c),
        2 if signed => (value as i32).min(c as i32) as u32,
        2 => value.min(c),
        _ if signed => (value as i32).max(c as i32) as u32,
        _ => value.max(c),
    }
});

rare_op!(Mad, u32, |a: u32, b: u32, c: u32; aux| {
    let flag = |at| field(aux, at, 1) != 0;
    let ta = part(a, field(aux, SELECT_A, 3), flag(SIGNED_A));
    let tb = part(b, field(aux, SELECT_B, 3), flag(SIGNED_B));
    let signed = flag(SIGNED_A) || flag(SIGNED_B) || flag(NEGATE_PRODUCT) || flag(NEGATE_C);
    let product = if flag(NEGATE_PRODUCT) { -ta * tb } else { ta * tb };
    let c = extend(c, 32, signed);
    let sum = product + if flag(NEGATE_C) { -c } else { c } + i128::from(flag(PLUS_ONE));
    let shifted = sum >> [0, 7, 15, 0][field(aux, SHIFT, 2) as usize];
    let result = match (flag(SAT), signed) {
        (false, _) => shifted,
        (true, true) => shifted.clamp(i32::MIN.into(), i32::MAX.into()),
        (true, false) => shifted.clamp(0, u32::MAX.into()),
    };
    result as u32
});

/// Element `at` of a register, of `width` bits.
fn element(value: u32, at: u32, width: u32, signed: bool) -> i128 {
    extend(value >> (at * width), width, signed)
}

/// Two or four elements. Selectors are not there any more: a permute beforehand brought the elements into order.
fn simd(a: u32, b: u32, c: u32, aux: u32, width: u32) -> u32 {
    let flag = |at| field(aux, at, 1) != 0;
    let ones = ((1u64 << width) - 1) as u32;
    let mut result = if flag(ADD) { c } else { 0 };
    for at in 0..32 / width {
        let (va, vb) = (
            element(a, at, width, flag(SIGNED_A)),
            element(b, at, width, flag(SIGNED_B)),
        );
        let mut t = compute(field(aux, OP, 4), field(aux, COMPARISON, 3), va, vb);
        if flag(SAT) {
            t = clamp(t, width, flag(SIGNED_D));
        }
        let chosen = aux >> (MASK + at) & 1 != 0;
        if flag(ADD) {
            result = result.wrapping_add(if chosen { t as u32 } else { 0 });
        } else {
            let kept = if chosen { t as u32 } else { c >> (at * width) };
            result |= (kept & ones) << (at * width);
        }
    }
    result
}
rare_op!(Simd4, u32, |a: u32, b: u32, c: u32; aux| simd(a, b, c, aux, 8));
rare_op!(Simd2, u32, |a: u32, b: u32, c: u32; aux| simd(a, b, c, aux, 16));

impl Lowering<'_> {
    /// Any of them; false when the name is no video instruction's.
    pub fn video(&mut self, instruction: &Instruction) -> Result<bool> {
        let name = instruction.mnemonic();
        if name == "vmad" {
            return self.video_mad(instruction).map(|()| true);
        }
        let (stem, lanes) = match name.as_bytes().last() {
            Some(b'2') => (&name[..name.len() - 1], 2),
            Some(b'4') => (&name[..name.len() - 1], 4),
            _ => (name, 1),
        };
        let Some(op) = OPS.iter().position(|known| *known == stem) else {
            return Ok(false);
        };
        let alone = matches!(stem, "vshl" | "vshr");
        if lanes > 1 && alone || lanes == 1 && stem == "vavrg" {
            return Ok(false);
        }
        let mut aux = (op as u32) << OP;
        if stem == "vset" {
            let found = COMPARISONS.iter().position(|known| has(instruction, known));
            match found {
                Some(found) => aux |= (found as u32) << COMPARISON,
                None => return self.unsupported(instruction),
            }
        }
        let signs = self.signs(instruction, if stem == "vset" { 2 } else { 3 })?;
        aux |= signs;
        if has(instruction, "sat") {
            aux |= 1 << SAT;
        }
        if lanes == 1 {
            self.video_scalar(instruction, aux).map(|()| true)
        } else {
            self.video_simd(instruction, aux, lanes).map(|()| true)
        }
    }

    /// Signs of destination, a and b; a comparison names no type of its destination.
    fn signs(&self, instruction: &Instruction, count: usize) -> Result<u32> {
        let types: Vec<bool> = instruction
            .modifiers()
            .filter(|word| matches!(*word, "u32" | "s32"))
            .map(|word| word == "s32")
            .collect();
        let (d, a, b) = match types[..] {
            [d, a, b] if count == 3 => (d, a, b),
            [a, b] if count == 2 => (false, a, b),
            _ => {
                return self.error(
                    instruction,
                    format!("`{}` names {count} types", instruction.opcode),
                );
            }
        };
        Ok(u32::from(d) << SIGNED_D | u32::from(a) << SIGNED_A | u32::from(b) << SIGNED_B)
    }

    /// An operand without its selector and sign, and those.
    fn part_of<'i>(&self, operand: &'i Operand) -> (Operand, &'i str, bool) {
        match operand {
            Operand::Part {
                register,
                select,
                negated,
            } => (Operand::Register(*register), select, *negated),
            other => (other.clone(), "", false),
        }
    }

    fn scalar_select(&self, instruction: &Instruction, select: &str) -> Result<u32> {
        match select {
            "" => Ok(0),
            "b0" => Ok(1),
            "b1" => Ok(2),
            "b2" => Ok(3),
            "b3" => Ok(4),
            "h0" => Ok(5),
            "h1" => Ok(6),
            _ => self.error(instruction, format!("`.{select}` is no part of a register")),
        }
    }

    fn video_scalar(&mut self, instruction: &Instruction, mut aux: u32) -> Result<()> {
        let operands = &instruction.operands;
        if !matches!(operands.len(), 3 | 4) {
            return self.error(
                instruction,
                format!("`{}` takes three or four operands", instruction.opcode),
            );
        }
        let mut parts = Vec::new();
        for operand in operands {
            let (plain, select, negated) = self.part_of(operand);
            if negated {
                return self.error(instruction, "only `vmad` negates operands");
            }
            parts.push((plain, self.scalar_select(instruction, select)?));
        }
        let second = ["add", "min", "max"]
            .iter()
            .position(|name| has(instruction, name))
            .map_or(0, |at| at as u32 + 1);
        let (selected, merges) = (parts[0].1, parts[0].1 != 0);
        if (second != 0 || merges) != (parts.len() == 4) || second != 0 && merges {
            return self.error(
                instruction,
                "a fourth operand is for a second operation or for a part of the destination",
            );
        }
        if parts.len() == 4 && parts[3].1 != 0 {
            return self.error(instruction, "the last operand is a whole register");
        }
        aux |= parts[1].1 << SELECT_A | parts[2].1 << SELECT_B | selected << SELECT_D;
        aux |= second << SECOND;
        if has(instruction, "clamp") {
            aux |= 1 << CLAMP;
        } else if matches!(instruction.mnemonic(), "vshl" | "vshr") && !has(instruction, "wrap") {
            return self.error(instruction, "a shift names `.clamp` or `.wrap`");
        }
        let a = self.source(instruction, &parts[1].0, B32)?;
        let b = self.source(instruction, &parts[2].0, B32)?;
        let c = match parts.get(3) {
            Some((operand, _)) => self.source(instruction, operand, B32)?,
            None => a,
        };
        let dst = self.destination(instruction, &parts[0].0, B32)?;
        let op = self.builder.alu(rare::<Scalar>(), dst, &[a, b, c]);
        self.builder.code[op].aux = aux;
        Ok(())
    }

    fn video_mad(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a, b, c] = self.operands::<4>(instruction)?;
        let mut aux = self.signs(instruction, 3)?;
        let ((a, select_a, minus_a), (b, select_b, minus_b)) = (self.part_of(a), self.part_of(b));
        let (c, select_c, minus_c) = self.part_of(c);
        let plus = has(instruction, "po");
        if !select_c.is_empty()
            || plus && (minus_a || minus_b || minus_c)
            || (minus_a != minus_b) && minus_c
        {
            return self.error(instruction, "`vmad` does not take its operands in this way");
        }
        aux |= self.scalar_select(instruction, select_a)? << SELECT_A;
        aux |= self.scalar_select(instruction, select_b)? << SELECT_B;
        aux |= u32::from(minus_a != minus_b) << NEGATE_PRODUCT;
        aux |= u32::from(minus_c) << NEGATE_C | u32::from(plus) << PLUS_ONE;
        aux |= u32::from(has(instruction, "sat")) << SAT;
        aux |= match () {
            () if has(instruction, "shr7") => 1,
            () if has(instruction, "shr15") => 2,
            () => 0,
        } << SHIFT;
        let a = self.source(instruction, &a, B32)?;
        let b = self.source(instruction, &b, B32)?;
        let c = self.source(instruction, &c, B32)?;
        let dst = self.destination(instruction, dst, B32)?;
        let op = self.builder.alu(rare::<Mad>(), dst, &[a, b, c]);
        self.builder.code[op].aux = aux;
        Ok(())
    }

    fn video_simd(&mut self, instruction: &Instruction, mut aux: u32, lanes: u32) -> Result<()> {
        let [dst, a, b, c] = self.operands::<4>(instruction)?;
        let (dst, mask, _) = self.part_of(dst);
        let ((a, select_a, _), (b, select_b, _)) = (self.part_of(a), self.part_of(b));
        let letter = if lanes == 4 { 'b' } else { 'h' };
        // Digits from the highest element down; as many as there are elements, or none.
        let digits = |select: &str, default: u32| {
            let Some(text) = select.strip_prefix(letter) else {
                return select.is_empty().then_some(default);
            };
            let good = text.len() == lanes as usize
                && text
                    .bytes()
                    .all(|digit| u32::from(digit - b'0') < 2 * lanes);
            good.then(|| {
                text.bytes()
                    .fold(0, |all, digit| all << 4 | u32::from(digit - b'0'))
            })
        };
        let chosen = match mask.strip_prefix(letter) {
            None if mask.is_empty() => Some((1 << lanes) - 1),
            None => None,
            Some(text) if text.bytes().all(|digit| u32::from(digit - b'0') < lanes) => {
                Some(text.bytes().fold(0, |all, digit| all | 1 << (digit - b'0')))
            }
            Some(_) => None,
        };
        let defaults = if lanes == 4 {
            [0x3210, 0x7654]
        } else {
            [0x10, 0x32]
        };
        let (Some(select_a), Some(select_b), Some(chosen)) = (
            digits(select_a, defaults[0]),
            digits(select_b, defaults[1]),
            chosen,
        ) else {
            return self.error(instruction, "a selector does not fit the instruction");
        };
        aux |= chosen << MASK;
        if has(instruction, "min") || has(instruction, "max") {
            return self.unsupported(instruction);
        }
        if has(instruction, "add") {
            if has(instruction, "sat") {
                return self.error(instruction, "a sum is not saturated");
            }
            aux |= 1 << ADD;
        }
        let a = self.source(instruction, &a, B32)?;
        let b = self.source(instruction, &b, B32)?;
        let c = self.source(instruction, c, B32)?;
        let first = self.in_order([a, b], lanes, select_a);
        let second = self.in_order([a, b], lanes, select_b);
        let dst = self.destination(instruction, &dst, B32)?;
        let run = if lanes == 4 {
            rare::<Simd4>()
        } else {
            rare::<Simd2>()
        };
        let op = self.builder.alu(run, dst, &[first, second, c]);
        self.builder.code[op].aux = aux;
        Ok(())
    }

    /// The elements that a selector names, in order: a permute of bytes.
    fn in_order(&mut self, from: [VReg; 2], lanes: u32, select: u32) -> VReg {
        let control = if lanes == 4 {
            select
        } else {
            (0..2).fold(0, |all, at| {
                let half = select >> (4 * at) & 3;
                all | (half * 0x22 + 0x10) << (8 * at)
            })
        };
        match control {
            0x3210 => from[0],
            0x7654 => from[1],
            _ => {
                let control = self.builder.constant(Constant::Bits(control.into()), 4);
                let picked = self.builder.reg(4);
                let run = alu::<bits::Prmt>();
                self.builder.alu(run, picked, &[from[0], from[1], control]);
                picked
            }
        }
    }
}
