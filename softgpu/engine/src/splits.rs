//! Which lanes are where: groups that diverged from each other, and who runs next.
//!
//! The group deepest in calls and lowest in the code runs, and groups that meet become one: so the two sides of a
//! branch join behind it. A group that keeps jumping backwards while others could run gets tired and lets them, so that
//! a lane that waits in a loop for another one does not wait for ever.

use std::sync::Arc;

use crate::lanes::Mask;

/// Where a function returns to. Lanes that came by the same call share it.
#[derive(Debug)]
pub struct Return {
    pub pc: u32,
    pub frame: u64,
    pub depth: u32,
    pub parent: Option<Arc<Return>>,
    /// Registers of the caller's earlier activation, when the callee uses the same ones.
    pub saved: Option<Saved>,
}

#[derive(Debug)]
pub struct Saved {
    /// Index of the function whose registers these are.
    pub function: usize,
    pub strips: Vec<Vec<u8>>,
    pub preds: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Runs,
    /// At a barrier.
    Barrier,
    /// At an instruction for which other lanes of its warps have to come.
    Gathers,
}

#[derive(Debug, Clone)]
pub struct Split {
    pub pc: u32,
    pub mask: Mask,
    pub stack: Option<Arc<Return>>,
    pub frame: u64,
    pub state: State,
    pub tired: bool,
    /// Goes on without those who do not come.
    pub alone: bool,
    /// Backward branches since others had their turn.
    pub back: u32,
}

impl Split {
    pub fn depth(&self) -> u32 {
        self.stack.as_ref().map_or(0, |stack| stack.depth)
    }

    fn same_place(&self, other: &Split) -> bool {
        self.pc == other.pc
            && self.state != State::Barrier
            && other.state != State::Barrier
            && match (&self.stack, &other.stack) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }
}

pub fn any(mask: &Mask) -> bool {
    mask.iter().any(|&word| word != 0)
}

/// The groups that do not run just now.
#[derive(Default)]
pub struct Splits {
    pub waiting: Vec<Split>,
}

impl Splits {
    pub fn push(&mut self, split: Split) {
        if any(&split.mask) {
            self.waiting.push(split);
        }
    }

    /// Join groups that are at the same place.
    fn merge(&mut self) {
        if self.waiting.len() < 2 {
            return;
        }
        self.waiting
            .sort_by_key(|split| (std::cmp::Reverse(split.depth()), split.pc));
        let mut at = 0;
        while at + 1 < self.waiting.len() {
            let mut with = at + 1;
            while with < self.waiting.len() && self.waiting[with].pc == self.waiting[at].pc {
                if self.waiting[at].same_place(&self.waiting[with]) {
                    let other = self.waiting.remove(with);
                    let split = &mut self.waiting[at];
                    for (word, more) in split.mask.iter_mut().zip(other.mask) {
                        *word |= more;
                    }
                    split.tired &= other.tired;
                    split.back = split.back.max(other.back);
                    split.state = State::Runs;
                    split.alone = false;
                } else {
                    with += 1;
                }
            }
            at += 1;
        }
    }

    /// The group to run next, taken out.
    pub fn next(&mut self) -> Option<Split> {
        self.merge();
        let mut best: Option<usize> = None;
        for (at, split) in self.waiting.iter().enumerate() {
            if split.state == State::Runs && !split.tired {
                // After merging they are sorted, deepest and lowest first.
                best = Some(at);
                break;
            }
        }
        best.map(|at| self.waiting.remove(at))
    }

    /// Let the tired ones run again. False when there are none.
    pub fn wake(&mut self) -> bool {
        let mut found = false;
        for split in &mut self.waiting {
            if split.state == State::Runs && split.tired {
                split.tired = false;
                found = true;
            }
        }
        found
    }

    /// The next place above `pc` where a group waits that could join.
    pub fn limit(&self, split: &Split) -> u32 {
        self.waiting
            .iter()
            .filter(|other| other.state != State::Barrier && other.pc > split.pc)
            .map(|other| other.pc)
            .min()
            .unwrap_or(u32::MAX)
    }
}
