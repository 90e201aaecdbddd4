//! From a kernel's PTX, with all functions that it reaches, to operations.

use std::collections::{HashMap, HashSet};

use softgpu_ptx::{Base, Function, Instruction, Module, Operand, RegId, ScalarType};

use crate::CompileError;
use crate::access::{BASE32, BASE64, FRAME, GENERIC, GLOBAL, LOCAL, PARAM, SHARED, SPACE};
use crate::build::{Builder, Field, MAX_CODE, VReg};
use crate::kernel::{Constant, FunctionCode, Kernel, Special, function_handle};
use crate::lanes::{Kind, NONE};
use crate::layout::{Frame, Meaning, frame, passing, reachable, shared_layout};
use crate::program::Symbols;
use crate::stack::{self, Stack};

/// Local memory for calls of functions that call themselves, or are called through pointers, in bytes a thread.
const STACK: u64 = 16 << 10;
/// Largest local memory of a thread, in bytes: the limit of CUDA's devices.
const MAX_LOCAL: u64 = 512 << 10;

pub type Result<T> = std::result::Result<T, CompileError>;

pub struct Lowering<'m> {
    pub module: &'m Module,
    pub symbols: &'m Symbols,
    pub builder: Builder,
    shared: HashMap<(Option<usize>, String), u64>,
    functions: Vec<usize>,
    frames: Vec<Frame>,
    /// Registers of all functions by (function, register).
    regs: HashMap<(usize, RegId), VReg>,
    preds: HashMap<(usize, RegId), u32>,
    /// The carry flag, a predicate for each function.
    carries: HashMap<usize, u32>,
    pub current: usize,
    /// Entry of each function, filled in as they are lowered; calls before are patched.
    entries: HashMap<usize, u32>,
    warps: bool,
    barriers: bool,
    indirect: bool,
    stack: Stack,
    /// Opcodes that were found in the list of forms.
    pub listed: HashSet<String>,
}

/// Registers of one thread, in bytes: far more than any compiler leaves alive.
const MAX_REGISTER_BYTES: usize = 256 << 10;

/// Lower an entry.
pub fn kernel(module: &Module, symbols: &Symbols, entry: usize) -> Result<Kernel> {
    let by_name = symbols.functions_by_name();
    let functions = reachable(module, &by_name, entry);
    let (shared, shared_size) = shared_layout(module, &functions);
    let mut lowering = Lowering {
        module,
        symbols,
        builder: Builder::new(),
        shared,
        frames: functions
            .iter()
            .map(|&index| frame(&module.functions[index]))
            .collect(),
        functions,
        regs: HashMap::new(),
        preds: HashMap::new(),
        carries: HashMap::new(),
        current: 0,
        entries: HashMap::new(),
        warps: false,
        barriers: false,
        indirect: false,
        stack: Stack::default(),
        listed: HashSet::new(),
    };
    if lowering.functions.iter().any(|&at| stack::uses(module, at)) {
        // It belongs to no function, so that calls leave it alone.
        let taken = lowering.builder.reg(4);
        lowering.builder.pin(taken);
        lowering.stack.taken = Some(taken);
    }
    let bounds = &module.functions[entry].bounds;
    if bounds.reqnctapercluster.is_some_and(|size| size != [1; 3]) {
        return Err(lowering.refused("clusters of several blocks are not supported".into()));
    }
    let mut codes = Vec::new();
    for at in 0..lowering.functions.len() {
        lowering.current = at;
        codes.push(lowering.function()?);
    }
    lowering.finish(codes, shared_size)
}

impl<'m> Lowering<'m> {
    pub fn function_now(&self) -> &'m Function {
        &self.module.functions[self.functions[self.current]]
    }

    pub fn error<T>(&self, instruction: &Instruction, message: impl Into<String>) -> Result<T> {
        Err(CompileError {
            function: self.function_now().name.clone(),
            line: instruction.span.line,
            message: message.into(),
        })
    }

    /// What is wrong with the kernel as a whole.
    fn refused(&self, message: String) -> CompileError {
        let function = &self.module.functions[self.functions[0]];
        CompileError {
            function: function.name.clone(),
            line: function.span.line,
            message,
        }
    }

    pub fn unsupported<T>(&self, instruction: &Instruction) -> Result<T> {
        self.error(
            instruction,
            format!("the instruction `{}` is not supported", instruction.opcode),
        )
    }

    fn function(&mut self) -> Result<(FunctionCode, [[u32; 2]; 3])> {
        let function = self.function_now();
        let start = self.builder.code.len();
        let first_reference = self.builder.references();
        let strips_before = self.builder.strips();
        let preds_before = self.builder.preds;
        self.entries
            .insert(self.functions[self.current], start as u32);
        self.builder.guard = None;
        self.builder.at(function.span.line, "entry");
        self.enter_stack();
        // Labels by instruction; the operation that each instruction starts with.
        let mut starts = Vec::with_capacity(function.body.len() + 1);
        for instruction in &function.body {
            starts.push(self.builder.code.len() as u32);
            self.builder.at(instruction.span.line, &instruction.opcode);
            self.builder.guard = instruction
                .guard
                .map(|guard| self.pred_of(guard.register) << 1 | u32::from(guard.negated));
            self.instruction(instruction)?;
            if self.builder.code.len() > MAX_CODE {
                return self.error(
                    instruction,
                    format!("the kernel has more than {MAX_CODE} operations"),
                );
            }
        }
        // The end of a body returns, and gives a label there something to stand before.
        self.builder.guard = None;
        starts.push(self.builder.code.len() as u32);
        self.builder.at(
            function
                .body
                .last()
                .map_or(function.span.line, |last| last.span.line),
            "ret",
        );
        self.leave_stack();
        self.builder.control(if function.is_entry {
            Kind::Exit
        } else {
            Kind::Return
        });
        let target = |label: u64| starts[function.labels[label as usize].position as usize];
        let builder = &mut self.builder;
        for op in &mut builder.code[start..] {
            match op.kind {
                Kind::Branch => op.imm = u64::from(target(op.imm)),
                Kind::BranchTable => {
                    let table = &function.tables[op.imm as usize];
                    op.imm = builder.lists.len() as u64;
                    op.aux = table.targets.len() as u32;
                    builder
                        .lists
                        .extend(table.targets.iter().map(|label| target(u64::from(label.0))));
                }
                _ => {}
            }
        }
        let code: Vec<_> = builder.code[start..]
            .iter()
            .map(|op| (op.kind, op.guard, op.imm, op.aux))
            .collect();
        let lists = builder.lists.clone();
        let successors = move |at: usize| -> Vec<usize> {
            let (kind, guard, imm, aux) = code[at - start];
            let mut next = match kind {
                Kind::Branch => vec![imm as usize],
                Kind::BranchTable => lists[imm as usize..imm as usize + aux as usize]
                    .iter()
                    .map(|&to| to as usize)
                    .collect(),
                Kind::Return | Kind::Exit | Kind::Trap => vec![],
                _ => return vec![at + 1],
            };
            if guard != crate::lanes::ALWAYS {
                next.push(at + 1);
            }
            next
        };
        builder.allocate(start, first_reference, &successors);
        let strips = builder.strips();
        let mut code = FunctionCode {
            name: function.name.clone(),
            entry: start as u32,
            frame: self.frames[self.current].size,
            recursive: self.recursive(self.functions[self.current]),
            ..FunctionCode::default()
        };
        code.region.preds = (preds_before, self.builder.preds);
        let ranges = [0, 1, 2].map(|kind| [strips_before[kind], strips[kind]]);
        Ok((code, ranges))
    }

    /// Whether a function can reach itself.
    fn recursive(&self, index: usize) -> bool {
        let by_name = self.symbols.functions_by_name();
        let callees = |at: usize| {
            let mut names = Vec::new();
            for instruction in self.module.functions[at]
                .body
                .iter()
                .filter(|i| i.mnemonic() == "call")
            {
                for operand in &instruction.operands {
                    if let Operand::Symbol { name, .. } = operand
                        && let Some(&callee) = by_name.get(name.as_str())
                    {
                        names.push(callee);
                    }
                }
                // Through a pointer it may be anyone's turn.
                if instruction
                    .operands
                    .iter()
                    .take(2)
                    .any(|o| matches!(o, Operand::Register(_)))
                {
                    names.push(index);
                }
            }
            names
        };
        let mut seen = HashSet::new();
        let mut queue = callees(index);
        while let Some(at) = queue.pop() {
            if at == index {
                return true;
            }
            if seen.insert(at) {
                queue.extend(callees(at));
            }
        }
        false
    }

    fn finish(mut self, codes: Vec<(FunctionCode, [[u32; 2]; 3])>, shared: u64) -> Result<Kernel> {
        let numbers: HashMap<usize, usize> = self
            .functions
            .iter()
            .enumerate()
            .map(|(at, &index)| (index, at))
            .collect();
        for op in &mut self.builder.code {
            if op.kind == Kind::Call {
                op.imm = numbers[&(op.imm as usize)] as u64;
            }
        }
        let deep = self.indirect || codes.iter().any(|(code, _)| code.recursive);
        let frames: u64 = codes.iter().map(|(code, _)| code.frame).sum();
        let depth = frames + if deep { STACK } else { 0 };
        let mut local = depth;
        if self.stack.taken.is_some() {
            local += stack::SIZE;
        }
        if local > MAX_LOCAL {
            return Err(self.refused(format!(
                "a thread needs {local} bytes of local memory, more than {MAX_LOCAL}"
            )));
        }
        let too_many = self.refused(format!(
            "a thread needs more than {MAX_REGISTER_BYTES} bytes of registers"
        ));
        let by_handle = self
            .functions
            .iter()
            .enumerate()
            .map(|(at, &index)| (function_handle(index), at))
            .collect();
        let (warps, barriers) = (self.warps, self.barriers);
        let name = self.module.functions[self.functions[0]].name.clone();
        let mut kernel = self.builder.finish(name, codes);
        if kernel.reg_bytes > MAX_REGISTER_BYTES {
            return Err(too_many);
        }
        kernel.shared = shared;
        kernel.local = local;
        kernel.frames = depth;
        kernel.warps = warps;
        kernel.barriers = barriers;
        kernel.by_handle = by_handle;
        Ok(kernel)
    }

    // Registers and names.

    pub fn reg_of(&mut self, register: RegId) -> VReg {
        let key = (self.current, register);
        if let Some(&found) = self.regs.get(&key) {
            return found;
        }
        let declared = self.function_now().registers[register.0 as usize];
        let reg = self.builder.reg(declared.ty.size().max(2));
        let passed = self
            .function_now()
            .params
            .iter()
            .chain(&self.function_now().returns);
        if passed
            .into_iter()
            .any(|param| param.register == Some(register))
        {
            self.builder.pin(reg);
        }
        self.regs.insert(key, reg);
        reg
    }

    pub fn pred_of(&mut self, register: RegId) -> u32 {
        let key = (self.current, register);
        if let Some(&found) = self.preds.get(&key) {
            return found;
        }
        let pred = self.builder.pred();
        self.preds.insert(key, pred);
        pred
    }

    pub fn carry_flag(&mut self) -> u32 {
        if let Some(&found) = self.carries.get(&self.current) {
            return found;
        }
        let pred = self.builder.pred();
        self.carries.insert(self.current, pred);
        pred
    }

    pub fn stack_taken(&self) -> Option<VReg> {
        self.stack.taken
    }

    /// How much was taken when the current function was entered, if it takes some itself.
    pub fn stack_before(&mut self) -> Option<VReg> {
        let function = self.functions[self.current];
        if self.function_now().is_entry || !stack::uses(self.module, function) {
            return None;
        }
        if let Some(&found) = self.stack.before.get(&function) {
            return Some(found);
        }
        let reg = self.builder.reg(4);
        self.stack.before.insert(function, reg);
        Some(reg)
    }

    pub fn register_type(&self, register: RegId) -> ScalarType {
        self.function_now().registers[register.0 as usize].ty
    }

    pub fn meaning(&self, name: &str) -> Option<Meaning> {
        let index = self.functions[self.current];
        if let Some(&(at, _)) = self.frames[self.current].at.get(name) {
            return Some(Meaning::Framed(at));
        }
        let function = self.function_now();
        if function.is_entry
            && let Some(at) = function.params.iter().position(|param| param.name == name)
        {
            return Some(Meaning::KernelParam(passing(&function.params, &[]).0[at]));
        }
        for owner in [Some(index), None] {
            if let Some(&at) = self.shared.get(&(owner, name.to_owned())) {
                return Some(Meaning::Shared(at));
            }
        }
        if let Some(placed) = self.symbols.placed(index, name) {
            return Some(Meaning::Placed(placed));
        }
        self.symbols.function(name).map(Meaning::Function)
    }

    fn unknown<T>(&self, instruction: &Instruction, name: &str) -> Result<T> {
        self.error(instruction, format!("`{name}` is not declared"))
    }

    /// Register that holds an address or another value of a symbol.
    pub fn symbol(
        &mut self,
        instruction: &Instruction,
        name: &str,
        offset: i64,
        size: u32,
    ) -> Result<VReg> {
        let constant = match self.meaning(name) {
            Some(Meaning::Placed(index)) => Constant::Global(index, offset),
            Some(Meaning::Shared(at) | Meaning::KernelParam(at)) => {
                Constant::Bits(at.wrapping_add(offset as u64))
            }
            Some(Meaning::Function(index)) => Constant::Bits(function_handle(index)),
            Some(Meaning::Framed(at)) => {
                let reg = self.builder.reg(size);
                let op = self.builder.alu(crate::access::frame_address, reg, &[]);
                self.builder.code[op].imm = at.wrapping_add(offset as u64);
                self.builder.code[op].aux = size;
                return Ok(reg);
            }
            None => return self.unknown(instruction, name),
        };
        Ok(self.builder.constant(constant, size))
    }

    /// Set an operation's address from an operand; `space` is what the instruction names, or generic.
    pub fn address(
        &mut self,
        instruction: &Instruction,
        op: usize,
        operand: &Operand,
        space: u32,
    ) -> Result<()> {
        let Operand::Address { base, offset } = operand else {
            return self.error(
                instruction,
                format!("`{}` takes an address in brackets", instruction.opcode),
            );
        };
        let mut space = space;
        let mut flags = 0;
        let mut imm = *offset as u64;
        match base {
            Base::Absolute => {}
            Base::Register(register) => {
                let reg = self.reg_of(*register);
                flags = match self.builder.size(reg) {
                    4 => BASE32,
                    8 => BASE64,
                    _ => {
                        return self
                            .error(instruction, "an address takes a register of 32 or 64 bits");
                    }
                };
                self.builder.reads(op, Field::A, reg);
                if space == PARAM && !self.function_now().is_entry {
                    space = LOCAL;
                }
            }
            Base::Symbol(name) => match self.meaning(name) {
                Some(Meaning::Framed(at)) if matches!(space, LOCAL | PARAM | GENERIC) => {
                    space = LOCAL;
                    flags = FRAME;
                    imm = imm.wrapping_add(at);
                }
                Some(Meaning::KernelParam(at)) if space == PARAM => imm = imm.wrapping_add(at),
                Some(Meaning::Shared(at)) if matches!(space, SHARED | GENERIC) => {
                    space = SHARED;
                    imm = imm.wrapping_add(at);
                }
                Some(Meaning::Placed(index)) if matches!(space, GLOBAL | GENERIC) => {
                    space = GLOBAL;
                    let reg = self.builder.constant(Constant::Global(index, 0), 8);
                    self.builder.reads(op, Field::A, reg);
                    flags = BASE64;
                }
                None => return self.unknown(instruction, name),
                _ => {
                    let message = format!(
                        "`{name}` does not lie in the space that `{}` names",
                        instruction.opcode
                    );
                    return self.error(instruction, message);
                }
            },
        }
        self.builder.code[op].imm = imm;
        self.builder.code[op].aux |= space | flags;
        Ok(())
    }

    /// A 64-bit register with an operand's address, and the space that it is in: for instructions of several addresses.
    pub fn address_register(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        space: u32,
    ) -> Result<(VReg, u32)> {
        // An address harms nobody, so it is computed without the guard, under which its register would live longer.
        let guard = self.builder.guard.take();
        let op = self
            .builder
            .push(crate::access::effective_address, Kind::Plain);
        let found = self.address(instruction, op, operand, space);
        let reg = self.builder.reg(8);
        self.builder.writes(op, Field::Dst, reg);
        self.builder.guard = guard;
        found?;
        Ok((reg, self.builder.code[op].aux & SPACE))
    }

    /// Register with an operand's value as a type; `size` 1 counts as 2.
    pub fn source(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        ty: ScalarType,
    ) -> Result<VReg> {
        let size = ty.size().max(2);
        let bits = match operand {
            Operand::Register(register) => {
                if self.register_type(*register) == ScalarType::Pred {
                    return self.error(instruction, "a predicate stands where a value is needed");
                }
                let reg = self.reg_of(*register);
                let has = self.builder.size(reg);
                if has == size {
                    return Ok(reg);
                }
                // A wider register serves for a narrower type where PTX is loose (cvt, shifts, stores).
                let loose = matches!(instruction.mnemonic(), "cvt" | "st" | "shl" | "shr");
                if loose && has > size
                    || !ty.is_float()
                        && has < size
                        && matches!(instruction.mnemonic(), "cvt" | "shl" | "shr")
                {
                    return self.resized(instruction, reg, size, false);
                }
                let message = format!(
                    "a register of {} bits stands where {} bits are needed",
                    has * 8,
                    size * 8
                );
                return self.error(instruction, message);
            }
            Operand::Int(value) => match ty {
                // ptxas takes an integer literal for a float's value.
                ScalarType::F32 => u64::from((*value as i64 as f32).to_bits()),
                ScalarType::F64 => (*value as i64 as f64).to_bits(),
                _ => *value,
            },
            Operand::F32(bits) => match ty {
                ScalarType::F64 => f64::from(f32::from_bits(*bits)).to_bits(),
                ScalarType::F16 => u64::from(crate::float::f32_to_f16(f32::from_bits(*bits))),
                _ => u64::from(*bits),
            },
            Operand::F64(bits) => match ty {
                ScalarType::F32 | ScalarType::B32 => {
                    u64::from((f64::from_bits(*bits) as f32).to_bits())
                }
                _ => *bits,
            },
            Operand::Special(name) => {
                let reg = self.special(instruction, name)?;
                let has = self.builder.size(reg);
                return if has == size {
                    Ok(reg)
                } else {
                    self.resized(instruction, reg, size, false)
                };
            }
            Operand::Symbol { name, offset } => {
                return self.symbol(instruction, name, *offset, size);
            }
            _ => {
                return self.error(
                    instruction,
                    format!(
                        "an operand of `{}` is of a kind that it does not take",
                        instruction.opcode
                    ),
                );
            }
        };
        Ok(self.builder.constant(Constant::Bits(bits), size))
    }

    pub fn resized(
        &mut self,
        instruction: &Instruction,
        reg: VReg,
        size: u32,
        signed: bool,
    ) -> Result<VReg> {
        let has = self.builder.size(reg);
        match crate::bits::resize(has, size, signed) {
            _ if has == size => Ok(reg),
            Some(run) => {
                let result = self.builder.reg(size);
                self.builder.alu(run, result, &[reg]);
                Ok(result)
            }
            None => self.unsupported(instruction),
        }
    }

    /// A predicate operand, with its negation.
    pub fn pred_source(&mut self, instruction: &Instruction, operand: &Operand) -> Result<u32> {
        match operand {
            Operand::Register(register) if self.register_type(*register) == ScalarType::Pred => {
                Ok(self.pred_of(*register) << 1)
            }
            Operand::Negated(register) if self.register_type(*register) == ScalarType::Pred => {
                Ok(self.pred_of(*register) << 1 | 1)
            }
            Operand::Int(value) => Ok(u32::from(*value != 0)),
            Operand::Special(name) if name == "%is_explicit_cluster" => Ok(0),
            _ => self.error(instruction, "a predicate is needed here"),
        }
    }

    /// A predicate that is written; none for `_`.
    pub fn pred_target(&mut self, instruction: &Instruction, operand: &Operand) -> Result<u32> {
        match operand {
            Operand::Discard => Ok(NONE),
            Operand::Register(_) => self.pred_source(instruction, operand),
            _ => self.error(instruction, "a predicate register is needed here"),
        }
    }

    /// A register that is written, whatever its size.
    pub fn target(&mut self, instruction: &Instruction, operand: &Operand) -> Result<VReg> {
        match operand {
            Operand::Register(register) if self.register_type(*register) != ScalarType::Pred => {
                Ok(self.reg_of(*register))
            }
            Operand::Discard => Ok(self.builder.reg(8)),
            _ => self.error(instruction, "a register is needed as destination"),
        }
    }

    fn special(&mut self, instruction: &Instruction, name: &str) -> Result<VReg> {
        let axis = |name: &str| match name.as_bytes().last() {
            Some(b'x') => 0,
            Some(b'y') => 1,
            Some(b'z') => 2,
            _ => 3,
        };
        let (stem, _) = name.split_once('.').unwrap_or((name, ""));
        let special = match stem {
            "%tid" => Special::Tid(axis(name)),
            "%ntid" => Special::Ntid(axis(name)),
            "%ctaid" => Special::Ctaid(axis(name)),
            "%nctaid" => Special::Nctaid(axis(name)),
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%lanemask_eq" => Special::MaskEq,
            "%lanemask_le" => Special::MaskLe,
            "%lanemask_lt" => Special::MaskLt,
            "%lanemask_ge" => Special::MaskGe,
            "%lanemask_gt" => Special::MaskGt,
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" => Special::TotalShared,
            "%aggr_smem_size" => Special::TotalShared,
            // A block is a cluster of its own.
            "%clusterid" => Special::Ctaid(axis(name)),
            "%nclusterid" => Special::Nctaid(axis(name)),
            "%cluster_ctarank" | "%cluster_ctaid" | "%smid" | "%gridid" | "%current_graph_exec" => {
                Special::Zero
            }
            "%envreg1" => Special::WorkspaceHigh,
            "%envreg2" => Special::WorkspaceLow,
            "%nsmid" | "%cluster_nctarank" | "%cluster_nctaid" => Special::One,
            _ if ["%envreg", "%pm", "%reserved_smem_offset"]
                .iter()
                .any(|start| stem.starts_with(start)) =>
            {
                Special::Zero
            }
            "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo"
            | "%globaltimer_hi" => {
                let wide = matches!(stem, "%clock64" | "%globaltimer");
                let reg = self.builder.reg(if wide { 8 } else { 4 });
                let op = self.builder.alu(crate::special::clock, reg, &[]);
                let which = if stem.starts_with("%clock") {
                    crate::special::CLOCK
                } else {
                    crate::special::GLOBAL_TIMER
                };
                let part = if stem.ends_with("_hi") { 256 } else { 0 };
                self.builder.code[op].aux = which | part | if wide { 512 } else { 0 };
                return Ok(reg);
            }
            _ => {
                return self.error(
                    instruction,
                    format!("the special register `{name}` is not supported"),
                );
            }
        };
        Ok(self.builder.special(special))
    }

    pub fn uses_warps(&mut self) {
        self.warps = true;
    }

    pub fn uses_barriers(&mut self) {
        self.barriers = true;
    }

    pub fn calls_indirectly(&mut self) {
        self.indirect = true;
    }

    pub fn frame_size(&self) -> u64 {
        self.frames[self.current].size
    }

    /// Register of another function's parameter.
    pub fn register_in(&mut self, function: usize, register: RegId) -> VReg {
        let before = self.current;
        self.current = self
            .functions
            .iter()
            .position(|&index| index == function)
            .unwrap_or(before);
        let reg = self.reg_of(register);
        self.current = before;
        reg
    }
}

/// The space that an opcode's modifiers name.
pub fn space_of(instruction: &Instruction) -> u32 {
    for modifier in instruction.modifiers() {
        match modifier {
            "global" | "const" => return GLOBAL,
            "shared" | "shared::cta" => return SHARED,
            "local" => return LOCAL,
            "param" | "param::entry" | "param::func" => return PARAM,
            _ => {}
        }
    }
    GENERIC
}
