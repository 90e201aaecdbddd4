//! Operands: the values at which instructions go wrong, among random ones.

use crate::common::Random;

const TYPES: [&str; 28] = [
    "b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "b64", "u64", "s64", "b128", "f16",
    "f16x2", "bf16", "bf16x2", "f32", "f64", "pred", "u16x2", "s16x2", "tf32", "e4m3x2", "e5m2x2",
    "u2", "s2", "u4",
];

pub fn is_type(word: &str) -> bool {
    TYPES.contains(&word) || word == "s4"
}

/// Bits of a register that holds the type.
pub fn width(ty: &str) -> u32 {
    match ty {
        "b8" | "u8" | "s8" | "b16" | "u16" | "s16" | "f16" | "bf16" | "e4m3x2" | "e5m2x2" => 16,
        "b64" | "u64" | "s64" | "f64" => 64,
        _ => 32,
    }
}

pub fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn integers(bits: u32) -> Vec<u64> {
    let top = 1u64 << (bits - 1);
    let (half, all) = (u64::from(bits) / 2, mask(bits));
    let near = [
        0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256,
    ];
    let mut found: Vec<u64> = near.to_vec();
    found.extend([
        top,
        top - 1,
        top + 1,
        all,
        all - 1,
        all - 6,
        1 << half,
        (1 << half) - 1,
    ]);
    found.extend([
        0x5555_5555_5555_5555 & all,
        0xaaaa_aaaa_aaaa_aaaa & all,
        !0x7fff & all,
        !0x8000 & all,
    ]);
    found.extend([0x7fff & all, 0x8000 & all, 0x1234_5678_9abc_def0 & all]);
    found
}

/// Of a format with so many bits of exponent and fraction.
fn floats(exponent: u32, fraction: u32) -> Vec<u64> {
    let bias = (1u64 << (exponent - 1)) - 1;
    let at = |power: i64, low: u64| ((bias as i64 + power) as u64) << fraction | low;
    let (top, quiet) = (((1u64 << exponent) - 1) << fraction, 1u64 << (fraction - 1));
    let ones = (1u64 << fraction) - 1;
    let mut found = vec![
        0,
        1,
        2,
        ones,
        ones + 1,
        ones + 2,
        top,
        top - 1,
        top | quiet,
        top | 1,
        top | ones,
    ];
    // Around one, and halves for what rounds to integers.
    found.extend([
        at(0, 0),
        at(0, 1),
        at(-1, 0),
        at(-1, ones),
        at(0, quiet),
        at(1, 0),
        at(1, quiet / 2),
        at(1, quiet),
    ]);
    found.extend([
        at(-2, 0),
        at(-3, quiet),
        at(2, 0),
        at(2, quiet / 4),
        at(3, ones),
    ]);
    for power in [
        6, 7, 8, 10, 11, 12, 14, 15, 16, 23, 24, 31, 32, 52, 53, 62, 63, 64, 126, 127,
    ] {
        if power <= bias as i64 {
            found.extend([
                at(power, 0),
                at(power, ones),
                at(power, 1),
                at(power - 1, ones),
                at(1 - power, 0),
                at(1 - power, 1),
            ]);
        }
    }
    let sign = 1u64 << (exponent + fraction);
    let negative: Vec<u64> = found.iter().map(|bits| bits | sign).collect();
    found.extend(negative);
    found
}

fn edges(ty: &str) -> Vec<u64> {
    match ty {
        "f16" => floats(5, 10),
        "bf16" => floats(8, 7),
        "f32" | "tf32" => floats(8, 23),
        "f64" => floats(11, 52),
        "pred" => vec![0, 1],
        _ => integers(width(ty)),
    }
}

/// Values of a type, as bits.
pub struct Operands {
    ty: String,
    edges: Vec<u64>,
    last: u64,
}

impl Operands {
    pub fn new(ty: &str) -> Operands {
        let single = match ty {
            "f16x2" => "f16",
            "bf16x2" => "bf16",
            other => other,
        };
        Operands {
            ty: ty.to_owned(),
            edges: edges(single),
            last: 0,
        }
    }

    /// The next one; `other` is an operand beside it, to which it is sometimes close.
    pub fn next(&mut self, random: &mut Random, other: u64) -> u64 {
        if matches!(self.ty.as_str(), "f16x2" | "bf16x2") {
            let (low, high) = (
                self.single(random, other & 0xffff, 16),
                self.single(random, other >> 16, 16),
            );
            return low | high << 16;
        }
        let bits = width(&self.ty);
        self.last = self.single(random, other, bits);
        self.last
    }

    fn single(&self, random: &mut Random, other: u64, bits: u32) -> u64 {
        let (pick, raw) = (random.next() >> 20, random.next());
        let value = match pick % 10 {
            0..=4 => self.edges[raw as usize % self.edges.len()],
            5 => match raw >> 60 & 3 {
                0 => other,
                1 => other ^ 1 << (bits - 1),
                2 => other.wrapping_add(1),
                _ => other ^ raw & 0xff,
            },
            6 => self.everyday(raw),
            _ => raw,
        };
        if self.ty == "pred" {
            value & 1
        } else {
            value & mask(bits)
        }
    }

    /// Small numbers, also for floats.
    fn everyday(&self, raw: u64) -> u64 {
        let small = (raw >> 32) as i32 as f64 / 65536.0 / [1.0, 256.0, 65536.0][raw as usize % 3];
        match self.ty.as_str() {
            "f32" | "tf32" => (small as f32).to_bits().into(),
            "f64" => small.to_bits(),
            "f16" | "f16x2" => half::f16::from_f64(small).to_bits().into(),
            "bf16" | "bf16x2" => half::bf16::from_f64(small).to_bits().into(),
            _ => raw & 0xff,
        }
    }
}
