//! `mma` and `wmma.mma`: `Op::dst` lists the registers of D, `Op::a` those of A, B and C one after the other; `b` has the
//! elements, `c` the shape, `imm` what else the opcode says.

use std::array::from_fn;

use super::Strip;
use super::element::{self, Element};
use super::layout::{Layout, Part, Places};
use super::shape::Shape;
use crate::float::{Rounding, canon32, directed64, f32_to_f16};
use crate::lanes::{Body, Elem, Lanes, Op, Step};
use crate::residue;

/// In `Op::imm`.
pub const SATURATE: u64 = 1;
pub const AND: u64 = 1;
const MODES: [Rounding; 4] = [
    Rounding::Nearest,
    Rounding::Zero,
    Rounding::Down,
    Rounding::Up,
];

/// A rounding mode for `Op::imm`.
pub fn rounding(mode: Rounding) -> u64 {
    MODES.iter().position(|&known| known == mode).unwrap_or(0) as u64
}

/// What is multiplied, as it stands in an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub shape: Shape,
    pub a: Element,
    pub b: Element,
    pub c: Element,
    pub d: Element,
}

impl Form {
    pub fn elements_code(&self) -> u32 {
        self.a.code() | self.b.code() << 8 | self.c.code() << 16 | self.d.code() << 24
    }

    pub fn of(op: &Op) -> Form {
        let element = |at: u32| Element::of_code(op.b >> (8 * at) & 0xff);
        Form {
            shape: Shape::of_code(op.c),
            a: element(0),
            b: element(1),
            c: element(2),
            d: element(3),
        }
    }
}

/// Largest numbers of elements of A, B, and C: those of m16n8k64, of m8n32k16 and m16n8k64, of m16n16.
const A: usize = 1024;
const B: usize = 512;
const C: usize = 256;

/// `sums += a b`, all by rows. Steps follow each other in the order of k; rows and columns are taken together so that
/// the processor has sums that do not wait for each other.
#[inline(always)]
pub fn product<I: Copy, S: Copy>(
    shape: Shape,
    a: &[I],
    b: &[I],
    sums: &mut [S],
    step: impl Fn(S, I, I) -> S,
) {
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;
    let Shape { m, n, k } = shape;
    for row in (0..m).step_by(ROWS) {
        for column in (0..n).step_by(COLUMNS) {
            let mut block: [[S; COLUMNS]; ROWS] =
                from_fn(|r| from_fn(|c| sums[(row + r) * n + column + c]));
            for at in 0..k {
                let right = &b[at * n + column..][..COLUMNS];
                for (r, sums) in block.iter_mut().enumerate() {
                    let left = a[(row + r) * k + at];
                    for (sum, &right) in sums.iter_mut().zip(right) {
                        *sum = step(*sum, left, right);
                    }
                }
            }
            for (r, from) in block.iter().enumerate() {
                sums[(row + r) * n + column..][..COLUMNS].copy_from_slice(from);
            }
        }
    }
}

/// The registers of one matrix, their layout, and where their elements go in an array.
struct Fragment<'a> {
    registers: &'a [u32],
    per: usize,
    places: Places,
}

/// The matrices of an operation, in arrays by rows.
struct Matrices<'a> {
    a: Fragment<'a>,
    b: Fragment<'a>,
    c: Fragment<'a>,
    d: Fragment<'a>,
}

impl<'a> Matrices<'a> {
    fn new(lists: &'a [u32], op: &Op, [a, b, c, d]: [Layout; 4], shape: Shape) -> Matrices<'a> {
        let Shape { n, k, .. } = shape;
        let (out, sources) = (&lists[op.dst as usize..], &lists[op.a as usize..]);
        let (of_a, rest) = sources.split_at(a.registers);
        let (of_b, rest) = rest.split_at(b.registers);
        let fragment = |registers: &'a [u32], layout: &Layout, row: usize| Fragment {
            registers: &registers[..layout.registers],
            per: layout.per,
            places: layout.places(row, 1),
        };
        Matrices {
            a: fragment(of_a, &a, k),
            b: fragment(of_b, &b, n),
            c: fragment(rest, &c, n),
            d: fragment(out, &d, n),
        }
    }

    /// As PTX documents it.
    fn of_form(lists: &'a [u32], op: &Op, form: &Form) -> Matrices<'a> {
        let layouts = [
            Layout::new(Part::A, form.shape, form.a),
            Layout::new(Part::B, form.shape, form.b),
            Layout::new(Part::Sum, form.shape, form.c),
            Layout::new(Part::Sum, form.shape, form.d),
        ];
        Self::new(lists, op, layouts, form.shape)
    }
}

impl Fragment<'_> {
    /// Each element of the registers, decoded, into the array.
    ///
    /// # Safety
    /// The registers must have the size of `W`.
    #[inline(always)]
    unsafe fn gather<W: Elem, T: Copy>(
        &self,
        lanes: &Lanes<'_>,
        warp: usize,
        into: &mut [T],
        decode: impl Fn(W, usize) -> T,
    ) {
        for (at, &register) in self.registers.iter().enumerate() {
            // SAFETY: the caller's promise.
            let words = unsafe { *lanes.strip::<W>(register, warp) };
            for element in 0..self.per {
                let values: Strip<T> = from_fn(|lane| decode(words[lane], element));
                for (lane, value) in values.into_iter().enumerate() {
                    into[self.places.at(at, lane) + element * self.places.element] = value;
                }
            }
        }
    }

    /// Registers made of the array's elements, given the first of each and all behind it.
    ///
    /// # Safety
    /// As for [`Self::gather`].
    #[inline(always)]
    unsafe fn scatter<W: Elem, T: Copy>(
        &self,
        lanes: &Lanes<'_>,
        warp: usize,
        from: &[T],
        encode: impl Fn(&[T]) -> W,
    ) {
        for (at, &register) in self.registers.iter().enumerate() {
            let values: Strip<W> = from_fn(|lane| encode(&from[self.places.at(at, lane)..]));
            // SAFETY: the caller's promise.
            unsafe { *lanes.strip::<W>(register, warp) = values };
        }
    }

    /// # Safety
    /// Registers must have 32 bits.
    #[inline(always)]
    unsafe fn floats(&self, lanes: &Lanes<'_>, warp: usize, into: &mut [f32], element: Element) {
        // SAFETY: the caller's promise.
        unsafe {
            match element {
                Element::F16 => self.gather(lanes, warp, into, element::f16),
                Element::BF16 => self.gather(lanes, warp, into, element::bf16),
                Element::TF32 => self.gather(lanes, warp, into, element::tf32),
                Element::E4M3 => self.gather(lanes, warp, into, element::e4m3),
                Element::E5M2 => self.gather(lanes, warp, into, element::e5m2),
                _ => self.gather(lanes, warp, into, |word, _| f32::from_bits(word)),
            }
        }
    }

    /// # Safety
    /// Registers must have 32 bits.
    #[inline(always)]
    unsafe fn integers(&self, lanes: &Lanes<'_>, warp: usize, into: &mut [i32], element: Element) {
        // SAFETY: the caller's promise.
        unsafe {
            match element {
                Element::S8 => self.gather(lanes, warp, into, element::s8),
                Element::U8 => self.gather(lanes, warp, into, element::u8),
                Element::S4 => self.gather(lanes, warp, into, element::s4),
                Element::U4 => self.gather(lanes, warp, into, element::u4),
                _ => self.gather(lanes, warp, into, |word: u32, _| word as i32),
            }
        }
    }
}

/// A sum as an f32 register, and two as one of f16.
#[inline(always)]
pub fn single(sums: &[f32]) -> u32 {
    canon32(sums[0]).to_bits()
}

#[inline(always)]
pub fn halves(sums: &[f32]) -> u32 {
    u32::from(f32_to_f16(sums[0])) | u32::from(f32_to_f16(sums[1])) << 16
}

/// f16, bf16, tf32, fp8.
pub struct Floats;
impl Body for Floats {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let form = Form::of(op);
        let matrices = Matrices::of_form(lanes.lists, op, &form);
        let (mut a, mut b, mut sums) = ([0f32; A], [0f32; B], [0f32; C]);
        for warp in lanes.warps() {
            // SAFETY: lowering gave registers of 32 bits.
            unsafe {
                matrices.a.floats(lanes, warp, &mut a, form.a);
                matrices.b.floats(lanes, warp, &mut b, form.b);
                matrices.c.floats(lanes, warp, &mut sums, form.c);
                product(form.shape, &a, &b, &mut sums, |sum, a: f32, b| {
                    a.mul_add(b, sum)
                });
                match form.d {
                    Element::F16 => matrices.d.scatter(lanes, warp, &sums, halves),
                    _ => matrices.d.scatter(lanes, warp, &sums, single),
                }
            }
        }
        Step::Next
    }
}

pub struct Doubles;
impl Body for Doubles {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let form = Form::of(op);
        let mode = MODES[op.imm as usize % MODES.len()];
        let matrices = Matrices::of_form(lanes.lists, op, &form);
        let (mut a, mut b, mut sums) = ([0f64; 256], [0f64; 128], [0f64; 128]);
        for warp in lanes.warps() {
            let same = |value: f64, _| value;
            // SAFETY: lowering gave registers of 64 bits.
            unsafe {
                matrices.a.gather(lanes, warp, &mut a, same);
                matrices.b.gather(lanes, warp, &mut b, same);
                matrices.c.gather(lanes, warp, &mut sums, same);
                product(form.shape, &a, &b, &mut sums, |sum, a: f64, b| {
                    let near = a.mul_add(b, sum);
                    match mode {
                        Rounding::Nearest => near,
                        _ => directed64(near, residue::fma(a, b, sum, near), mode),
                    }
                });
                matrices.d.scatter(lanes, warp, &sums, |sums| sums[0]);
            }
        }
        Step::Next
    }
}

/// The product's sums and C: added, wrapping or clamped.
#[inline(always)]
fn add_integers(sums: &mut [i32], c: &[i32], saturate: bool) {
    for (sum, &c) in sums.iter_mut().zip(c) {
        // The product alone is far from the limits, so that this clamps the exact sum.
        *sum = if saturate {
            sum.saturating_add(c)
        } else {
            sum.wrapping_add(c)
        };
    }
}

/// 8 and 4 bits.
pub struct Integers;
impl Body for Integers {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let form = Form::of(op);
        let matrices = Matrices::of_form(lanes.lists, op, &form);
        let (mut a, mut b, mut c) = ([0i32; A], [0i32; B], [0i32; C]);
        for warp in lanes.warps() {
            let mut sums = [0i32; C];
            // SAFETY: lowering gave registers of 32 bits.
            unsafe {
                matrices.a.integers(lanes, warp, &mut a, form.a);
                matrices.b.integers(lanes, warp, &mut b, form.b);
                matrices.c.integers(lanes, warp, &mut c, form.c);
                product(form.shape, &a, &b, &mut sums, |sum: i32, a: i32, b| {
                    sum.wrapping_add(a.wrapping_mul(b))
                });
                add_integers(&mut sums, &c, op.imm & SATURATE != 0);
                matrices
                    .d
                    .scatter(lanes, warp, &sums, |sums| sums[0] as u32);
            }
        }
        Step::Next
    }
}

/// Single bits, 32 of them at a time: their xor or and, counted.
pub struct Bits;
impl Body for Bits {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let form = Form::of(op);
        let shape = Shape {
            k: form.shape.k / 32,
            ..form.shape
        };
        let layouts =
            [Part::A, Part::B, Part::Sum, Part::Sum].map(|part| Layout::grouped(part, shape, 1));
        let matrices = Matrices::new(lanes.lists, op, layouts, shape);
        let (mut a, mut b, mut sums) = ([0u32; A / 8], [0u32; B / 8], [0u32; C]);
        for warp in lanes.warps() {
            let same = |word: u32, _| word;
            // SAFETY: lowering gave registers of 32 bits.
            unsafe {
                matrices.a.gather(lanes, warp, &mut a, same);
                matrices.b.gather(lanes, warp, &mut b, same);
                matrices.c.gather(lanes, warp, &mut sums, same);
                if op.imm & AND != 0 {
                    product(shape, &a, &b, &mut sums, |sum: u32, a: u32, b| {
                        sum.wrapping_add((a & b).count_ones())
                    });
                } else {
                    product(shape, &a, &b, &mut sums, |sum: u32, a: u32, b| {
                        sum.wrapping_add((a ^ b).count_ones())
                    });
                }
                matrices.d.scatter(lanes, warp, &sums, |sums| sums[0]);
            }
        }
        Step::Next
    }
}
