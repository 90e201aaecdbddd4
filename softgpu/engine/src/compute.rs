//! Lowering of arithmetic, comparisons and conversions.

use softgpu_ptx::ScalarType::{self, *};
use softgpu_ptx::{Instruction, Operand};

use crate::arith::{self, Mods, Plan};
use crate::bits;
use crate::build::{Field, VReg};
use crate::compare;
use crate::float::Rounding;
use crate::half;
use crate::instructions::{has, last_type};
use crate::kernel::Constant;
use crate::lanes::{COMBINE_AND, COMBINE_NONE, COMBINE_OR, COMBINE_XOR, Handler, Kind, NONE, alu};
use crate::lower::{Lowering, Result};
use crate::rare::rare;
use crate::special;
use crate::uncommon;

pub fn mods(instruction: &Instruction) -> Mods {
    let mut mods = Mods::default();
    for modifier in instruction.modifiers() {
        match modifier {
            "ftz" => mods.ftz = true,
            "sat" => mods.sat = true,
            "approx" => mods.approx = true,
            "full" => mods.full = true,
            "NaN" => mods.nan = true,
            "xorsign" => mods.xorsign = true,
            "abs" => mods.abs = true,
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

/// The comparison that an opcode names, wherever it does.
fn comparison(instruction: &Instruction, ty: ScalarType) -> Option<Handler> {
    let ftz = has(instruction, "ftz");
    let mut modifiers = instruction.modifiers();
    modifiers.find_map(|word| compare::comparison(word, ty, ftz))
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
            "cvt" if has(instruction, "pack") => return self.cvt_pack(instruction),
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
        if self.video(instruction)? {
            return Ok(());
        }
        if let Some(plan) = uncommon::plan(instruction) {
            return self.planned(instruction, plan);
        }
        let Some(ty) = last_type(instruction) else {
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
            let extra = match name {
                "shf" => {
                    let way = if has(instruction, "l") { "l" } else { "r" };
                    let mode = if has(instruction, "wrap") {
                        "wrap"
                    } else {
                        "clamp"
                    };
                    format!("{way}.{mode}")
                }
                "bfind" if has(instruction, "shiftamt") => "shiftamt".to_owned(),
                _ => String::new(),
            };
            let products = matches!(name, "mul" | "mad" | "mul24" | "mad24");
            let ways = ["hi", "lo", "wide"];
            if products && ways.iter().filter(|way| has(instruction, way)).count() != 1 {
                return self.error(
                    instruction,
                    format!("`{name}` of integers names one of `.lo`, `.hi` and `.wide`"),
                );
            }
            if mods.only_floats() {
                None
            } else {
                bits::integer(name, ty, mods, &extra)
            }
        };
        let Some(plan) = plan else {
            return self.unsupported(instruction);
        };
        self.planned(instruction, plan)
    }

    /// An instruction of one destination and as many sources as its plan has.
    pub fn planned(&mut self, instruction: &Instruction, plan: Plan) -> Result<()> {
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
        let op = self.builder.alu(plan.run, dst, &srcs);
        self.builder.code[op].aux = plan.aux;
        Ok(())
    }

    /// A destination register of a type's size.
    pub fn destination(
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
        let Some(run) = comparison(instruction, ty) else {
            return self.unsupported(instruction);
        };
        let (Some(a), Some(b)) = (instruction.operands.get(1), instruction.operands.get(2)) else {
            return self.error(instruction, "a comparison takes two values");
        };
        let mut a = self.source(instruction, a, ty)?;
        let mut b = self.source(instruction, b, ty)?;
        if ty == F16 && has(instruction, "ftz") {
            let flush = rare::<half::Flush<half::F16>>();
            (a, b) = (self.unary(flush, 2, a), self.unary(flush, 2, b));
        }
        let (combine, with) = self.combination(instruction)?;
        Ok((run, [a, b], combine, with))
    }

    /// How `setp` and `set` combine what they find with a predicate operand.
    fn combination(&mut self, instruction: &Instruction) -> Result<(u32, u32)> {
        let combine = match () {
            () if has(instruction, "and") => COMBINE_AND,
            () if has(instruction, "or") => COMBINE_OR,
            () if has(instruction, "xor") => COMBINE_XOR,
            () => COMBINE_NONE,
        };
        let with = match (combine, instruction.operands.get(3)) {
            (COMBINE_NONE, None) => 0,
            (COMBINE_NONE, Some(_)) => {
                return self.error(instruction, "a predicate stands where none is combined");
            }
            (_, Some(operand)) => self.pred_source(instruction, operand)?,
            _ => return self.error(instruction, "the predicate to combine with is missing"),
        };
        Ok((combine, with))
    }

    pub fn test(
        &mut self,
        run: Handler,
        srcs: [VReg; 2],
        combine: u32,
        with: u32,
        yes: u32,
        no: u32,
    ) {
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
            return self.setp_pair(instruction, ty);
        }
        let (yes, no) = match first {
            Operand::Pair(..) if matches!(ty, F16 | BF16) => {
                return self.error(instruction, "this comparison sets one predicate");
            }
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
        let pair = matches!(ty, F16x2 | BF16x2);
        let halves = matches!(ty, F16 | BF16);
        let fits = match result {
            // Of a pair, each half of the result is all ones or none.
            U32 | S32 => true,
            F32 => !pair,
            F16 => !pair && ty != BF16,
            BF16 => !pair,
            U16 | S16 => halves,
            F16x2 | BF16x2 => ty == result,
            _ => false,
        };
        if !fits {
            return self.unsupported(instruction);
        }
        let one = match result {
            F32 => u64::from(1f32.to_bits()),
            F16 | F16x2 => 0x3c00,
            BF16 | BF16x2 => 0x3f80,
            _ => u64::MAX,
        };
        let size = if pair { 2 } else { result.size() };
        let yes = self.builder.constant(Constant::Bits(one), size);
        let no = self.builder.constant(Constant::Bits(0), size);
        let preds = [self.builder.pred() << 1, self.builder.pred() << 1];
        if !pair {
            let (run, srcs, combine, with) = self.comparison(instruction, ty)?;
            self.test(run, srcs, combine, with, preds[0], NONE);
            let dst = self.destination(instruction, &instruction.operands[0], result)?;
            return self.select(instruction, dst, yes, no, preds[0]);
        }
        self.test_pair(instruction, ty, preds)?;
        let parts = [self.builder.reg(2), self.builder.reg(2)];
        for (part, pred) in parts.into_iter().zip(preds) {
            self.select(instruction, part, yes, no, pred)?;
        }
        let dst = self.destination(instruction, &instruction.operands[0], result)?;
        self.builder.alu(alu::<special::Pack16>(), dst, &parts);
        Ok(())
    }

    /// Comparisons of both halves, each into a predicate of its own.
    fn test_pair(
        &mut self,
        instruction: &Instruction,
        ty: ScalarType,
        preds: [u32; 2],
    ) -> Result<()> {
        let element = if ty == F16x2 { F16 } else { BF16 };
        let ftz = has(instruction, "ftz");
        let (Some(run), Some(a), Some(b)) = (
            comparison(instruction, element),
            instruction.operands.get(1),
            instruction.operands.get(2),
        ) else {
            return self.unsupported(instruction);
        };
        let (combine, with) = self.combination(instruction)?;
        let mut srcs = [
            self.source(instruction, a, ty)?,
            self.source(instruction, b, ty)?,
        ];
        if ftz {
            let flush = rare::<half::PackedRare<half::Flush<half::F16>>>();
            srcs = srcs.map(|src| self.unary(flush, 4, src));
        }
        let low = srcs.map(|src| self.unary(alu::<bits::U32U16>(), 2, src));
        let high = srcs.map(|src| self.unary(alu::<special::High32>(), 2, src));
        // Both tests before either predicate is written: one may be what they combine with.
        let first = self.builder.pred() << 1;
        self.test(run, low, combine, with, first, NONE);
        self.test(run, high, combine, with, preds[1], NONE);
        self.pred_op(preds[0], first, first, compare::PRED_MOVE);
        Ok(())
    }

    fn setp_pair(&mut self, instruction: &Instruction, ty: ScalarType) -> Result<()> {
        let Some(Operand::Pair(low, high)) = instruction.operands.first() else {
            return self.error(instruction, "a comparison of pairs sets two predicates");
        };
        let preds = [
            self.pred_target(instruction, low)?,
            self.pred_target(instruction, high)?,
        ];
        self.test_pair(instruction, ty, preds)
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
        let mut c = self.source(instruction, c, by)?;
        if by == F32 && has(instruction, "ftz") {
            c = self.unary(alu::<arith::convert::FlushF>(), 4, c);
        }
        let dst = self.destination(instruction, dst, ty)?;
        self.builder.alu(run, dst, &[a, b, c]);
        Ok(())
    }

    fn testp(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, a] = self.operands::<2>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let mut modifiers = instruction.modifiers();
        let Some(run) = modifiers.find_map(|kind| compare::property_test(kind, ty)) else {
            return self.unsupported(instruction);
        };
        let a = self.source(instruction, a, ty)?;
        let dst = self.pred_target(instruction, dst)?;
        self.test(run, [a, a], COMBINE_NONE, 0, dst, NONE);
        Ok(())
    }

    fn lop3(&mut self, instruction: &Instruction) -> Result<()> {
        let joined = has(instruction, "and") || has(instruction, "or");
        let (target, a, b, c, table, with) = match &instruction.operands[..] {
            [dst, a, b, c, Operand::Int(table)] if !joined => (dst, a, b, c, table, None),
            [dst, a, b, c, Operand::Int(table), with] if joined => {
                (dst, a, b, c, table, Some(with))
            }
            _ => {
                return self.error(
                    instruction,
                    "`lop3` takes a destination, three values and a table, with `.and` or `.or` a predicate, too",
                );
            }
        };
        let mut srcs = Vec::new();
        for operand in [a, b, c] {
            srcs.push(self.source(instruction, operand, B32)?);
        }
        let Some(with) = with else {
            let dst = self.destination(instruction, target, B32)?;
            let op = self.builder.alu(special::lop3, dst, &srcs);
            self.builder.code[op].imm = *table & 255;
            return Ok(());
        };
        let Operand::Pair(dst, pred) = target else {
            return self.error(instruction, "`lop3` with a predicate has two destinations");
        };
        let with = self.pred_source(instruction, with)?;
        let pred = self.pred_target(instruction, pred)?;
        let dst = self.destination(instruction, dst, B32)?;
        let op = self.builder.alu(special::lop3, dst, &srcs);
        self.builder.code[op].imm = *table & 255;
        let zero = self.builder.constant(Constant::Bits(0), 4);
        let Some(run) = compare::comparison("ne", B32, false) else {
            return self.unsupported(instruction);
        };
        let combine = if has(instruction, "and") {
            COMBINE_AND
        } else {
            COMBINE_OR
        };
        self.test(run, [dst, zero], combine, with, pred, NONE);
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
        if !matches!(ty, U32 | S32 | U64 | S64) {
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
}
