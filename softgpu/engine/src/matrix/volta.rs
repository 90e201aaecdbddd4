//! `mma.m8n8k4` of f16: four products of 8 by 8 at once, each of eight lanes: 0 to 3 with 16 to 19, and so on.

use std::array::from_fn;

use super::element::{Element, f16};
use super::multiply::{Form, halves, product, single};
use super::shape::VOLTA;
use crate::lanes::{Body, Lanes, Op, Step, WORD};

/// In `Op::imm`: columns of A, rows of B are what a lane has.
pub const A_BY_COLUMNS: u64 = 1;
pub const B_BY_ROWS: u64 = 2;

const A_REGISTERS: usize = 2;
const B_REGISTERS: usize = 2;

/// The product that a lane belongs to, and its number among the eight.
fn member(lane: usize) -> (usize, usize) {
    (lane % 16 / 4, lane % 4 + lane / 16 * 4)
}

/// Row and column of an accumulator's element.
fn sum_place(element: Element, lane: usize, at: usize) -> (usize, usize) {
    match element {
        Element::F16 => (member(lane).1, at),
        _ => (
            (lane & 1) + (at & 2) + lane / 16 * 4,
            (at & 4) + (lane & 2) + (at & 1),
        ),
    }
}

/// Number among the eight of the row or column, and place in k, of a multiplicand's element: a lane has all of k for its
/// own, or four rows or columns for one k.
fn place(across: bool, lane: usize, at: usize) -> (usize, usize) {
    if across {
        (at + lane / 16 * 4, lane % 4)
    } else {
        (member(lane).1, at)
    }
}

pub struct QuadPairs;
impl Body for QuadPairs {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let form = Form::of(op);
        let sources = &lanes.lists[op.a as usize..];
        let out = &lanes.lists[op.dst as usize..];
        for warp in lanes.warps() {
            // SAFETY: lowering gave registers of 32 bits.
            let word =
                |register: u32, lane: usize| unsafe { (*lanes.strip::<u32>(register, warp))[lane] };
            let (mut a, mut b, mut sums) = ([[0f32; 32]; 4], [[0f32; 32]; 4], [[0f32; 64]; 4]);
            for lane in 0..WORD {
                let (of, _) = member(lane);
                for at in 0..4 {
                    let (row, k) = place(op.imm & A_BY_COLUMNS != 0, lane, at);
                    a[of][row * VOLTA.k + k] = f16(word(sources[at / 2], lane), at % 2);
                    let (column, k) = place(op.imm & B_BY_ROWS != 0, lane, at);
                    let register = sources[A_REGISTERS + at / 2];
                    b[of][k * VOLTA.n + column] = f16(word(register, lane), at % 2);
                }
                for at in 0..8 {
                    let (row, column) = sum_place(form.c, lane, at);
                    let registers = &sources[A_REGISTERS + B_REGISTERS..];
                    sums[of][row * VOLTA.n + column] = match form.c {
                        Element::F16 => f16(word(registers[at / 2], lane), at % 2),
                        _ => f32::from_bits(word(registers[at], lane)),
                    };
                }
            }
            for ((a, b), sums) in a.iter().zip(&b).zip(&mut sums) {
                product(VOLTA, a, b, sums, |sum, a: f32, b| a.mul_add(b, sum));
            }
            let (per, encode): (usize, fn(&[f32]) -> u32) = match form.d {
                Element::F16 => (2, halves),
                _ => (1, single),
            };
            for (register, &to) in out.iter().enumerate().take(8 / per) {
                let values = from_fn(|lane| {
                    let (row, column) = sum_place(form.d, lane, register * per);
                    encode(&sums[member(lane).0][row * VOLTA.n + column..])
                });
                // SAFETY: as above.
                unsafe { *lanes.strip::<u32>(to, warp) = values };
            }
        }
        Step::Next
    }
}
