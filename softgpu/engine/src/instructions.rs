//! Lowering of single instructions: control, memory, and what moves values about. Arithmetic is in `compute`.

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::access::{self, LOCAL, PARAM, SHARED, VECTOR};
use crate::bits::{low_byte, movement};
use crate::build::{Field, VReg};
use crate::compare;
use crate::forms::{Unknown, forms_of};
use crate::kernel::Constant;
use crate::lanes::{COMBINE_NONE, Handler, Kind, NONE};
use crate::lower::{Lowering, Result, space_of};
use crate::matrix::ALIGNED_SINCE;
use crate::special;
use crate::transfer;

/// Barrier operations, in `Op::aux`.
pub const BAR_SYNC: u32 = 0;
pub const BAR_ARRIVE: u32 = 1;
pub const BAR_POPC: u32 = 2;
pub const BAR_AND: u32 = 3;
pub const BAR_OR: u32 = 4;

/// Functions that the host provides, in `Op::aux` of a host call.
pub const HOST_PRINT: u32 = 0;
pub const HOST_ASSERT: u32 = 1;
pub const HOST_ALLOCATE: u32 = 2;
pub const HOST_FREE: u32 = 3;

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
        self.must_be_listed(instruction)?;
        if let "tex" | "tld4" | "txq" | "suld" | "sust" | "sured" | "suq" | "istypep" =
            instruction.mnemonic()
        {
            return self.texture(instruction);
        }
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
                self.operands::<0>(instruction)?;
                self.leave_stack();
                let kind = if self.function_now().is_entry {
                    Kind::Exit
                } else {
                    Kind::Return
                };
                self.builder.control(kind);
                Ok(())
            }
            "exit" => {
                self.operands::<0>(instruction)?;
                self.builder.control(Kind::Exit);
                Ok(())
            }
            "trap" => {
                self.operands::<0>(instruction)?;
                self.builder.control(Kind::Trap);
                Ok(())
            }
            "brkpt" | "griddepcontrol" => self.operands::<0>(instruction).map(|_| ()),
            "pmevent" | "setmaxnreg" => match self.operands::<1>(instruction)? {
                [Operand::Int(_)] => Ok(()),
                _ => self.error(
                    instruction,
                    format!("`{}` takes a number", instruction.opcode),
                ),
            },
            "prefetch" | "prefetchu" => {
                let [address] = self.operands::<1>(instruction)?;
                self.hint(instruction, address)
            }
            "applypriority" | "discard" => {
                let [address, size] = self.operands::<2>(instruction)?;
                self.source(instruction, size, ScalarType::U64)?;
                self.hint(instruction, address)
            }
            "createpolicy" => self.create_policy(instruction),
            "nanosleep" => {
                let [time] = self.operands::<1>(instruction)?;
                self.source(instruction, time, ScalarType::U32)?;
                self.builder.control(Kind::Waiting);
                Ok(())
            }
            "membar" | "fence" => {
                self.operands::<0>(instruction)?;
                let sequential = instruction.mnemonic() == "membar" || has(instruction, "sc");
                let run: Handler = if sequential {
                    access::fence_all
                } else {
                    access::fence_order
                };
                self.builder.push(run, Kind::Waiting);
                Ok(())
            }
            "cp" => self.copy_async(instruction),
            "mbarrier" => self.mbarrier(instruction),
            "alloca" | "stacksave" | "stackrestore" => self.stack(instruction),
            "elect" => self.elect(instruction),
            "bar" | "barrier" => self.barrier(instruction),
            "ld" | "ldu" => self.load(instruction),
            "st" => self.store(instruction),
            "atom" | "red" => self.atomic(instruction),
            "mov" => self.movement(instruction),
            "cvta" => self.convert_address(instruction),
            "isspacep" => self.is_space(instruction),
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

    /// What the list of forms does not have is refused, whatever the code behind it would make of it.
    fn must_be_listed(&mut self, instruction: &Instruction) -> Result<()> {
        let opcode = &*instruction.opcode;
        if self.listed.contains(opcode) {
            return Ok(());
        }
        let full = in_full(instruction, self.module.version);
        let message = match forms_of(&full) {
            Ok(_) => {
                self.listed.insert(opcode.to_owned());
                return Ok(());
            }
            Err(Unknown::Mnemonic) => return self.unsupported(instruction),
            Err(Unknown::Modifier(word)) => {
                format!("the instruction `{opcode}` is not supported: `.{word}`")
            }
            Err(Unknown::Missing(words)) => {
                format!("`{opcode}` needs `.{}`", words.join("` or `."))
            }
        };
        self.error(instruction, message)
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

    pub fn vector_of(instruction: &Instruction) -> usize {
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
            Some(ScalarType::Pred) | None => self.unsupported(instruction),
            Some(ty) => Ok(ty),
        }
    }

    /// Type and number of the elements that an access moves; 128 bits move as two of 64.
    fn elements(&self, instruction: &Instruction) -> Result<(ScalarType, usize)> {
        let (ty, count) = (self.memory_type(instruction)?, Self::vector_of(instruction));
        match ty {
            ScalarType::B128 if count == 1 => Ok((ScalarType::B64, 2)),
            _ if u64::from(ty.size()) * count as u64 > 32 || ty == ScalarType::B128 => {
                self.unsupported(instruction)
            }
            _ => {
                if u64::from(ty.size()) * count as u64 > 16 {
                    self.needs_target(instruction, 100)?;
                }
                Ok((ty, count))
            }
        }
    }

    /// Accesses of a thread do not move across its acquiring loads and releasing stores.
    fn ordered(&mut self, instruction: &Instruction, word: &str) {
        if has(instruction, word) {
            self.builder.push(access::fence_order, Kind::Plain);
        }
    }

    /// An instruction that only says what the program will do with an address.
    fn hint(&mut self, instruction: &Instruction, address: &Operand) -> Result<()> {
        match address {
            Operand::Address { .. } => Ok(()),
            _ => self.error(
                instruction,
                format!("`{}` takes an address in brackets", instruction.opcode),
            ),
        }
    }

    /// Caches have no policies here: the register is there, and holds nothing.
    fn create_policy(&mut self, instruction: &Instruction) -> Result<()> {
        let Some(dst) = instruction.operands.first() else {
            return self.error(instruction, "`createpolicy` takes a register");
        };
        let dst = self.destination(instruction, dst, ScalarType::B64)?;
        let nothing = self.builder.constant(Constant::Bits(0), 8);
        self.copy(instruction, dst, nothing)
    }

    fn is_space(&mut self, instruction: &Instruction) -> Result<()> {
        let [dst, src] = self.operands::<2>(instruction)?;
        let pred = self.pred_target(instruction, dst)?;
        let src = self.source(instruction, src, ScalarType::U64)?;
        let constant = has(instruction, "const");
        // A block is a cluster of its own.
        let space = if has(instruction, "shared::cluster") {
            SHARED
        } else {
            space_of(instruction)
        };
        let found = self.builder.pred() << 1;
        let test = |lowering: &mut Self| {
            let op = lowering.builder.push(access::is_space, Kind::Plain);
            lowering.builder.reads(op, Field::A, src);
            lowering.builder.code[op].dst = found;
            lowering.builder.code[op].aux = space;
        };
        if space != access::GLOBAL {
            test(self);
            self.pred_op(pred, found, found, compare::PRED_MOVE);
            return Ok(());
        }
        // Constants lie in global memory: what tells them apart is where the variables are.
        let constants = self.builder.pred() << 1;
        self.pred_op(constants, 0, 0, compare::PRED_MOVE);
        let below = self.builder.pred() << 1;
        for (index, size) in self.symbols.constants() {
            let start = self.builder.constant(Constant::Global(index, 0), 8);
            let size = self.builder.constant(Constant::Bits(size), 8);
            let (Some(minus), Some(less)) = (
                crate::bits::integer("sub", ScalarType::U64, Default::default(), ""),
                compare::comparison("lt", ScalarType::U64, false),
            ) else {
                return self.unsupported(instruction);
            };
            let offset = self.builder.reg(8);
            self.builder.alu(minus.run, offset, &[src, start]);
            self.test(less, [offset, size], COMBINE_NONE, 0, below, NONE);
            self.pred_op(constants, constants, below, compare::PRED_OR);
        }
        if constant {
            self.pred_op(pred, constants, constants, compare::PRED_MOVE);
        } else {
            test(self);
            self.pred_op(pred, found, constants ^ 1, compare::PRED_AND);
        }
        Ok(())
    }

    /// Two operands, and a cache policy where the opcode says so.
    fn operand_count(&self, instruction: &Instruction) -> Result<()> {
        let wanted = 2 + usize::from(has(instruction, "L2::cache_hint"));
        if instruction.operands.len() == wanted {
            return Ok(());
        }
        self.error(
            instruction,
            format!("`{}` takes {wanted} operands", instruction.opcode),
        )
    }

    fn load(&mut self, instruction: &Instruction) -> Result<()> {
        // A cache policy may follow the address.
        let (Some(dst), Some(address)) =
            (instruction.operands.first(), instruction.operands.get(1))
        else {
            return self.error(instruction, "a load takes a register and an address");
        };
        let (ty, count) = self.elements(instruction)?;
        self.operand_count(instruction)?;
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
        let Some((run, _)) = transfer::handlers(ty.size(), ty.is_signed(), size) else {
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
            self.builder.notes(op);
            self.builder.code[op].aux |= (count as u32) << VECTOR;
        }
        self.ordered(instruction, "acquire");
        Ok(())
    }

    fn store(&mut self, instruction: &Instruction) -> Result<()> {
        let (Some(address), Some(src)) =
            (instruction.operands.first(), instruction.operands.get(1))
        else {
            return self.error(instruction, "a store takes an address and a value");
        };
        if has(instruction, "const") || has(instruction, "nc") {
            return self.unsupported(instruction);
        }
        let (ty, count) = self.elements(instruction)?;
        self.operand_count(instruction)?;
        self.ordered(instruction, "release");
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
        let Some((_, run)) = transfer::handlers(ty.size(), ty.is_signed(), size) else {
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
            (Operand::Vector(to), Operand::Vector(from)) => {
                self.move_vector(instruction, ty, to, from)
            }
            (Operand::Vector(to), Operand::Special(name)) if !name.contains('.') => {
                let parts = ["x", "y", "z", "w"].map(|axis| format!("{name}.{axis}"));
                let from: Vec<_> = parts.into_iter().map(Operand::Special).collect();
                self.move_vector(instruction, ty, to, &from[..to.len().min(4)])
            }
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

    /// All parts are read before the first is written.
    fn move_vector(
        &mut self,
        instruction: &Instruction,
        ty: ScalarType,
        to: &[Operand],
        from: &[Operand],
    ) -> Result<()> {
        let element = match ty {
            ScalarType::B128 => ScalarType::B64,
            ty => ty,
        };
        if to.len() != from.len() || !matches!(to.len(), 2 | 4) {
            return self.error(instruction, "source and destination differ in length");
        }
        let mut values = Vec::new();
        for part in from {
            let value = self.source(instruction, part, element)?;
            let kept = self.builder.reg(self.builder.size(value));
            self.copy(instruction, kept, value)?;
            values.push(kept);
        }
        for (part, value) in to.iter().zip(values) {
            if *part != Operand::Discard {
                let dst = self.destination(instruction, part, element)?;
                self.copy(instruction, dst, value)?;
            }
        }
        Ok(())
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

/// With what goes without saying in older PTX.
fn in_full(instruction: &Instruction, version: (u32, u32)) -> String {
    /// From here on `mad.f32` says how it rounds.
    const ROUNDING_SAID_SINCE: (u32, u32) = (3, 2);
    let opcode = &*instruction.opcode;
    match instruction.mnemonic() {
        "wmma" if version < ALIGNED_SINCE && !has(instruction, "aligned") => {
            format!("{opcode}.aligned")
        }
        "mad"
            if version < ROUNDING_SAID_SINCE
                && has(instruction, "f32")
                && !["rn", "rz", "rm", "rp"]
                    .iter()
                    .any(|it| has(instruction, it)) =>
        {
            opcode.replacen("mad", "mad.rn", 1)
        }
        _ => opcode.to_owned(),
    }
}
