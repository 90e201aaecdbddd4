//! `alloca`, `stacksave`, `stackrestore`: memory that a thread takes while it runs.
//!
//! It comes from a region of the thread's local memory behind all frames, and a register of the kernel says how much of it
//! is taken. A function that takes some gives it back when it returns.

use softgpu_ptx::{Instruction, Module, Operand};

use crate::FaultKind;
use crate::build::{Field, VReg};
use crate::instructions::last_type;
use crate::kernel::Constant;
use crate::lanes::{Kind, Lanes, Op, Step, WORD};
use crate::lower::{Lowering, Result};

/// The region of each thread, in bytes.
pub const SIZE: u64 = 16 << 10;
const LEAST_ALIGN: u64 = 16;

/// Whether a function uses these instructions.
pub fn uses(module: &Module, function: usize) -> bool {
    module.functions[function].body.iter().any(|instruction| {
        matches!(
            instruction.mnemonic(),
            "alloca" | "stacksave" | "stackrestore"
        )
    })
}

const TAKE: u32 = 0;
const SAVE: u32 = 1;
const RESTORE: u32 = 2;

/// Bytes that are taken in `c`, size or saved pointer in `a`, pointer in `dst`, both of 64 bits; alignment in `imm`.
unsafe fn operate(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let start = lanes.local_size - SIZE;
    for word in 0..lanes.words {
        let mut left = lanes.mask[word];
        while left != 0 {
            let lane = word * WORD + left.trailing_zeros() as usize;
            left &= left - 1;
            // SAFETY: lowering gave these registers.
            unsafe {
                let taken = lanes.reg::<u32>(op.c).add(lane);
                let now = start + u64::from(*taken).min(SIZE);
                match op.aux {
                    TAKE => {
                        let size = *lanes.reg::<u64>(op.a).add(lane);
                        let at = now.next_multiple_of(op.imm);
                        let end = at.checked_add(size).filter(|&end| end <= lanes.local_size);
                        let Some(end) = end else {
                            let message = format!(
                                "alloca of {size} bytes: the thread's {SIZE} are not enough"
                            );
                            return lanes.fail(FaultKind::Launch(message), lane, 0);
                        };
                        *lanes.reg::<u64>(op.dst).add(lane) = at;
                        *taken = (end - start) as u32;
                    }
                    SAVE => *lanes.reg::<u64>(op.dst).add(lane) = now,
                    _ => {
                        let saved = *lanes.reg::<u64>(op.a).add(lane);
                        if !(start..=now).contains(&saved) {
                            return lanes.fail(FaultKind::IllegalAddress, lane, saved);
                        }
                        *taken = (saved - start) as u32;
                    }
                }
            }
        }
    }
    Step::Next
}

impl Lowering<'_> {
    pub fn stack(&mut self, instruction: &Instruction) -> Result<()> {
        let (Some(ty), Some(taken)) = (last_type(instruction), self.stack_taken()) else {
            return self.unsupported(instruction);
        };
        let mut align = LEAST_ALIGN;
        let (what, dst, src) = match (instruction.mnemonic(), instruction.operands.as_slice()) {
            ("alloca", [dst, size]) => (TAKE, Some(dst), Some(size)),
            ("alloca", [dst, size, Operand::Int(wanted)])
                if wanted.is_power_of_two() && *wanted <= 1 << 23 =>
            {
                align = align.max(*wanted);
                (TAKE, Some(dst), Some(size))
            }
            ("stacksave", [dst]) => (SAVE, Some(dst), None),
            ("stackrestore", [saved]) => (RESTORE, None, Some(saved)),
            _ => {
                return self.error(
                    instruction,
                    format!("`{}` does not take these operands", instruction.opcode),
                );
            }
        };
        let src = match src {
            Some(operand) => {
                let reg = self.source(instruction, operand, ty)?;
                Some(self.resized(instruction, reg, 8, false)?)
            }
            None => None,
        };
        let dst = match dst {
            Some(operand) => Some(self.destination(instruction, operand, ty)?),
            None => None,
        };
        let wide = self.builder.reg(8);
        let op = self.builder.push(operate, Kind::Plain);
        self.builder.reads(op, Field::C, taken);
        if let Some(src) = src {
            self.builder.reads(op, Field::A, src);
        }
        self.builder.code[op].aux = what;
        self.builder.code[op].imm = align;
        if let Some(dst) = dst {
            self.builder.writes(op, Field::Dst, wide);
            let narrow = self.resized(instruction, wide, ty.size(), false)?;
            self.copy(instruction, dst, narrow)?;
        }
        Ok(())
    }

    /// At the start of a function: nothing is taken yet, or what is taken is noted.
    pub fn enter_stack(&mut self) {
        let Some(taken) = self.stack_taken() else {
            return;
        };
        let Some(run) = crate::bits::movement(4) else {
            return;
        };
        if self.function_now().is_entry {
            let zero = self.builder.constant(Constant::Bits(0), 4);
            self.builder.alu(run, taken, &[zero]);
        } else if let Some(before) = self.stack_before() {
            self.builder.alu(run, before, &[taken]);
        }
    }

    /// Before a function returns.
    pub fn leave_stack(&mut self) {
        if let (Some(taken), Some(before)) = (self.stack_taken(), self.stack_before())
            && let Some(run) = crate::bits::movement(4)
        {
            self.builder.alu(run, taken, &[before]);
        }
    }
}

/// What lowering keeps: how much is taken, and how much was at the start of each function.
#[derive(Default)]
pub struct Stack {
    pub taken: Option<VReg>,
    pub before: std::collections::HashMap<usize, VReg>,
}
