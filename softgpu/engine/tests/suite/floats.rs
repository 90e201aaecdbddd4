//! Floating-point instructions against the host's arithmetic, or against exact arithmetic in a wider format.

use crate::common::compare;

const NAN: u32 = 0x7fff_ffff;

fn canon(value: f32) -> u32 {
    if value.is_nan() { NAN } else { value.to_bits() }
}

fn flush(value: f32) -> f32 {
    if value.is_subnormal() {
        0f32.copysign(value)
    } else {
        value
    }
}

fn f32s(body: &str, f: impl Fn(f32, f32, f32) -> f32) {
    compare(body, (4, 4), |a, b, c| {
        u64::from(canon(f(
            f32::from_bits(a as u32),
            f32::from_bits(b as u32),
            f32::from_bits(c as u32),
        )))
    });
}

/// NaN payloads are the hardware's own affair in f64: all count as one here.
fn f64s(body: &str, f: impl Fn(f64, f64, f64) -> f64) {
    let body = format!("{body} testp.notanumber.f64 %p, %o; @%p mov.b64 %o, 0x7ff8000000000000;");
    compare(&body, (8, 8), |a, b, c| {
        let value = f(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        if value.is_nan() {
            0x7ff8_0000_0000_0000
        } else {
            value.to_bits()
        }
    });
}

#[test]
fn single_precision() {
    f32s("add.f32 %o, %a, %b;", |a, b, _| a + b);
    f32s("sub.rn.f32 %o, %a, %b;", |a, b, _| a - b);
    f32s("mul.f32 %o, %a, %b;", |a, b, _| a * b);
    f32s("fma.rn.f32 %o, %a, %b, %c;", |a, b, c| a.mul_add(b, c));
    f32s(
        "mov.b32 %o, %c; fma.rn.f32 %o, %a, %b, %o; fma.rn.f32 %o, %o, %b, %a;",
        |a, b, c| {
            let first = f32::from_bits(canon(a.mul_add(b, c)));
            first.mul_add(b, a)
        },
    );
    f32s("div.rn.f32 %o, %a, %b;", |a, b, _| a / b);
    f32s("rcp.rn.f32 %o, %a;", |a, _, _| 1.0 / a);
    f32s("sqrt.rn.f32 %o, %a;", |a, _, _| a.sqrt());
    f32s("neg.f32 %o, %a;", |a, _, _| -a);
    f32s("abs.f32 %o, %a;", |a, _, _| a.abs());
    compare("copysign.f32 %o, %a, %b;", (4, 4), |a, b, _| {
        a & 0x8000_0000 | b & 0x7fff_ffff
    });
}

#[test]
fn flushing_and_saturation() {
    f32s("add.ftz.f32 %o, %a, %b;", |a, b, _| {
        flush(flush(a) + flush(b))
    });
    f32s("mul.ftz.f32 %o, %a, %b;", |a, b, _| {
        flush(flush(a) * flush(b))
    });
    f32s("fma.rn.ftz.f32 %o, %a, %b, %c;", |a, b, c| {
        flush(flush(a).mul_add(flush(b), flush(c)))
    });
    f32s("add.sat.f32 %o, %a, %b;", |a, b, _| {
        if (a + b).is_nan() {
            0.0
        } else {
            (a + b).clamp(0.0, 1.0) + 0.0
        }
    });
    f32s("fma.rn.ftz.sat.f32 %o, %a, %b, %c;", |a, b, c| {
        let value = flush(flush(a).mul_add(flush(b), flush(c)));
        if value.is_nan() {
            0.0
        } else {
            value.clamp(0.0, 1.0) + 0.0
        }
    });
}

#[test]
fn least_and_greatest() {
    let pick = |a: f32, b: f32, less: bool| match (a.is_nan(), b.is_nan()) {
        (true, true) => f32::NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b => {
            if a.is_sign_negative() == less {
                a
            } else {
                b
            }
        }
        _ => {
            if (a < b) == less {
                a
            } else {
                b
            }
        }
    };
    f32s("min.f32 %o, %a, %b;", |a, b, _| pick(a, b, true));
    f32s("max.f32 %o, %a, %b;", |a, b, _| pick(a, b, false));
    f32s("max.NaN.f32 %o, %a, %b;", |a, b, _| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            pick(a, b, false)
        }
    });
}

/// Values on both sides of the exact result, found by stepping from the nearest.
fn rounded(exact: f64, error: f64, mode: &str) -> f32 {
    let near = exact as f32;
    if near.is_nan() || exact.is_infinite() && error == 0.0 {
        return near;
    }
    // Exact value is `exact + error`.
    let below = f64::from(near) < exact || f64::from(near) == exact && error > 0.0;
    let above = f64::from(near) > exact || f64::from(near) == exact && error < 0.0;
    match mode {
        "rp" if below => near.next_up(),
        "rm" if above => near.next_down(),
        "rz" if above && exact > 0.0 => near.next_down(),
        "rz" if below && exact < 0.0 => near.next_up(),
        _ => near,
    }
}

#[test]
fn comparisons() {
    type Test = fn(f32, f32) -> bool;
    let tests: [(&str, Test); 10] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| !a.is_nan() && !b.is_nan() && a != b),
        ("lt", |a, b| a < b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a.is_nan() || b.is_nan() || a == b),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a.is_nan() || b.is_nan() || a < b),
        ("geu", |a, b| a.is_nan() || b.is_nan() || a >= b),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, test) in tests {
        let select = |body: &str| format!("{body} selp.b32 %o, 1, 0, %p;");
        compare(
            &select(&format!("setp.{name}.f32 %p, %a, %b;")),
            (4, 4),
            |a, b, _| u64::from(test(f32::from_bits(a as u32), f32::from_bits(b as u32))),
        );
        compare(
            &select(&format!("setp.{name}.ftz.f32 %p, %a, %b;")),
            (4, 4),
            |a, b, _| {
                u64::from(test(
                    flush(f32::from_bits(a as u32)),
                    flush(f32::from_bits(b as u32)),
                ))
            },
        );
    }
    compare(
        "setp.ltu.f64 %p, %a, %b; selp.b64 %o, 1, 0, %p;",
        (8, 8),
        |a, b, _| {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            u64::from(a.is_nan() || b.is_nan() || a < b)
        },
    );
}

#[test]
fn double_precision() {
    f64s("add.f64 %o, %a, %b;", |a, b, _| a + b);
    f64s("sub.f64 %o, %a, %b;", |a, b, _| a - b);
    f64s("mul.rn.f64 %o, %a, %b;", |a, b, _| a * b);
    f64s("fma.rn.f64 %o, %a, %b, %c;", |a, b, c| a.mul_add(b, c));
    f64s("div.rn.f64 %o, %a, %b;", |a, b, _| a / b);
    f64s("sqrt.rn.f64 %o, %a;", |a, _, _| a.sqrt());
    f64s("rcp.rn.f64 %o, %a;", |a, _, _| 1.0 / a);
    f64s("neg.f64 %o, %a;", |a, _, _| -a);
}

#[test]
fn to_and_from_integers() {
    let f = |bits: u64| f32::from_bits(bits as u32);
    compare("cvt.rzi.s32.f32 %o, %a;", (4, 4), move |a, _, _| {
        f(a) as i32 as u32 as u64
    });
    compare("cvt.rzi.u32.f32 %o, %a;", (4, 4), move |a, _, _| {
        u64::from(f(a) as u32)
    });
    compare("cvt.rni.s32.f32 %o, %a;", (4, 4), move |a, _, _| {
        f(a).round_ties_even() as i32 as u32 as u64
    });
    compare("cvt.rmi.s32.f32 %o, %a;", (4, 4), move |a, _, _| {
        f(a).floor() as i32 as u32 as u64
    });
    // Where 64 bits take part, NaN is the top bit alone.
    compare("cvt.rpi.s64.f32 %o, %a;", (4, 8), move |a, _, _| {
        if f(a).is_nan() {
            return 1 << 63;
        }
        f(a).ceil() as i64 as u64
    });
    compare(
        "cvt.rzi.u8.f32 %r0, %a; mov.b32 %o, %r0;",
        (4, 4),
        move |a, _, _| u64::from(f(a) as u8),
    );
    compare("cvt.rzi.s32.f64 %o, %a;", (8, 4), |a, _, _| {
        if f64::from_bits(a).is_nan() {
            return 1 << 31;
        }
        f64::from_bits(a) as i32 as u32 as u64
    });
    compare("cvt.rn.f32.s32 %o, %a;", (4, 4), |a, _, _| {
        u64::from((a as i32 as f32).to_bits())
    });
    compare("cvt.rn.f32.u32 %o, %a;", (4, 4), |a, _, _| {
        u64::from((a as u32 as f32).to_bits())
    });
    compare("cvt.rn.f32.u64 %o, %a;", (8, 4), |a, _, _| {
        u64::from((a as f32).to_bits())
    });
    compare("cvt.rn.f32.s64 %o, %a;", (8, 4), |a, _, _| {
        u64::from((a as i64 as f32).to_bits())
    });
    compare("cvt.rn.f64.s64 %o, %a;", (8, 8), |a, _, _| {
        (a as i64 as f64).to_bits()
    });
    compare("cvt.rn.f64.s32 %o, %a;", (4, 8), |a, _, _| {
        f64::from(a as i32).to_bits()
    });
    compare("cvt.rz.f32.s32 %o, %a;", (4, 4), |a, _, _| {
        u64::from(rounded(f64::from(a as i32), 0.0, "rz").to_bits())
    });
    f32s("cvt.rzi.f32.f32 %o, %a;", |a, _, _| a.trunc());
    f32s("cvt.rni.f32.f32 %o, %a;", |a, _, _| a.round_ties_even());
    compare("cvt.rn.f32.f64 %o, %a;", (8, 4), |a, _, _| {
        u64::from(canon(f64::from_bits(a) as f32))
    });
    compare("cvt.sat.f32.f32 %o, %a;", (4, 4), move |a, _, _| {
        u64::from(if f(a) > 0.0 { f(a).min(1.0) } else { 0.0 }.to_bits())
    });
}

/// A half from its bits, by the definition.
fn half(bits: u64) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 31, (bits & 1023) as f64);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if bits & 1023 == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent as i32 - 25),
    };
    if bits & 0x8000 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// The nearest half, found by search; the value must be exact.
fn to_half(value: f64) -> u64 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = value.abs();
    // 65520 and more round to infinity.
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    let (mut low, mut high) = (0u64, 0x7bff);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if half(middle) <= magnitude {
            low = middle
        } else {
            high = middle - 1
        }
    }
    let (below, above) = (
        magnitude - half(low),
        if low == 0x7bff {
            65536.0
        } else {
            half(low + 1)
        } - magnitude,
    );
    sign | if below < above || below == above && low & 1 == 0 {
        low
    } else {
        low + 1
    }
}

#[test]
fn half_precision() {
    let wide = |bits: u64| half(bits);
    compare("add.f16 %o, %a, %b;", (2, 2), |a, b, _| {
        to_half(wide(a) + wide(b))
    });
    compare("sub.f16 %o, %a, %b;", (2, 2), |a, b, _| {
        to_half(wide(a) - wide(b))
    });
    compare("mul.f16 %o, %a, %b;", (2, 2), |a, b, _| {
        to_half(wide(a) * wide(b))
    });
    // In units of 2^-48 all terms are integers that i128 holds.
    compare("fma.rn.f16 %o, %a, %b, %c;", (2, 2), |a, b, c| {
        let (x, y, z) = (wide(a), wide(b), wide(c));
        let near = x.mul_add(y, z);
        if !near.is_finite() || near == 0.0 {
            return to_half(near);
        }
        let units = |value: f64| (value * 2f64.powi(24)) as i128;
        let exact = units(x) * units(y) + units(z) * (1 << 24);
        // Sticky: keep 60 bits, or the rest into the last.
        let magnitude = exact.unsigned_abs();
        let shift = (128 - magnitude.leading_zeros()).saturating_sub(50);
        let kept = (magnitude >> shift) | u128::from(magnitude & ((1 << shift) - 1) != 0);
        let value = kept as f64 * 2f64.powi(shift as i32 - 48);
        to_half(if exact < 0 { -value } else { value })
    });
    compare("cvt.f32.f16 %o, %a;", (2, 4), |a, _, _| {
        u64::from(canon(wide(a) as f32))
    });
    compare("cvt.rn.f16.f32 %o, %a;", (4, 2), |a, _, _| {
        to_half(f64::from(f32::from_bits(a as u32)))
    });
    compare("cvt.rn.f16.f64 %o, %a;", (8, 2), |a, _, _| {
        to_half(f64::from_bits(a))
    });
    compare("cvt.rn.f16.s32 %o, %a;", (4, 2), |a, _, _| {
        to_half(f64::from(a as i32))
    });
    compare("cvt.rzi.s32.f16 %o, %a;", (2, 4), |a, _, _| {
        wide(a) as i32 as u32 as u64
    });
    compare(
        "setp.lt.f16 %p, %a, %b; selp.b16 %o, %a, %b, %p;",
        (2, 2),
        |a, b, _| if wide(a) < wide(b) { a } else { b },
    );
    compare("mul.f16x2 %o, %a, %b;", (4, 4), |a, b, _| {
        to_half(wide(a & 0xffff) * wide(b & 0xffff)) | to_half(wide(a >> 16) * wide(b >> 16)) << 16
    });
    compare("cvt.rn.f16x2.f32 %o, %a, %b;", (4, 4), |a, b, _| {
        let value = |bits: u64| to_half(f64::from(f32::from_bits(bits as u32)));
        value(b) | value(a) << 16
    });
    compare("cvt.rn.bf16.f32 %o, %a;", (4, 2), |a, _, _| {
        let value = f32::from_bits(a as u32);
        if value.is_nan() {
            return 0x7fff;
        }
        let low = a & 0xffff;
        let up = low > 0x8000 || low == 0x8000 && a >> 16 & 1 != 0;
        (a >> 16) + u64::from(up)
    });
}
