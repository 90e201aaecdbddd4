//! What matrices are made of.

use crate::float::{bf16_to_f32, f16_to_f32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F16,
    BF16,
    TF32,
    E4M3,
    E5M2,
    F32,
    F64,
    S8,
    U8,
    S4,
    U4,
    B1,
    S32,
}
use Element::*;

/// Elements that the same shapes are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Half,
    Brain,
    Tensor,
    Float8,
    Double,
    Byte,
    Nibble,
    Bit,
}

const NAMES: [(&str, Element); 13] = [
    ("f16", F16),
    ("bf16", BF16),
    ("tf32", TF32),
    ("e4m3", E4M3),
    ("e5m2", E5M2),
    ("f32", F32),
    ("f64", F64),
    ("s8", S8),
    ("u8", U8),
    ("s4", S4),
    ("u4", U4),
    ("b1", B1),
    ("s32", S32),
];

impl Element {
    /// The element of a modifier without its dot.
    pub fn parse(text: &str) -> Option<Element> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, element)| element)
    }

    /// As a number that fits an operation, and back.
    pub fn code(self) -> u32 {
        self as u32
    }

    pub fn of_code(code: u32) -> Element {
        NAMES[(code & 15) as usize % NAMES.len()].1
    }

    pub fn bits(self) -> usize {
        match self {
            B1 => 1,
            S4 | U4 => 4,
            S8 | U8 | E4M3 | E5M2 => 8,
            F16 | BF16 => 16,
            TF32 | F32 | S32 => 32,
            F64 => 64,
        }
    }

    /// Bytes of the registers that hold it.
    pub fn register(self) -> u32 {
        if self == F64 { 8 } else { 4 }
    }

    /// How many of it a register holds.
    pub fn per_register(self) -> usize {
        self.register() as usize * 8 / self.bits()
    }

    /// Of a multiplicand; none when it is only there as accumulator.
    pub fn class(self) -> Option<Class> {
        Some(match self {
            F16 => Class::Half,
            BF16 => Class::Brain,
            TF32 => Class::Tensor,
            E4M3 | E5M2 => Class::Float8,
            F64 => Class::Double,
            S8 | U8 => Class::Byte,
            S4 | U4 => Class::Nibble,
            B1 => Class::Bit,
            F32 | S32 => return None,
        })
    }
}

impl Class {
    /// Whether products of this class can be summed as that element.
    pub fn sums_as(self, sum: Element) -> bool {
        match self {
            Class::Half | Class::Float8 => matches!(sum, F16 | F32),
            Class::Brain | Class::Tensor => sum == F32,
            Class::Double => sum == F64,
            Class::Byte | Class::Nibble | Class::Bit => sum == S32,
        }
    }
}

/// The `at`th f16 of a register, and so on.
#[inline(always)]
pub fn f16(register: u32, at: usize) -> f32 {
    f16_to_f32((register >> (16 * at)) as u16)
}

#[inline(always)]
pub fn bf16(register: u32, at: usize) -> f32 {
    bf16_to_f32((register >> (16 * at)) as u16)
}

/// What is below the 10 bits of the mantissa does not count.
#[inline(always)]
pub fn tf32(register: u32, _at: usize) -> f32 {
    f32::from_bits(register & 0xffff_e000)
}

/// An f16 without its last 8 bits.
#[inline(always)]
pub fn e5m2(register: u32, at: usize) -> f32 {
    f16_to_f32(((register >> (8 * at)) << 8) as u16)
}

/// Bias 7, no infinity; all ones is NaN.
#[inline(always)]
pub fn e4m3(register: u32, at: usize) -> f32 {
    let byte = (register >> (8 * at)) & 0xff;
    // Placed as an f32's fields, then scaled from bias 127 to 7; that also normalises subnormals.
    let scaled = f32::from_bits((byte & 0x7f) << 20) * f32::from_bits((127 + 120) << 23);
    let magnitude = if byte & 0x7f == 0x7f {
        f32::NAN
    } else {
        scaled
    };
    f32::from_bits(magnitude.to_bits() | (byte & 0x80) << 24)
}

#[inline(always)]
pub fn s8(register: u32, at: usize) -> i32 {
    i32::from((register >> (8 * at)) as i8)
}

#[inline(always)]
pub fn u8(register: u32, at: usize) -> i32 {
    i32::from((register >> (8 * at)) as u8)
}

#[inline(always)]
pub fn s4(register: u32, at: usize) -> i32 {
    (register << (28 - 4 * at)) as i32 >> 28
}

#[inline(always)]
pub fn u4(register: u32, at: usize) -> i32 {
    (register >> (4 * at) & 15) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back() {
        for (name, element) in NAMES {
            assert_eq!(Element::of_code(element.code()), element);
            assert_eq!(Element::parse(name), Some(element));
        }
    }

    #[test]
    fn small_floats_by_their_definition() {
        for byte in 0..=255u32 {
            let sign = if byte & 0x80 != 0 { -1.0 } else { 1.0 };
            let value = |exponent: i32, fraction: u32, bits: i32, bias: i32| {
                let fraction = fraction as f32 / (1 << bits) as f32;
                sign * match exponent {
                    0 => fraction * 2f32.powi(1 - bias),
                    _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
                }
            };
            let wanted = value((byte >> 3 & 15) as i32, byte & 7, 3, 7);
            for at in 0..4 {
                let got = e4m3(byte << (8 * at), at);
                if byte & 0x7f == 0x7f {
                    assert!(got.is_nan());
                } else {
                    assert_eq!(got.to_bits(), wanted.to_bits(), "e4m3 {byte:#x}");
                }
            }
            let wanted = value((byte >> 2 & 31) as i32, byte & 3, 2, 15);
            let got = e5m2(byte << 16, 2);
            match byte & 0x7f {
                0x7c => assert_eq!(got, sign * f32::INFINITY),
                0x7d.. => assert!(got.is_nan()),
                _ => assert_eq!(got.to_bits(), wanted.to_bits(), "e5m2 {byte:#x}"),
            }
        }
    }
}
