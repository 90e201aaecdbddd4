//! Lowering of calls: arguments and return values travel in the callee's frame, at the same offsets for all callers.

use softgpu_ptx::{Instruction, Operand, Prototype, ScalarType};

use crate::access::{self, LOCAL};
use crate::build::{Field, VReg};
use crate::instructions::{HOST_ALLOCATE, HOST_ASSERT, HOST_FREE, HOST_PRINT};
use crate::lanes::Kind;
use crate::layout::{Meaning, passing};
use crate::lower::{Lowering, Result};
use crate::transfer;

impl Lowering<'_> {
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
            let Some((load, store)) = transfer::handlers(step as u32, false, register) else {
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

    pub fn call(&mut self, instruction: &Instruction) -> Result<()> {
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
                    return self.host_call(instruction, name, arguments, returns);
                }
                // What another module declares to return may not be given, or not be wanted: linkers take both, and the value is any.
                if callee.params.len() != arguments.len() {
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
                    return self.error(
                        instruction,
                        "an indirect call takes a `.callprototype` or `.calltargets`",
                    );
                };
                let prototype = self.prototype(instruction, name)?;
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

    /// What an indirect call passes, by the name of a prototype or of a list of functions.
    fn prototype(&self, instruction: &Instruction, name: &str) -> Result<Prototype> {
        let function = self.function_now();
        if let Some(found) = function.prototypes.iter().find(|found| found.name == name) {
            return Ok(found.clone());
        }
        let targets = function.targets.iter().find(|found| found.name == name);
        let first = targets.and_then(|targets| targets.functions.first());
        let Some(at) = first.and_then(|first| self.symbols.function(first)) else {
            return self.error(
                instruction,
                format!("there is no `.callprototype` or `.calltargets` named `{name}`"),
            );
        };
        let callee = &self.module.functions[at];
        let mut passed = callee.params.iter().chain(&callee.returns);
        if passed.any(|param| param.register.is_some()) {
            return self.error(
                instruction,
                "functions that take values in registers are not called through pointers",
            );
        }
        Ok(Prototype {
            name: name.to_owned(),
            returns: callee.returns.clone(),
            params: callee.params.clone(),
        })
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
        let Some((_, run)) = transfer::handlers(size, false, size.max(2)) else {
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
                let Some((run, _)) = transfer::handlers(
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

    /// Functions that the device provides: their arguments are read from the caller's frame by the run loop.
    fn host_call(
        &mut self,
        instruction: &Instruction,
        name: &str,
        arguments: &[Operand],
        returns: &[Operand],
    ) -> Result<()> {
        let (which, count, given) = match name {
            "vprintf" => (HOST_PRINT, 2, 1),
            "__assertfail" => (HOST_ASSERT, 5, 0),
            "malloc" => (HOST_ALLOCATE, 1, 1),
            "free" => (HOST_FREE, 1, 0),
            _ => {
                return self.error(
                    instruction,
                    format!("the external function `{name}` is not there"),
                );
            }
        };
        if arguments.len() != count || returns.len() > given {
            return self.error(
                instruction,
                format!("`{name}` takes {count} arguments and gives {given} values"),
            );
        }
        let mut regs = Vec::new();
        for argument in arguments.iter().take(2) {
            regs.push(self.framed(instruction, argument)?);
        }
        let op = self.builder.control(Kind::HostCall);
        self.builder.code[op].aux = which;
        self.builder.reads(op, Field::A, regs[0]);
        self.builder
            .reads(op, Field::B, regs.get(1).copied().unwrap_or(regs[0]));
        let result = self.builder.reg(8);
        self.builder.writes(op, Field::Dst, result);
        if let Some(value) = returns.first() {
            let size = if which == HOST_PRINT { 4 } else { 8 };
            self.give(instruction, value, result, size)?;
        }
        Ok(())
    }

    /// An argument of 64 bits.
    fn framed(&mut self, instruction: &Instruction, argument: &Operand) -> Result<VReg> {
        let at = match argument {
            Operand::Symbol { name, offset: 0 } => match self.meaning(name) {
                Some(Meaning::Framed(at)) => at,
                _ => return self.source(instruction, argument, ScalarType::U64),
            },
            _ => return self.source(instruction, argument, ScalarType::U64),
        };
        let reg = self.builder.reg(8);
        let Some((load, _)) = transfer::handlers(8, false, 8) else {
            return self.unsupported(instruction);
        };
        let op = self.builder.push(load, Kind::Plain);
        self.builder.code[op].imm = at;
        self.builder.code[op].aux = LOCAL | access::FRAME;
        self.builder.writes(op, Field::Dst, reg);
        Ok(reg)
    }

    /// Hand a value of the device's over, of so many bytes.
    fn give(
        &mut self,
        instruction: &Instruction,
        to: &Operand,
        value: VReg,
        size: u32,
    ) -> Result<()> {
        let value = self.resized(instruction, value, size, false)?;
        match to {
            Operand::Discard => Ok(()),
            Operand::Symbol { name, offset: 0 } => {
                let (Some(Meaning::Framed(at)), Some((_, store))) =
                    (self.meaning(name), transfer::handlers(size, false, size))
                else {
                    return self.error(instruction, format!("`{name}` cannot take a return value"));
                };
                let op = self.builder.push(store, Kind::Plain);
                self.builder.code[op].imm = at;
                self.builder.code[op].aux = LOCAL | access::FRAME;
                self.builder.reads(op, Field::B, value);
                Ok(())
            }
            _ => {
                let dst = self.target(instruction, to)?;
                self.copy(instruction, dst, value)
            }
        }
    }
}
