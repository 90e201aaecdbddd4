//! Running blocks: set-up of registers and memory, and the loop over operations.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::arena::{ALIGN, Arena};
use crate::facts::{LAZY, UNIFORM};
use crate::kernel::{Constant, Kernel, Special};
use crate::lanes::{
    ALWAYS, Kind, LaneFault, Lanes, MAX_LANES, MAX_WORDS, Mask, NONE, Op, Step, WORD,
};
use crate::pattern::{KEPT, Pattern};
use crate::program::{MAX_SHARED, MAX_THREADS};
use crate::splits::{Split, Splits, State, any};
use crate::{Block, CompileError, Fault, FaultKind, LaunchContext, Outcome};

/// Backward branches after which a group lets others run: few when it may be waiting for them, many when it is not.
const PATIENCE_WAITING: u32 = 16;
const PATIENCE: u32 = 20_000;

/// Lanes that a block takes: whole warps, or a power of two when it is smaller than a warp and nothing in the kernel
/// lets lanes of a warp meet.
pub fn block_lanes(kernel: &Kernel, [x, y, z]: [u32; 3]) -> usize {
    let threads = (x as usize)
        .saturating_mul(y as usize)
        .saturating_mul(z as usize)
        .clamp(1, MAX_LANES);
    if threads < WORD && !kernel.warps {
        threads.next_power_of_two()
    } else {
        threads.next_multiple_of(WORD)
    }
}

/// Words, and lanes of them that came once.
pub type Arrivals = Vec<(usize, u32)>;

pub struct Gang<'a> {
    pub kernel: &'a Kernel,
    pub launch: &'a LaunchContext<'a>,
    blocks: Vec<[u32; 3]>,
    threads: usize,
    pub lanes: Lanes<'a>,
    arena: Option<Arena>,
    pub alive: Mask,
    pub splits: Splits,
    instructions: u64,
    /// Backward branches after which a group lets others run.
    patience: u32,
    /// By block and barrier, who came and went on.
    pub arrivals: Vec<((usize, u32), Arrivals)>,
    fault: Option<Fault>,
}

// SAFETY: the raw pointers lead into the arena, which the gang owns.
unsafe impl Send for Gang<'_> {}

/// A block of a kernel that cannot be run.
struct Refused(Fault);

impl Block for Refused {
    fn run(&mut self, _budget: u64) -> Outcome {
        Outcome::Fault(self.0.clone())
    }

    fn instructions(&self) -> u64 {
        0
    }
}

impl<'a> Gang<'a> {
    pub fn refused(
        error: CompileError,
        launch: &LaunchContext<'_>,
        blocks: &[[u32; 3]],
    ) -> Box<dyn Block + 'a> {
        let _ = launch;
        Box::new(Refused(Fault {
            line: error.line,
            instruction: error.message.clone(),
            kernel: error.function,
            kind: FaultKind::IllegalInstruction,
            block: blocks.first().copied().unwrap_or_default(),
            thread: [0; 3],
            address: 0,
        }))
    }

    pub fn start(
        kernel: &'a Kernel,
        id: u64,
        launch: &'a LaunchContext<'a>,
        blocks: &[[u32; 3]],
    ) -> Box<dyn Block + 'a> {
        let [x, y, z] = launch.block;
        let threads = u64::from(x) * u64::from(y) * u64::from(z);
        let shared_size = kernel.shared + u64::from(launch.dynamic_shared);
        let each = block_lanes(kernel, launch.block);
        let problem = match () {
            () if threads == 0 || threads > u64::from(MAX_THREADS) => {
                Some(format!("a block of {threads} threads"))
            }
            () if shared_size > MAX_SHARED => Some(format!("{shared_size} bytes of shared memory")),
            () if blocks.is_empty() || blocks.len() * each > MAX_LANES => {
                Some(format!("{} blocks at once", blocks.len()))
            }
            () => None,
        };
        if let Some(problem) = problem {
            return Box::new(Refused(Fault {
                kind: FaultKind::Launch(problem),
                kernel: kernel.name.clone(),
                block: blocks.first().copied().unwrap_or_default(),
                thread: [0; 3],
                address: 0,
                line: 0,
                instruction: String::new(),
            }));
        }
        let threads = threads as usize;
        let lanes = (blocks.len() * each).next_multiple_of(WORD);
        let words = lanes / WORD;
        // Registers, a scratch strip, predicates, shared memory, local memory, patterns and facts, in this order.
        let regs = kernel.reg_bytes * lanes;
        let scratch = 8 * lanes;
        let preds = (kernel.preds * words * 4).next_multiple_of(ALIGN);
        let shared_stride = (shared_size as usize).next_multiple_of(ALIGN);
        let shared = shared_stride * blocks.len();
        let local = (kernel.local as usize * lanes).next_multiple_of(ALIGN);
        let patterns = (KEPT * size_of::<Pattern>()).next_multiple_of(ALIGN);
        let mut hasher = DefaultHasher::new();
        (
            id,
            launch.block,
            launch.grid,
            launch.dynamic_shared,
            launch.workspace,
            lanes,
            blocks.len(),
            launch.globals,
        )
            .hash(&mut hasher);
        let stamp = hasher.finish() | 1;
        let mut arena = Arena::take(
            regs + scratch + preds + shared + local + patterns + kernel.facts.len(),
            stamp,
        );
        let fresh = arena.stamp != stamp;
        arena.stamp = stamp;
        let start = arena.start;
        let mut alive = [0; MAX_WORDS];
        for block in 0..blocks.len() {
            for lane in block * each..block * each + threads {
                alive[lane / WORD] |= 1 << (lane % WORD);
            }
        }
        // SAFETY: the parts lie in the arena one behind the other.
        let (scratch_at, preds_at, shared_at, local_at, patterns_at, facts_at) = unsafe {
            let behind = start.add(regs + scratch);
            (
                start.add(regs),
                behind.cast(),
                behind.add(preds),
                behind.add(preds + shared),
                behind.add(preds + shared + local).cast(),
                behind.add(preds + shared + local + patterns),
            )
        };
        let lanes = Lanes {
            regs: start,
            preds: preds_at,
            scratch: scratch_at,
            lanes,
            words,
            mask: alive,
            full: true,
            memory: launch.memory,
            block_lanes: each,
            shared: shared_at,
            shared_size,
            shared_stride,
            local: local_at,
            local_size: kernel.local,
            frame: 0,
            params: launch.params,
            lists: &kernel.lists,
            objects: launch.objects,
            words_from: kernel.words_from,
            halves_from: kernel.halves_from,
            facts: facts_at,
            found: 0,
            patterns: patterns_at,
            fault: None,
        };
        let mut gang = Gang {
            kernel,
            launch,
            blocks: blocks.to_vec(),
            threads,
            lanes,
            arena: Some(arena),
            alive,
            splits: Splits::default(),
            patience: PATIENCE,
            instructions: 0,
            arrivals: Vec::new(),
            fault: None,
        };
        gang.fill(fresh);
        gang.splits.push(Split {
            pc: 0,
            mask: alive,
            stack: None,
            frame: 0,
            state: State::Runs,
            tired: false,
            alone: false,
            back: 0,
        });
        Box::new(gang)
    }

    /// Fill the strips that do not change: constants and special registers.
    fn fill(&mut self, fresh: bool) {
        let lanes = &self.lanes;
        // Where blocks are smaller than a vector, one value a block saves nothing.
        let usable = if lanes.block_lanes < WORD {
            !UNIFORM
        } else {
            !0
        };
        for (at, &fact) in self.kernel.facts.iter().enumerate() {
            // SAFETY: the arena has a byte for each.
            unsafe { *lanes.facts.add(at) = fact & usable };
        }
        if fresh {
            for word in 0..lanes.words {
                // SAFETY: predicate 0 exists.
                unsafe { *lanes.preds.add(word) = 0 };
            }
            for &(offset, size, constant) in &self.kernel.constants {
                let value = match constant {
                    Constant::Bits(bits) => bits,
                    Constant::Global(index, plus) => self
                        .launch
                        .globals
                        .get(index)
                        .copied()
                        .unwrap_or(0)
                        .wrapping_add(plus as u64),
                };
                for lane in 0..lanes.lanes {
                    // SAFETY: lowering gave the offset a strip of this size.
                    unsafe {
                        match size {
                            8 => *lanes.reg::<u64>(offset).add(lane) = value,
                            4 => *lanes.reg::<u32>(offset).add(lane) = value as u32,
                            _ => *lanes.reg::<u16>(offset).add(lane) = value as u16,
                        }
                    }
                }
            }
        }
        let component =
            |values: [u32; 3], axis: u8| values.get(axis as usize).copied().unwrap_or(0);
        for &(offset, special) in &self.kernel.specials {
            if let Special::Ctaid(axis) = special {
                for (block, &place) in self.blocks.iter().enumerate() {
                    // SAFETY: special registers have strips of 32 bits.
                    let strip = unsafe {
                        let from = lanes.reg::<u32>(offset).add(block * lanes.block_lanes);
                        std::slice::from_raw_parts_mut(from, lanes.block_lanes)
                    };
                    strip.fill(component(place, axis));
                }
                continue;
            }
            if !fresh {
                continue;
            }
            for lane in 0..lanes.lanes {
                let thread = (lane % lanes.block_lanes) as u32;
                let index = thread % 32;
                let value = match special {
                    Special::Tid(axis) => component(self.thread(lane), axis),
                    Special::Ntid(axis) => component(self.launch.block, axis),
                    Special::Ctaid(_) => continue,
                    Special::Nctaid(axis) => component(self.launch.grid, axis),
                    Special::LaneId => index,
                    Special::WarpId => thread / 32,
                    Special::NWarpId => (self.threads as u32).div_ceil(32),
                    Special::MaskEq => 1 << index,
                    Special::MaskLt => (1 << index) - 1,
                    Special::MaskLe => (1 << index) | ((1 << index) - 1),
                    Special::MaskGe => !((1 << index) - 1),
                    Special::MaskGt => !((1 << index) | ((1 << index) - 1)),
                    Special::DynamicShared => self.launch.dynamic_shared,
                    Special::TotalShared => lanes.shared_size as u32,
                    Special::WorkspaceHigh => (self.launch.workspace >> 32) as u32,
                    Special::WorkspaceLow => self.launch.workspace as u32,
                    Special::Zero => 0,
                    Special::One => 1,
                };
                // SAFETY: special registers have strips of 32 bits.
                unsafe { *lanes.reg::<u32>(offset).add(lane) = value };
            }
        }
    }

    fn thread(&self, lane: usize) -> [u32; 3] {
        let [x, y, _] = self.launch.block.map(|size| size.max(1));
        let thread = (lane % self.lanes.block_lanes) as u32;
        [thread % x, thread / x % y, thread / x / y]
    }

    pub fn fault(&mut self, fault: LaneFault, pc: usize) -> Outcome {
        let (line, opcode) = self.kernel.origin[pc];
        let fault = Fault {
            kind: fault.kind,
            kernel: self.kernel.name.clone(),
            block: self
                .blocks
                .get(fault.lane / self.lanes.block_lanes)
                .copied()
                .unwrap_or_default(),
            thread: self.thread(fault.lane),
            address: fault.address,
            line,
            instruction: self.kernel.opcodes[opcode as usize].clone(),
        };
        self.fault = Some(fault.clone());
        Outcome::Fault(fault)
    }

    /// After a handler that ended in a fault.
    fn stopped(&mut self, pc: usize) -> Outcome {
        let fault = self.lanes.fault.take();
        let fault = fault.unwrap_or(LaneFault {
            kind: FaultKind::IllegalInstruction,
            lane: 0,
            address: 0,
        });
        self.fault(fault, pc)
    }

    /// Lanes of `mask` for which the guard holds.
    pub fn guarded(&self, op: &Op, mask: &Mask) -> Mask {
        let mut result = *mask;
        if op.guard != ALWAYS {
            for (word, bits) in result.iter_mut().enumerate().take(self.lanes.words) {
                // SAFETY: guards are predicates of the kernel.
                *bits &= unsafe { self.lanes.pred(op.guard, word) };
            }
        }
        result
    }

    fn activate(&mut self, split: &Split) {
        self.lanes.mask = split.mask;
        self.lanes.frame = split.frame;
        self.lanes.full = self.covers(&split.mask);
    }

    pub fn covers(&self, mask: &Mask) -> bool {
        self.alive
            .iter()
            .zip(mask)
            .all(|(alive, active)| alive & !active == 0)
    }

    /// Run groups until the budget is spent or nobody can go on.
    fn schedule(&mut self, budget: u64) -> Outcome {
        if let Some(fault) = &self.fault {
            return Outcome::Fault(fault.clone());
        }
        let until = self.instructions.saturating_add(budget.max(1));
        loop {
            let Some(split) = self.splits.next() else {
                if self.splits.waiting.is_empty() {
                    return Outcome::Done;
                }
                // Those at barriers first: who waits in a loop may wait for them.
                let released = self.release();
                if self.splits.wake() || released {
                    continue;
                }
                let mut gathering = self
                    .splits
                    .waiting
                    .iter_mut()
                    .filter(|split| split.state == State::Gathers);
                if let Some(split) = gathering.next() {
                    split.state = State::Runs;
                    split.alone = true;
                    continue;
                }
                // A barrier that will never be complete: hardware hangs, the time limit ends it.
                self.instructions = until;
                return Outcome::Yielded;
            };
            if self.instructions >= until {
                self.splits.push(split);
                return Outcome::Yielded;
            }
            if let Err(outcome) = self.run_split(split, until) {
                return outcome;
            }
        }
    }

    /// Run one group until it ends, waits, meets another one or has had its turn.
    fn run_split(&mut self, mut split: Split, until: u64) -> Result<(), Outcome> {
        self.activate(&split);
        let kernel = self.kernel;
        let mut limit = self.splits.limit(&split);
        let mut patience = self.patience;
        let mut pc = split.pc as usize;
        loop {
            let op = &kernel.code[pc];
            self.instructions += 1;
            match op.kind {
                Kind::Plain | Kind::Waiting => {
                    if op.kind == Kind::Waiting {
                        patience = PATIENCE_WAITING.min(self.patience);
                    }
                    self.lanes.found = 0;
                    let step = if op.guard == ALWAYS {
                        self.settle(op);
                        // SAFETY: the operation is of the kernel that the lanes were set up for.
                        unsafe { (op.run)(&mut self.lanes, op) }
                    } else {
                        let active = self.guarded(op, &split.mask);
                        if any(&active) {
                            let full = self.lanes.full;
                            self.lanes.full = full && self.covers(&active);
                            self.lanes.mask = active;
                            self.settle(op);
                            // SAFETY: as above.
                            let step = unsafe { (op.run)(&mut self.lanes, op) };
                            self.lanes.mask = split.mask;
                            self.lanes.full = full;
                            step
                        } else {
                            // Nothing is written, what is known stays.
                            self.lanes.found = self.noted(op);
                            Step::Next
                        }
                    };
                    if step == Step::Fault {
                        return Err(self.stopped(pc));
                    }
                    self.note(op);
                    pc += 1;
                }
                Kind::Branch => {
                    let target = op.imm as usize;
                    let taken = self.guarded(op, &split.mask);
                    if !any(&taken) {
                        pc += 1;
                    } else {
                        if op.guard != ALWAYS && taken != split.mask {
                            if self.ends(target) {
                                // Lanes out of bounds, mostly: those that are left are all there are.
                                for (word, &gone) in taken.iter().enumerate() {
                                    split.mask[word] &= !gone;
                                    self.alive[word] &= !gone;
                                }
                                split.pc = pc as u32 + 1;
                                self.splits.push(split);
                                return Ok(());
                            }
                            let mut rest = split.clone();
                            rest.pc = pc as u32 + 1;
                            for (word, bits) in rest.mask.iter_mut().enumerate() {
                                *bits &= !taken[word];
                            }
                            rest.tired = false;
                            rest.back = 0;
                            self.splits.push(rest);
                            split.mask = taken;
                            split.pc = target as u32;
                            // The loop goes round with those who are left in it; who left waits behind it.
                            split.tired = Self::turn(&mut split.back, target <= pc, patience);
                            self.splits.push(split);
                            return Ok(());
                        }
                        let backwards = target <= pc;
                        pc = target;
                        if backwards && self.instructions >= until {
                            split.pc = pc as u32;
                            self.splits.push(split);
                            return Ok(());
                        }
                        if !self.splits.waiting.is_empty() {
                            split.tired = Self::turn(&mut split.back, backwards, patience);
                            split.pc = pc as u32;
                            if split.tired
                                || self.splits.waiting.iter().any(|other| other.pc <= split.pc)
                            {
                                self.splits.push(split);
                                return Ok(());
                            }
                            limit = self.splits.limit(&split);
                        }
                    }
                }
                Kind::Collective => {
                    let active = self.guarded(op, &split.mask);
                    if !split.alone && !self.splits.waiting.is_empty() && self.missing(op, &active)
                    {
                        split.pc = pc as u32;
                        split.state = State::Gathers;
                        self.splits.push(split);
                        return Ok(());
                    }
                    split.alone = false;
                    if any(&active) {
                        let full = self.lanes.full;
                        self.lanes.full = full && self.covers(&active);
                        self.lanes.mask = active;
                        self.lanes.found = 0;
                        self.settle(op);
                        // SAFETY: as above.
                        let step = unsafe { (op.run)(&mut self.lanes, op) };
                        self.lanes.mask = split.mask;
                        self.lanes.full = full;
                        if step == Step::Fault {
                            return Err(self.stopped(pc));
                        }
                        self.note(op);
                    }
                    pc += 1;
                }
                _ => {
                    split.pc = pc as u32;
                    return self.control(op, split);
                }
            }
            if pc as u32 == limit {
                split.pc = pc as u32;
                self.splits.push(split);
                return Ok(());
            }
        }
    }

    /// Before a handler that writes some lanes only: the others must hold what they are said to.
    #[inline(always)]
    fn settle(&mut self, op: &Op) {
        if !self.lanes.full && self.noted(op) & LAZY != 0 {
            // SAFETY: only registers that are an operation's destination are lazy.
            unsafe { self.lanes.settle_any(op.dst) };
        }
    }

    #[inline(always)]
    fn noted(&self, op: &Op) -> u8 {
        // SAFETY: marks are the kernel's.
        unsafe { *self.lanes.facts.add(op.mark as usize) }
    }

    /// After a handler: what it found about its destination is what is known of it now.
    #[inline(always)]
    fn note(&mut self, op: &Op) {
        // SAFETY: marks are the kernel's.
        unsafe { *self.lanes.facts.add(op.mark as usize) = self.lanes.found };
    }

    /// Whether lanes that come to an operation are done.
    fn ends(&self, pc: usize) -> bool {
        let op = &self.kernel.code[pc];
        op.kind == Kind::Exit && op.guard == ALWAYS
    }

    /// Count a backward branch; true when the group has had its turn.
    fn turn(back: &mut u32, backwards: bool, patience: u32) -> bool {
        *back += u32::from(backwards);
        let enough = *back >= patience;
        if enough {
            *back = 0;
        }
        enough
    }

    /// Whether lanes that the operation names are elsewhere and may still come.
    fn missing(&self, op: &Op, active: &Mask) -> bool {
        for (word, &here) in active.iter().enumerate().take(self.lanes.words) {
            if here == 0 {
                continue;
            }
            let first = here.trailing_zeros() as usize;
            let members = if op.d == NONE {
                continue;
            } else {
                // SAFETY: members are a 32-bit register.
                unsafe { *self.lanes.reg::<u32>(op.d).add(word * WORD + first) }
            };
            let missing = members & self.alive[word] & !here;
            if self
                .splits
                .waiting
                .iter()
                .any(|split| split.state != State::Barrier && split.mask[word] & missing != 0)
            {
                return true;
            }
        }
        false
    }
}

impl Block for Gang<'_> {
    fn run(&mut self, budget: u64) -> Outcome {
        self.schedule(budget)
    }

    fn instructions(&self) -> u64 {
        self.instructions
    }

    fn rotate_after(&mut self, branches: u32) {
        self.patience = branches.max(1);
    }
}

impl Drop for Gang<'_> {
    fn drop(&mut self) {
        if let Some(arena) = self.arena.take() {
            arena.give_back();
        }
    }
}
