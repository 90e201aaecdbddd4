//! Lowering of arithmetic, comparisons and conversions.

use softgpu_ptx::ScalarType::{self, *};
use softgpu_ptx::{Instruction, Operand};

use crate::arith::{self, Mods, convert};
use crate::bits;
use crate::build::{Field, VReg};
use crate::compare;
use crate::float::Rounding;
use crate::instructions::{has, last_type};
use crate::kernel::Constant;
use crate::lanes::{COMBINE_AND, COMBINE_NONE, COMBINE_OR, COMBINE_XOR, Handler, Kind, NONE, alu};
use crate::lower::{Lowering, Result};
use crate::special;

fn mods(instruction: &Instruction) -> Mods {
    let mut mods = Mods::default();
    for modifier in instruction.modifiers() {
        match modifier {
            "ftz" => mods.ftz = true,
            "sat" => mods.sat = true,
            "approx" | "full" => mods.approx = true,
            "NaN" => mods.nan = true,
            "xorsign" => mods.xorsign = true,
            "relu" => mods.relu = true,
            "hi" => mods.hi = true,
            "wide" => mods.wide = true,
            "rn" | "rni" | "rna" => mods.mode = Some(Rounding::Nearest),
            "rz" | "rzi" => mods.mode = Some(Rounding::Zero),
            "rm" | "rmi" => mods.mode = Some(Rounding::Down),
            "rp" | "rpi" => mods.mode = Some(Rounding::Up),
            _ => {}
        }
    }
    mods
}

impl Lowering<'_> {
    pub fn compute(&mut self, instruction: &Instruction) -> Result<()> {
        let name = instruction.mnemonic();
        match name {
            "setp" => return self.setp(instruction),
            "set" => return self.set(instruction),
            "selp" => return self.selp(instruction),
            "slct" => return self.slct(instruction),
            "testp" => return self.testp(instruction),
            "cvt" => return self.cvt(instruction),
            "lop3" => return self.lop3(instruction),
            "bfi" => return self.bfi(instruction),
            "dp4a" | "dp2a" => return self.dot(instruction),
            "addc" | "subc" | "madc" => return self.carried(instruction),
            "add" | "sub" | "mad" if has(instruction, "cc") => return self.carried(instruction),
            "prmt"
                if instruction
                    .modifiers()
                    .any(|m| special::PRMT_MODES.contains(&m)) =>
            {
                return self.prmt(instruction);
            }
            _ => {}
        }
        let Some(mut ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        if ty == Pred {
            return self.predicates(instruction);
        }
        let mods = mods(instruction);
        // "fma.rn.f32.f16" and the like mix types.
        let types = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect::<Vec<_>>();
        if types.len() > 1 && name != "sad" {
            return self.unsupported(instruction);
        }
        let plan = if ty.is_float() && !matches!(name, "and" | "or" | "xor" | "not") {
            arith::float(name, ty, mods)
        } else {
            if matches!(name, "add" | "sub" | "mul" | "min" | "max" | "neg")
                && instruction
                    .modifiers()
                    .any(|m| matches!(m, "u16x2" | "s16x2"))
            {
                return self.unsupported(instruction);
            }
            if name == "neg" && matches!(ty, B16 | B32 | B64) {
                ty = S32;
            }
            let extra = match name {
                "shf" => {
                    let mut parts = instruction.modifiers();
                    format!(
                        "{}.{}",
                        parts.next().unwrap_or(""),
                        parts.next().unwrap_or("")
                    )
                }
                "bfind" if has(instruction, "shiftamt") => "shiftamt".to_owned(),
                _ => String::new(),
            };
            if mods.relu {
                None
            } else {
                bits::integer(name, ty, mods, &extra)
            }
        };
        let Some(plan) = plan else {
            return self.unsupported(instruction);
        };
        if instruction.operands.len() != plan.srcs.len() + 1 {
            return self.error(
                instruction,
                format!(
                    "`{}` takes {} operands",
                    instruction.opcode,
                    plan.srcs.len() + 1
                ),
            );
        }
        let mut srcs = Vec::with_capacity(3);
        for (operand, &ty) in instruction.operands[1..].iter().zip(&plan.srcs) {
            srcs.push(self.source(instruction, operand, ty)?);
        }
        let dst = self.destination(instruction, &instruction.operands[0], plan.dst)?;
        self.builder.alu(plan.run, dst, &srcs);
        Ok(())
    }

    /// A destination register of a type's size.
    fn destination(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        ty: ScalarType,
    ) -> Result<VReg> {
        if *operand == Operand::Discard {
            return Ok(self.builder.reg(ty.size().max(2)));
        }
        let dst = self.target(instruction, operand)?;
        let (has, wants) = (self.builder.size(dst), ty.size().max(2));
        if has != wants {
            let message = format!(
                "the destination has {} bits, the instruction gives {}",
                has * 8,
                wants * 8
            );
            return self.error(instruction, message);
        }
        Ok(dst)
    }

    fn predicates(&mut self, instruction: &Instruction) -> Result<()> {
        let Some((first, rest)) = instruction.operands.split_first() else {
            return self.unsupported(instruction);
        };
        let dst = self.pred_target(instruction, first)?;
        let (table, count) = match instruction.mnemonic() {
            "and" => (compare::PRED_AND, 2),
            "or" => (compare::PRED_OR, 2),
            "xor" => (compare::PRED_XOR, 2),
            "not" => (compare::PRED_MOVE, 1),
            _ => return self.unsupported(instruction),
        };
        if rest.len() != count {
            return self.error(
                instruction,
                format!("`{}` takes {} operands", instruction.opcode, count + 1),
            );
        }
        let a = self.pred_source(instruction, &rest[0])?;
        let a = if count == 1 { a ^ 1 } else { a };
        let b = if count == 2 {
            self.pred_source(instruction, &rest[1])?
        } else {
            a
        };
        self.pred_op(dst, a, b, table);
        Ok(())
    }

    /// The comparison of a setp or set, and the operands behind its two.
    fn comparison(
        &mut self,
        instruction: &Instruction,
        ty: ScalarType,
    ) -> Result<(Handler, [VReg; 2], u32, u32)> {
        let Some(op) = instruction.modifiers().next() else {
            return self.unsupported(instruction);
        };
        let Some(run) = compare::comparison(op, ty, has(instruction, "ftz")) else {
            return self.unsupported(instruction);
        };
        let (Some(a), Some(b)) = (instruction.operands.get(1), instruction.operands.get(2)) else {
            return self.error(instruction, "a comparison takes two values");
        };
        let a = self.source(instruction, a, ty)?;
        let b = self.source(instruction, b, ty)?;
        let combine = match instruction.modifiers().nth(1) {
            Some("and") => COMBINE_AND,
            Some("or") => COMBINE_OR,
            Some("xor") => COMBINE_XOR,
            _ => COMBINE_NONE,
        };
        let with = match (combine, instruction.operands.get(3)) {
            (COMBINE_NONE, _) => 0,
            (_, Some(operand)) => self.pred_source(instruction, operand)?,
            _ => return self.error(instruction, "the predicate to combine with is missing"),
        };
        Ok((run, [a, b], combine, with))
    }

    fn test(&mut self, run: Handler, srcs: [VReg; 2], combine: u32, with: u32, yes: u32, no: u32) {
        let op = self.builder.push(run, Kind::Plain);
        self.builder.reads(op, Field::A, srcs[0]);
        self.builder.reads(op, Field::B, srcs[1]);
        let op = &mut self.builder.code[op];
        (op.c, op.aux, op.dst, op.imm) = (with, combine, yes, u64::from(no));
    }

    fn setp(&mut self, instruction: &Instruction) -> Result<()> {
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let Some(first) = instruction.operands.first() else {
            return self.unsupported(instruction);
        };
        if matches!(ty, F16x2 | BF16x2) {
            return self.unsupported(instruction);
        }
        let (yes, no) = match first {
            Operand::Pair(yes, no) => (
                self.pred_target(instruction, yes)?,
                self.pred_target(instruction, no)?,
            ),
            yes => (self.pred_target(instruction, yes)?, NONE),
        };
        let (run, srcs, combine, with) = self.comparison(instruction, ty)?;
        self.test(run, srcs, combine, with, yes, no);
        Ok(())
    }

    fn set(&mut self, instruction: &Instruction) -> Result<()> {
        let types: Vec<_> = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect();
        let [result, ty] = types[..] else {
            return self.unsupported(instruction);
        };
        if result.size() != 4 || ty == F16x2 || ty == BF16x2 {
            return self.unsupported(instruction);
        }
        let (run, srcs, combine, with) = self.comparison(instruction, ty)?;
        let pred = self.builder.pred() << 1;
        self.test(run, srcs, combine, with, pred, NONE);
        let dst = self.destination(instruction, &instruction.operands[0], result)?;
        let one = if result == F32 {
            u64::from(1f32.to_bits())
        } else {
            0xffff_ffff
        };
        let yes = self.builder.constant(Constant::Bits(one), 4);
        let no = self.builder.constant(Constant::Bits(0), 4);
        self.select(instruction, dst, yes, no, pred)
    }

    fn select(
        &mut self,
        instruction: &Instruction,
        dst: VReg,
        yes: VReg,
        no: VReg,
        pred: u32,
    ) -> Result<()> {
        let Some(run) = compare::selection(self.builder.size(dst)) else {
            return self.unsupported(instruction);
        };
        let op = self.builder.alu(run, dst, &[yes, no]);
        self.builder.code[op].c = pred;
        Ok(())
    }

    fn selp(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, yes, no, pred] = self.operands::<4>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let yes = self.source(instruction, yes, ty)?;
        let no = self.source(instruction, no, ty)?;
        let pred = self.pred_source(instruction, pred)?;
        let dst = self.destination(instruction, dst, ty)?;
        self.select(instruction, dst, yes, no, pred)
    }

    fn slct(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a, b, c] = self.operands::<4>(instruction)?;
        let types: Vec<_> = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect();
        let [ty, by] = types[..] else {
            return self.unsupported(instruction);
        };
        let Some(run) = compare::slct(ty.size(), by) else {
            return self.unsupported(instruction);
        };
        let a = self.source(instruction, a, ty)?;
        let b = self.source(instruction, b, ty)?;
        let c = self.source(instruction, c, by)?;
        let dst = self.destination(instruction, dst, ty)?;
        self.builder.alu(run, dst, &[a, b, c]);
        Ok(())
    }

    fn testp(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a] = self.operands::<2>(instruction)?;
        let (Some(ty), Some(kind)) = (last_type(instruction), instruction.modifiers().next())
        else {
            return self.unsupported(instruction);
        };
        let Some(run) = compare::property_test(kind, ty) else {
            return self.unsupported(instruction);
        };
        let a = self.source(instruction, a, ty)?;
        let dst = self.pred_target(instruction, dst)?;
        self.test(run, [a, a], COMBINE_NONE, 0, dst, NONE);
        Ok(())
    }

    fn lop3(&mut self, instruction: &Instruction) -> Result<()> {
        let operands = &instruction.operands;
        let [dst, a, b, c, Operand::Int(table)] = &operands[..] else {
            return self.unsupported(instruction);
        };
        let mut srcs = Vec::new();
        for operand in [a, b, c] {
            srcs.push(self.source(instruction, operand, B32)?);
        }
        let dst = self.destination(instruction, dst, B32)?;
        let op = self.builder.alu(special::lop3, dst, &srcs);
        self.builder.code[op].imm = *table & 255;
        Ok(())
    }

    fn bfi(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a, b, c, d] = self.operands::<5>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let run: Handler = if ty.size() == 8 {
            special::bfi64
        } else {
            special::bfi32
        };
        let a = self.source(instruction, a, ty)?;
        let b = self.source(instruction, b, ty)?;
        let c = self.source(instruction, c, U32)?;
        let d = self.source(instruction, d, U32)?;
        let dst = self.destination(instruction, dst, ty)?;
        let op = self.builder.alu(run, dst, &[a, b, c]);
        self.builder.reads(op, Field::Imm, d);
        Ok(())
    }

    fn prmt(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a, b, c] = self.operands::<4>(instruction)?;
        let mode = special::PRMT_MODES
            .iter()
            .position(|mode| has(instruction, mode))
            .unwrap_or(0);
        let mut srcs = Vec::new();
        for operand in [a, b, c] {
            srcs.push(self.source(instruction, operand, B32)?);
        }
        let dst = self.destination(instruction, dst, B32)?;
        let op = self.builder.alu(special::prmt, dst, &srcs);
        self.builder.code[op].aux = mode as u32;
        Ok(())
    }

    fn dot(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a, b, c] = self.operands::<4>(instruction)?;
        let types: Vec<_> = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect();
        let [ta, tb] = types[..] else {
            return self.unsupported(instruction);
        };
        let which = match instruction.mnemonic() {
            "dp4a" => 0,
            _ if has(instruction, "hi") => 2,
            _ => 1,
        };
        let mut srcs = Vec::new();
        for operand in [a, b, c] {
            srcs.push(self.source(instruction, operand, B32)?);
        }
        let dst = self.destination(instruction, dst, B32)?;
        self.builder
            .alu(bits::dot(which, ta.is_signed(), tb.is_signed()), dst, &srcs);
        Ok(())
    }

    /// add.cc, addc, sub.cc, subc, mad.cc, madc: the carry is a predicate.
    fn carried(&mut self, instruction: &Instruction) -> Result<()> {
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        if !matches!(ty, U32 | S32 | U64 | S64 | B32 | B64) {
            return self.unsupported(instruction);
        }
        let size = ty.size();
        let flag = self.carry_flag() << 1;
        let name = instruction.mnemonic();
        let (takes, gives) = (name.ends_with('c'), has(instruction, "cc"));
        let subtract = name.starts_with("sub");
        let operands = &instruction.operands;
        if operands.len() != if name.starts_with("mad") { 4 } else { 3 } {
            return self.error(
                instruction,
                format!("`{}` has another number of operands", instruction.opcode),
            );
        }
        let plain = |name: &str, hi: bool| {
            bits::integer(
                name,
                ty,
                Mods {
                    hi,
                    ..Mods::default()
                },
                "",
            )
        };
        let (a, b) = if name.starts_with("mad") {
            let x = self.source(instruction, &operands[1], ty)?;
            let y = self.source(instruction, &operands[2], ty)?;
            let Some(plan) = plain("mul", has(instruction, "hi")) else {
                return self.unsupported(instruction);
            };
            let product = self.builder.reg(size);
            self.builder.alu(plan.run, product, &[x, y]);
            (product, self.source(instruction, &operands[3], ty)?)
        } else {
            (
                self.source(instruction, &operands[1], ty)?,
                self.source(instruction, &operands[2], ty)?,
            )
        };
        let dst = self.destination(instruction, &operands[0], ty)?;
        let Some(plan) = plain(if subtract { "sub" } else { "add" }, false) else {
            return self.unsupported(instruction);
        };
        let first = self.builder.reg(size);
        self.builder.alu(plan.run, first, &[a, b]);
        let carry = compare::carry(size, subtract);
        if takes {
            let one = self.builder.constant(Constant::Bits(1), size);
            let zero = self.builder.constant(Constant::Bits(0), size);
            let add = self.builder.reg(size);
            self.select(instruction, add, one, zero, flag)?;
            if gives {
                self.test(carry, [a, b], COMBINE_NONE, 0, flag, NONE);
                self.test(carry, [first, add], COMBINE_OR, flag, flag, NONE);
            }
            self.builder.alu(plan.run, dst, &[first, add]);
        } else {
            self.test(carry, [a, b], COMBINE_NONE, 0, flag, NONE);
            self.copy(instruction, dst, first)?;
        }
        Ok(())
    }

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

    fn unary(&mut self, run: Handler, size: u32, src: VReg) -> VReg {
        let dst = self.builder.reg(size);
        self.builder.alu(run, dst, &[src]);
        dst
    }

    fn cvt(&mut self, instruction: &Instruction) -> Result<()> {
        let types: Vec<_> = instruction
            .modifiers()
            .filter_map(ScalarType::parse)
            .collect();
        let [to, from] = types[..] else {
            return self.unsupported(instruction);
        };
        let m = mods(instruction);
        if matches!(to, F16x2 | BF16x2) && from == F32 {
            return self.cvt_pair(instruction, to, m);
        }
        let known = instruction.modifiers().all(|modifier| {
            ScalarType::parse(modifier).is_some()
                || matches!(
                    modifier,
                    "rn" | "rz" | "rm" | "rp" | "rni" | "rzi" | "rmi" | "rpi" | "rna"
                )
                || matches!(modifier, "ftz" | "sat" | "relu")
        });
        let packed = |ty| matches!(ty, F16x2 | BF16x2 | Pred | B128);
        if !known || packed(to) || packed(from) || has(instruction, "rna") {
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
        Ok(self.saturated(result, to, m.sat))
    }

    /// `cvt.rn.f16x2.f32 d, a, b`: a in the upper half.
    fn cvt_pair(&mut self, instruction: &Instruction, to: ScalarType, m: Mods) -> Result<()> {
        let [dst, high, low] = self.operands::<3>(instruction)?;
        let half = if to == F16x2 { F16 } else { BF16 };
        if !matches!(m.mode, Some(Rounding::Nearest | Rounding::Zero)) {
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
