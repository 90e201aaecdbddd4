//! Operations that move groups of lanes: calls, returns, tables of branches, barriers.

use std::sync::Arc;

use crate::block::{Arrivals, Gang};
use crate::instructions::{
    BAR_AND, BAR_ARRIVE, BAR_OR, BAR_POPC, BAR_SYNC, HOST_ALLOCATE, HOST_ASSERT, HOST_FREE,
};
use crate::kernel::FunctionCode;
use crate::lanes::{Kind, LaneFault, MAX_LANES, MAX_WORDS, Mask, NONE, Op, WORD};
use crate::splits::{Return, Saved, Split, State, any};
use crate::{FaultKind, Outcome, print};

/// Calls within each other.
const MAX_CALLS: u32 = 4096;

impl Gang<'_> {
    /// Operations that move groups; `split.pc` is the operation's.
    pub fn control(&mut self, op: &Op, mut split: Split) -> Result<(), Outcome> {
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
                    let result = match op.aux {
                        HOST_ASSERT => {
                            let text = print::text(&self.lanes, lane, a);
                            let fault = LaneFault {
                                kind: FaultKind::Assert(text),
                                lane,
                                address: 0,
                            };
                            return Err(self.fault(fault, pc as usize));
                        }
                        HOST_ALLOCATE => self.launch.heap.map_or(0, |heap| heap.allocate(a)),
                        HOST_FREE => {
                            let known = a == 0 || self.launch.heap.is_some_and(|heap| heap.free(a));
                            if !known {
                                let fault = LaneFault {
                                    kind: FaultKind::IllegalAddress,
                                    lane,
                                    address: a,
                                };
                                return Err(self.fault(fault, pc as usize));
                            }
                            0
                        }
                        _ => {
                            if let Some(sink) = self.launch.print {
                                sink(&print::format(&self.lanes, lane, a, b));
                            }
                            print::conversions(&self.lanes, lane, a)
                        }
                    };
                    // SAFETY: the result's register has 64 bits.
                    unsafe { *self.lanes.reg::<u64>(op.dst).add(lane) = result };
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
        if depth > MAX_CALLS || frame + callee.frame > kernel.frames {
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
                let key = (block, id);
                if !self.arrivals.iter().any(|(known, _)| *known == key) {
                    self.arrivals.push((key, Vec::new()));
                }
                let arrived = self.arrivals.iter_mut().find(|(known, _)| *known == key);
                if let Some((_, arrived)) = arrived {
                    for (word, &lanes) in mask.iter().enumerate() {
                        note(arrived, word, lanes);
                    }
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
    pub fn release(&mut self) -> bool {
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
        for (key, waiting) in places {
            let lane = first_lane(&waiting);
            let holder = self.splits.waiting.iter().find(|split| {
                split.state == State::Barrier && split.mask[lane / WORD] >> (lane % WORD) & 1 != 0
            });
            let Some(holder) = holder else { continue };
            let op = self.kernel.code[holder.pc as usize];
            // SAFETY: the number of threads is a 32-bit register.
            let wanted = (op.b != NONE).then(|| unsafe { *self.lanes.reg::<u32>(op.b).add(lane) });
            if let Some(mask) = self.complete(key, &waiting, wanted) {
                self.arrivals.retain(|(other, _)| *other != key);
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

    /// The lanes that a barrier lets go, if it is complete: warps come to it, each when all its threads that have not
    /// ended have come. Without a number of threads it takes all warps of the block.
    fn complete(&self, key: (usize, u32), waiting: &Mask, wanted: Option<u32>) -> Option<Mask> {
        let arrived = self.arrivals.iter().find(|(other, _)| *other == key);
        let arrived = arrived.map_or(&[][..], |(_, arrived)| arrived);
        let mut free = *waiting;
        let mut warps = 0;
        for (word, free) in free.iter_mut().enumerate().take(self.lanes.words) {
            // Blocks smaller than a warp lie several in a word.
            let of_block = |at: &usize| (word * WORD + at) / self.lanes.block_lanes == key.0;
            let mine = (0..WORD)
                .filter(of_block)
                .fold(0u32, |all, at| all | 1 << at);
            if mine == 0 {
                continue;
            }
            let alive = self.alive[word] & mine;
            let (mut here, mut used) = (0, false);
            let came = arrived.iter().filter(|(of, _)| *of == word);
            // Those who wait may complete what others of their warp, who went on, began.
            for lanes in came.map(|&(_, lanes)| lanes).chain([0]) {
                let complete = alive & !lanes == 0 && lanes != 0;
                let joins = !used && *free != 0 && alive & !lanes & !*free == 0;
                here += u32::from(complete || joins);
                used |= joins && !complete;
            }
            if !used {
                *free = 0;
            }
            if here == 0 && wanted.is_none() && alive != 0 {
                return None;
            }
            warps += here;
        }
        let enough = wanted.is_none_or(|wanted| warps * WORD as u32 >= wanted);
        (enough && any(&free)).then_some(free)
    }

    /// Results of `bar.red` for the lanes of a complete barrier, which may have come to different instructions.
    fn reduce(&mut self, mask: &Mask) {
        let (mut count, mut all, mut some) = (0, true, false);
        let mut reductions = Vec::new();
        for split in &self.splits.waiting {
            let op = self.kernel.code[split.pc as usize];
            if split.state != State::Barrier || !matches!(op.aux, BAR_POPC | BAR_AND | BAR_OR) {
                continue;
            }
            let mut here = split.mask;
            for (word, (here, of)) in here.iter_mut().zip(mask).enumerate() {
                *here &= of;
                if *here == 0 {
                    continue;
                }
                // SAFETY: the operand is a predicate of the kernel.
                let yes = unsafe { self.lanes.pred(op.c, word) } & *here;
                count += yes.count_ones();
                all &= yes == *here;
                some |= yes != 0;
            }
            reductions.push((op, here));
        }
        let before = self.lanes.mask;
        for (op, mask) in reductions {
            self.lanes.mask = mask;
            for (word, &here) in mask.iter().enumerate().take(self.lanes.words) {
                if op.aux != BAR_POPC {
                    let holds = if op.aux == BAR_AND { all } else { some };
                    if op.dst != NONE {
                        // SAFETY: the destination is a predicate.
                        unsafe {
                            let bits = if holds { u32::MAX } else { 0 };
                            self.lanes.set_pred(op.dst, word, bits);
                        }
                    }
                    continue;
                }
                for i in (0..WORD).filter(|i| here >> i & 1 != 0) {
                    // SAFETY: the destination is a 32-bit register.
                    unsafe { *self.lanes.reg::<u32>(op.dst).add(word * WORD + i) = count };
                }
            }
        }
        self.lanes.mask = before;
    }
}

/// Arrivals at a barrier that are remembered: more than any number of threads asks for.
const MAX_ARRIVALS: usize = 4096;

/// Lanes of a word came once more.
fn note(arrived: &mut Arrivals, word: usize, mut lanes: u32) {
    for (_, before) in arrived.iter_mut().filter(|(of, _)| *of == word) {
        let fresh = lanes & !*before;
        *before |= fresh;
        lanes &= !fresh;
    }
    if lanes != 0 && arrived.len() < MAX_ARRIVALS {
        arrived.push((word, lanes));
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
