//! Lowering of single instructions: control, memory, and what moves values about. Arithmetic is in `compute`.

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::access::{self, Atomic, LOCAL, PARAM, SHARED, VECTOR};
use crate::bits::{low_byte, movement};
use crate::build::{Field, VReg};
use crate::compare;
use crate::kernel::Constant;
use crate::lanes::{Kind, NONE};
use crate::lower::{Lowering, Result, space_of};
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
            "mma" | "wmma" | "ldmatrix" | "stmatrix" | "movmatrix" => self.matrix(instruction),
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
