//! `mbarrier`: barriers that are objects in shared memory, for threads and for bytes that are on their way.
//!
//! An object is one word: arrivals that are pending and that a phase expects, bytes that are outstanding, and the parity of
//! the phase. The state that an arrival returns is the word as it was before.

use std::ptr::{read_volatile, write_volatile};

use softgpu_ptx::{Instruction, Operand, ScalarType};

use crate::FaultKind;
use crate::access::{GENERIC, SHARED, SHARED_WINDOW, WINDOW};
use crate::build::{Field, VReg};
use crate::instructions::has;
use crate::kernel::Constant;
use crate::lanes::{Kind, Lanes, NONE, Op, Step, WORD};
use crate::lower::{Lowering, Result};
use crate::rare::{rare, rare_op};

/// Largest number of arrivals, and of outstanding bytes either way.
const MOST: u64 = (1 << 20) - 1;
const EXPECTED: u32 = 20;
const BYTES: u32 = 40;
const BYTES_MASK: u64 = (1 << 21) - 1;
const PHASE: u64 = 1 << 63;

fn pending(word: u64) -> u64 {
    word & MOST
}

fn expected(word: u64) -> u64 {
    word >> EXPECTED & MOST
}

fn bytes(word: u64) -> i64 {
    ((word >> BYTES & BYTES_MASK) << 43) as i64 >> 43
}

fn word(pending: u64, expected: u64, bytes: i64, phase: u64) -> u64 {
    pending | expected << EXPECTED | (bytes as u64 & BYTES_MASK) << BYTES | phase
}

fn initial(count: u64) -> Option<u64> {
    (1..=MOST)
        .contains(&count)
        .then(|| word(count, count, 0, 0))
}

/// The object after arrivals, threads that leave and bytes that are announced or have come. None: beyond what it counts.
fn update(old: u64, arrivals: u64, leaving: bool, announced: i64) -> Option<u64> {
    let left = pending(old).checked_sub(arrivals)?;
    let next = expected(old).checked_sub(if leaving { arrivals } else { 0 })?;
    let bytes = bytes(old) + announced;
    if bytes.unsigned_abs() > MOST {
        return None;
    }
    let phase = old & PHASE;
    Some(if left == 0 && bytes == 0 {
        word(next, next, 0, phase ^ PHASE)
    } else {
        word(left, next, bytes, phase)
    })
}

const INIT: u32 = 0;
const INVALIDATE: u32 = 1;
const EXPECT: u32 = 2;
const COMPLETE: u32 = 3;
const ARRIVE: u32 = 4;
const DROP: u32 = 5;
const TEST: u32 = 6;
const TEST_PARITY: u32 = 7;
/// The object's address is a generic one.
const IS_GENERIC: u32 = 1 << 8;

/// Address in `a`; count, state or parity in `b`; announced bytes in `c`; a register for the state, or a predicate, in
/// `dst`.
unsafe fn operate(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let what = op.aux & 255;
    for at in 0..lanes.words {
        let (mut left, mut done) = (lanes.mask[at], 0u32);
        while left != 0 {
            let bit = left.trailing_zeros();
            let lane = at * WORD + bit as usize;
            left &= left - 1;
            // SAFETY: lowering gave an address of 64 bits, a state of 64 bits for tests by state, else 32 bits.
            let (address, b, c) = unsafe {
                let b = match what {
                    TEST => *lanes.reg::<u64>(op.b).add(lane),
                    _ => u64::from(*lanes.reg::<u32>(op.b).add(lane)),
                };
                let c = i64::from(*lanes.reg::<u32>(op.c).add(lane));
                (*lanes.reg::<u64>(op.a).add(lane), b, c)
            };
            if op.aux & IS_GENERIC != 0 && address.wrapping_sub(SHARED_WINDOW) >= WINDOW {
                return lanes.fail(FaultKind::InvalidAddressSpace, lane, address);
            }
            if !address.is_multiple_of(8) {
                return lanes.fail(FaultKind::Misaligned, lane, address);
            }
            let space = if op.aux & IS_GENERIC != 0 {
                GENERIC
            } else {
                SHARED
            };
            let Some(place) = lanes.place(space, address, 8, lane) else {
                return lanes.fail(FaultKind::IllegalAddress, lane, address);
            };
            // SAFETY: the place was checked. It is the block's own, which one thread runs at a time.
            let old = unsafe { read_volatile(place as *const u64) };
            let new = match what {
                INIT => initial(b),
                INVALIDATE => Some(0),
                EXPECT => update(old, 0, false, c),
                COMPLETE => update(old, 0, false, -c),
                ARRIVE | DROP => {
                    // The bytes are announced before the arrival, which might complete the phase.
                    update(old, b, what == DROP, c)
                }
                TEST => {
                    done |= u32::from((old ^ b) & PHASE != 0) << bit;
                    continue;
                }
                _ => {
                    done |= u32::from(old >> 63 != b & 1) << bit;
                    continue;
                }
            };
            let Some(new) = new else {
                return lanes.fail(FaultKind::IllegalInstruction, lane, address);
            };
            // SAFETY: as above; the state's register has 64 bits.
            unsafe {
                write_volatile(place as *mut u64, new);
                if op.dst != NONE {
                    *lanes.reg::<u64>(op.dst).add(lane) = old;
                }
            }
        }
        if matches!(what, TEST | TEST_PARITY) && op.dst != NONE {
            // SAFETY: lowering gave a predicate.
            unsafe { lanes.set_pred(op.dst, at, done) };
        }
    }
    Step::Next
}

rare_op!(PendingCount, u32, |state: u64; _aux| pending(state) as u32);

impl Lowering<'_> {
    pub fn mbarrier(&mut self, instruction: &Instruction) -> Result<()> {
        let Some(name) = instruction.modifiers().next() else {
            return self.unsupported(instruction);
        };
        let zero = self.builder.constant(Constant::Bits(0), 4);
        match name {
            "init" => {
                let [address, count] = self.operands::<2>(instruction)?;
                let count = self.source(instruction, count, ScalarType::U32)?;
                self.object(instruction, INIT, address, count, zero, None)
            }
            "inval" => {
                let [address] = self.operands::<1>(instruction)?;
                self.object(instruction, INVALIDATE, address, zero, zero, None)
            }
            "expect_tx" | "complete_tx" => {
                let [address, count] = self.operands::<2>(instruction)?;
                let count = self.source(instruction, count, ScalarType::U32)?;
                let what = if name == "expect_tx" {
                    EXPECT
                } else {
                    COMPLETE
                };
                self.object(instruction, what, address, zero, count, None)
            }
            "arrive" | "arrive_drop" => self.arrive(instruction, zero),
            "test_wait" | "try_wait" => {
                let (dst, address, state) = match instruction.operands.as_slice() {
                    [dst, address, state] => (dst, address, state),
                    [dst, address, state, hint] if name == "try_wait" => {
                        self.source(instruction, hint, ScalarType::U32)?;
                        (dst, address, state)
                    }
                    _ => {
                        return self.error(
                            instruction,
                            "a wait takes a predicate, an address and a state or a parity",
                        );
                    }
                };
                let (what, ty) = if has(instruction, "parity") {
                    (TEST_PARITY, ScalarType::U32)
                } else {
                    (TEST, ScalarType::B64)
                };
                let pred = self.pred_target(instruction, dst)?;
                let state = self.source(instruction, state, ty)?;
                self.object(instruction, what, address, state, zero, None)?;
                let last = self.builder.code.len() - 1;
                self.builder.code[last].dst = pred;
                Ok(())
            }
            "pending_count" => {
                let [dst, state] = self.operands::<2>(instruction)?;
                let state = self.source(instruction, state, ScalarType::B64)?;
                let dst = self.destination(instruction, dst, ScalarType::U32)?;
                self.builder.alu(rare::<PendingCount>(), dst, &[state]);
                Ok(())
            }
            _ => self.unsupported(instruction),
        }
    }

    fn arrive(&mut self, instruction: &Instruction, zero: VReg) -> Result<()> {
        let announces = has(instruction, "expect_tx");
        let (dst, address, count) = match instruction.operands.as_slice() {
            [dst, address] if !announces && !has(instruction, "noComplete") => (dst, address, None),
            [dst, address, count] => (dst, address, Some(count)),
            _ => {
                return self.error(
                    instruction,
                    "an arrival takes a state, an address, and maybe a number",
                );
            }
        };
        let one = self.builder.constant(Constant::Bits(1), 4);
        let number = match count {
            Some(operand) => Some(self.source(instruction, operand, ScalarType::U32)?),
            None => None,
        };
        let (arrivals, bytes) = match number {
            Some(bytes) if announces => (one, bytes),
            Some(arrivals) => (arrivals, zero),
            None => (one, zero),
        };
        let state = match dst {
            Operand::Discard => None,
            _ => Some(self.destination(instruction, dst, ScalarType::B64)?),
        };
        let what = if instruction.modifiers().next() == Some("arrive_drop") {
            DROP
        } else {
            ARRIVE
        };
        self.object(instruction, what, address, arrivals, bytes, state)
    }

    /// `cp.async.mbarrier.arrive`: the copies are done, so the thread arrives now. Without `.noinc` the object first
    /// expects one more arrival for it, which leaves it as it was.
    pub fn arrive_for_copies(&mut self, instruction: &Instruction) -> Result<()> {
        let [address] = self.operands::<1>(instruction)?;
        let number = if has(instruction, "noinc") { 1 } else { 0 };
        let number = self.builder.constant(Constant::Bits(number), 4);
        let zero = self.builder.constant(Constant::Bits(0), 4);
        self.object(instruction, ARRIVE, address, number, zero, None)
    }

    fn object(
        &mut self,
        instruction: &Instruction,
        what: u32,
        address: &Operand,
        b: VReg,
        c: VReg,
        state: Option<VReg>,
    ) -> Result<()> {
        let named = crate::lower::space_of(instruction);
        let (address, space) = self.address_register(instruction, address, named)?;
        if !matches!(space, SHARED | GENERIC) {
            return self.error(instruction, "an mbarrier lies in shared memory");
        }
        let op = self.builder.push(operate, Kind::Waiting);
        self.builder.reads(op, Field::A, address);
        self.builder.reads(op, Field::B, b);
        self.builder.reads(op, Field::C, c);
        self.builder.code[op].aux = what | if space == GENERIC { IS_GENERIC } else { 0 };
        match state {
            Some(state) => self.builder.writes(op, Field::Dst, state),
            None => self.builder.code[op].dst = NONE,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_end_when_all_arrived_and_all_bytes_came() {
        let start = initial(2).unwrap();
        assert_eq!((pending(start), expected(start), bytes(start)), (2, 2, 0));
        let one = update(start, 1, false, 100).unwrap();
        assert_eq!((pending(one), bytes(one), one & PHASE), (1, 100, 0));
        let all = update(one, 1, false, 0).unwrap();
        assert_eq!((pending(all), bytes(all), all & PHASE), (0, 100, 0));
        let early = update(all, 0, false, -40).unwrap();
        let end = update(early, 0, false, -60).unwrap();
        assert_eq!((pending(end), bytes(end), end & PHASE), (2, 0, PHASE));
        // Bytes may come before they are announced.
        let before = update(end, 0, false, -7).unwrap();
        assert_eq!(bytes(before), -7);
        let gone = update(before, 1, true, 7).unwrap();
        assert_eq!((pending(gone), expected(gone)), (1, 1));
        let back = update(gone, 1, false, 0).unwrap();
        assert_eq!((pending(back), back & PHASE), (1, 0));
    }

    #[test]
    fn what_it_cannot_count_is_an_error() {
        assert_eq!(initial(0), None);
        assert_eq!(initial(MOST + 1), None);
        let start = initial(MOST).unwrap();
        assert!(update(start, MOST + 1, false, 0).is_none());
        let full = update(start, 0, false, MOST as i64).unwrap();
        assert!(update(full, 0, false, 1).is_none());
        let low = update(start, 0, false, -(MOST as i64)).unwrap();
        assert_eq!(bytes(low), -(MOST as i64));
        assert!(update(low, 0, false, -1).is_none());
    }
}
