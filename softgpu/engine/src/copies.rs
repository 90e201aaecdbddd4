//! `cp.async`: copies from global to shared memory that run beside the thread.
//!
//! Here a copy is done when it is issued, which is one of the times at which it may happen; waiting for it is then no work.

use std::ptr::{read_volatile, write_volatile};

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::FaultKind;
use crate::access::{GLOBAL, SHARED};
use crate::build::Field;
use crate::instructions::has;
use crate::lanes::{Kind, Lanes, NONE, Op, Step, WORD};
use crate::lower::{Lowering, Result};

/// Source in `a`, destination in `b`; bytes that are read in `c`, or a predicate in `dst` that says to read none; size in
/// `aux`. What is not read is zero.
unsafe fn copy(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let size = u64::from(op.aux);
    for word in 0..lanes.words {
        let mut left = lanes.mask[word];
        while left != 0 {
            let lane = word * WORD + left.trailing_zeros() as usize;
            left &= left - 1;
            // SAFETY: lowering gave two 64-bit registers, and a 32-bit one or a predicate.
            let (from, to, wanted) = unsafe {
                let wanted = match () {
                    () if op.c != NONE => u64::from(*lanes.reg::<u32>(op.c).add(lane)).min(size),
                    () if op.dst != NONE && lanes.pred(op.dst, word) >> (lane % WORD) & 1 != 0 => 0,
                    () => size,
                };
                (
                    *lanes.reg::<u64>(op.a).add(lane),
                    *lanes.reg::<u64>(op.b).add(lane),
                    wanted,
                )
            };
            for (address, used) in [(from, wanted), (to, size)] {
                if used > 0 && address % size != 0 {
                    return lanes.fail(FaultKind::Misaligned, lane, address);
                }
            }
            let Some(source) = lanes.place(GLOBAL, from, wanted, lane) else {
                return lanes.fail(FaultKind::IllegalAddress, lane, from);
            };
            let Some(target) = lanes.place(SHARED, to, size, lane) else {
                return lanes.fail(FaultKind::IllegalAddress, lane, to);
            };
            // SAFETY: both ranges were checked, and lie apart.
            unsafe {
                if wanted == size {
                    for at in (0..size).step_by(4) {
                        let part = read_volatile((source + at) as *const u32);
                        write_volatile((target + at) as *mut u32, part);
                    }
                } else {
                    for at in 0..size {
                        let part = if at < wanted {
                            read_volatile((source + at) as *const u8)
                        } else {
                            0
                        };
                        write_volatile((target + at) as *mut u8, part);
                    }
                }
            }
        }
    }
    Step::Next
}

impl Lowering<'_> {
    pub fn copy_async(&mut self, instruction: &Instruction) -> Result<()> {
        let words: Vec<&str> = instruction.modifiers().collect();
        match words[..] {
            ["async", "commit_group"] | ["async", "wait_all"] => {
                self.operands::<0>(instruction)?;
                Ok(())
            }
            ["async", "wait_group"] => match self.operands::<1>(instruction)? {
                [Operand::Int(_)] => Ok(()),
                _ => self.error(instruction, "`cp.async.wait_group` takes a number"),
            },
            ["async", "mbarrier", "arrive", ..] => self.arrive_for_copies(instruction),
            ["async", "ca" | "cg", "shared" | "shared::cta", "global", ..] => {
                self.copy_to_shared(instruction)
            }
            _ => self.unsupported(instruction),
        }
    }

    fn copy_to_shared(&mut self, instruction: &Instruction) -> Result<()> {
        let mut operands = instruction.operands.as_slice();
        if has(instruction, "L2::cache_hint") {
            // The policy is the last one.
            operands = operands.split_last().map_or(operands, |(_, rest)| rest);
        }
        let (to, from, size, less) = match operands {
            [to, from, Operand::Int(size)] => (to, from, *size, None),
            [to, from, Operand::Int(size), less] => (to, from, *size, Some(less)),
            _ => {
                return self.error(
                    instruction,
                    "`cp.async` takes two addresses, a size, and maybe a source size or a predicate",
                );
            }
        };
        if !(size == 16 || matches!(size, 4 | 8) && has(instruction, "ca")) {
            return self.error(
                instruction,
                format!("`{}` does not copy {size} bytes", instruction.opcode),
            );
        }
        let ignore = match less {
            Some(Operand::Negated(_)) => true,
            Some(Operand::Register(register)) => self.register_type(*register) == ScalarType::Pred,
            _ => false,
        };
        let (mut count, mut pred) = (None, NONE);
        match less {
            Some(operand) if ignore => pred = self.pred_source(instruction, operand)?,
            Some(operand) => count = Some(self.source(instruction, operand, ScalarType::U32)?),
            None => {}
        }
        let (from, _) = self.address_register(instruction, from, GLOBAL)?;
        let (to, _) = self.address_register(instruction, to, SHARED)?;
        let op = self.builder.push(copy, Kind::Plain);
        self.builder.reads(op, Field::A, from);
        self.builder.reads(op, Field::B, to);
        self.builder.code[op].c = NONE;
        if let Some(count) = count {
            self.builder.reads(op, Field::C, count);
        }
        self.builder.code[op].dst = pred;
        self.builder.code[op].aux = size as u32;
        Ok(())
    }
}
