//! Integer arithmetic, by 128-bit integers.

use super::run::{Case, Wanted, case, check, plain};
use super::values::{mask, width};
use super::{Form, of};

/// What the bits of a type mean.
pub fn value(ty: &str, bits: u64) -> i128 {
    let (size, signed) = match ty {
        "u8" | "b8" => (8, false),
        "s8" => (8, true),
        other => (width(other), other.starts_with('s')),
    };
    let cut = bits & mask(size);
    if signed && cut >> (size - 1) & 1 != 0 {
        i128::from(cut) - (1i128 << size)
    } else {
        cut.into()
    }
}

/// Least and greatest value of a type.
pub fn range(ty: &str) -> (i128, i128) {
    let bits: u32 = ty[1..].parse().expect("a width");
    if ty.starts_with('s') {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

fn clamp(ty: &str, value: i128) -> i128 {
    let (low, high) = range(ty);
    value.clamp(low, high)
}

/// A type of twice the width.
fn twice(ty: &str) -> String {
    format!("{}{}", &ty[..1], 2 * width(ty))
}

fn bits(value: i128) -> Wanted {
    Wanted::Bits(value as u64)
}

fn arithmetic(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let t = ty.as_str();
    let name = form.name.clone();
    let count = if matches!(t, "u16x2" | "s16x2") { 2 } else { 1 };
    let (sat, hi, relu) = (form.has("sat"), form.has("hi"), form.has("relu"));
    let sources = match name.as_str() {
        "neg" | "abs" => 1,
        "mad" | "sad" => 3,
        _ => 2,
    };
    if form.has("wide") {
        let wide = twice(t);
        let (kind, wider) = (ty.clone(), wide.clone());
        let srcs = [t, t, &wide];
        return plain(&form.opcode, &srcs[..sources], &wide, move |v| {
            let product = value(&kind, v[0]) * value(&kind, v[1]);
            bits(product.wrapping_add(v.get(2).map_or(0, |c| value(&wider, *c))))
        });
    }
    let element = t.trim_end_matches("x2").to_owned();
    let one = move |v: &[u64]| -> i128 {
        let x: Vec<i128> = v.iter().map(|bits| value(&element, *bits)).collect();
        let size = width(&element);
        let product = || {
            if hi && size == 64 && element == "u64" {
                ((x[0] as u128 * x[1] as u128) >> 64) as i128
            } else if hi {
                (x[0] * x[1]) >> size
            } else {
                (x[0] as u128).wrapping_mul(x[1] as u128) as i128
            }
        };
        let all_ones = if element.starts_with('s') {
            -1
        } else {
            mask(size).into()
        };
        let result = match name.as_str() {
            "add" => x[0] + x[1],
            "sub" => x[0] - x[1],
            "mul" => product(),
            "mad" => product().wrapping_add(x[2]),
            "sad" => (x[0] - x[1]).abs() + x[2],
            // What division by zero gives is the hardware's own affair.
            "div" if x[1] == 0 => all_ones,
            "div" => x[0] / x[1],
            "rem" if x[1] == 0 => x[0],
            "rem" => x[0] % x[1],
            "min" => x[0].min(x[1]),
            "max" => x[0].max(x[1]),
            "neg" => -x[0],
            _ => x[0].abs(),
        };
        let result = if sat { clamp(&element, result) } else { result };
        if relu { result.max(0) } else { result }
    };
    plain(&form.opcode, &[t; 3][..sources], t, move |v| {
        if count == 1 {
            return bits(one(v));
        }
        let part = |at: u32| {
            one(&v
                .iter()
                .map(|x| x >> (16 * at) & 0xffff)
                .collect::<Vec<_>>()) as u64
                & 0xffff
        };
        Wanted::Bits(part(0) | part(1) << 16)
    })
}

/// With a carry in and out: the carry flag is set by an addition before, and shown by one behind.
fn carried(form: &Form) -> Vec<Case> {
    let ty = form.last().to_owned();
    let size = width(&ty);
    let (takes, gives) = (form.name.ends_with('c'), form.has("cc"));
    let name = form.name.clone();
    let (subtract, product, hi) = (
        name.starts_with("sub"),
        name.starts_with("mad"),
        form.has("hi"),
    );
    let compute = {
        let ty = ty.clone();
        move |v: &[u64], carry: u64| -> (u64, u64) {
            let all = mask(size);
            let (a, b) = if product {
                let product = if ty == "u64" && hi {
                    (v[0] as u128 * v[1] as u128) >> 64
                } else {
                    let product = (value(&ty, v[0]) as u128).wrapping_mul(value(&ty, v[1]) as u128);
                    if hi {
                        ((product as i128) >> size) as u128
                    } else {
                        product
                    }
                };
                (product as u64 & all, v[2])
            } else {
                (v[0], v[1])
            };
            let (a, b, carry) = (
                i128::from(a),
                i128::from(b),
                i128::from(if takes { carry } else { 0 }),
            );
            let sum = if subtract {
                a - b - carry
            } else {
                a + b + carry
            };
            (
                sum as u64 & all,
                u64::from(sum < 0 || sum > i128::from(all)),
            )
        }
    };
    let sources = if product { 3 } else { 2 };
    let operands = if product { "%a, %b, %c" } else { "%a, %b" };
    let mut cases = Vec::new();
    for carry in 0..=u64::from(takes) {
        // All ones and one give a carry; so does taking one from zero, which is the same flag.
        let set = format!(
            "add.cc.u32 %x, {}, 1;",
            if carry == 1 { "0xffffffff" } else { "5" }
        );
        let opcode = &form.opcode;
        let of = compute.clone();
        cases.push(case(
            opcode,
            format!("{set} {opcode} %o, {operands};"),
            &[ty.as_str(); 3][..sources],
            &ty,
            move |v| Wanted::Bits(of(v, carry).0),
        ));
        if gives {
            let (of, ty) = (compute.clone(), ty.clone());
            let lost = if size == 64 { "%w" } else { "%x" };
            let text = format!("{set} {opcode} {lost}, {operands}; addc.u32 %o, 0, 0;");
            cases.push(case(
                opcode,
                text,
                &[ty.as_str(); 3][..sources],
                "u32",
                move |v| Wanted::Bits(of(v, carry).1),
            ));
        }
    }
    cases
}

fn narrow_products(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let signed = ty == "s32";
    let (hi, sat, adds) = (form.has("hi"), form.has("sat"), form.name == "mad24");
    plain(
        &form.opcode,
        &[form.last(); 3][..if adds { 3 } else { 2 }],
        form.last(),
        move |v| {
            let cut = |bits: u64| {
                let low = i128::from(bits & 0xff_ffff);
                if signed && low >> 23 & 1 != 0 {
                    low - (1 << 24)
                } else {
                    low
                }
            };
            let product = cut(v[0]) * cut(v[1]);
            // 48 bits, of which the instruction takes the upper or the lower 32.
            let taken = if hi {
                product >> 16
            } else {
                value(&ty, product as u64)
            };
            let sum = taken + v.get(2).map_or(0, |c| value(&ty, *c));
            bits(if sat { clamp(&ty, sum) } else { sum })
        },
    )
}

fn dot(form: &Form) -> Case {
    let signs: Vec<bool> = form.types().iter().map(|ty| *ty == "s32").collect();
    let (four, first) = (form.name == "dp4a", if form.has("hi") { 2 } else { 0 });
    let part = |word: u64, at: u32, size: u32, signed: bool| {
        let cut = i128::from(word >> (size * at) & mask(size));
        if signed && cut >> (size - 1) & 1 != 0 {
            cut - (1 << size)
        } else {
            cut
        }
    };
    plain(&form.opcode, &["b32"; 3], "b32", move |v| {
        let terms: i128 = if four {
            (0..4)
                .map(|at| part(v[0], at, 8, signs[0]) * part(v[1], at, 8, signs[1]))
                .sum()
        } else {
            (0..2)
                .map(|at| part(v[0], at, 16, signs[0]) * part(v[1], first + at, 8, signs[1]))
                .sum()
        };
        bits(terms + i128::from(v[2]))
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in of(&[
        "add", "sub", "mul", "mad", "sad", "div", "rem", "min", "max", "abs", "neg", "addc",
        "subc", "madc",
    ]) {
        if form.has("cc") || form.name.ends_with('c') {
            cases.extend(carried(&form));
        } else if !form.last().contains('f') {
            cases.push(arithmetic(&form));
        }
    }
    cases.extend(of(&["mul24", "mad24"]).iter().map(narrow_products));
    cases.extend(of(&["dp4a", "dp2a"]).iter().map(dot));
    cases
}

pub fn all() {
    check(cases());
}
