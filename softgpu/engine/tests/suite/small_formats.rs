//! fp8, tf32 and packed integers.

use crate::common::compare;
use crate::formats::{E4M3, E5M2, F16};

fn single(bits: u64) -> f64 {
    f64::from(f32::from_bits(bits as u32))
}

fn relu(value: f64) -> f64 {
    if value <= 0.0 { 0.0 } else { value }
}

#[test]
fn to_eight_bits() {
    for (ty, format) in [("e4m3x2", E4M3), ("e5m2x2", E5M2)] {
        compare(
            &format!("cvt.rn.satfinite.{ty}.f32 %o, %a, %b;"),
            (4, 2),
            |a, b, _| format.nearest_finite(single(b)) | format.nearest_finite(single(a)) << 8,
        );
        compare(
            &format!("cvt.rn.satfinite.relu.{ty}.f32 %o, %a, %b;"),
            (4, 2),
            |a, b, _| {
                format.nearest_finite(relu(single(b))) | format.nearest_finite(relu(single(a))) << 8
            },
        );
        let halves = |a: u64, f: fn(f64) -> f64| {
            format.nearest_finite(f(F16.value(a & 0xffff)))
                | format.nearest_finite(f(F16.value(a >> 16))) << 8
        };
        compare(
            &format!("cvt.rn.satfinite.{ty}.f16x2 %o, %a;"),
            (4, 2),
            |a, _, _| halves(a, |value| value),
        );
        compare(
            &format!("cvt.rn.satfinite.relu.{ty}.f16x2 %o, %a;"),
            (4, 2),
            |a, _, _| halves(a, relu),
        );
    }
}

#[test]
fn from_eight_bits() {
    for (ty, format) in [("e4m3x2", E4M3), ("e5m2x2", E5M2)] {
        compare(&format!("cvt.rn.f16x2.{ty} %o, %a;"), (2, 4), |a, _, _| {
            F16.nearest(format.value(a & 255)) | F16.nearest(format.value(a >> 8)) << 16
        });
        compare(
            &format!("cvt.rn.relu.f16x2.{ty} %o, %a;"),
            (2, 4),
            |a, _, _| {
                F16.nearest(relu(format.value(a & 255)))
                    | F16.nearest(relu(format.value(a >> 8))) << 16
            },
        );
    }
}

/// f32 with 10 bits of fraction: the neighbour below and above, and which is nearer.
fn tf32(bits: u64, mode: &str, finite: bool) -> u64 {
    let value = f32::from_bits(bits as u32);
    if value.is_nan() {
        return 0x7fff_ffff;
    }
    let largest = 0x7f7f_e000;
    let (sign, body) = (bits & 0x8000_0000, bits & 0x7fff_ffff);
    let (unit, low) = (0x2000, body / 0x2000 * 0x2000);
    let rest = body - low;
    let up = match mode {
        "rz" => false,
        "rna" => rest >= unit / 2,
        _ => rest > unit / 2 || rest == unit / 2 && low / unit % 2 == 1,
    };
    let rounded = if up { low + unit } else { low };
    sign | if finite {
        rounded.min(largest)
    } else {
        rounded
    }
}

#[test]
fn to_tf32() {
    for mode in ["rna", "rn", "rz"] {
        for finite in [false, true] {
            let word = if finite { ".satfinite" } else { "" };
            compare(
                &format!("cvt.{mode}{word}.tf32.f32 %o, %a;"),
                (4, 4),
                |a, _, _| tf32(a, mode, finite),
            );
        }
    }
    compare("cvt.rn.relu.tf32.f32 %o, %a;", (4, 4), |a, _, _| {
        let clamped = if single(a) <= 0.0 { 0 } else { a };
        tf32(clamped, "rn", false)
    });
}

#[test]
fn packed_integers() {
    compare("cvt.pack.sat.u16.s32 %o, %a, %b;", (4, 4), |a, b, _| {
        let cut = |x: u64| (x as i32).clamp(0, 65535) as u64;
        cut(a) << 16 | cut(b)
    });
    compare("cvt.pack.sat.s16.s32 %o, %a, %b;", (4, 4), |a, b, _| {
        let cut = |x: u64| (x as i32).clamp(-32768, 32767) as u64 & 0xffff;
        cut(a) << 16 | cut(b)
    });
    for (ty, bits, signed) in [
        ("u8", 8, false),
        ("s8", 8, true),
        ("u4", 4, false),
        ("s4", 4, true),
        ("u2", 2, false),
        ("s2", 2, true),
    ] {
        compare(
            &format!("shr.s32 %a, %a, 24; cvt.pack.sat.{ty}.s32.b32 %o, %a, %b, %c;"),
            (4, 4),
            |a, b, c| {
                let (low, high) = if signed {
                    (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
                } else {
                    (0, (1 << bits) - 1)
                };
                let cut = |x: i32| x.clamp(low, high) as u64 & ((1 << bits) - 1);
                (c << (2 * bits) | cut(a as i32 >> 24) << bits | cut(b as i32)) & 0xffff_ffff
            },
        );
    }
}
