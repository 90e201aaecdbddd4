//! Lowering of single instructions: control, memory, and what moves values about. Arithmetic is in `compute`.

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::access::{self, Atomic, LOCAL, PARAM, SHARED, VECTOR};
use crate::bits::{low_byte, movement};
use crate::build::{Field, VReg};
use crate::compare;
use crate::kernel::Constant;
use crate::lanes::{Kind, NONE};
use crate::lower::{Lowering, Meaning, Result, passing, space_of};
use crate::special;

/// Barrier operations, in `Op::aux`.
pub const BAR_SYNC: u32 = 0;
pub const BAR_ARRIVE: u32 = 1;
pub const BAR_POPC: u32 = 2;
pub const BAR_AND: u32 = 3;
pub const BAR_OR: u32 = 4;

/// Functions that the host provides, in `Op::aux` of a host call.
pub const HOST_PRINT: u32 = 0;
pub const HOST_ASSERT: u32 = 1;

/// The last type among an opcode's modifiers.
pub fn last_type(instruction: &Instruction) -> Option<ScalarType> {
    instruction.modifiers().filter_map(ScalarType::parse).last()
}

pub fn has(instruction: &Instruction, modifier: &str) -> bool {
    instruction.modifiers().any(|found| found == modifier)
}

impl Lowering<'_> {
    pub fn operands<'i, const N: usize>(
        &self,
        instruction: &'i Instruction,
    ) -> Result<&'i [Operand; N]> {
        match instruction.operands.as_slice().try_into() {
            Ok(operands) => Ok(operands),
            Err(_) => self.error(
                instruction,
                format!(
                    "`{}` takes {N} operands, {} are there",
                    instruction.opcode,
                    instruction.operands.len()
                ),
            ),
        }
    }

    pub fn instruction(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction.mnemonic() {
            "bra" => {
                let [Operand::Label(label)] = self.operands::<1>(instruction)? else {
                    return self.error(instruction, "`bra` takes a label");
                };
                let op = self.builder.control(Kind::Branch);
                self.builder.code[op].imm = u64::from(label.0);
                Ok(())
            }
            "brx" => self.branch_table(instruction),
            "call" => self.call(instruction),
            "ret" => {
                let kind = if self.function_now().is_entry {
                    Kind::Exit
                } else {
                    Kind::Return
                };
                self.builder.control(kind);
                Ok(())
            }
            "exit" => {
                self.builder.control(Kind::Exit);
                Ok(())
            }
            "trap" => {
                self.builder.control(Kind::Trap);
                Ok(())
            }
            "brkpt" | "pmevent" | "prefetch" | "prefetchu" | "discard" | "applypriority"
            | "createpolicy" => Ok(()),
            "nanosleep" => {
                self.builder.control(Kind::Waiting);
                Ok(())
            }
            "membar" | "fence" => {
                self.builder.push(access::barrier, Kind::Waiting);
                Ok(())
            }
            "bar" | "barrier" => self.barrier(instruction),
            "ld" | "ldu" => self.load(instruction),
            "st" => self.store(instruction),
            "atom" | "red" => self.atomic(instruction),
            "mov" => self.movement(instruction),
            "cvta" => self.convert_address(instruction),
            "isspacep" => {
                let [dst, src] = self.operands::<2>(instruction)?;
                let pred = self.pred_target(instruction, dst)?;
                let src = self.source(instruction, src, ScalarType::U64)?;
                let op = self.builder.push(access::is_space, Kind::Plain);
                self.builder.reads(op, Field::A, src);
                self.builder.code[op].dst = pred;
                self.builder.code[op].aux = space_of(instruction);
                Ok(())
            }
            "shfl" => self.shuffle(instruction),
            "vote" => self.vote(instruction),
            "match" => self.match_values(instruction),
            "redux" => self.redux(instruction),
            "activemask" => {
                let [dst] = self.operands::<1>(instruction)?;
                let dst = self.target(instruction, dst)?;
                self.uses_warps();
                self.builder.alu(special::activemask, dst, &[]);
                Ok(())
            }
            _ => self.compute(instruction),
        }
    }

    fn branch_table(&mut self, instruction: &Instruction) -> Result<()> {
        let [index, Operand::Symbol { name, .. }] = self.operands::<2>(instruction)? else {
            return self.error(
                instruction,
                "`brx.idx` takes an index and the name of a table",
            );
        };
        let Some(table) = self
            .function_now()
            .tables
            .iter()
            .position(|table| table.name == *name)
        else {
            return self.error(
                instruction,
                format!("there is no `.branchtargets` named `{name}`"),
            );
        };
        let index = self.source(instruction, index, ScalarType::U32)?;
        let op = self.builder.control(Kind::BranchTable);
        self.builder.reads(op, Field::A, index);
        self.builder.code[op].imm = table as u64;
        Ok(())
    }

    fn barrier(&mut self, instruction: &Instruction) -> Result<()> {
        if has(instruction, "cluster") {
            return self.unsupported(instruction);
        }
        if has(instruction, "warp") {
            let [members] = self.operands::<1>(instruction)?;
            let members = self.source(instruction, members, ScalarType::U32)?;
            self.uses_warps();
            let op = self.builder.control(Kind::Collective);
            self.builder.reads(op, Field::D, members);
            return Ok(());
        }
        self.uses_barriers();
        let reduction = has(instruction, "red");
        let mode = match () {
            () if reduction && has(instruction, "popc") => BAR_POPC,
            () if reduction && has(instruction, "and") => BAR_AND,
            () if reduction => BAR_OR,
            () if has(instruction, "arrive") => BAR_ARRIVE,
            () => BAR_SYNC,
        };
        let mut operands = instruction.operands.as_slice();
        let op_target = if reduction {
            let Some((first, rest)) = operands.split_first() else {
                return self.unsupported(instruction);
            };
            operands = rest;
            Some(first)
        } else {
            None
        };
        let predicate = if reduction {
            let Some((last, rest)) = operands.split_last() else {
                return self.unsupported(instruction);
            };
            operands = rest;
            self.pred_source(instruction, last)?
        } else {
            0
        };
        let zero = self.builder.constant(Constant::Bits(0), 4);
        let id = match operands.first() {
            Some(operand) => self.source(instruction, operand, ScalarType::U32)?,
            None => zero,
        };
        let count = match operands.get(1) {
            Some(operand) => Some(self.source(instruction, operand, ScalarType::U32)?),
            None if mode == BAR_ARRIVE => {
                return self.error(instruction, "`bar.arrive` takes a number of threads");
            }
            None => None,
        };
        let dst_pred = match op_target {
            Some(target) if mode != BAR_POPC => self.pred_target(instruction, target)?,
            _ => NONE,
        };
        let dst_reg = match op_target {
            Some(target) if mode == BAR_POPC => Some(self.target(instruction, target)?),
            _ => None,
        };
        let op = self.builder.control(Kind::Barrier);
        self.builder.reads(op, Field::A, id);
        match count {
            Some(count) => self.builder.reads(op, Field::B, count),
            None => self.builder.code[op].b = NONE,
        }
        self.builder.code[op].c = predicate;
        self.builder.code[op].aux = mode;
        self.builder.code[op].dst = dst_pred;
        if let Some(reg) = dst_reg {
            self.builder.writes(op, Field::Dst, reg);
        }
        Ok(())
    }

    fn vector_of(instruction: &Instruction) -> usize {
        instruction
            .modifiers()
            .find_map(|modifier| match modifier {
                "v2" => Some(2),
                "v4" => Some(4),
                "v8" => Some(8),
                _ => None,
            })
            .unwrap_or(1)
    }

    /// Whether another thread's doing may be what this access waits for.
    fn waits(instruction: &Instruction) -> Kind {
        let strong = ["volatile", "acquire", "relaxed", "mmio"];
        if strong.iter().any(|word| has(instruction, word)) {
            Kind::Waiting
        } else {
            Kind::Plain
        }
    }

    fn memory_type(&self, instruction: &Instruction) -> Result<ScalarType> {
        match last_type(instruction) {
            Some(ScalarType::B128 | ScalarType::Pred) | None => self.unsupported(instruction),
            Some(ty) => Ok(ty),
        }
    }

    fn load(&mut self, instruction: &Instruction) -> Result<()> {
        // A cache policy may follow the address.
        let (Some(dst), Some(address)) =
            (instruction.operands.first(), instruction.operands.get(1))
        else {
            return self.error(instruction, "a load takes a register and an address");
        };
        let ty = self.memory_type(instruction)?;
        let count = Self::vector_of(instruction);
        let space = space_of(instruction);
        let mut dsts: Vec<Option<VReg>> = Vec::new();
        match dst {
            Operand::Vector(items) if items.len() == count => {
                for item in items {
                    dsts.push(match item {
                        Operand::Discard => None,
                        _ => Some(self.target(instruction, item)?),
                    });
                }
            }
            Operand::Vector(_) => {
                return self.error(instruction, "the vector's length is not that of the opcode");
            }
            _ if count == 1 => dsts.push(Some(self.target(instruction, dst)?)),
            _ => return self.error(instruction, "a vector of registers is needed here"),
        }
        let size = dsts
            .iter()
            .flatten()
            .map(|&reg| self.builder.size(reg))
            .max()
            .unwrap_or(ty.size().max(2));
        if dsts
            .iter()
            .flatten()
            .any(|&reg| self.builder.size(reg) != size)
        {
            return self.error(instruction, "the registers of the vector differ in size");
        }
        let Some((run, _)) = access::handlers(ty.size(), ty.is_signed(), size) else {
            return self.error(
                instruction,
                format!("a register of {} bits is too small for this load", size * 8),
            );
        };
        let op = self.builder.push(run, Self::waits(instruction));
        self.address(instruction, op, address, space)?;
        if count == 1 && dsts[0].is_some() {
            self.builder
                .writes(op, Field::Dst, dsts[0].expect("checked"));
        } else {
            self.builder.code[op].dst = self.builder.list(op, &dsts, true);
            self.builder.code[op].aux |= (count as u32) << VECTOR;
        }
        Ok(())
    }

    fn store(&mut self, instruction: &Instruction) -> Result<()> {
        let (Some(address), Some(src)) =
            (instruction.operands.first(), instruction.operands.get(1))
        else {
            return self.error(instruction, "a store takes an address and a value");
        };
        if has(instruction, "async") {
            return self.unsupported(instruction);
        }
        let ty = self.memory_type(instruction)?;
        let count = Self::vector_of(instruction);
        let items = match src {
            Operand::Vector(items) if items.len() == count => items.as_slice(),
            Operand::Vector(_) => {
                return self.error(instruction, "the vector's length is not that of the opcode");
            }
            single if count == 1 => std::slice::from_ref(single),
            _ => return self.error(instruction, "a vector of registers is needed here"),
        };
        let mut srcs = Vec::new();
        let mut size = ty.size().max(2);
        for item in items {
            // Stores may take wider registers than they write.
            if let Operand::Register(register) = item {
                size = size.max(self.register_type(*register).size());
            }
        }
        for item in items {
            let reg = match item {
                Operand::Register(register)
                    if self.register_type(*register) != ScalarType::Pred =>
                {
                    self.reg_of(*register)
                }
                _ => self.source(instruction, item, ty)?,
            };
            let has = self.builder.size(reg);
            if has < ty.size() {
                return self.error(
                    instruction,
                    format!("a register of {} bits is too small for this store", has * 8),
                );
            }
            srcs.push(Some(if has == size {
                reg
            } else {
                self.resized(instruction, reg, size, false)?
            }));
        }
        let Some((_, run)) = access::handlers(ty.size(), ty.is_signed(), size) else {
            return self.unsupported(instruction);
        };
        let op = self.builder.push(run, Kind::Plain);
        self.address(instruction, op, address, space_of(instruction))?;
        if count == 1 {
            self.builder
                .reads(op, Field::B, srcs[0].expect("stores have sources"));
        } else {
            self.builder.code[op].b = self.builder.list(op, &srcs, false);
            self.builder.code[op].aux |= (count as u32) << VECTOR;
        }
        Ok(())
    }

    fn atomic(&mut self, instruction: &Instruction) -> Result<()> {
        use ScalarType::*;
        let reduction = instruction.mnemonic() == "red";
        let mut operands = instruction.operands.iter();
        let dst = if reduction { None } else { operands.next() };
        let (Some(address), Some(a)) = (operands.next(), operands.next()) else {
            return self.error(instruction, "an atomic takes an address and a value");
        };
        let ty = self.memory_type(instruction)?;
        if Self::vector_of(instruction) != 1 || has(instruction, "async") {
            return self.unsupported(instruction);
        }
        let name = [
            "add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas",
        ]
        .into_iter()
        .find(|name| has(instruction, name));
        let which = match (name, ty) {
            (Some("add"), F32 | F64) => Atomic::AddF,
            (Some("add"), F16) => Atomic::AddHalf,
            (Some("add"), BF16) => Atomic::AddBrain,
            (Some("add"), F16x2) => Atomic::AddHalf2,
            (Some("add"), BF16x2) => Atomic::AddBrain2,
            (Some("add"), _) => Atomic::Add,
            (Some("min"), S32 | S64) => Atomic::MinS,
            (Some("max"), S32 | S64) => Atomic::MaxS,
            (Some("min"), U32 | U64) => Atomic::Min,
            (Some("max"), U32 | U64) => Atomic::Max,
            (Some("inc"), U32) => Atomic::Inc,
            (Some("dec"), U32) => Atomic::Dec,
            (Some("and"), _) => Atomic::And,
            (Some("or"), _) => Atomic::Or,
            (Some("xor"), _) => Atomic::Xor,
            (Some("exch"), _) => Atomic::Exchange,
            (Some("cas"), _) => Atomic::Swap,
            _ => return self.unsupported(instruction),
        };
        let Some(run) = access::atomic(which, ty.size()) else {
            return self.unsupported(instruction);
        };
        let a = self.source(instruction, a, ty)?;
        let b = match (which, operands.next()) {
            (Atomic::Swap, Some(b)) => Some(self.source(instruction, b, ty)?),
            (Atomic::Swap, None) => return self.error(instruction, "`cas` takes two values"),
            _ => None,
        };
        let dst = match dst {
            None | Some(Operand::Discard) => None,
            Some(operand) => Some(self.target(instruction, operand)?),
        };
        if let Some(dst) = dst
            && self.builder.size(dst) != ty.size().max(2)
        {
            return self.error(
                instruction,
                "the destination's size is not that of the type",
            );
        }
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

    pub fn copy(&mut self, instruction: &Instruction, dst: VReg, src: VReg) -> Result<()> {
        match movement(self.builder.size(dst)) {
            Some(run) if self.builder.size(src) == self.builder.size(dst) => {
                self.builder.alu(run, dst, &[src]);
                Ok(())
            }
            _ => self.error(instruction, "source and destination differ in size"),
        }
    }

    fn movement(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, src] = self.operands::<2>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        if ty == ScalarType::Pred {
            let target = self.pred_target(instruction, dst)?;
            let source = self.pred_source(instruction, src)?;
            self.pred_op(target, source, source, compare::PRED_MOVE);
            return Ok(());
        }
        match (dst, src) {
            (Operand::Vector(parts), _) => {
                let whole = self.source(instruction, src, ty)?;
                self.unpack(instruction, parts, whole)
            }
            (_, Operand::Vector(parts)) => {
                let dst = self.target(instruction, dst)?;
                let whole = self.pack(instruction, parts, ty.size())?;
                self.copy(instruction, dst, whole)
            }
            _ => {
                let dst = self.target(instruction, dst)?;
                // mov.s8 and the like: registers have no 8 bits.
                let src = self.source(instruction, src, ty)?;
                self.copy(instruction, dst, src)
            }
        }
    }

    fn unpack(&mut self, instruction: &Instruction, parts: &[Operand], whole: VReg) -> Result<()> {
        let size = self.builder.size(whole);
        let half = size / 2;
        let (low, high) = match parts.len() {
            2 => {
                let low = match &parts[0] {
                    Operand::Discard => None,
                    part => Some(self.target(instruction, part)?),
                };
                let high = match &parts[1] {
                    Operand::Discard => None,
                    part => Some(self.target(instruction, part)?),
                };
                (low, high)
            }
            4 => {
                let (low, high) = (self.builder.reg(half.max(2)), self.builder.reg(half.max(2)));
                (Some(low), Some(high))
            }
            _ => return self.unsupported(instruction),
        };
        for reg in [low, high].into_iter().flatten() {
            if self.builder.size(reg) != half.max(2) {
                return self.error(instruction, "the parts are not halves of the whole");
            }
        }
        let Some(upper) = special::high(size) else {
            return self.unsupported(instruction);
        };
        // The parts may be where the whole is.
        let kept = self.builder.reg(half.max(2));
        self.builder.alu(upper, kept, &[whole]);
        if let Some(low) = low {
            if half == 1 {
                self.builder.alu(low_byte(false), low, &[whole]);
            } else {
                let narrow = self.resized(instruction, whole, half, false)?;
                self.copy(instruction, low, narrow)?;
            }
        }
        if let Some(high) = high {
            self.copy(instruction, high, kept)?;
        }
        if parts.len() == 4 {
            let (Some(low), Some(high)) = (low, high) else {
                return Ok(());
            };
            self.unpack(instruction, &parts[..2], low)?;
            self.unpack(instruction, &parts[2..], high)?;
        }
        Ok(())
    }

    fn pack(&mut self, instruction: &Instruction, parts: &[Operand], size: u32) -> Result<VReg> {
        let part = size / parts.len().max(1) as u32;
        let ty = match part {
            1 => ScalarType::B8,
            2 => ScalarType::B16,
            4 => ScalarType::B32,
            _ => return self.unsupported(instruction),
        };
        let (low, high) = match parts {
            [low, high] => (
                self.source(instruction, low, ty)?,
                self.source(instruction, high, ty)?,
            ),
            [a, b, c, d] => {
                let low = self.pack(instruction, &[a.clone(), b.clone()], size / 2)?;
                let high = self.pack(instruction, &[c.clone(), d.clone()], size / 2)?;
                (low, high)
            }
            _ => return self.unsupported(instruction),
        };
        let Some(run) = special::pack(size / 2) else {
            return self.unsupported(instruction);
        };
        let whole = self.builder.reg(size.max(2));
        self.builder.alu(run, whole, &[low, high]);
        Ok(whole)
    }

    fn convert_address(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, src] = self.operands::<2>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let dst = self.target(instruction, dst)?;
        let size = self.builder.size(dst);
        let window = match space_of(instruction) {
            SHARED => access::SHARED_WINDOW,
            LOCAL => access::LOCAL_WINDOW,
            // A device function's parameters lie in its frame.
            PARAM if self.function_now().is_entry => access::PARAM_WINDOW,
            PARAM => access::LOCAL_WINDOW,
            _ => 0,
        };
        if size != ty.size() || size != 8 {
            return self.error(instruction, "addresses of 32 bits are not supported");
        }
        let src = match src {
            Operand::Address { .. } => return self.unsupported(instruction),
            _ => self.source(instruction, src, ty)?,
        };
        if window == 0 {
            return self.copy(instruction, dst, src);
        }
        let by = if has(instruction, "to") {
            window.wrapping_neg()
        } else {
            window
        };
        let by = self.builder.constant(Constant::Bits(by), 8);
        let Some(plan) = crate::bits::integer("add", ScalarType::U64, Default::default(), "")
        else {
            return self.unsupported(instruction);
        };
        self.builder.alu(plan.run, dst, &[src, by]);
        Ok(())
    }

    // Calls.

    /// Copy bytes within local memory, through a register.
    fn copy_local(&mut self, from: u64, to: u64, size: u64) {
        let mut at = 0;
        while at < size {
            let aligned = |step: u64| from.is_multiple_of(step) && to.is_multiple_of(step);
            let step = [8, 4, 2, 1]
                .into_iter()
                .find(|&step| at + step <= size && aligned(step) && at.is_multiple_of(step));
            let step = step.unwrap_or(1);
            let register = (step as u32).max(2);
            let Some((load, store)) = access::handlers(step as u32, false, register) else {
                return;
            };
            let reg = self.builder.reg(register);
            let op = self.builder.push(load, Kind::Plain);
            self.builder.code[op].imm = from + at;
            self.builder.code[op].aux = LOCAL | access::FRAME;
            self.builder.writes(op, Field::Dst, reg);
            let op = self.builder.push(store, Kind::Plain);
            self.builder.code[op].imm = to + at;
            self.builder.code[op].aux = LOCAL | access::FRAME;
            self.builder.reads(op, Field::B, reg);
            at += step;
        }
    }

    fn call(&mut self, instruction: &Instruction) -> Result<()> {
        let mut operands = instruction.operands.iter().peekable();
        let returns: &[Operand] = match operands.peek() {
            Some(Operand::List(items)) => {
                operands.next();
                items
            }
            _ => &[],
        };
        let Some(target) = operands.next() else {
            return self.error(instruction, "`call` takes a function");
        };
        let arguments: &[Operand] = match operands.peek() {
            Some(Operand::List(items)) => {
                operands.next();
                items
            }
            _ => &[],
        };
        let base = self.frame_size();
        match target {
            Operand::Symbol { name, .. } => {
                let Some(Meaning::Function(index)) = self.meaning(name) else {
                    return self.error(
                        instruction,
                        format!("`{name}` is no function of this module"),
                    );
                };
                let callee = &self.module.functions[index];
                if !callee.defined {
                    return self.host_call(instruction, name, arguments);
                }
                if callee.params.len() != arguments.len() || callee.returns.len() != returns.len() {
                    return self.error(
                        instruction,
                        format!("`{name}` is called with another number of values"),
                    );
                }
                let (offsets, _) = passing(&callee.params, &callee.returns);
                for (at, (argument, param)) in arguments.iter().zip(&callee.params).enumerate() {
                    match param.register {
                        Some(register) => {
                            let src = self.source(instruction, argument, param.element)?;
                            let dst = self.register_in(index, register);
                            self.copy(instruction, dst, src)?;
                        }
                        None => self.pass(instruction, argument, param, base + offsets[at])?,
                    }
                }
                let op = self.builder.control(Kind::Call);
                self.builder.code[op].imm = index as u64;
                for (at, (value, param)) in returns.iter().zip(&callee.returns).enumerate() {
                    match param.register {
                        Some(register) => {
                            let src = self.register_in(index, register);
                            let dst = self.target(instruction, value)?;
                            self.copy(instruction, dst, src)?;
                        }
                        None => {
                            let from = base + offsets[callee.params.len() + at];
                            self.take(instruction, value, param, from)?;
                        }
                    }
                }
                Ok(())
            }
            Operand::Register(register) => {
                let Some(Operand::Symbol { name, .. }) = operands.next() else {
                    return self.error(instruction, "an indirect call takes a `.callprototype`");
                };
                let function = self.function_now();
                let Some(prototype) = function.prototypes.iter().find(|found| found.name == *name)
                else {
                    return self.error(
                        instruction,
                        format!("there is no `.callprototype` named `{name}`"),
                    );
                };
                if prototype.params.len() != arguments.len()
                    || prototype.returns.len() != returns.len()
                {
                    return self.error(
                        instruction,
                        format!("`{name}` has another number of values"),
                    );
                }
                self.calls_indirectly();
                let (offsets, _) = passing(&prototype.params, &prototype.returns);
                for (at, (argument, param)) in arguments.iter().zip(&prototype.params).enumerate() {
                    self.pass(instruction, argument, param, base + offsets[at])?;
                }
                let target = self.reg_of(*register);
                let target = self.resized(instruction, target, 8, false)?;
                let op = self.builder.control(Kind::CallIndirect);
                self.builder.reads(op, Field::A, target);
                for (at, (value, param)) in returns.iter().zip(&prototype.returns).enumerate() {
                    self.take(
                        instruction,
                        value,
                        param,
                        base + offsets[arguments.len() + at],
                    )?;
                }
                Ok(())
            }
            _ => self.unsupported(instruction),
        }
    }

    /// Put an argument where the callee's frame will have it.
    fn pass(
        &mut self,
        instruction: &Instruction,
        argument: &Operand,
        param: &softgpu_ptx::Param,
        to: u64,
    ) -> Result<()> {
        if let Operand::Symbol { name, offset: 0 } = argument
            && let Some(Meaning::Framed(from)) = self.meaning(name)
        {
            self.copy_local(from, to, param.size);
            return Ok(());
        }
        let value = self.source(instruction, argument, param.element)?;
        let size = param.element.size();
        let Some((_, run)) = access::handlers(size, false, size.max(2)) else {
            return self.unsupported(instruction);
        };
        let op = self.builder.push(run, Kind::Plain);
        self.builder.code[op].imm = to;
        self.builder.code[op].aux = LOCAL | access::FRAME;
        self.builder.reads(op, Field::B, value);
        Ok(())
    }

    /// Fetch a return value from the callee's frame.
    fn take(
        &mut self,
        instruction: &Instruction,
        value: &Operand,
        param: &softgpu_ptx::Param,
        from: u64,
    ) -> Result<()> {
        match value {
            Operand::Discard => Ok(()),
            Operand::Symbol { name, offset: 0 } => {
                let Some(Meaning::Framed(to)) = self.meaning(name) else {
                    return self.error(instruction, format!("`{name}` cannot take a return value"));
                };
                self.copy_local(from, to, param.size);
                Ok(())
            }
            _ => {
                let dst = self.target(instruction, value)?;
                let Some((run, _)) = access::handlers(
                    param.element.size(),
                    param.element.is_signed(),
                    self.builder.size(dst),
                ) else {
                    return self.unsupported(instruction);
                };
                let op = self.builder.push(run, Kind::Plain);
                self.builder.code[op].imm = from;
                self.builder.code[op].aux = LOCAL | access::FRAME;
                self.builder.writes(op, Field::Dst, dst);
                Ok(())
            }
        }
    }

    /// printf and assert: their arguments are read from the caller's frame by the run loop.
    fn host_call(
        &mut self,
        instruction: &Instruction,
        name: &str,
        arguments: &[Operand],
    ) -> Result<()> {
        let (which, count) = match name {
            "vprintf" => (HOST_PRINT, 2),
            "__assertfail" => (HOST_ASSERT, 5),
            _ => {
                return self.error(
                    instruction,
                    format!("the external function `{name}` is not there"),
                );
            }
        };
        if arguments.len() != count {
            return self.error(instruction, format!("`{name}` takes {count} arguments"));
        }
        let mut regs = Vec::new();
        for argument in &arguments[..2] {
            let Operand::Symbol { name, .. } = argument else {
                return self.unsupported(instruction);
            };
            let Some(Meaning::Framed(at)) = self.meaning(name) else {
                return self.unsupported(instruction);
            };
            let reg = self.builder.reg(8);
            let Some((load, _)) = access::handlers(8, false, 8) else {
                return self.unsupported(instruction);
            };
            let op = self.builder.push(load, Kind::Plain);
            self.builder.code[op].imm = at;
            self.builder.code[op].aux = LOCAL | access::FRAME;
            self.builder.writes(op, Field::Dst, reg);
            regs.push(reg);
        }
        let op = self.builder.control(Kind::HostCall);
        self.builder.code[op].aux = which;
        self.builder.reads(op, Field::A, regs[0]);
        self.builder.reads(op, Field::B, regs[1]);
        Ok(())
    }

    // Lanes of a warp together.

    fn shuffle(&mut self, instruction: &Instruction) -> Result<()> {
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

    fn vote(&mut self, instruction: &Instruction) -> Result<()> {
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

    fn match_values(&mut self, instruction: &Instruction) -> Result<()> {
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

    fn redux(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, value, members] = self.operands::<3>(instruction)?;
        let Some(ty) = last_type(instruction) else {
            return self.unsupported(instruction);
        };
        let name = ["add", "min", "max", "and", "or", "xor"]
            .into_iter()
            .find(|name| has(instruction, name));
        let name = match name {
            Some(name @ ("min" | "max")) => {
                format!("{name}.{}", if ty.is_signed() { "s" } else { "u" })
            }
            Some(name) => name.to_owned(),
            None => return self.unsupported(instruction),
        };
        let (Some(which), 4, false) = (
            special::REDUX.iter().position(|known| *known == name),
            ty.size(),
            ty.is_float(),
        ) else {
            return self.unsupported(instruction);
        };
        let dst = self.target(instruction, dst)?;
        let value = self.source(instruction, value, ty)?;
        let members = self.source(instruction, members, ScalarType::B32)?;
        self.uses_warps();
        let op = self.builder.alu(special::redux, dst, &[value, members]);
        self.builder.reads(op, Field::D, members);
        self.builder.code[op].kind = Kind::Collective;
        self.builder.code[op].aux = which as u32;
        Ok(())
    }

    pub fn pred_op(&mut self, dst: u32, a: u32, b: u32, table: u32) {
        if dst == NONE {
            return;
        }
        let op = self.builder.push(compare::predicate_logic, Kind::Plain);
        self.builder.code[op].dst = dst;
        self.builder.code[op].a = a;
        self.builder.code[op].b = b;
        self.builder.code[op].aux = table;
    }
}
