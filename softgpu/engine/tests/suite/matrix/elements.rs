//! Elements as bits and as numbers.

use half::{bf16, f16};

use crate::common::Random;

/// (bits, value as f64), which holds all of them exactly.
pub fn value(element: &str, raw: u64) -> f64 {
    let small = |exponent_bits: u32, fraction_bits: u32| {
        let raw = raw as u32;
        let fraction = raw & ((1 << fraction_bits) - 1);
        let exponent = (raw >> fraction_bits) & ((1 << exponent_bits) - 1);
        let bias = (1 << (exponent_bits - 1)) - 1;
        let unit = f64::from(fraction) / f64::from(1 << fraction_bits);
        let magnitude = if exponent == 0 {
            unit * 2f64.powi(1 - bias)
        } else {
            (1.0 + unit) * 2f64.powi(exponent as i32 - bias)
        };
        if raw & 0x80 != 0 {
            -magnitude
        } else {
            magnitude
        }
    };
    match element {
        "f16" => f16::from_bits(raw as u16).to_f64(),
        "bf16" => bf16::from_bits(raw as u16).to_f64(),
        "tf32" => f64::from(f32::from_bits(raw as u32 >> 13 << 13)),
        "f32" => f64::from(f32::from_bits(raw as u32)),
        "f64" => f64::from_bits(raw),
        "e4m3" => small(4, 3),
        "e5m2" => small(5, 2),
        _ => integer(element, raw) as f64,
    }
}

pub fn integer(element: &str, raw: u64) -> i64 {
    match element {
        "s8" => i64::from(raw as u8 as i8),
        "s4" => (raw as i64 & 15) - if raw & 8 != 0 { 16 } else { 0 },
        "s32" => i64::from(raw as u32 as i32),
        "u8" | "u4" | "b1" => raw as i64,
        _ => panic!("{element} is no integer"),
    }
}

pub fn bits(element: &str) -> usize {
    match element {
        "f64" => 64,
        "f32" | "tf32" | "s32" => 32,
        "f16" | "bf16" => 16,
        "e4m3" | "e5m2" | "s8" | "u8" => 8,
        "s4" | "u4" => 4,
        "b1" => 1,
        _ => panic!("{element} is no element"),
    }
}

pub fn is_integer(element: &str) -> bool {
    matches!(element, "s8" | "u8" | "s4" | "u4" | "b1" | "s32")
}

/// Bits of a small whole number.
pub fn whole(element: &str, number: i32) -> u64 {
    match element {
        "f16" => f16::from_f32(number as f32).to_bits().into(),
        "bf16" => bf16::from_f32(number as f32).to_bits().into(),
        "f32" | "tf32" => (number as f32).to_bits().into(),
        "f64" => f64::from(number).to_bits(),
        "e4m3" | "e5m2" => (0..255)
            .find(|&raw| value(element, raw) == f64::from(number))
            .expect("small numbers are there"),
        "s32" => u64::from(number as u32),
        _ => panic!("{element}"),
    }
}

/// Bits of an element: of integers any, of floats whole numbers or anything of moderate size.
pub fn random(element: &str, random: &mut Random, exact: bool) -> u64 {
    let raw = random.next();
    if is_integer(element) {
        return raw & (u64::MAX >> (64 - bits(element)));
    }
    if exact {
        return whole(element, (raw % 9) as i32 - 4);
    }
    let real = ((raw >> 20) as f64 / 2f64.powi(44) - 0.5) * 2f64.powi((raw % 13) as i32 - 6);
    match element {
        "f16" => f16::from_f64(real).to_bits().into(),
        "bf16" => bf16::from_f64(real).to_bits().into(),
        // The low bits are there to be ignored.
        "tf32" | "f32" => (real as f32).to_bits().into(),
        "f64" => real.to_bits(),
        _ => raw & 0xbf,
    }
}
