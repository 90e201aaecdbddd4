//! Which lane holds which elements of a matrix, in which register.
//!
//! One rule covers all shapes but one: a warp is eight groups of four lanes. In A a group is a row, in B a column, and a
//! lane has in each register neighbours in k, as many as fit. Accumulators lie by rows, two neighbours in n for each lane.
//! Matrices larger than 8 rows, 8 columns or four registers of k repeat this in further registers: rows by 8 first, then
//! k, then rows by 16 in A; rows by 8 first, then columns by 8, then rows by 16 in an accumulator. That is what PTX
//! documents for `mma`; it does not for `wmma`, whose fragments are here what those of several `mma` would be.

use super::element::Element;
use super::shape::Shape;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    A,
    B,
    /// C and D.
    Sum,
}

/// Registers of a lane for one matrix, at most.
pub const MAX_REGISTERS: usize = 8;

pub struct Layout {
    /// Registers that hold different elements.
    pub registers: usize,
    /// Elements of a register.
    pub per: usize,
    /// Row and column at which each register of lane 0 begins.
    base: [(usize, usize); MAX_REGISTERS],
    /// Steps to the next group of four lanes, to the next lane in it, to the next element in the register.
    group: (usize, usize),
    lane: (usize, usize),
    element: (usize, usize),
}

/// A layout in an array or in memory: where each element lies, counted in elements.
pub struct Places {
    base: [usize; MAX_REGISTERS],
    group: usize,
    lane: usize,
    pub element: usize,
}

impl Layout {
    pub fn new(part: Part, shape: Shape, element: Element) -> Layout {
        Self::grouped(part, shape, element.per_register())
    }

    /// Of elements of which a register holds `per`.
    pub fn grouped(part: Part, shape: Shape, per: usize) -> Layout {
        let Shape { m, n, k } = shape;
        let halves = if m >= 16 { 2 } else { 1 };
        let steps = (k / (4 * per)).max(1);
        let mut base = [(0, 0); MAX_REGISTERS];
        for (at, base) in base.iter_mut().enumerate() {
            *base = match part {
                Part::A => {
                    let (half, step, block) =
                        (at % halves, at / halves % steps, at / halves / steps);
                    (8 * half + 16 * block, 4 * per * step)
                }
                Part::B => (4 * per * (at % steps), 8 * (at / steps)),
                Part::Sum => {
                    // Where a register holds one element, two registers are neighbours.
                    let (pair, odd) = (at * per / 2, at * per % 2);
                    let (half, columns) = (pair % halves, n / 8);
                    let (column, block) = (pair / halves % columns, pair / halves / columns);
                    (8 * half + 16 * block, 8 * column + odd)
                }
            };
        }
        let elements = match part {
            Part::A => m * k,
            Part::B => k * n,
            Part::Sum => m * n,
        };
        let (group, lane, element) = match part {
            Part::A => ((1, 0), (0, per), (0, 1)),
            Part::B => ((0, 1), (per, 0), (1, 0)),
            Part::Sum => ((1, 0), (0, 2), (0, 1)),
        };
        Layout {
            registers: (elements / 32 / per).clamp(1, MAX_REGISTERS),
            per,
            base,
            group,
            lane,
            element,
        }
    }

    /// Places for steps between rows and between columns.
    pub fn places(&self, row: usize, column: usize) -> Places {
        let at = |(rows, columns): (usize, usize)| rows * row + columns * column;
        Places {
            base: self.base.map(at),
            group: at(self.group),
            lane: at(self.lane),
            element: at(self.element),
        }
    }
}

impl Places {
    /// Where the first element of a lane's register lies.
    #[inline(always)]
    pub fn at(&self, register: usize, lane: usize) -> usize {
        self.base[register] + lane / 4 * self.group + lane % 4 * self.lane
    }
}

/// Registers that the instructions take for a matrix. `wmma` has 8 of f16 for A and B, whatever the shape: when there
/// are fewer elements they are there several times.
pub fn registers(part: Part, shape: Shape, element: Element, wmma: bool) -> usize {
    if wmma && element == Element::F16 && part != Part::Sum {
        MAX_REGISTERS
    } else {
        Layout::new(part, shape, element).registers
    }
}
