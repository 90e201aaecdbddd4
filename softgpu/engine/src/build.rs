//! What lowering writes into: operations with virtual registers, which get their strips at the end.
//!
//! Strips are shared by registers that do not live at the same time, so that a kernel of thousands of registers in
//! single-assignment form stays within the processor's caches. Lanes that have diverged may be at different places of
//! the code; since a strip's lanes are apart, what counts is the life of a register within one lane.

use std::collections::{HashMap, HashSet};

use crate::facts::{self, FLUSHED, UNIFORM, UNTRACKED, settles};
use crate::kernel::{Constant, FunctionCode, Kernel, Special};
use crate::lanes::{ALWAYS, Handler, Kind, NONE, Op};
use crate::special::nothing;

/// Largest number of operations of a kernel.
pub const MAX_CODE: usize = 1 << 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VReg(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Dst,
    A,
    B,
    C,
    D,
    Imm,
    /// Index into the kernel's lists.
    List(u32),
}

struct Reference {
    op: u32,
    field: Field,
    reg: VReg,
    writes: bool,
}

#[derive(Clone, Copy)]
struct Virtual {
    size: u32,
    /// Keeps a strip of its own.
    pinned: bool,
    offset: u32,
}

#[derive(Default)]
pub struct Builder {
    pub code: Vec<Op>,
    pub origin: Vec<(u32, u32)>,
    pub opcodes: Vec<String>,
    opcode_index: HashMap<String, u32>,
    pub lists: Vec<u32>,
    regs: Vec<Virtual>,
    references: Vec<Reference>,
    /// Operations that note themselves what they find out about the registers of a list.
    noting: HashSet<u32>,
    constants: HashMap<(Constant, u32), VReg>,
    specials: HashMap<Special, VReg>,
    pub preds: u32,
    pub guard: Option<u32>,
    here: (u32, u32),
    /// Strips given out, by size: wide, word, half.
    strips: [u32; 3],
}

fn class(size: u32) -> usize {
    match size {
        8 => 0,
        4 => 1,
        _ => 2,
    }
}

impl Builder {
    pub fn new() -> Self {
        // Predicate 0 is always false.
        Builder {
            preds: 1,
            ..Builder::default()
        }
    }

    /// Operations that follow come from this instruction.
    pub fn at(&mut self, line: u32, opcode: &str) {
        let next = self.opcodes.len() as u32;
        let index = *self.opcode_index.entry(opcode.to_owned()).or_insert(next);
        if index == next {
            self.opcodes.push(opcode.to_owned());
        }
        self.here = (line, index);
    }

    pub fn reg(&mut self, size: u32) -> VReg {
        self.regs.push(Virtual {
            size,
            pinned: false,
            offset: NONE,
        });
        VReg(self.regs.len() as u32 - 1)
    }

    pub fn pin(&mut self, reg: VReg) {
        self.regs[reg.0 as usize].pinned = true;
    }

    pub fn size(&self, reg: VReg) -> u32 {
        self.regs[reg.0 as usize].size
    }

    pub fn pred(&mut self) -> u32 {
        self.preds += 1;
        self.preds - 1
    }

    pub fn constant(&mut self, value: Constant, size: u32) -> VReg {
        let value = match (value, size) {
            (Constant::Bits(bits), 2) => Constant::Bits(bits & 0xffff),
            (Constant::Bits(bits), 4) => Constant::Bits(bits & 0xffff_ffff),
            (other, _) => other,
        };
        if let Some(&reg) = self.constants.get(&(value, size)) {
            return reg;
        }
        let reg = self.reg(size);
        self.pin(reg);
        self.constants.insert((value, size), reg);
        reg
    }

    pub fn special(&mut self, special: Special) -> VReg {
        if let Some(&reg) = self.specials.get(&special) {
            return reg;
        }
        let reg = self.reg(4);
        self.pin(reg);
        self.specials.insert(special, reg);
        reg
    }

    pub fn push(&mut self, run: Handler, kind: Kind) -> usize {
        let guard = self.guard.unwrap_or(ALWAYS);
        self.code.push(Op {
            run,
            dst: 0,
            a: 0,
            b: 0,
            c: 0,
            d: NONE,
            imm: 0,
            guard,
            aux: 0,
            mark: 0,
            lazy: false,
            kind,
        });
        self.origin.push(self.here);
        self.code.len() - 1
    }

    pub fn control(&mut self, kind: Kind) -> usize {
        self.push(nothing, kind)
    }

    pub fn reads(&mut self, op: usize, field: Field, reg: VReg) {
        self.references.push(Reference {
            op: op as u32,
            field,
            reg,
            writes: false,
        });
    }

    pub fn writes(&mut self, op: usize, field: Field, reg: VReg) {
        // Under a guard the old value lives on in other lanes.
        if self.code[op].guard != ALWAYS {
            self.references.push(Reference {
                op: op as u32,
                field,
                reg,
                writes: false,
            });
        }
        self.references.push(Reference {
            op: op as u32,
            field,
            reg,
            writes: true,
        });
    }

    /// A list of registers, read or written.
    pub fn list(&mut self, op: usize, regs: &[Option<VReg>], write: bool) -> u32 {
        let start = self.lists.len() as u32;
        for reg in regs {
            let at = self.lists.len() as u32;
            self.lists.push(NONE);
            match reg {
                Some(reg) if write => self.writes(op, Field::List(at), *reg),
                Some(reg) => self.reads(op, Field::List(at), *reg),
                None => {}
            }
        }
        start
    }

    /// The operation calls [`Lanes::relearn`](crate::lanes::Lanes::relearn) for each register of its list.
    pub fn notes(&mut self, op: usize) {
        self.noting.insert(op as u32);
    }

    /// `dst = run(srcs…)`
    pub fn alu(&mut self, run: Handler, dst: VReg, srcs: &[VReg]) -> usize {
        let op = self.push(run, Kind::Plain);
        for (&src, field) in srcs.iter().zip([Field::A, Field::B, Field::C]) {
            self.reads(op, field, src);
        }
        self.writes(op, Field::Dst, dst);
        op
    }

    fn strip(&mut self, size: u32) -> u32 {
        let strips = &mut self.strips[class(size)];
        *strips += 1;
        *strips - 1
    }

    /// Give strips to the registers of one function, whose operations are `start..`. `successors` says where each
    /// operation can go.
    pub fn allocate(
        &mut self,
        start: usize,
        first_reference: usize,
        successors: &dyn Fn(usize) -> Vec<usize>,
    ) {
        let end = self.code.len();
        let lives = self.lives(start, end, first_reference, successors);
        let mut order: Vec<(u32, u32, VReg)> = lives
            .into_iter()
            .map(|(reg, (from, to))| (from, to, reg))
            .collect();
        order.sort_unstable();
        let mut free: [Vec<u32>; 3] = Default::default();
        let mut busy: [std::collections::BinaryHeap<std::cmp::Reverse<(u32, u32)>>; 3] =
            Default::default();
        for (from, to, reg) in order {
            let size = self.regs[reg.0 as usize].size;
            let kind = class(size);
            while let Some(&std::cmp::Reverse((until, strip))) = busy[kind].peek()
                && until <= from
            {
                busy[kind].pop();
                free[kind].push(strip);
            }
            let strip = free[kind].pop().unwrap_or_else(|| self.strip(size));
            busy[kind].push(std::cmp::Reverse((to, strip)));
            self.regs[reg.0 as usize].offset = strip;
        }
    }

    pub fn references(&self) -> usize {
        self.references.len()
    }

    pub fn strips(&self) -> [u32; 3] {
        self.strips
    }

    /// First and last operation in whose course each register of the function holds something that is needed.
    fn lives(
        &self,
        start: usize,
        end: usize,
        first: usize,
        successors: &dyn Fn(usize) -> Vec<usize>,
    ) -> HashMap<VReg, (u32, u32)> {
        let mut dense: HashMap<VReg, usize> = HashMap::new();
        let mut names = Vec::new();
        let mut per_op: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); end - start];
        for reference in &self.references[first..] {
            if self.regs[reference.reg.0 as usize].pinned {
                continue;
            }
            let index = *dense.entry(reference.reg).or_insert_with(|| {
                names.push(reference.reg);
                names.len() - 1
            });
            let (uses, defs) = &mut per_op[reference.op as usize - start];
            if reference.writes {
                defs.push(index)
            } else {
                uses.push(index)
            }
        }
        // Basic blocks.
        let mut leader = vec![false; end - start + 1];
        leader[0] = true;
        let mut goes: Vec<Vec<usize>> = Vec::with_capacity(end - start);
        for op in start..end {
            let next = successors(op);
            if next != [op + 1] {
                leader[op + 1 - start] = true;
                for &to in &next {
                    leader[to - start] = true;
                }
            }
            goes.push(next);
        }
        let mut block_of = vec![0; end - start];
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for op in 0..end - start {
            if leader[op] {
                blocks.push((op, op + 1));
            }
            let last = blocks.len() - 1;
            blocks[last].1 = op + 1;
            block_of[op] = last;
        }
        let words = names.len().div_ceil(64);
        let mut live_in = vec![vec![0u64; words]; blocks.len()];
        let mut live_out = vec![vec![0u64; words]; blocks.len()];
        let mut changed = true;
        let mut scratch = vec![0u64; words];
        while changed {
            changed = false;
            for block in (0..blocks.len()).rev() {
                let (from, to) = blocks[block];
                scratch.fill(0);
                for &next in &goes[to - 1] {
                    if next < end {
                        for (into, bits) in scratch.iter_mut().zip(&live_in[block_of[next - start]])
                        {
                            *into |= bits;
                        }
                    }
                }
                live_out[block].copy_from_slice(&scratch);
                for op in (from..to).rev() {
                    let (uses, defs) = &per_op[op];
                    for &def in defs {
                        scratch[def / 64] &= !(1 << (def % 64));
                    }
                    for &used in uses {
                        scratch[used / 64] |= 1 << (used % 64);
                    }
                }
                if live_in[block] != scratch {
                    live_in[block].copy_from_slice(&scratch);
                    changed = true;
                }
            }
        }
        let mut lives: Vec<(u32, u32)> = vec![(u32::MAX, 0); names.len()];
        let mut touch = |index: usize, at: usize| {
            let life = &mut lives[index];
            life.0 = life.0.min(at as u32);
            life.1 = life.1.max(at as u32);
        };
        for (block, &(from, to)) in blocks.iter().enumerate() {
            for (word, (&inside, &outside)) in
                live_in[block].iter().zip(&live_out[block]).enumerate()
            {
                for bit in 0..64 {
                    if inside >> bit & 1 != 0 {
                        touch(word * 64 + bit, from);
                    }
                    if outside >> bit & 1 != 0 {
                        touch(word * 64 + bit, to);
                    }
                }
            }
        }
        for (op, (uses, defs)) in per_op.iter().enumerate() {
            for &used in uses {
                touch(used, op);
            }
            for &def in defs {
                // A value that nobody reads is still written: its strip is taken until after the operation.
                touch(def, op);
                touch(def, op + 1);
            }
        }
        names.into_iter().zip(lives).collect()
    }

    /// Give each operation the mark of the register that it writes, and say of which nothing can be known: those that others write than the
    /// run loop watches. Where functions call themselves, returning from one brings old values back.
    fn watch(&mut self, reg_bytes: u32, recursive: bool) -> Vec<u8> {
        let nobody = facts::slot(reg_bytes);
        let mut known = vec![0; nobody as usize + 1];
        for op in &mut self.code {
            op.mark = nobody;
        }
        for reference in self.references.iter().filter(|reference| reference.writes) {
            let op = &mut self.code[reference.op as usize];
            let watched = matches!(op.kind, Kind::Plain | Kind::Waiting | Kind::Collective);
            let (at, noted) = match reference.field {
                Field::Dst => (op.dst, watched),
                Field::List(at) => (
                    self.lists[at as usize],
                    watched && self.noting.contains(&reference.op),
                ),
                Field::A => (op.a, false),
                Field::B => (op.b, false),
                Field::C => (op.c, false),
                Field::D => (op.d, false),
                Field::Imm => (op.imm as u32, false),
            };
            if recursive || !noted {
                known[facts::slot(at) as usize] = UNTRACKED;
            } else if reference.field == Field::Dst {
                op.mark = facts::slot(at);
            }
        }
        let mut settled = vec![true; known.len()];
        for reference in &self.references {
            let op = &self.code[reference.op as usize];
            let (at, fine) = match (reference.field, reference.writes) {
                (Field::Dst, false) => continue,
                (Field::Dst, true) => (op.dst, settles(op.run)),
                (Field::A, false) => (op.a, settles(op.run)),
                (Field::B, false) => (op.b, settles(op.run)),
                (Field::C, false) => (op.c, settles(op.run)),
                (Field::List(at), _) => (self.lists[at as usize], false),
                (Field::D, _) => (op.d, false),
                (Field::Imm, _) => (op.imm as u32, false),
                (_, true) => continue,
            };
            settled[facts::slot(at) as usize] &= fine;
        }
        for op in &mut self.code {
            if known[op.mark as usize] & UNTRACKED != 0 {
                op.mark = nobody;
            }
            op.lazy = op.mark != nobody && settled[op.mark as usize];
        }
        known
    }

    /// Lay the strips out and write their offsets into the operations.
    pub fn finish(mut self, name: String, functions: Vec<(FunctionCode, [[u32; 2]; 3])>) -> Kernel {
        for index in 0..self.regs.len() {
            if self.regs[index].offset == NONE {
                let size = self.regs[index].size;
                let strip = self.strip(size);
                self.regs[index].offset = strip;
            }
        }
        let [wide, word, half] = self.strips;
        let place = |size: u32, strip: u32| match size {
            8 => strip * 8,
            4 => wide * 8 + strip * 4,
            _ => wide * 8 + word * 4 + strip * 2,
        };
        let offset = |regs: &[Virtual], reg: VReg| {
            let Virtual { size, offset, .. } = regs[reg.0 as usize];
            place(size, offset)
        };
        for reference in &self.references {
            let value = offset(&self.regs, reference.reg);
            let op = &mut self.code[reference.op as usize];
            match reference.field {
                Field::Dst => op.dst = value,
                Field::A => op.a = value,
                Field::B => op.b = value,
                Field::C => op.c = value,
                Field::D => op.d = value,
                Field::Imm => op.imm = u64::from(value),
                Field::List(at) => self.lists[at as usize] = value,
            }
        }
        let mut constants: Vec<_> = self
            .constants
            .iter()
            .map(|(&(value, size), &reg)| (offset(&self.regs, reg), size, value))
            .collect();
        constants.sort_unstable_by_key(|&(at, ..)| at);
        let mut specials: Vec<_> = self
            .specials
            .iter()
            .map(|(&special, &reg)| (offset(&self.regs, reg), special))
            .collect();
        specials.sort_unstable_by_key(|&(at, _)| at);
        let reg_bytes = wide * 8 + word * 4 + half * 2;
        let recursive = functions.iter().any(|(code, _)| code.recursive);
        let mut known = self.watch(reg_bytes, recursive);
        for &(at, size, value) in &constants {
            let subnormal = match value {
                Constant::Bits(bits) => size == 4 && facts::is_subnormal(bits as u32),
                Constant::Global(..) => true,
            };
            known[facts::slot(at) as usize] = UNIFORM | if subnormal { 0 } else { FLUSHED };
        }
        for &(at, special) in &specials {
            if special.is_uniform() {
                known[facts::slot(at) as usize] = UNIFORM;
            }
        }
        let functions = functions
            .into_iter()
            .map(|(mut code, strips)| {
                code.region.wide = (place(8, strips[0][0]), place(8, strips[0][1]));
                code.region.word = (place(4, strips[1][0]), place(4, strips[1][1]));
                code.region.half = (place(2, strips[2][0]), place(2, strips[2][1]));
                code
            })
            .collect();
        Kernel {
            name,
            code: self.code,
            origin: self.origin,
            opcodes: self.opcodes,
            lists: self.lists,
            words_from: wide * 8,
            halves_from: wide * 8 + word * 4,
            facts: known,
            reg_bytes: (reg_bytes as usize).max(8),
            preds: self.preds as usize,
            constants,
            specials,
            shared: 0,
            local: 0,
            frames: 0,
            warps: false,
            barriers: false,
            functions,
            by_handle: HashMap::new(),
        }
    }
}
