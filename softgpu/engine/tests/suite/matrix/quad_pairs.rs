//! `mma.m8n8k4` of f16: four products in a warp, with all layouts.

use super::elements::{bits, random, value};
use super::{Instruction, Registers, get, put, run};
use crate::common::Random;
use crate::coverage::tested;

/// Lanes of each product, in order.
const MEMBERS: [[usize; 8]; 4] = [
    [0, 1, 2, 3, 16, 17, 18, 19],
    [4, 5, 6, 7, 20, 21, 22, 23],
    [8, 9, 10, 11, 24, 25, 26, 27],
    [12, 13, 14, 15, 28, 29, 30, 31],
];

fn a_place(layout: &str, lane: usize, i: usize) -> (usize, usize) {
    let upper = lane >= 16;
    match (layout, upper) {
        ("row", false) => (lane % 4, i),
        ("row", true) => (lane % 4 + 4, i),
        (_, false) => (i % 4, lane % 4),
        (_, true) => (i % 4 + 4, lane % 4),
    }
}

fn b_place(layout: &str, lane: usize, i: usize) -> (usize, usize) {
    let upper = lane >= 16;
    match (layout, upper) {
        ("row", false) => (lane % 4, i),
        ("row", true) => (lane % 4, i + 4),
        (_, false) => (i, lane % 4),
        (_, true) => (i, lane % 4 + 4),
    }
}

fn sum_place(element: &str, lane: usize, i: usize) -> (usize, usize) {
    let upper = lane >= 16;
    if element == "f16" {
        return (if upper { lane % 4 + 4 } else { lane % 4 }, i);
    }
    let x = (lane & 0b1) + (i & 0b10);
    (
        if upper { x + 4 } else { x },
        (i & 0b100) + (lane & 0b10) + (i & 0b1),
    )
}

#[test]
pub fn four_products_of_eight_lanes() {
    let mut seed = Random(0xfeed_f00d);
    for a_layout in ["row", "col"] {
        for b_layout in ["row", "col"] {
            for (d, c) in [("f16", "f16"), ("f32", "f32"), ("f32", "f16")] {
                let opcode =
                    format!("mma.sync.aligned.m8n8k4.{a_layout}.{b_layout}.{d}.f16.f16.{c}");
                let count = |element: &str| 8 * bits(element) / 32;
                let counts = [count(d), 2, 2, count(c)];
                let instruction = Instruction {
                    opcode: &opcode,
                    target: "sm_70",
                    bits: 32,
                    counts,
                    before: "",
                };
                // [warp][product][A, B, C][row][column], in numbers.
                let mut raw = |rows: usize, columns: usize, element: &str| -> Vec<Vec<u64>> {
                    let row = |seed: &mut Random| {
                        (0..columns).map(|_| random(element, seed, true)).collect()
                    };
                    (0..rows).map(|_| row(&mut seed)).collect()
                };
                let inputs: Vec<Vec<[Vec<Vec<u64>>; 3]>> = (0..6)
                    .map(|_| {
                        (0..4)
                            .map(|_| [raw(8, 4, "f16"), raw(4, 8, "f16"), raw(8, 8, c)])
                            .collect()
                    })
                    .collect();
                let packed: Vec<[Registers; 3]> = inputs
                    .iter()
                    .map(|products| {
                        let mut all =
                            [counts[1], counts[2], counts[3]].map(|count| vec![[0u64; 32]; count]);
                        for (members, [a, b, sums]) in MEMBERS.iter().zip(products) {
                            for &lane in members {
                                for i in 0..4 {
                                    let (row, column) = a_place(a_layout, lane, i);
                                    put(&mut all[0], lane, i, 16, 32, a[row][column]);
                                    let (row, column) = b_place(b_layout, lane, i);
                                    put(&mut all[1], lane, i, 16, 32, b[row][column]);
                                }
                                for i in 0..8 {
                                    let (row, column) = sum_place(c, lane, i);
                                    put(&mut all[2], lane, i, bits(c), 32, sums[row][column]);
                                }
                            }
                        }
                        all
                    })
                    .collect();
                let got = run(&instruction, 2, &packed);
                for (products, got) in inputs.iter().zip(&got) {
                    for (members, [a, b, sums]) in MEMBERS.iter().zip(products) {
                        for &lane in members {
                            for i in 0..8 {
                                let (row, column) = sum_place(d, lane, i);
                                let wanted = (0..4).fold(value(c, sums[row][column]), |sum, k| {
                                    sum + value("f16", a[row][k]) * value("f16", b[k][column])
                                });
                                let found = value(d, get(got, lane, i, bits(d), 32));
                                assert_eq!(found, wanted, "{opcode}, lane {lane}, element {i}");
                            }
                        }
                    }
                }
                tested(&opcode);
            }
        }
    }
}
