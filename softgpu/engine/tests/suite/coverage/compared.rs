//! Comparisons and selections.

use std::cmp::Ordering;

use super::integers::value;
use super::run::{Case, Wanted, case, check, plain};
use super::{Form, of, soft};

/// What a comparison finds, by its name.
fn holds(name: &str, order: Option<Ordering>) -> bool {
    let Some(order) = order else {
        return matches!(name, "nan" | "equ" | "neu" | "ltu" | "leu" | "gtu" | "geu");
    };
    match name {
        "eq" | "equ" => order.is_eq(),
        "ne" | "neu" => order.is_ne(),
        "lt" | "ltu" | "lo" => order.is_lt(),
        "le" | "leu" | "ls" => order.is_le(),
        "gt" | "gtu" | "hi" => order.is_gt(),
        "ge" | "geu" | "hs" => order.is_ge(),
        "num" => true,
        _ => false,
    }
}

fn order(ty: &str, a: u64, b: u64, ftz: bool) -> Option<Ordering> {
    if !ty.contains('f') {
        return Some(value(ty, a).cmp(&value(ty, b)));
    }
    let flush = |x| if ftz { soft::flush(ty, x) } else { x };
    soft::order(ty, flush(a), flush(b))
}

fn joined(join: Option<&str>, found: bool, with: bool) -> bool {
    match join {
        Some("and") => found && with,
        Some("or") => found || with,
        Some(_) => found != with,
        None => found,
    }
}

/// Comparison, type and flushing, as a function of the operands and the predicate to join; of one half of a pair.
fn tester(form: &Form, ty: &str) -> impl Fn(u64, u64, bool) -> (bool, bool) + Clone + 'static {
    let (name, ftz) = (form.words[0].clone(), form.has("ftz"));
    let join = form.one_of(&["and", "or", "xor"]);
    let ty = ty.to_owned();
    move |a, b, with| {
        let found = holds(&name, order(&ty, a, b, ftz));
        (joined(join, found, with), joined(join, !found, with))
    }
}

fn joins(form: &Form) -> &'static [&'static str] {
    if form.one_of(&["and", "or", "xor"]).is_some() {
        &[", %c", ", !%c"]
    } else {
        &[""]
    }
}

fn setp(form: &Form) -> Vec<Case> {
    let ty = form.last().to_owned();
    let opcode = &form.opcode;
    let mut cases = Vec::new();
    let srcs = [ty.as_str(), ty.as_str(), "pred"];
    for with in joins(form) {
        let used = &srcs[..if with.is_empty() { 2 } else { 3 }];
        let not = with.contains('!');
        let joined = move |v: &[u64]| v.get(2).is_some_and(|bit| (*bit != 0) != not);
        if let Some(single) = ty.strip_suffix("x2") {
            let test = tester(form, single);
            for (target, shift) in [("%o|%p", 0), ("%p|%o", 16)] {
                let test = test.clone();
                cases.push(case(
                    opcode,
                    format!("{opcode} {target}, %a, %b{with};"),
                    used,
                    "pred",
                    move |v| {
                        Wanted::Bits(
                            test(v[0] >> shift & 0xffff, v[1] >> shift & 0xffff, joined(v))
                                .0
                                .into(),
                        )
                    },
                ));
            }
            continue;
        }
        let test = tester(form, &ty);
        for (target, second) in [("%o", false), ("%p|%o", true)] {
            if second && matches!(ty.as_str(), "f16" | "bf16") {
                continue;
            }
            let test = test.clone();
            cases.push(case(
                opcode,
                format!("{opcode} {target}, %a, %b{with};"),
                used,
                "pred",
                move |v| {
                    let (yes, no) = test(v[0], v[1], joined(v));
                    Wanted::Bits(if second { no } else { yes }.into())
                },
            ));
        }
    }
    cases
}

fn set(form: &Form) -> Vec<Case> {
    let types = form.types();
    let (dst, ty) = (types[0].to_owned(), types[1].to_owned());
    let opcode = &form.opcode;
    let one = match dst.as_str() {
        "f32" => u64::from(1f32.to_bits()),
        "f16" | "f16x2" => half::f16::ONE.to_bits().into(),
        "bf16" | "bf16x2" => half::bf16::ONE.to_bits().into(),
        // All bits; of a pair, of its half.
        _ => u64::MAX,
    };
    let mut cases = Vec::new();
    for with in joins(form) {
        let srcs = [ty.as_str(), ty.as_str(), "pred"];
        let used = &srcs[..if with.is_empty() { 2 } else { 3 }];
        let not = with.contains('!');
        let joined = move |v: &[u64]| v.get(2).is_some_and(|bit| (*bit != 0) != not);
        let single = ty.strip_suffix("x2").unwrap_or(&ty);
        let (test, pair) = (tester(form, single), single != ty);
        cases.push(case(
            opcode,
            format!("{opcode} %o, %a, %b{with};"),
            used,
            &dst,
            move |v| {
                let part = |a: u64, b: u64| if test(a, b, joined(v)).0 { one } else { 0 };
                Wanted::Bits(if pair {
                    let (low, high) = (
                        part(v[0] & 0xffff, v[1] & 0xffff),
                        part(v[0] >> 16, v[1] >> 16),
                    );
                    low & 0xffff | (high & 0xffff) << 16
                } else {
                    part(v[0], v[1])
                })
            },
        ));
    }
    cases
}

fn select(form: &Form) -> Case {
    let ty = form.last();
    plain(&form.opcode, &[ty, ty, "pred"], ty, |v| {
        Wanted::Bits(if v[2] != 0 { v[0] } else { v[1] })
    })
}

fn by_sign(form: &Form) -> Case {
    let types = form.types();
    let (ty, by) = (types[0], types[1].to_owned());
    let ftz = form.has("ftz");
    plain(&form.opcode, &[ty, ty, types[1]], ty, move |v| {
        let first = match by.as_str() {
            "s32" => value("s32", v[2]) >= 0,
            _ => order("f32", v[2], 0, ftz).is_some_and(Ordering::is_ge),
        };
        Wanted::Bits(if first { v[0] } else { v[1] })
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(of(&["setp"]).iter().flat_map(setp));
    cases.extend(of(&["set"]).iter().flat_map(set));
    cases.extend(of(&["selp"]).iter().map(select));
    cases.extend(of(&["slct"]).iter().map(by_sign));
    cases
}

pub fn all() {
    check(cases());
}
