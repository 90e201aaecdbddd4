//! Conversions to and from formats that no instruction computes in: fp8, tf32, and integers packed by `cvt.pack`.

use softgpu_ptx::ScalarType::{self, *};
use softgpu_ptx::{Instruction, Operand};

use crate::arith::Plan;
use crate::compute::mods;
use crate::float::{NAN32, Rounding, f16_to_f32, f32_to_f16, small_format};
use crate::instructions::has;
use crate::lower::{Lowering, Result};
use crate::rare::{rare, rare_op};

const RELU: u32 = 1;
const E4M3: u32 = 2;
const FINITE: u32 = 4;
// Rounding of tf32.
const TO_ZERO: u32 = 8;
const TIES_AWAY: u32 = 16;

/// To the nearest value of the format; what is too large becomes the largest number, NaN the positive one.
fn to_fp8(value: f32, aux: u32) -> u16 {
    if value.is_nan() {
        return 0x7f;
    }
    let value = if aux & RELU != 0 && value <= 0.0 {
        0.0
    } else {
        value
    };
    // e4m3 has no infinity: the bits above its largest number are NaN's.
    let (fraction, least, top) = if aux & E4M3 != 0 {
        (3, -6, 0x7e)
    } else {
        (2, -14, 0x7b)
    };
    let bits = small_format(value.into(), Rounding::Nearest, fraction, least, top + 1);
    (bits & 0x7fff).min(top) | bits >> 8 & 0x80
}

fn from_fp8(byte: u16, aux: u32) -> u16 {
    let (sign, body) = ((byte & 0x80) << 8, byte & 0x7f);
    let half = if aux & E4M3 == 0 {
        // The upper half of an f16.
        if body > 0x7c {
            0x7fff
        } else {
            sign | body << 8
        }
    } else if body == 0x7f {
        0x7fff
    } else {
        // The same bits as an f16 are 2^-8 of the value, exactly.
        sign | f32_to_f16(f16_to_f32(body << 7) * 256.0)
    };
    let negative = half & 0x8000 != 0;
    if aux & RELU != 0 && negative { 0 } else { half }
}

rare_op!(Fp8FromF32, u16, |a: f32, b: f32; aux| to_fp8(a, aux) << 8 | to_fp8(b, aux));
rare_op!(Fp8FromF16, u16, |a: u32; aux| {
    let part = |half: u32| to_fp8(f16_to_f32(half as u16), aux);
    part(a >> 16) << 8 | part(a)
});
rare_op!(F16FromFp8, u32, |a: u16; aux| {
    u32::from(from_fp8(a >> 8, aux)) << 16 | u32::from(from_fp8(a & 255, aux))
});

rare_op!(Tf32, u32, |a: f32; aux| {
    if a.is_nan() {
        return NAN32.to_bits();
    }
    let a = if aux & RELU != 0 && a <= 0.0 { 0.0 } else { a };
    let bits = a.to_bits();
    let rounded = if a.is_infinite() || aux & TO_ZERO != 0 {
        bits
    } else if aux & TIES_AWAY != 0 {
        bits + 0x1000
    } else {
        bits + 0x0fff + (bits >> 13 & 1)
    } & !0x1fff;
    if aux & FINITE != 0 && rounded & 0x7fff_ffff == 0x7f80_0000 {
        rounded & 0x8000_0000 | 0x7f7f_e000
    } else {
        rounded
    }
});

/// Width in the low bits of `aux`.
const SIGNED: u32 = 1 << 8;
rare_op!(PackInts, u32, |a: i32, b: i32, c: u32; aux| {
    let width = aux & 63;
    let (low, high) = if aux & SIGNED != 0 {
        (-(1i64 << (width - 1)), (1i64 << (width - 1)) - 1)
    } else {
        (0, (1i64 << width) - 1)
    };
    let cut = |value: i32| (i64::from(value).clamp(low, high) as u64) & ((1 << width) - 1);
    (u64::from(c) << (2 * width) | cut(a) << width | cut(b)) as u32
});

impl Lowering<'_> {
    /// Conversions that name fp8 or tf32.
    pub fn cvt_small(&mut self, instruction: &Instruction) -> Result<()> {
        let names: Vec<&str> = instruction
            .modifiers()
            .filter(|word| {
                ScalarType::parse(word).is_some() || matches!(*word, "tf32" | "e4m3x2" | "e5m2x2")
            })
            .collect();
        let m = mods(instruction);
        let finite = has(instruction, "satfinite");
        let relu = if m.relu { RELU } else { 0 };
        if m.ftz || m.sat {
            return self.unsupported(instruction);
        }
        let nearest = has(instruction, "rn");
        let (run, srcs, dst, aux) = match names[..] {
            ["tf32", "f32"] => {
                let mode = match () {
                    () if has(instruction, "rna") && relu == 0 => TIES_AWAY,
                    () if has(instruction, "rz") => TO_ZERO,
                    () if nearest => 0,
                    () => return self.unsupported(instruction),
                };
                let finite = if finite { FINITE } else { 0 };
                (rare::<Tf32>(), vec![F32], B32, mode | finite | relu)
            }
            [to @ ("e4m3x2" | "e5m2x2"), from] if nearest && finite => {
                let format = if to == "e4m3x2" { E4M3 } else { 0 };
                match from {
                    "f32" => (rare::<Fp8FromF32>(), vec![F32; 2], B16, format | relu),
                    "f16x2" => (rare::<Fp8FromF16>(), vec![F16x2], B16, format | relu),
                    _ => return self.unsupported(instruction),
                }
            }
            ["f16x2", from @ ("e4m3x2" | "e5m2x2")] if nearest && !finite => {
                let format = if from == "e4m3x2" { E4M3 } else { 0 };
                (rare::<F16FromFp8>(), vec![B16], F16x2, format | relu)
            }
            _ => return self.unsupported(instruction),
        };
        let plan = Plan {
            run,
            dst,
            srcs,
            aux,
        };
        self.planned(instruction, plan)
    }

    /// `cvt.pack.sat.u8.s32.b32 d, a, b, c`
    pub fn cvt_pack(&mut self, instruction: &Instruction) -> Result<()> {
        let types = instruction
            .modifiers()
            .filter(|word| !matches!(*word, "pack" | "sat"));
        let (kind, joined) = match types.collect::<Vec<_>>()[..] {
            [kind, "s32"] => (kind, false),
            [kind, "s32", "b32"] => (kind, true),
            _ => return self.unsupported(instruction),
        };
        let width: u32 = match (kind, joined) {
            ("u16" | "s16", false) => 16,
            ("u2" | "s2", true) => 2,
            ("u4" | "s4", true) => 4,
            ("u8" | "s8", true) => 8,
            _ => return self.unsupported(instruction),
        };
        let aux = width | if kind.starts_with('s') { SIGNED } else { 0 };
        let operands = &instruction.operands;
        if operands.len() != if joined { 4 } else { 3 } {
            return self.error(
                instruction,
                format!("`{}` has another number of operands", instruction.opcode),
            );
        }
        let a = self.source(instruction, &operands[1], S32)?;
        let b = self.source(instruction, &operands[2], S32)?;
        let c = self.source(
            instruction,
            operands.get(3).unwrap_or(&Operand::Int(0)),
            B32,
        )?;
        let dst = self.destination(instruction, &operands[0], B32)?;
        let op = self.builder.alu(rare::<PackInts>(), dst, &[a, b, c]);
        self.builder.code[op].aux = aux;
        Ok(())
    }
}
