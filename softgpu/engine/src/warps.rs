//! Lowering of instructions in which the lanes of a warp meet.

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::build::Field;
use crate::instructions::{has, last_type};
use crate::lanes::{Kind, NONE};
use crate::lower::{Lowering, Result};
use crate::special;

impl Lowering<'_> {
    pub fn shuffle(&mut self, instruction: &Instruction) -> Result<()> {
        let sync = has(instruction, "sync");
        let wanted = if sync { 5 } else { 4 };
        if instruction.operands.len() != wanted {
            return self.error(
                instruction,
                format!("`{}` takes {wanted} operands", instruction.opcode),
            );
        }
        let mode = match () {
            () if has(instruction, "up") => special::SHFL_UP,
            () if has(instruction, "down") => special::SHFL_DOWN,
            () if has(instruction, "bfly") => special::SHFL_BFLY,
            () if has(instruction, "idx") => special::SHFL_IDX,
            () => return self.unsupported(instruction),
        };
        let (dst, pred) = match &instruction.operands[0] {
            Operand::Pair(dst, pred) => (
                self.target(instruction, dst)?,
                self.pred_target(instruction, pred)?,
            ),
            dst => (self.target(instruction, dst)?, NONE),
        };
        let mut srcs = Vec::new();
        for operand in &instruction.operands[1..4] {
            srcs.push(self.source(instruction, operand, ScalarType::B32)?);
        }
        let members = match instruction.operands.get(4) {
            Some(operand) => Some(self.source(instruction, operand, ScalarType::B32)?),
            None => None,
        };
        if self.builder.size(dst) != 4 && !matches!(instruction.operands[0], Operand::Discard) {
            return self.error(instruction, "`shfl` takes registers of 32 bits");
        }
        self.uses_warps();
        let op = self.builder.alu(special::shfl, dst, &srcs);
        self.builder.code[op].kind = Kind::Collective;
        self.builder.code[op].aux = mode;
        self.builder.code[op].imm = u64::from(pred);
        if let Some(members) = members {
            self.builder.reads(op, Field::D, members);
        }
        Ok(())
    }

    pub fn vote(&mut self, instruction: &Instruction) -> Result<()> {
        let (Some(dst), Some(pred)) = (instruction.operands.first(), instruction.operands.get(1))
        else {
            return self.error(instruction, "`vote` takes a destination and a predicate");
        };
        let mode = match () {
            () if has(instruction, "ballot") => special::VOTE_BALLOT,
            () if has(instruction, "all") => special::VOTE_ALL,
            () if has(instruction, "any") => special::VOTE_ANY,
            () => special::VOTE_UNI,
        };
        let pred = self.pred_source(instruction, pred)?;
        let members = match instruction.operands.get(2) {
            Some(operand) => Some(self.source(instruction, operand, ScalarType::B32)?),
            None => None,
        };
        self.uses_warps();
        let target = if mode == special::VOTE_BALLOT {
            None
        } else {
            Some(self.pred_target(instruction, dst)?)
        };
        let reg = if mode == special::VOTE_BALLOT {
            Some(self.target(instruction, dst)?)
        } else {
            None
        };
        if target == Some(NONE) {
            return Ok(());
        }
        let op = self.builder.push(special::vote, Kind::Collective);
        self.builder.code[op].aux = mode;
        self.builder.code[op].a = pred;
        self.builder.code[op].b = NONE;
        if let Some(members) = members {
            self.builder.reads(op, Field::B, members);
            self.builder.reads(op, Field::D, members);
        }
        match (target, reg) {
            (Some(pred), _) => self.builder.code[op].dst = pred,
            (None, Some(reg)) => self.builder.writes(op, Field::Dst, reg),
            (None, None) => {}
        }
        Ok(())
    }

    pub fn match_values(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, value, members] = self.operands::<3>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let (dst, pred) = match dst {
            Operand::Pair(dst, pred) => (
                self.target(instruction, dst)?,
                self.pred_target(instruction, pred)?,
            ),
            dst => (self.target(instruction, dst)?, NONE),
        };
        let value = self.source(instruction, value, ty)?;
        let members = self.source(instruction, members, ScalarType::B32)?;
        self.uses_warps();
        let op = self
            .builder
            .alu(special::match_values, dst, &[value, members]);
        self.builder.reads(op, Field::D, members);
        self.builder.code[op].kind = Kind::Collective;
        self.builder.code[op].aux = ty.size() | if has(instruction, "all") { 16 } else { 0 };
        self.builder.code[op].imm = u64::from(pred);
        Ok(())
    }

    pub fn redux(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, value, members] = self.operands::<3>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let name = ["add", "min", "max", "and", "or", "xor"]
            .into_iter()
            .find(|name| has(instruction, name));
        let flags = [("abs", special::REDUX_ABS), ("NaN", special::REDUX_NAN)]
            .into_iter()
            .filter(|(word, _)| has(instruction, word))
            .fold(0, |all, (_, bit)| all | bit);
        let kind = match (name, ty) {
            (Some("add"), ScalarType::U32 | ScalarType::S32) => "",
            (Some("and" | "or" | "xor"), ScalarType::B32) => "",
            (Some("min" | "max"), ScalarType::U32) => ".u",
            (Some("min" | "max"), ScalarType::S32) => ".s",
            (Some("min" | "max"), ScalarType::F32) => ".f",
            _ => return self.unsupported(instruction),
        };
        let name = format!("{}{kind}", name.unwrap_or_default());
        let which = special::REDUX.iter().position(|known| *known == name);
        let Some(which) = which.filter(|_| flags == 0 || ty == ScalarType::F32) else {
            return self.unsupported(instruction);
        };
        if ty == ScalarType::F32 {
            self.needs_target(instruction, 100)?;
        }
        let dst = self.destination(instruction, dst, ty)?;
        let value = self.source(instruction, value, ty)?;
        let members = self.source(instruction, members, ScalarType::B32)?;
        self.uses_warps();
        let op = self.builder.alu(special::redux, dst, &[value, members]);
        self.builder.reads(op, Field::D, members);
        self.builder.code[op].kind = Kind::Collective;
        self.builder.code[op].aux = which as u32 | flags;
        Ok(())
    }

    /// `elect.sync d|p, members`
    pub fn elect(&mut self, instruction: &Instruction) -> Result<()> {
        let [Operand::Pair(dst, pred), members] = self.operands::<2>(instruction)? else {
            return self.error(
                instruction,
                "`elect` takes a register and a predicate, and the members",
            );
        };
        if !has(instruction, "sync") {
            return self.unsupported(instruction);
        }
        let dst = self.destination(instruction, dst, ScalarType::B32)?;
        let pred = self.pred_target(instruction, pred)?;
        let members = self.source(instruction, members, ScalarType::B32)?;
        self.uses_warps();
        let op = self.builder.alu(special::elect, dst, &[members]);
        self.builder.reads(op, Field::D, members);
        self.builder.code[op].kind = Kind::Collective;
        self.builder.code[op].imm = u64::from(pred);
        Ok(())
    }
}
