//! Lowering of conversions.

use std::marker::PhantomData;

use softgpu_ptx::ScalarType::{self, *};
use softgpu_ptx::{Instruction, Operand};

use crate::arith::{Mods, convert};
use crate::bits;
use crate::build::VReg;
use crate::compute::mods;
use crate::float::Rounding;
use crate::half;
use crate::instructions::has;
use crate::kernel::Constant;
use crate::lanes::{Handler, alu};
use crate::lower::{Lowering, Result};
use crate::rare::{Rare, rare};
use crate::special;

/// `.satfinite`: infinity becomes the largest number.
struct Finite<F>(PhantomData<F>);
impl<F: half::Format> Rare for Finite<F> {
    type D = u16;
    type A = u16;
    type B = u16;
    type C = u16;
    const ARITY: usize = 1;
    fn f(a: u16, _b: u16, _c: u16, _aux: u32) -> u16 {
        if a & 0x7fff == F::EXPONENT { a - 1 } else { a }
    }
}

impl Lowering<'_> {
    /// A register as an integer type: narrower ones are cut out, 8 bits extended to 16.
    fn integer_source(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        ty: ScalarType,
    ) -> Result<VReg> {
        let reg = self.source(instruction, operand, ty)?;
        if ty.size() > 1 {
            return Ok(reg);
        }
        let byte = self.builder.reg(2);
        self.builder
            .alu(bits::low_byte(ty.is_signed()), byte, &[reg]);
        Ok(byte)
    }

    /// Write a value of a type into a destination register that may be wider.
    fn put(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        value: VReg,
        ty: ScalarType,
    ) -> Result<()> {
        let dst = self.target(instruction, operand)?;
        let (has, is) = (self.builder.size(dst), self.builder.size(value));
        if has < is {
            return self.error(
                instruction,
                format!("the destination has {} bits, fewer than the type", has * 8),
            );
        }
        match bits::resize(is, has, ty.is_signed()) {
            Some(run) => {
                self.builder.alu(run, dst, &[value]);
                Ok(())
            }
            None => self.unsupported(instruction),
        }
    }

    pub fn unary(&mut self, run: Handler, size: u32, src: VReg) -> VReg {
        let dst = self.builder.reg(size);
        self.builder.alu(run, dst, &[src]);
        dst
    }

    pub fn cvt(&mut self, instruction: &Instruction) -> Result<()> {
        let types: Vec<_> = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect();
        let special = instruction
            .modifiers()
            .any(|modifier| matches!(modifier, "tf32" | "e4m3x2" | "e5m2x2"));
        if special {
            return self.cvt_small(instruction);
        }
        let [to, from] = types[..] else {
            return self.unsupported(instruction);
        };
        let m = mods(instruction);
        if matches!(to, F16x2 | BF16x2) && from == F32 {
            return self.cvt_pair(instruction, to, m);
        }
        let other =
            |ty: ScalarType| matches!(ty, F16x2 | BF16x2 | Pred | B8 | B16 | B32 | B64 | B128);
        let finite = has(instruction, "satfinite");
        let narrows = from == F32 && matches!(to, F16 | BF16);
        if other(to)
            || other(from)
            || has(instruction, "rna")
            || (m.relu || finite) && !narrows
            || narrows && (m.relu || finite) && !self.rounds_near_or_zero(m)
        {
            return self.unsupported(instruction);
        }
        let [dst, src] = self.operands::<2>(instruction)?;
        let value = match (from.is_float(), to.is_float()) {
            (false, false) => {
                let value = self.integer_source(instruction, src, from)?;
                if m.sat {
                    self.saturate(instruction, value, from, to)?
                } else {
                    self.cut(instruction, value, from, to)?
                }
            }
            (false, true) => {
                let value = self.integer_source(instruction, src, from)?;
                let mode = m.mode.unwrap_or(Rounding::Nearest);
                let narrow = if to == F64 {
                    if from.size() == 8 {
                        self.unary(convert::wide_to_f64(from.is_signed(), mode), 8, value)
                    } else {
                        let Some(run) = convert::int_to_float(from, F64) else {
                            return self.unsupported(instruction);
                        };
                        self.unary(run, 8, value)
                    }
                } else if to == F32 && mode == Rounding::Nearest {
                    let Some(run) = convert::int_to_float(from, F32) else {
                        return self.unsupported(instruction);
                    };
                    self.unary(run, 4, value)
                } else {
                    let exact = match (from.size(), from.is_signed()) {
                        (8, true) => alu::<convert::WideOdd<true>>(),
                        (8, false) => alu::<convert::WideOdd<false>>(),
                        _ => match convert::int_to_float(from, F64) {
                            Some(run) => run,
                            None => return self.unsupported(instruction),
                        },
                    };
                    let exact = self.unary(exact, 8, value);
                    let Some(run) = convert::from_f64(to, mode) else {
                        return self.unsupported(instruction);
                    };
                    self.unary(run, to.size(), exact)
                };
                self.saturated(narrow, to, m.sat)
            }
            (true, false) => {
                let value = self.source(instruction, src, from)?;
                let (value, ty) = self.widened(value, from, m.ftz);
                let Some(mode) = m.mode else {
                    return self.error(
                        instruction,
                        "a conversion to an integer names how it rounds (`.rzi`)",
                    );
                };
                let Some(run) = convert::integral(ty, mode) else {
                    return self.unsupported(instruction);
                };
                let whole = self.unary(run, ty.size(), value);
                let Some(run) = convert::float_to_int(ty, to) else {
                    return self.unsupported(instruction);
                };
                self.unary(run, to.size().max(2), whole)
            }
            (true, true) => self.float_to_float(instruction, src, from, to, m)?,
        };
        self.put(instruction, dst, value, to)
    }

    /// f16 and bf16 as f32; f32 flushed where asked for.
    fn widened(&mut self, value: VReg, from: ScalarType, ftz: bool) -> (VReg, ScalarType) {
        match from {
            F16 => (self.unary(alu::<convert::H2F>(), 4, value), F32),
            BF16 => (self.unary(alu::<convert::B2F>(), 4, value), F32),
            F32 if ftz => (self.unary(alu::<convert::FlushF>(), 4, value), F32),
            other => (value, other),
        }
    }

    fn saturated(&mut self, value: VReg, ty: ScalarType, sat: bool) -> VReg {
        if !sat {
            return value;
        }
        match ty {
            F64 => self.unary(alu::<convert::SatG>(), 8, value),
            F32 => self.unary(alu::<convert::SatF>(), 4, value),
            F16 => {
                let wide = self.unary(alu::<convert::H2F>(), 4, value);
                let wide = self.unary(alu::<convert::SatF>(), 4, wide);
                self.unary(alu::<convert::F2H>(), 2, wide)
            }
            _ => {
                let wide = self.unary(alu::<convert::B2F>(), 4, value);
                let wide = self.unary(alu::<convert::SatF>(), 4, wide);
                self.unary(alu::<convert::F2B>(), 2, wide)
            }
        }
    }

    fn float_to_float(
        &mut self,
        instruction: &Instruction,
        src: &Operand,
        from: ScalarType,
        to: ScalarType,
        m: Mods,
    ) -> Result<VReg> {
        let integral = instruction
            .modifiers()
            .any(|modifier| matches!(modifier, "rni" | "rzi" | "rmi" | "rpi"));
        let mode = m.mode.unwrap_or(Rounding::Nearest);
        let mut value = self.source(instruction, src, from)?;
        let mut ty = from;
        if integral {
            (value, ty) = self.widened(value, from, m.ftz);
            let Some(run) = convert::integral(ty, mode) else {
                return self.unsupported(instruction);
            };
            value = self.unary(run, ty.size(), value);
        } else if from == F32 && m.ftz {
            (value, ty) = self.widened(value, from, true);
        }
        if m.relu {
            (value, ty) = self.widened(value, ty, false);
            if ty != F32 {
                return self.unsupported(instruction);
            }
            value = self.unary(alu::<convert::ReluF>(), 4, value);
        }
        if to.size() >= 4 {
            (value, ty) = self.widened(value, ty, false);
        }
        let rounding = if integral { Rounding::Nearest } else { mode };
        let result = match (ty, to) {
            (a, b) if a == b => value,
            (F32, F64) => self.unary(alu::<convert::F2G>(), 8, value),
            (F32, F16) if rounding == Rounding::Nearest => {
                self.unary(alu::<convert::F2H>(), 2, value)
            }
            (F32, BF16) if rounding == Rounding::Nearest => {
                self.unary(alu::<convert::F2B>(), 2, value)
            }
            _ => {
                let wide = match ty {
                    F64 => value,
                    F32 => self.unary(alu::<convert::F2G>(), 8, value),
                    F16 => self.unary(alu::<convert::H2G>(), 8, value),
                    _ => self.unary(alu::<convert::B2G>(), 8, value),
                };
                let Some(run) = convert::from_f64(to, rounding) else {
                    return self.unsupported(instruction);
                };
                self.unary(run, to.size(), wide)
            }
        };
        let result = if m.ftz && to == F32 {
            self.unary(alu::<convert::FlushF>(), 4, result)
        } else {
            result
        };
        let result = if has(instruction, "satfinite") {
            let run = if to == F16 {
                rare::<Finite<half::F16>>()
            } else {
                rare::<Finite<half::Bf16>>()
            };
            self.unary(run, 2, result)
        } else {
            result
        };
        Ok(self.saturated(result, to, m.sat))
    }

    pub fn rounds_near_or_zero(&self, m: Mods) -> bool {
        matches!(m.mode, Some(Rounding::Nearest | Rounding::Zero))
    }

    /// `cvt.rn.f16x2.f32 d, a, b`: a in the upper half.
    fn cvt_pair(&mut self, instruction: &Instruction, to: ScalarType, m: Mods) -> Result<()> {
        let [dst, high, low] = self.operands::<3>(instruction)?;
        let half = if to == F16x2 { F16 } else { BF16 };
        if !self.rounds_near_or_zero(m) || has(instruction, "rna") || m.ftz || m.sat {
            return self.unsupported(instruction);
        }
        let high = self.float_to_float(instruction, high, F32, half, m)?;
        let low = self.float_to_float(instruction, low, F32, half, m)?;
        let dst = self.destination(instruction, dst, B32)?;
        let Some(run) = special::pack(2) else {
            return self.unsupported(instruction);
        };
        self.builder.alu(run, dst, &[low, high]);
        Ok(())
    }

    /// An integer without saturation.
    fn cut(
        &mut self,
        instruction: &Instruction,
        value: VReg,
        from: ScalarType,
        to: ScalarType,
    ) -> Result<VReg> {
        let value = self.resized(instruction, value, to.size().max(2), from.is_signed())?;
        if to.size() == 1 {
            Ok(self.unary(bits::low_byte(to.is_signed()), 2, value))
        } else {
            Ok(value)
        }
    }

    /// An integer clamped to a type's range: compared in 64 bits, where all but u64 fits.
    fn saturate(
        &mut self,
        instruction: &Instruction,
        value: VReg,
        from: ScalarType,
        to: ScalarType,
    ) -> Result<VReg> {
        let wide = self.resized(instruction, value, 8, from.is_signed())?;
        let bits = to.size() * 8;
        let (lowest, highest) = match (to.is_signed(), bits) {
            (true, bits) => (-1i64 << (bits - 1), (1i64 << (bits - 1)).wrapping_sub(1)),
            (false, 64) => (0, i64::MAX),
            (false, bits) => (0, (1i64 << bits) - 1),
        };
        let low = self.builder.constant(Constant::Bits(lowest as u64), 8);
        let high = self.builder.constant(Constant::Bits(highest as u64), 8);
        let pick = |name, ty| bits::integer(name, ty, Mods::default(), "").map(|plan| plan.run);
        let order = if from.is_signed() { S64 } else { U64 };
        let mut clamped = wide;
        if from.is_signed()
            && let Some(run) = pick("max", S64)
        {
            let next = self.builder.reg(8);
            self.builder.alu(run, next, &[clamped, low]);
            clamped = next;
        }
        if (from.is_signed() || to != U64)
            && let Some(run) = pick("min", order)
        {
            let next = self.builder.reg(8);
            self.builder.alu(run, next, &[clamped, high]);
            clamped = next;
        }
        self.cut(instruction, clamped, S64, to)
    }
}
