//! `mma` of all shapes and elements but the oldest one.

use half::f16;

use super::elements::{bits, integer, is_integer, random, value, whole};
use super::{Instruction, Registers, get, layouts, put, run};
use crate::common::Random;
use crate::coverage::tested;

type Matrix = Vec<Vec<u64>>;

struct Product {
    shape: &'static str,
    size: [usize; 3],
    d: &'static str,
    a: &'static str,
    b: &'static str,
    c: &'static str,
    /// Before the types, and behind them.
    modifiers: [&'static str; 2],
    target: &'static str,
}

fn size(shape: &str) -> [usize; 3] {
    let numbers: Vec<usize> = shape
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    numbers.try_into().expect("three numbers")
}

fn product(
    target: &'static str,
    shape: &'static str,
    [d, a, b, c]: [&'static str; 4],
    modifiers: [&'static str; 2],
) -> Product {
    Product {
        shape,
        size: size(shape),
        d,
        a,
        b,
        c,
        modifiers,
        target,
    }
}

fn matrix(rows: usize, columns: usize, mut element: impl FnMut() -> u64) -> Matrix {
    (0..rows)
        .map(|_| (0..columns).map(|_| element()).collect())
        .collect()
}

impl Product {
    fn opcode(&self) -> String {
        format!(
            "mma.sync.aligned.{}.row.col{}.{}.{}.{}.{}{}",
            self.shape, self.modifiers[0], self.d, self.a, self.b, self.c, self.modifiers[1]
        )
    }

    fn width(&self) -> usize {
        if self.a == "f64" { 64 } else { 32 }
    }

    fn count(&self, element: &str, elements: usize) -> usize {
        elements * bits(element) / 32 / self.width()
    }

    /// D of each warp's A, B and C, by the engine.
    fn run(&self, warps: usize, before: &str, inputs: &[[Matrix; 3]]) -> Vec<Matrix> {
        let [m, n, k] = self.size;
        let width = self.width();
        let counts = [
            self.count(self.d, m * n),
            self.count(self.a, m * k),
            self.count(self.b, k * n),
            self.count(self.c, m * n),
        ];
        let pack = |from: &Matrix,
                    element: &str,
                    count: usize,
                    place: &dyn Fn(usize, usize) -> (usize, usize)| {
            let mut registers: Registers = vec![[0; 32]; count];
            for lane in 0..32 {
                for at in 0..count * width / bits(element) {
                    let (row, column) = place(lane, at);
                    put(
                        &mut registers,
                        lane,
                        at,
                        bits(element),
                        width,
                        from[row][column],
                    );
                }
            }
            registers
        };
        let packed: Vec<[Registers; 3]> = inputs
            .iter()
            .map(|[a, b, c]| {
                [
                    pack(a, self.a, counts[1], &|lane, at| {
                        layouts::a(self.shape, bits(self.a), lane, at)
                    }),
                    pack(b, self.b, counts[2], &|lane, at| {
                        layouts::b(self.shape, bits(self.b), lane, at)
                    }),
                    pack(c, self.c, counts[3], &layouts::sum),
                ]
            })
            .collect();
        let opcode = self.opcode();
        let instruction = Instruction {
            opcode: &opcode,
            target: self.target,
            bits: width,
            counts,
            before,
        };
        let unpack = |registers: Registers| {
            let mut d = vec![vec![0; n]; m];
            for lane in 0..32 {
                for at in 0..counts[0] * width / bits(self.d) {
                    let (row, column) = layouts::sum(lane, at);
                    d[row][column] = get(&registers, lane, at, bits(self.d), width);
                }
            }
            d
        };
        run(&instruction, warps, &packed)
            .into_iter()
            .map(unpack)
            .collect()
    }

    fn inputs(&self, count: usize, exact: bool) -> Vec<[Matrix; 3]> {
        let mut seed = Random(0x1234_5678_9abc_def1 ^ self.opcode().len() as u64);
        let [m, n, k] = self.size;
        (0..count)
            .map(|_| {
                [
                    matrix(m, k, || random(self.a, &mut seed, exact)),
                    matrix(k, n, || random(self.b, &mut seed, exact)),
                    matrix(m, n, || random(self.c, &mut seed, exact)),
                ]
            })
            .collect()
    }

    fn check(&self) {
        for exact in [true, false] {
            // Several warps in a block, several blocks side by side.
            for (warps, blocks) in [(1, 9), (3, 4), (8, 1)] {
                let inputs = self.inputs(warps * blocks, exact);
                let got = self.run(warps, "", &inputs);
                for (inputs, got) in inputs.iter().zip(&got) {
                    self.compare(inputs, got, exact);
                }
            }
        }
        tested(&self.opcode());
    }

    fn compare(&self, [a, b, c]: &[Matrix; 3], d: &Matrix, exact: bool) {
        let [m, n, k] = self.size;
        for row in 0..m {
            for column in 0..n {
                let got = d[row][column];
                let at = || format!("{} at {row}, {column}: got {got:#x}", self.opcode());
                if is_integer(self.a) {
                    let wanted = self.integers(a, b, c, row, column);
                    assert_eq!(integer("s32", got), wanted, "{}", at());
                    continue;
                }
                if self.d == "f64" {
                    let start = f64::from_bits(c[row][column]);
                    let wanted = (0..k).fold(start, |sum, k| {
                        f64::from_bits(a[row][k]).mul_add(f64::from_bits(b[k][column]), sum)
                    });
                    assert_eq!(got, wanted.to_bits(), "{}", at());
                    continue;
                }
                let terms = (0..k).map(|k| value(self.a, a[row][k]) * value(self.b, b[k][column]));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size): (f64, f64), term| {
                    (sum + term, size + term.abs())
                });
                let start = value(self.c, c[row][column]);
                let (wanted, size) = (sum + start, size + start.abs());
                let found = value(self.d, got);
                if exact {
                    assert_eq!(found, wanted, "{}", at());
                    continue;
                }
                let mut allowed = size * (k + 1) as f64 * 2f64.powi(-24);
                if self.d == "f16" {
                    if wanted.abs() > 65504.0 {
                        assert!(found.is_infinite() || found.abs() == 65504.0);
                        continue;
                    }
                    allowed += f16::from_f64(wanted.abs()).to_f64() * 2f64.powi(-11) + 1e-7;
                }
                assert!(
                    (found - wanted).abs() <= allowed,
                    "{}, wanted {wanted}, found {found}",
                    at()
                );
            }
        }
    }

    fn integers(&self, a: &Matrix, b: &Matrix, c: &Matrix, row: usize, column: usize) -> i64 {
        let terms = (0..self.size[2]).map(|k| {
            let (x, y) = (
                integer(self.a, a[row][k]) as i128,
                integer(self.b, b[k][column]) as i128,
            );
            match self.modifiers[1] {
                ".xor.popc" => x ^ y,
                ".and.popc" => x & y,
                _ => x * y,
            }
        });
        let sum: i128 = terms.sum::<i128>() + i128::from(integer("s32", c[row][column]));
        if self.modifiers[0] == ".satfinite" {
            sum.clamp(i32::MIN.into(), i32::MAX.into()) as i64
        } else {
            i64::from(sum as i32)
        }
    }
}

#[test]
pub fn halves() {
    for (target, shape) in [("sm_75", "m16n8k8"), ("sm_80", "m16n8k16")] {
        for sum in ["f16", "f32"] {
            product(target, shape, [sum, "f16", "f16", sum], ["", ""]).check();
        }
    }
}

#[test]
pub fn brains_and_tf32() {
    for (shape, element) in [
        ("m16n8k8", "bf16"),
        ("m16n8k16", "bf16"),
        ("m16n8k4", "tf32"),
        ("m16n8k8", "tf32"),
    ] {
        product("sm_80", shape, ["f32", element, element, "f32"], ["", ""]).check();
    }
}

#[test]
pub fn eighths() {
    for shape in ["m16n8k16", "m16n8k32"] {
        for a in ["e4m3", "e5m2"] {
            for b in ["e4m3", "e5m2"] {
                for sum in ["f32", "f16"] {
                    product("sm_89", shape, [sum, a, b, sum], ["", ""]).check();
                }
            }
        }
    }
}

#[test]
pub fn doubles() {
    for (target, shape) in [
        ("sm_80", "m8n8k4"),
        ("sm_90", "m16n8k4"),
        ("sm_90", "m16n8k8"),
        ("sm_90a", "m16n8k16"),
    ] {
        product(target, shape, ["f64"; 4], ["", ""]).check();
        product(target, shape, ["f64"; 4], [".rn", ""]).check();
    }
}

/// `value` in 53 bits, rounded as the mode says.
fn directed(value: i128, mode: &str) -> f64 {
    let drop = (128 - value.unsigned_abs().leading_zeros()).saturating_sub(53);
    let (below, rest) = (value >> drop << drop, value & ((1 << drop) - 1));
    let above = if rest == 0 {
        below
    } else {
        below + (1 << drop)
    };
    let chosen = match mode {
        ".rm" => below,
        ".rp" => above,
        _ if value < 0 => above,
        _ => below,
    };
    chosen as f64
}

#[test]
pub fn doubles_round_as_they_say() {
    for (target, shape) in [
        ("sm_80", "m8n8k4"),
        ("sm_90", "m16n8k4"),
        ("sm_90", "m16n8k8"),
        ("sm_90", "m16n8k16"),
    ] {
        for mode in [".rz", ".rm", ".rp"] {
            let of = product(target, shape, ["f64"; 4], [mode, ""]);
            let [m, n, k] = of.size;
            let mut seed = Random(99);
            let mut whole = || ((seed.next() as i64 >> 12) as f64).to_bits();
            let inputs = [[
                matrix(m, k, &mut whole),
                matrix(k, n, &mut whole),
                matrix(m, n, &mut whole),
            ]];
            let got = of.run(1, "", &inputs);
            let [a, b, c] = &inputs[0];
            let exact = |bits: u64| f64::from_bits(bits) as i128;
            for row in 0..m {
                for column in 0..n {
                    let wanted = (0..k).fold(f64::from_bits(c[row][column]), |sum, k| {
                        directed(sum as i128 + exact(a[row][k]) * exact(b[k][column]), mode)
                    });
                    assert_eq!(
                        got[0][row][column],
                        wanted.to_bits(),
                        "{} at {row}, {column}",
                        of.opcode()
                    );
                }
            }
            tested(&of.opcode());
        }
    }
}

#[test]
pub fn bytes_and_half_bytes() {
    let shapes = [
        ("sm_75", "m8n8k16", ["s8", "u8"]),
        ("sm_80", "m16n8k16", ["s8", "u8"]),
        ("sm_80", "m16n8k32", ["s8", "u8"]),
        ("sm_75", "m8n8k32", ["s4", "u4"]),
        ("sm_80", "m16n8k32", ["s4", "u4"]),
        ("sm_80", "m16n8k64", ["s4", "u4"]),
    ];
    for (target, shape, elements) in shapes {
        for a in elements {
            for b in elements {
                for saturate in ["", ".satfinite"] {
                    product(target, shape, ["s32", a, b, "s32"], [saturate, ""]).check();
                }
            }
        }
    }
}

#[test]
fn integer_sums_wrap_or_are_clamped() {
    for (saturate, c, wanted) in [
        ("", i32::MAX, i32::MIN + 255 * 255 * 32 - 1),
        (".satfinite", i32::MAX, i32::MAX),
        ("", i32::MIN, i32::MIN + 255 * 255 * 32),
    ] {
        let of = product(
            "sm_80",
            "m16n8k32",
            ["s32", "u8", "u8", "s32"],
            [saturate, ""],
        );
        let inputs = [[
            matrix(16, 32, || 255),
            matrix(32, 8, || 255),
            matrix(16, 8, || u64::from(c as u32)),
        ]];
        let got = of.run(1, "", &inputs);
        assert!(
            got[0]
                .iter()
                .flatten()
                .all(|&raw| raw as u32 as i32 == wanted)
        );
    }
    let of = product(
        "sm_80",
        "m16n8k32",
        ["s32", "s8", "u8", "s32"],
        [".satfinite", ""],
    );
    let inputs = [[
        matrix(16, 32, || 0x80),
        matrix(32, 8, || 255),
        matrix(16, 8, || u64::from(i32::MIN as u32 + 5)),
    ]];
    let got = of.run(1, "", &inputs);
    assert!(
        got[0]
            .iter()
            .flatten()
            .all(|&raw| raw as u32 as i32 == i32::MIN)
    );
}

#[test]
pub fn single_bits() {
    for (targets, shape) in [
        (["sm_75", "sm_80"], "m8n8k128"),
        (["sm_80", "sm_80"], "m16n8k128"),
        (["sm_80", "sm_80"], "m16n8k256"),
    ] {
        for (target, operation) in targets.into_iter().zip([".xor.popc", ".and.popc"]) {
            product(target, shape, ["s32", "b1", "b1", "s32"], ["", operation]).check();
        }
    }
}

#[test]
fn infinities_and_nans_come_through() {
    for (element, infinity) in [("f16", 0x7c00u64), ("bf16", 0x7f80)] {
        let of = product(
            "sm_80",
            "m16n8k16",
            ["f32", element, element, "f32"],
            ["", ""],
        );
        let mut inputs = of.inputs(1, true);
        let [a, b, _] = &mut inputs[0];
        b.iter_mut().for_each(|row| row.fill(whole(element, 1)));
        b[3][5] = 0;
        a[2][3] = infinity;
        let got = of.run(1, "", &inputs);
        for (column, &found) in got[0][2].iter().enumerate() {
            let wanted = if column == 5 {
                0x7fff_ffff
            } else {
                0x7f80_0000
            };
            assert_eq!(found, wanted);
            assert!(f32::from_bits(got[0][3][column] as u32).is_finite());
        }
    }
    // What is too large for f16 at the end is infinite, and not before.
    let of = product("sm_80", "m16n8k16", ["f16", "f16", "f16", "f16"], ["", ""]);
    let inputs = [[
        matrix(16, 16, || f16::from_f32(256.0).to_bits().into()),
        (0..16)
            .map(|k| {
                let sign = if k < 8 { 1.0 } else { -1.0 };
                let wide = f16::from_f32(256.0 * sign).to_bits();
                (0..8)
                    .map(|n| if n == 0 { wide } else { wide & 0x7fff })
                    .map(u64::from)
                    .collect()
            })
            .collect(),
        matrix(16, 8, || f16::from_f32(1.0).to_bits().into()),
    ]];
    let got = of.run(1, "", &inputs);
    for row in &got[0] {
        assert_eq!(row[0], u64::from(f16::ONE.to_bits()));
        assert!(row[1..].iter().all(|&raw| raw == 0x7c00));
    }
}

#[test]
fn lanes_that_went_apart_meet() {
    let apart = "and.b32 %t, %l, 3; setp.eq.u32 %q, %t, 1;
@%q bra A; nanosleep.u32 1; bra.uni B; A: xor.b32 %t, %t, 1; B:";
    let of = product("sm_80", "m16n8k16", ["f32", "f16", "f16", "f32"], ["", ""]);
    for warps in [1, 4] {
        let inputs = of.inputs(warps * 5, true);
        for (inputs, got) in inputs.iter().zip(&of.run(warps, apart, &inputs)) {
            of.compare(inputs, got, true);
        }
    }
}
