//! Which shapes there are, for which elements, from which target on.

use super::element::Class;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

const fn shape(m: usize, n: usize, k: usize) -> Shape {
    Shape { m, n, k }
}

impl Shape {
    /// `m16n8k16`
    pub fn parse(text: &str) -> Option<Shape> {
        let (m, rest) = text.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        // As PTX writes it: no sign, no zero in front.
        let number = |text: &str| {
            let number = text
                .parse()
                .ok()
                .filter(|number| (1..=256).contains(number));
            number.filter(|number: &usize| number.to_string() == text)
        };
        Some(shape(number(m)?, number(n)?, number(k)?))
    }

    /// As a number that fits an operation, and back.
    pub fn code(self) -> u32 {
        self.m as u32 | (self.n as u32) << 8 | (self.k as u32) << 16
    }

    pub fn of_code(code: u32) -> Shape {
        shape(
            (code & 0xff) as usize,
            (code >> 8 & 0xff) as usize,
            (code >> 16) as usize,
        )
    }
}

use Class::*;

const MMA: [(Shape, Class, u32); 22] = [
    (VOLTA, Half, 70),
    (shape(16, 8, 8), Half, 75),
    (shape(16, 8, 16), Half, 80),
    (shape(16, 8, 8), Brain, 80),
    (shape(16, 8, 16), Brain, 80),
    (shape(16, 8, 4), Tensor, 80),
    (shape(16, 8, 8), Tensor, 80),
    (shape(16, 8, 16), Float8, 89),
    (shape(16, 8, 32), Float8, 89),
    (shape(8, 8, 4), Double, 80),
    (shape(16, 8, 4), Double, 90),
    (shape(16, 8, 8), Double, 90),
    (shape(16, 8, 16), Double, 90),
    (shape(8, 8, 16), Byte, 75),
    (shape(16, 8, 16), Byte, 80),
    (shape(16, 8, 32), Byte, 80),
    (shape(8, 8, 32), Nibble, 75),
    (shape(16, 8, 32), Nibble, 80),
    (shape(16, 8, 64), Nibble, 80),
    (shape(8, 8, 128), Bit, 75),
    (shape(16, 8, 128), Bit, 80),
    (shape(16, 8, 256), Bit, 80),
];

const WMMA: [(Shape, Class, u32); 13] = [
    (shape(16, 16, 16), Half, 70),
    (shape(32, 8, 16), Half, 70),
    (shape(8, 32, 16), Half, 70),
    (shape(16, 16, 16), Byte, 72),
    (shape(32, 8, 16), Byte, 72),
    (shape(8, 32, 16), Byte, 72),
    (shape(16, 16, 16), Brain, 80),
    (shape(32, 8, 16), Brain, 80),
    (shape(8, 32, 16), Brain, 80),
    (shape(16, 16, 8), Tensor, 80),
    (shape(8, 8, 4), Double, 80),
    (shape(8, 8, 32), Nibble, 75),
    (shape(8, 8, 128), Bit, 75),
];

/// With f16 this shape is four products, one for each eight lanes, and has layouts of its own.
pub const VOLTA: Shape = shape(8, 8, 4);

fn since(table: &[(Shape, Class, u32)], shape: Shape, class: Class) -> Option<u32> {
    let found = table
        .iter()
        .find(|&&(known, of, _)| known == shape && of == class);
    found.map(|&(.., since)| since)
}

/// The target that `mma` of a shape and class needs; none where there is no such instruction.
pub fn mma_since(shape: Shape, class: Class) -> Option<u32> {
    since(&MMA, shape, class)
}

pub fn wmma_since(shape: Shape, class: Class) -> Option<u32> {
    since(&WMMA, shape, class)
}

/// Of an accumulator of `wmma`: the least target of the classes that are summed so.
pub fn wmma_sum_since(shape: Shape, sums: impl Fn(Class) -> bool) -> Option<u32> {
    WMMA.iter()
        .filter(|&&(known, class, _)| known == shape && sums(class))
        .map(|&(.., since)| since)
        .min()
}
