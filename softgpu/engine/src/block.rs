//! Running blocks: set-up of registers and memory, and the loop over operations.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::instructions::{BAR_AND, BAR_ARRIVE, BAR_OR, BAR_POPC, BAR_SYNC, HOST_ASSERT};
use crate::kernel::{Constant, FunctionCode, Kernel, Special};
use crate::lanes::{
    ALWAYS, Kind, LaneFault, Lanes, MAX_LANES, MAX_WORDS, Mask, NONE, Op, Step, WORD,
};
use crate::program::{MAX_SHARED, MAX_THREADS};
use crate::splits::{Return, Saved, Split, Splits, State, any};
use crate::{Block, CompileError, Fault, FaultKind, LaunchContext, Outcome, print};

/// Backward branches after which a group lets others run: few when it may be waiting for them, many when it is not.
const PATIENCE_WAITING: u32 = 16;
const PATIENCE: u32 = 20_000;
/// Calls within each other.
const MAX_CALLS: u32 = 4096;
/// Memory kept by a thread for its next block, in bytes.
const MAX_KEPT: usize = 64 << 20;
const ALIGN: usize = 64;

/// Zeroed memory that is used again and again.
struct Arena {
    start: *mut u8,
    size: usize,
    /// What the constant strips were filled for.
    stamp: u64,
}

// SAFETY: an arena is owned memory.
unsafe impl Send for Arena {}

thread_local! {
    static KEPT: RefCell<Vec<Arena>> = const { RefCell::new(Vec::new()) };
}

impl Arena {
    fn take(size: usize, stamp: u64) -> Arena {
        let kept = KEPT.with_borrow_mut(|kept| {
            let same = kept
                .iter()
                .position(|arena| arena.stamp == stamp && arena.size >= size);
            let fits = same.or_else(|| {
                kept.iter()
                    .position(|arena| arena.size >= size && arena.size <= size * 4)
            });
            fits.map(|at| kept.swap_remove(at))
        });
        kept.unwrap_or_else(|| {
            let size = size.max(ALIGN).next_multiple_of(4096);
            let layout = Layout::from_size_align(size, ALIGN).expect("sizes of blocks are bounded");
            // SAFETY: the size is not zero.
            let start = unsafe { alloc_zeroed(layout) };
            if start.is_null() {
                handle_alloc_error(layout);
            }
            Arena {
                start,
                size,
                stamp: 0,
            }
        })
    }

    fn give_back(self) {
        KEPT.with_borrow_mut(|kept| {
            let held: usize = kept.iter().map(|arena| arena.size).sum();
            if kept.len() < 8 && held + self.size <= MAX_KEPT {
                kept.push(self);
            }
        });
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if !self.start.is_null() {
            let layout =
                Layout::from_size_align(self.size, ALIGN).expect("it was allocated with this");
            // SAFETY: allocated with this layout in `take`.
            unsafe { dealloc(self.start, layout) };
        }
    }
}

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

pub struct Gang<'a> {
    kernel: &'a Kernel,
    launch: &'a LaunchContext<'a>,
    blocks: Vec<[u32; 3]>,
    threads: usize,
    lanes: Lanes<'a>,
    arena: Option<Arena>,
    alive: Mask,
    splits: Splits,
    instructions: u64,
    arrivals: Vec<((usize, u32), u32)>,
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
        // Registers, predicates, shared memory and local memory, in this order.
        let regs = kernel.reg_bytes * lanes;
        let preds = (kernel.preds * words * 4).next_multiple_of(ALIGN);
        let shared_stride = (shared_size as usize).next_multiple_of(ALIGN);
        let shared = shared_stride * blocks.len();
        let local = kernel.local as usize * lanes;
        let mut hasher = DefaultHasher::new();
        (
            id,
            launch.block,
            launch.grid,
            launch.dynamic_shared,
            lanes,
            blocks.len(),
            launch.globals,
        )
            .hash(&mut hasher);
        let stamp = hasher.finish() | 1;
        let mut arena = Arena::take(regs + preds + shared + local, stamp);
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
        let (preds_at, shared_at, local_at) = unsafe {
            (
                start.add(regs).cast(),
                start.add(regs + preds),
                start.add(regs + preds + shared),
            )
        };
        let lanes = Lanes {
            regs: start,
            preds: preds_at,
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
            if !fresh && !matches!(special, Special::Ctaid(_)) {
                continue;
            }
            for lane in 0..lanes.lanes {
                let thread = (lane % lanes.block_lanes) as u32;
                let block = self
                    .blocks
                    .get(lane / lanes.block_lanes)
                    .copied()
                    .unwrap_or_default();
                let index = thread % 32;
                let value = match special {
                    Special::Tid(axis) => component(self.thread(lane), axis),
                    Special::Ntid(axis) => component(self.launch.block, axis),
                    Special::Ctaid(axis) => component(block, axis),
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

    fn fault(&mut self, fault: LaneFault, pc: usize) -> Outcome {
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

    /// Lanes of `mask` for which the guard holds.
    fn guarded(&self, op: &Op, mask: &Mask) -> Mask {
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

    fn covers(&self, mask: &Mask) -> bool {
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
        let mut patience = PATIENCE;
        let mut pc = split.pc as usize;
        loop {
            let op = &kernel.code[pc];
            self.instructions += 1;
            match op.kind {
                Kind::Plain | Kind::Waiting => {
                    if op.kind == Kind::Waiting {
                        patience = PATIENCE_WAITING;
                    }
                    let step = if op.guard == ALWAYS {
                        // SAFETY: the operation is of the kernel that the lanes were set up for.
                        unsafe { (op.run)(&mut self.lanes, op) }
                    } else {
                        let active = self.guarded(op, &split.mask);
                        if any(&active) {
                            let full = self.lanes.full;
                            self.lanes.full = full && self.covers(&active);
                            self.lanes.mask = active;
                            // SAFETY: as above.
                            let step = unsafe { (op.run)(&mut self.lanes, op) };
                            self.lanes.mask = split.mask;
                            self.lanes.full = full;
                            step
                        } else {
                            Step::Next
                        }
                    };
                    if step == Step::Fault {
                        let fault = self.lanes.fault.take();
                        let fault = fault.unwrap_or(LaneFault {
                            kind: FaultKind::IllegalInstruction,
                            lane: 0,
                            address: 0,
                        });
                        return Err(self.fault(fault, pc));
                    }
                    pc += 1;
                }
                Kind::Branch => {
                    let target = op.imm as usize;
                    let taken = self.guarded(op, &split.mask);
                    if !any(&taken) {
                        pc += 1;
                    } else {
                        if op.guard != ALWAYS && taken != split.mask {
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
                        // SAFETY: as above.
                        unsafe { (op.run)(&mut self.lanes, op) };
                        self.lanes.mask = split.mask;
                        self.lanes.full = full;
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
        for word in 0..self.lanes.words {
            if active[word] == 0 {
                continue;
            }
            let first = active[word].trailing_zeros() as usize;
            let members = if op.d == NONE {
                continue;
            } else {
                // SAFETY: members are a 32-bit register.
                unsafe { *self.lanes.reg::<u32>(op.d).add(word * WORD + first) }
            };
            let missing = members & self.alive[word] & !active[word];
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

    /// Operations that move groups; `split.pc` is the operation's.
    fn control(&mut self, op: &Op, mut split: Split) -> Result<(), Outcome> {
        let pc = split.pc;
        let active = self.guarded(op, &split.mask);
        if active != split.mask {
            let mut rest = split.clone();
            rest.pc = pc + 1;
            for (bits, taken) in rest.mask.iter_mut().zip(active) {
                *bits &= !taken;
            }
            self.splits.push(rest);
            split.mask = active;
            if !any(&active) {
                return Ok(());
            }
        }
        let first = first_lane(&active);
        match op.kind {
            Kind::Exit => {
                for (alive, gone) in self.alive.iter_mut().zip(active) {
                    *alive &= !gone;
                }
                return Ok(());
            }
            Kind::Return => return self.give_back(split),
            Kind::Trap => {
                return Err(self.fault(
                    LaneFault {
                        kind: FaultKind::Trap,
                        lane: first,
                        address: 0,
                    },
                    pc as usize,
                ));
            }
            Kind::Barrier => return self.barrier(op, split),
            Kind::BranchTable => {
                let mut left = split.mask;
                while any(&left) {
                    let lane = first_lane(&left);
                    // SAFETY: the index is a 32-bit register.
                    let index = |lane: usize| unsafe { *self.lanes.reg::<u32>(op.a).add(lane) };
                    let chosen = index(lane);
                    if chosen >= op.aux {
                        let fault = LaneFault {
                            kind: FaultKind::IllegalInstruction,
                            lane,
                            address: u64::from(chosen),
                        };
                        return Err(self.fault(fault, pc as usize));
                    }
                    let mut mask = [0; MAX_WORDS];
                    for other in 0..self.lanes.lanes {
                        if left[other / WORD] >> (other % WORD) & 1 != 0 && index(other) == chosen {
                            mask[other / WORD] |= 1 << (other % WORD);
                        }
                    }
                    for (bits, taken) in left.iter_mut().zip(mask) {
                        *bits &= !taken;
                    }
                    let target = self.lanes.lists[op.imm as usize + chosen as usize];
                    self.splits.push(Split {
                        pc: target,
                        mask,
                        ..split.clone()
                    });
                }
                return Ok(());
            }
            Kind::Call => return self.call(split, op.imm as usize),
            Kind::CallIndirect => {
                let mut left = split.mask;
                while any(&left) {
                    let lane = first_lane(&left);
                    // SAFETY: the target is a 64-bit register.
                    let target = |lane: usize| unsafe { *self.lanes.reg::<u64>(op.a).add(lane) };
                    let chosen = target(lane);
                    let Some(&function) = self
                        .kernel
                        .by_handle
                        .get(&chosen)
                        .filter(|&&function| function != 0)
                    else {
                        let fault = LaneFault {
                            kind: FaultKind::IllegalAddress,
                            lane,
                            address: chosen,
                        };
                        return Err(self.fault(fault, pc as usize));
                    };
                    let mut mask = [0; MAX_WORDS];
                    for other in 0..self.lanes.lanes {
                        if left[other / WORD] >> (other % WORD) & 1 != 0 && target(other) == chosen
                        {
                            mask[other / WORD] |= 1 << (other % WORD);
                        }
                    }
                    for (bits, taken) in left.iter_mut().zip(mask) {
                        *bits &= !taken;
                    }
                    self.call(
                        Split {
                            mask,
                            ..split.clone()
                        },
                        function,
                    )?;
                }
                return Ok(());
            }
            Kind::HostCall => {
                for lane in lanes_of(&active) {
                    // SAFETY: both arguments are 64-bit registers.
                    let (a, b) = unsafe {
                        (
                            *self.lanes.reg::<u64>(op.a).add(lane),
                            *self.lanes.reg::<u64>(op.b).add(lane),
                        )
                    };
                    if op.aux == HOST_ASSERT {
                        let text = print::text(&self.lanes, lane, a);
                        let fault = LaneFault {
                            kind: FaultKind::Assert(text),
                            lane,
                            address: 0,
                        };
                        return Err(self.fault(fault, pc as usize));
                    }
                    if let Some(sink) = self.launch.print {
                        sink(&print::format(&self.lanes, lane, a, b));
                    }
                }
                split.pc = pc + 1;
            }
            _ => split.pc = pc + 1,
        }
        self.splits.push(split);
        Ok(())
    }

    fn caller(&self, stack: &Option<Arc<Return>>, pc: u32) -> &FunctionCode {
        let _ = stack;
        let functions = &self.kernel.functions;
        let at = functions.partition_point(|function| function.entry <= pc);
        &functions[at.saturating_sub(1)]
    }

    fn call(&mut self, mut split: Split, function: usize) -> Result<(), Outcome> {
        let kernel = self.kernel;
        let callee = &kernel.functions[function];
        let frame = split.frame + self.caller(&split.stack, split.pc).frame;
        let depth = split.depth() + 1;
        if depth > MAX_CALLS || frame + callee.frame > kernel.local {
            let kind = FaultKind::Launch(format!(
                "calls are nested too deep: {depth} at {}",
                callee.name
            ));
            let lane = first_lane(&split.mask);
            return Err(self.fault(
                LaneFault {
                    kind,
                    lane,
                    address: 0,
                },
                split.pc as usize,
            ));
        }
        let saved = callee.recursive.then(|| self.save(function));
        let parent = split.stack.take();
        split.stack = Some(Arc::new(Return {
            pc: split.pc + 1,
            frame: split.frame,
            depth,
            parent,
            saved,
        }));
        split.frame = frame;
        split.pc = callee.entry;
        self.splits.push(split);
        Ok(())
    }

    fn give_back(&mut self, mut split: Split) -> Result<(), Outcome> {
        let Some(stack) = split.stack.take() else {
            for (alive, gone) in self.alive.iter_mut().zip(split.mask) {
                *alive &= !gone;
            }
            return Ok(());
        };
        if let Some(saved) = &stack.saved {
            self.restore(saved, &split.mask);
        }
        split.pc = stack.pc;
        split.frame = stack.frame;
        split.stack = stack.parent.clone();
        self.splits.push(split);
        Ok(())
    }

    /// Registers of a function, as (offset, bytes of an element, strips).
    fn ranges(region: &crate::kernel::Region) -> [(u32, u32, usize); 3] {
        [(region.wide, 8u32), (region.word, 4), (region.half, 2)]
            .map(|((from, to), size)| (from, size, ((to - from) / size) as usize))
    }

    fn save(&self, function: usize) -> Saved {
        let region = &self.kernel.functions[function].region;
        let mut strips = Vec::new();
        for (offset, size, count) in Self::ranges(region) {
            let bytes = count * size as usize * self.lanes.lanes;
            // SAFETY: the strips of a class lie one behind the other.
            strips.push(
                unsafe { std::slice::from_raw_parts(self.lanes.reg::<u8>(offset), bytes) }.to_vec(),
            );
        }
        let (first, end) = region.preds;
        let words = self.lanes.words;
        // SAFETY: these are the function's predicates.
        let preds = unsafe {
            std::slice::from_raw_parts(
                self.lanes.preds.add(first as usize * words),
                (end - first) as usize * words,
            )
        };
        Saved {
            function,
            strips,
            preds: preds.to_vec(),
        }
    }

    fn restore(&mut self, saved: &Saved, mask: &Mask) {
        let region = &self.kernel.functions[saved.function].region;
        for ((offset, size, count), strips) in Self::ranges(region).into_iter().zip(&saved.strips) {
            let size = size as usize;
            for strip in 0..count {
                for lane in lanes_of(mask) {
                    let at = (strip * self.lanes.lanes + lane) * size;
                    // SAFETY: as in `save`.
                    unsafe {
                        self.lanes
                            .reg::<u8>(offset)
                            .add(at)
                            .copy_from_nonoverlapping(strips[at..].as_ptr(), size);
                    }
                }
            }
        }
        let words = self.lanes.words;
        for (at, &bits) in saved.preds.iter().enumerate() {
            let active = mask[at % words];
            // SAFETY: as in `save`.
            unsafe {
                let place = self.lanes.preds.add(region.preds.0 as usize * words + at);
                *place = *place & !active | bits & active;
            }
        }
    }

    // Barriers.

    fn barrier(&mut self, op: &Op, mut split: Split) -> Result<(), Outcome> {
        if op.aux == BAR_ARRIVE {
            for (block, mask) in self.by_block(&split.mask) {
                let lane = first_lane(&mask);
                // SAFETY: the barrier's number is a 32-bit register.
                let id = unsafe { *self.lanes.reg::<u32>(op.a).add(lane) };
                let count = 32 * mask.iter().filter(|&&word| word != 0).count() as u32;
                match self
                    .arrivals
                    .iter_mut()
                    .find(|(key, _)| *key == (block, id))
                {
                    Some((_, arrived)) => *arrived += count,
                    None => self.arrivals.push(((block, id), count)),
                }
            }
            split.pc += 1;
            self.splits.push(split);
            return Ok(());
        }
        if op.aux == BAR_SYNC && op.b == NONE && self.covers(&split.mask) {
            // Everyone is here, all with the same number.
            split.pc += 1;
            self.splits.push(split);
            return Ok(());
        }
        split.state = State::Barrier;
        self.splits.push(split);
        if !self
            .splits
            .waiting
            .iter()
            .any(|other| other.state == State::Runs && !other.tired)
        {
            self.release();
        }
        Ok(())
    }

    /// A mask's lanes block by block.
    fn by_block(&self, mask: &Mask) -> Vec<(usize, Mask)> {
        let mut found: Vec<(usize, Mask)> = Vec::new();
        for lane in lanes_of(mask) {
            let block = lane / self.lanes.block_lanes;
            if found.last().is_none_or(|(last, _)| *last != block) {
                found.push((block, [0; MAX_WORDS]));
            }
            if let Some((_, mask)) = found.last_mut() {
                mask[lane / WORD] |= 1 << (lane % WORD);
            }
        }
        found
    }

    /// Let go whoever waits at a barrier that is complete. True when there was one.
    fn release(&mut self) -> bool {
        let mut places: Vec<((usize, u32), Mask)> = Vec::new();
        for split in self
            .splits
            .waiting
            .iter()
            .filter(|split| split.state == State::Barrier)
        {
            let op = &self.kernel.code[split.pc as usize];
            for (block, mask) in self.by_block(&split.mask) {
                // SAFETY: the barrier's number is a 32-bit register.
                let id = unsafe { *self.lanes.reg::<u32>(op.a).add(first_lane(&mask)) };
                match places.iter_mut().find(|(key, _)| *key == (block, id)) {
                    Some((_, all)) => all
                        .iter_mut()
                        .zip(mask)
                        .for_each(|(all, more)| *all |= more),
                    None => places.push(((block, id), mask)),
                }
            }
        }
        let mut released = [0; MAX_WORDS];
        for (key, mask) in places {
            let lane = first_lane(&mask);
            let holder = self.splits.waiting.iter().find(|split| {
                split.state == State::Barrier && split.mask[lane / WORD] >> (lane % WORD) & 1 != 0
            });
            let Some(holder) = holder else { continue };
            let op = self.kernel.code[holder.pc as usize];
            let complete = if op.b == NONE {
                (0..self.lanes.lanes)
                    .filter(|lane| lane / self.lanes.block_lanes == key.0)
                    .all(|lane| {
                        (self.alive[lane / WORD] & !mask[lane / WORD]) >> (lane % WORD) & 1 == 0
                    })
            } else {
                // SAFETY: the number of threads is a 32-bit register.
                let wanted = unsafe { *self.lanes.reg::<u32>(op.b).add(lane) };
                let waiting = 32 * mask.iter().filter(|&&word| word != 0).count() as u32;
                let arrived = self
                    .arrivals
                    .iter()
                    .find(|(other, _)| *other == key)
                    .map_or(0, |&(_, count)| count);
                let complete = waiting + arrived >= wanted;
                if complete {
                    self.arrivals.retain(|(other, _)| *other != key);
                }
                complete
            };
            if complete {
                self.reduce(&mask);
                released
                    .iter_mut()
                    .zip(mask)
                    .for_each(|(all, more)| *all |= more);
            }
        }
        if !any(&released) {
            return false;
        }
        for mut split in std::mem::take(&mut self.splits.waiting) {
            if split.state == State::Barrier {
                let mut free = split.clone();
                free.mask
                    .iter_mut()
                    .zip(released)
                    .for_each(|(bits, go)| *bits &= go);
                free.state = State::Runs;
                free.pc += 1;
                self.splits.push(free);
                split
                    .mask
                    .iter_mut()
                    .zip(released)
                    .for_each(|(bits, go)| *bits &= !go);
            }
            self.splits.push(split);
        }
        true
    }

    /// Results of `bar.red` for the lanes of a complete barrier.
    fn reduce(&mut self, mask: &Mask) {
        let (mut count, mut all, mut some) = (0, true, false);
        let mut reduction = None;
        for split in self
            .splits
            .waiting
            .iter()
            .filter(|split| split.state == State::Barrier)
        {
            let op = self.kernel.code[split.pc as usize];
            if !matches!(op.aux, BAR_POPC | BAR_AND | BAR_OR) {
                continue;
            }
            for word in 0..self.lanes.words {
                let here = split.mask[word] & mask[word];
                // SAFETY: the operand is a predicate of the kernel.
                let yes = unsafe { self.lanes.pred(op.c, word) } & here;
                count += yes.count_ones();
                all &= yes == here;
                some |= yes != 0;
            }
            reduction = Some(op);
        }
        let Some(op) = reduction else { return };
        let before = self.lanes.mask;
        self.lanes.mask = *mask;
        for word in 0..self.lanes.words {
            // SAFETY: the destination is a predicate, or a 32-bit register for `popc`.
            unsafe {
                match op.aux {
                    BAR_POPC => {
                        for i in 0..WORD {
                            if mask[word] >> i & 1 != 0 {
                                *self.lanes.reg::<u32>(op.dst).add(word * WORD + i) = count;
                            }
                        }
                    }
                    BAR_AND if op.dst != NONE => {
                        self.lanes
                            .set_pred(op.dst, word, if all { u32::MAX } else { 0 })
                    }
                    BAR_OR if op.dst != NONE => {
                        self.lanes
                            .set_pred(op.dst, word, if some { u32::MAX } else { 0 })
                    }
                    _ => {}
                }
            }
        }
        self.lanes.mask = before;
    }
}

fn first_lane(mask: &Mask) -> usize {
    mask.iter()
        .position(|&word| word != 0)
        .map_or(0, |word| word * WORD + mask[word].trailing_zeros() as usize)
}

fn lanes_of(mask: &Mask) -> impl Iterator<Item = usize> + '_ {
    (0..MAX_LANES).filter(|lane| mask[lane / WORD] >> (lane % WORD) & 1 != 0)
}

impl Block for Gang<'_> {
    fn run(&mut self, budget: u64) -> Outcome {
        self.schedule(budget)
    }

    fn instructions(&self) -> u64 {
        self.instructions
    }
}

impl Drop for Gang<'_> {
    fn drop(&mut self) {
        if let Some(arena) = self.arena.take() {
            arena.give_back();
        }
    }
}
