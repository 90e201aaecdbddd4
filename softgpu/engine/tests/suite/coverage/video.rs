//! Video instructions on whole registers; `suite/video.rs` has their parts.

use super::integers::value;
use super::run::{Case, Wanted, check, plain};
use super::{Form, of};

fn compute(name: &str, a: i128, b: i128) -> i128 {
    match name {
        "add" => a + b,
        "sub" => a - b,
        "absdiff" => (a - b).abs(),
        "min" => a.min(b),
        "max" => a.max(b),
        // Halves away from zero for positive sums, downwards for negative ones.
        "avrg" => (a + b + i128::from(a + b >= 0)).div_euclid(2),
        "eq" => (a == b).into(),
        "ne" => (a != b).into(),
        "lt" => (a < b).into(),
        "le" => (a <= b).into(),
        "gt" => (a > b).into(),
        _ => (a >= b).into(),
    }
}

fn limits(bits: u32, signed: bool) -> (i128, i128) {
    if signed {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// Types of the destination and both operands; a comparison's result has no sign.
fn named(form: &Form) -> Vec<String> {
    let mut types: Vec<String> = form.types().into_iter().map(str::to_owned).collect();
    if form.name.starts_with("vset") {
        types.insert(0, "u32".into());
    }
    types
}

fn scalar(form: &Form) -> Case {
    let types = named(form);
    let name = match form.name.as_str() {
        "vset" => form
            .one_of(&["eq", "ne", "lt", "le", "gt", "ge"])
            .unwrap_or(""),
        other => &other[1..],
    }
    .to_owned();
    let (d, a, b) = (types[0].clone(), types[1].clone(), types[2].clone());
    let (sat, wrap) = (form.has("sat"), form.has("wrap"));
    let second = form.one_of(&["add", "min", "max"]);
    let count = if second.is_some() { 3 } else { 2 };
    plain(&form.opcode, &["b32"; 3][..count], "b32", move |v| {
        let (x, y) = (value(&a, v[0]), value(&b, v[1]));
        let by = if wrap { y & 31 } else { y.min(32) } as u32;
        let first = match name.as_str() {
            "shl" => x << by,
            "shr" => x >> by,
            name => compute(name, x, y),
        };
        let (low, high) = limits(32, d == "s32");
        let first = if sat { first.clamp(low, high) } else { first };
        let first = value(&d, first as u64);
        let with = v.get(2).map_or(0, |c| value(&d, *c));
        Wanted::Bits(match second {
            None => first,
            Some(name) => compute(name, first, with),
        } as u64)
    })
}

fn product(form: &Form) -> Case {
    let types: Vec<String> = form.types().into_iter().map(str::to_owned).collect();
    let (sat, plus) = (form.has("sat"), i128::from(form.has("po")));
    let shift = match form.one_of(&["shr7", "shr15"]) {
        Some("shr7") => 7,
        Some(_) => 15,
        None => 0,
    };
    plain(&form.opcode, &["b32"; 3], "b32", move |v| {
        let signed = types[1] == "s32" || types[2] == "s32";
        let c = value(if signed { "s32" } else { "u32" }, v[2]);
        let sum = (value(&types[1], v[0]) * value(&types[2], v[1]) + c + plus) >> shift;
        let (low, high) = limits(32, signed);
        Wanted::Bits(if sat { sum.clamp(low, high) } else { sum } as u64)
    })
}

fn elements(form: &Form) -> Case {
    let types: Vec<bool> = named(form).iter().map(|ty| ty == "s32").collect();
    let count: u32 = if form.name.ends_with('4') { 4 } else { 2 };
    let bits = 32 / count;
    let stem = &form.name[1..form.name.len() - 1];
    let name = match stem {
        "set" => form
            .one_of(&["eq", "ne", "lt", "le", "gt", "ge"])
            .unwrap_or(""),
        other => other,
    }
    .to_owned();
    let (sat, add) = (form.has("sat"), form.has("add"));
    plain(&form.opcode, &["b32"; 3], "b32", move |v| {
        let part = |word: u64, at: u32, signed: bool| {
            let cut = i128::from(word >> (bits * at) & ((1 << bits) - 1));
            if signed && cut >> (bits - 1) & 1 != 0 {
                cut - (1 << bits)
            } else {
                cut
            }
        };
        let each = (0..count).map(|at| {
            let result = compute(&name, part(v[0], at, types[1]), part(v[1], at, types[2]));
            let (low, high) = limits(bits, types[0]);
            if sat { result.clamp(low, high) } else { result }
        });
        Wanted::Bits(if add {
            each.fold(i128::from(v[2]), |sum, result| sum + result) as u64
        } else {
            each.enumerate().fold(0, |all, (at, result)| {
                all | (result as u64 & ((1 << bits) - 1)) << (bits * at as u32)
            })
        })
    })
}

pub fn cases() -> Vec<Case> {
    let scalars = of(&[
        "vadd", "vsub", "vabsdiff", "vmin", "vmax", "vshl", "vshr", "vset",
    ]);
    let mut cases: Vec<Case> = scalars.iter().map(scalar).collect();
    cases.extend(of(&["vmad"]).iter().map(product));
    for stem in ["vadd", "vsub", "vavrg", "vabsdiff", "vmin", "vmax", "vset"] {
        cases.extend(
            of(&[&format!("{stem}2"), &format!("{stem}4")])
                .iter()
                .map(elements),
        );
    }
    cases
}

pub fn all() {
    check(cases());
}
