//! Sums, products, quotients and roots in every rounding mode, against exact arithmetic on integers.

use crate::common::compare;

/// `magnitude * 2^exponent`, and something below one unit of it when more follows.
#[derive(Clone, Copy)]
struct Exact {
    negative: bool,
    magnitude: u128,
    exponent: i32,
    more: bool,
}

/// A finite number other than zero, its magnitude of 53 bits.
fn exact(value: f64) -> Exact {
    let bits = value.to_bits();
    let (field, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let (magnitude, exponent) = match field {
        0 => (fraction, -1074),
        _ => (fraction | 1 << 52, field as i32 - 1075),
    };
    let up = magnitude.leading_zeros() - 11;
    Exact {
        negative: value.is_sign_negative(),
        magnitude: u128::from(magnitude) << up,
        exponent: exponent - up as i32,
        more: false,
    }
}

/// Fraction bits with the leading one, and exponent of the least unit.
const SINGLE: (i32, i32) = (24, -149);
const DOUBLE: (i32, i32) = (53, -1074);

fn round(value: Exact, (bits, least): (i32, i32), mode: &str) -> f64 {
    let length = 128 - value.magnitude.leading_zeros() as i32;
    let unit = (value.exponent + length - bits).max(least);
    let shift = unit - value.exponent;
    let (whole, rest) = match shift {
        ..=0 => (value.magnitude << -shift, None),
        1..=127 => (
            value.magnitude >> shift,
            Some((value.magnitude & ((1 << shift) - 1)).cmp(&(1 << (shift - 1)))),
        ),
        _ => (0, Some(std::cmp::Ordering::Less)),
    };
    let inexact =
        value.more || shift > 127 || shift > 0 && value.magnitude & ((1 << shift) - 1) != 0;
    let up = match mode {
        "rz" => false,
        "rm" => inexact && value.negative,
        "rp" => inexact && !value.negative,
        _ => match rest {
            None | Some(std::cmp::Ordering::Less) => false,
            Some(std::cmp::Ordering::Greater) => true,
            Some(std::cmp::Ordering::Equal) => value.more || whole & 1 == 1,
        },
    };
    let whole = whole + u128::from(up);
    // Powers of two in steps that no intermediate result loses bits by.
    let mut result = whole as f64;
    let mut left = unit;
    while left != 0 && result.is_finite() {
        let step = left.clamp(-500, 500);
        result *= 2f64.powi(step);
        left -= step;
    }
    let largest = if bits == 24 {
        f64::from(f32::MAX)
    } else {
        f64::MAX
    };
    if result > largest {
        let away = match mode {
            "rz" => false,
            "rm" => value.negative,
            "rp" => !value.negative,
            _ => true,
        };
        result = if away { f64::INFINITY } else { largest };
    }
    if value.negative { -result } else { result }
}

fn sum(x: Exact, y: Exact) -> Option<Exact> {
    let (high, low) = if x.exponent + (128 - x.magnitude.leading_zeros() as i32)
        >= y.exponent + (128 - y.magnitude.leading_zeros() as i32)
    {
        (x, y)
    } else {
        (y, x)
    };
    // The larger one as far up as it goes, the other one in its units.
    let room = high.magnitude.leading_zeros() as i32 - 2;
    let exponent = (high.exponent - room).max(high.exponent.min(low.exponent));
    let a = high.magnitude << (high.exponent - exponent);
    let down = exponent - low.exponent;
    let (b, more) = match down {
        ..=0 => (low.magnitude << -down, false),
        1..=127 => (
            low.magnitude >> down,
            low.magnitude & ((1 << down) - 1) != 0,
        ),
        _ => (0, true),
    };
    let (magnitude, negative) = if high.negative == low.negative {
        (a + b, high.negative)
    } else if a >= b + u128::from(more) {
        (a - b - u128::from(more), high.negative)
    } else {
        (b - a, low.negative)
    };
    (magnitude != 0 || more).then_some(Exact {
        negative,
        magnitude,
        exponent,
        more,
    })
}

fn product(x: Exact, y: Exact) -> Exact {
    Exact {
        negative: x.negative != y.negative,
        magnitude: x.magnitude * y.magnitude,
        exponent: x.exponent + y.exponent,
        more: false,
    }
}

fn quotient(x: Exact, y: Exact) -> Exact {
    let scaled = x.magnitude << 74;
    Exact {
        negative: x.negative != y.negative,
        magnitude: scaled / y.magnitude,
        exponent: x.exponent - 74 - y.exponent,
        more: !scaled.is_multiple_of(y.magnitude),
    }
}

fn root(x: Exact) -> Exact {
    let shift = 72 + x.exponent.rem_euclid(2);
    let scaled = x.magnitude << shift;
    let magnitude = scaled.isqrt();
    Exact {
        negative: false,
        magnitude,
        exponent: (x.exponent - shift) / 2,
        more: magnitude * magnitude != scaled,
    }
}

/// The sign of a sum that is exactly zero.
fn zero(x_negative: bool, y_negative: bool, mode: &str) -> f64 {
    let negative = if x_negative == y_negative {
        x_negative
    } else {
        mode == "rm"
    };
    if negative { -0.0 } else { 0.0 }
}

fn usual(value: f64) -> bool {
    value.is_finite() && value != 0.0
}

fn add(a: f64, b: f64, to: (i32, i32), mode: &str) -> f64 {
    match (usual(a), usual(b)) {
        (true, true) => sum(exact(a), exact(b))
            .map_or(zero(a < 0.0, b < 0.0, mode), |value| round(value, to, mode)),
        _ if a == 0.0 && b == 0.0 => zero(a.is_sign_negative(), b.is_sign_negative(), mode),
        _ => a + b,
    }
}

fn fma(a: f64, b: f64, c: f64, to: (i32, i32), mode: &str) -> f64 {
    if !usual(a) || !usual(b) {
        let product = a * b;
        return if product == 0.0 {
            add(product, c, to, mode)
        } else {
            product + c
        };
    }
    let product = product(exact(a), exact(b));
    match c {
        0.0 => round(product, to, mode),
        _ if !c.is_finite() => c,
        _ => sum(product, exact(c)).map_or(zero(product.negative, c < 0.0, mode), |value| {
            round(value, to, mode)
        }),
    }
}

/// What an instruction computes, by its name.
fn result(name: &str, a: f64, b: f64, c: f64, to: (i32, i32), mode: &str) -> f64 {
    match name {
        "add" => add(a, b, to, mode),
        "sub" => add(a, -b, to, mode),
        "mul" if usual(a) && usual(b) => round(product(exact(a), exact(b)), to, mode),
        "mul" => a * b,
        "fma" => fma(a, b, c, to, mode),
        "div" if usual(a) && usual(b) => round(quotient(exact(a), exact(b)), to, mode),
        "div" => a / b,
        "rcp" if usual(a) => round(quotient(exact(1.0), exact(a)), to, mode),
        "rcp" => 1.0 / a,
        _ if usual(a) && a > 0.0 => round(root(exact(a)), to, mode),
        _ => a.sqrt(),
    }
}

const NAMES: [(&str, &str); 7] = [
    ("add", "%a, %b"),
    ("sub", "%a, %b"),
    ("mul", "%a, %b"),
    ("fma", "%a, %b, %c"),
    ("div", "%a, %b"),
    ("rcp", "%a"),
    ("sqrt", "%a"),
];

#[test]
fn doubles() {
    let canonical = "testp.notanumber.f64 %p, %o; @%p mov.b64 %o, 0x7ff8000000000000;";
    // As they come, and with exponents so near each other that sums cancel.
    let near = "and.b64 %a, %a, 0x800fffffffffffff; or.b64 %a, %a, 0x3ff0000000000000;
and.b64 %b, %b, 0x803fffffffffffff; or.b64 %b, %b, 0x3fc0000000000000; and.b64 %c, %c, 0x803fffffffffffff; or.b64 %c, %c, 0x3fc0000000000000;";
    // Close to the least numbers that there are.
    let tiny = "and.b64 %a, %a, 0x9fffffffffffffff; and.b64 %b, %b, 0xa0ffffffffffffff; or.b64 %b, %b, 0x2000000000000000; and.b64 %c, %c, 0x80ffffffffffffff;";
    for (name, operands) in NAMES {
        for mode in ["rn", "rz", "rm", "rp"] {
            for prepare in ["", near, tiny] {
                compare(
                    &format!("{prepare} {name}.{mode}.f64 %o, {operands}; {canonical}"),
                    (8, 8),
                    |a, b, c| {
                        let [a, b, c] = if prepare == near {
                            [
                                a & 0x800f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000,
                                b & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000,
                                c & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000,
                            ]
                        } else if prepare == tiny {
                            [
                                a & 0x9fff_ffff_ffff_ffff,
                                b & 0xa0ff_ffff_ffff_ffff | 0x2000_0000_0000_0000,
                                c & 0x80ff_ffff_ffff_ffff,
                            ]
                        } else {
                            [a, b, c]
                        };
                        let [a, b, c] = [a, b, c].map(f64::from_bits);
                        let value = result(name, a, b, c, DOUBLE, mode);
                        if value.is_nan() {
                            0x7ff8_0000_0000_0000
                        } else {
                            value.to_bits()
                        }
                    },
                );
            }
        }
    }
}

#[test]
fn singles() {
    for (name, operands) in NAMES {
        for mode in ["rn", "rz", "rm", "rp"] {
            for (ftz, sat) in [(false, false), (true, false), (false, true), (true, true)] {
                if sat && matches!(name, "div" | "rcp" | "sqrt") {
                    continue;
                }
                let (f, s) = (if ftz { ".ftz" } else { "" }, if sat { ".sat" } else { "" });
                compare(
                    &format!("{name}.{mode}{f}{s}.f32 %o, {operands};"),
                    (4, 4),
                    |a, b, c| {
                        let flush = |value: f32| {
                            if ftz && value.is_subnormal() {
                                0f32.copysign(value)
                            } else {
                                value
                            }
                        };
                        let [a, b, c] =
                            [a, b, c].map(|bits| f64::from(flush(f32::from_bits(bits as u32))));
                        let value = flush(result(name, a, b, c, SINGLE, mode) as f32);
                        let value = match value {
                            _ if sat && value.is_nan() => 0.0,
                            _ if sat && value <= 0.0 => 0.0,
                            _ if sat => value.min(1.0),
                            _ => value,
                        };
                        u64::from(if value.is_nan() {
                            0x7fff_ffff
                        } else {
                            value.to_bits()
                        })
                    },
                );
            }
        }
    }
}

#[test]
fn doubles_to_shorter_ones() {
    for mode in ["rn", "rz", "rm", "rp"] {
        compare(&format!("cvt.{mode}.f32.f64 %o, %a;"), (8, 4), |a, _, _| {
            let a = f64::from_bits(a);
            let value = if usual(a) {
                round(exact(a), SINGLE, mode)
            } else {
                a
            };
            u64::from(if value.is_nan() {
                0x7fff_ffff
            } else {
                (value as f32).to_bits()
            })
        });
        for (ty, signed) in [("s64", true), ("u64", false)] {
            let of = |a: u64| {
                let magnitude = if signed { (a as i64).unsigned_abs() } else { a };
                Exact {
                    negative: signed && (a as i64) < 0,
                    magnitude: magnitude.into(),
                    exponent: 0,
                    more: false,
                }
            };
            let value = |a: u64, to| if a == 0 { 0.0 } else { round(of(a), to, mode) };
            compare(
                &format!("cvt.{mode}.f64.{ty} %o, %a;"),
                (8, 8),
                |a, _, _| value(a, DOUBLE).to_bits(),
            );
            compare(
                &format!("cvt.{mode}.f32.{ty} %o, %a;"),
                (8, 4),
                |a, _, _| u64::from((value(a, SINGLE) as f32).to_bits()),
            );
        }
    }
}
