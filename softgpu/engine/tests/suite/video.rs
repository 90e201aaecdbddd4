//! Video instructions.

use crate::common::compare;

fn b32(body: &str, f: impl Fn(u32, u32, u32) -> u32) {
    compare(body, (4, 4), |a, b, c| {
        u64::from(f(a as u32, b as u32, c as u32))
    });
}

/// A part by its name, as a number.
fn part(value: u32, name: &str, signed: bool) -> i128 {
    let bytes = value.to_le_bytes();
    let halves = [value as u16, (value >> 16) as u16];
    match (name, signed) {
        ("", true) => i128::from(value as i32),
        ("", false) => i128::from(value),
        (name, signed) => {
            let at = usize::from(name.as_bytes()[1] - b'0');
            match (&name[..1], signed) {
                ("b", true) => i128::from(bytes[at] as i8),
                ("b", false) => i128::from(bytes[at]),
                (_, true) => i128::from(halves[at] as i16),
                (_, false) => i128::from(halves[at]),
            }
        }
    }
}

fn compute(name: &str, a: i128, b: i128) -> i128 {
    match name {
        "add" => a + b,
        "sub" => a - b,
        "absdiff" => (a - b).abs(),
        "min" => a.min(b),
        "max" => a.max(b),
        "avrg" => {
            let sum = a + b;
            // Halves away from zero for positive sums, downwards for negative ones.
            if sum >= 0 {
                (sum + 1) / 2
            } else {
                sum.div_euclid(2)
            }
        }
        "eq" => (a == b).into(),
        "ne" => (a != b).into(),
        "lt" => (a < b).into(),
        "le" => (a <= b).into(),
        "gt" => (a > b).into(),
        _ => (a >= b).into(),
    }
}

fn range(bits: u32, signed: bool) -> (i128, i128) {
    if signed {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

fn sign_of(ty: &str) -> bool {
    ty == "s32"
}

#[test]
fn parts_of_registers() {
    let types = [
        ("u32", "s32", "u32"),
        ("s32", "u32", "s32"),
        ("u32", "u32", "u32"),
        ("s32", "s32", "s32"),
    ];
    let selects = [("", ""), ("b0", "h1"), ("h0", "b3"), ("b2", "")];
    for name in ["add", "sub", "absdiff", "min", "max"] {
        for ((d, ta, tb), (sa, sb)) in types.into_iter().zip(selects) {
            let dotted = |select: &str| {
                if select.is_empty() {
                    String::new()
                } else {
                    format!(".{select}")
                }
            };
            let (pa, pb) = (format!("%a{}", dotted(sa)), format!("%b{}", dotted(sb)));
            let exact =
                |a: u32, b: u32| compute(name, part(a, sa, sign_of(ta)), part(b, sb, sign_of(tb)));
            b32(
                &format!("v{name}.{d}.{ta}.{tb} %o, {pa}, {pb};"),
                |a, b, _| exact(a, b) as u32,
            );
            let (low, high) = range(32, sign_of(d));
            b32(
                &format!("v{name}.{d}.{ta}.{tb}.sat %o, {pa}, {pb};"),
                |a, b, _| exact(a, b).clamp(low, high) as u32,
            );
            b32(
                &format!("v{name}.{d}.{ta}.{tb}.sat.max %o, {pa}, {pb}, %c;"),
                |a, b, c| {
                    let first = exact(a, b).clamp(low, high);
                    first.max(part(c, "", sign_of(d))) as u32
                },
            );
            b32(
                &format!("v{name}.{d}.{ta}.{tb}.add %o, {pa}, {pb}, %c;"),
                |a, b, c| (exact(a, b) + i128::from(c)) as u32,
            );
            let (low, high) = range(8, sign_of(d));
            b32(
                &format!("mov.b32 %o, 7; v{name}.{d}.{ta}.{tb}.sat %o.b2, {pa}, {pb}, %c;"),
                |a, b, c| {
                    let mut bytes = c.to_le_bytes();
                    bytes[2] = exact(a, b).clamp(low, high) as u8;
                    u32::from_le_bytes(bytes)
                },
            );
            b32(
                &format!("v{name}.{d}.{ta}.{tb} %o.h1, {pa}, {pb}, %c;"),
                |a, b, c| c & 0xffff | (exact(a, b) as u32) << 16,
            );
        }
    }
}

#[test]
fn shifts_and_comparisons() {
    for (mode, limit) in [("clamp", true), ("wrap", false)] {
        let count = |b: u32| if limit { b.min(32) } else { b % 32 };
        b32(
            &format!("vshl.u32.u32.u32.{mode} %o, %a, %b;"),
            |a, b, _| (i128::from(a) << count(b)) as u32,
        );
        b32(
            &format!("vshl.s32.s32.u32.sat.{mode} %o, %a, %b;"),
            |a, b, _| {
                let (low, high) = range(32, true);
                (i128::from(a as i32) << count(b)).clamp(low, high) as u32
            },
        );
        b32(
            &format!("vshr.s32.s32.u32.{mode} %o, %a, %b.b1;"),
            |a, b, _| (i128::from(a as i32) >> count(b >> 8 & 255)) as u32,
        );
        b32(
            &format!("vshr.u32.u32.u32.{mode}.min %o, %a, %b, %c;"),
            |a, b, c| ((u64::from(a) >> count(b)) as u32).min(c),
        );
    }
    for name in ["eq", "ne", "lt", "le", "gt", "ge"] {
        b32(&format!("vset.s32.u32.{name} %o, %a, %b;"), |a, b, _| {
            compute(name, part(a, "", true), part(b, "", false)) as u32
        });
        b32(
            &format!("vset.u32.u32.{name}.add %o, %a.b0, %b.b0, %c;"),
            |a, b, c| {
                (compute(name, part(a, "b0", false), part(b, "b0", false)) as u32).wrapping_add(c)
            },
        );
    }
}

#[test]
fn products() {
    b32("vmad.u32.u32.u32 %o, %a, %b, %c;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    b32("vmad.u32.u32.u32.sat %o, %a, %b, %c;", |a, b, c| {
        (u128::from(a) * u128::from(b) + u128::from(c)).min(u32::MAX.into()) as u32
    });
    b32("vmad.s32.s32.u32.sat %o, %a.h0, %b, -%c;", |a, b, c| {
        let (low, high) = range(32, true);
        (part(a, "h0", true) * i128::from(b) - i128::from(c as i32)).clamp(low, high) as u32
    });
    b32("vmad.s32.u32.u32.shr7 %o, -%a.b0, %b.b1, %c;", |a, b, c| {
        ((i128::from(c as i32) - part(a, "b0", false) * part(b, "b1", false)) >> 7) as u32
    });
    b32("vmad.u32.u32.u32.po.shr15 %o, %a, %b, %c;", |a, b, c| {
        ((u128::from(a) * u128::from(b) + u128::from(c) + 1) >> 15) as u32
    });
    b32("vmad.s32.s32.s32 %o, -%a, -%b, %c;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
}

/// Elements of a and b that a selector names, lowest first.
fn picked(a: u32, b: u32, select: &str, signed: bool) -> Vec<i128> {
    let kind = &select[..1];
    let (count, letter) = (select.len() - 1, kind);
    select[1..]
        .bytes()
        .rev()
        .map(|digit| {
            let at = usize::from(digit - b'0');
            let from = if at < count { a } else { b };
            part(from, &format!("{letter}{}", at % count), signed)
        })
        .collect()
}

#[test]
fn elements_side_by_side() {
    let cases = [
        (4, "b3210", "b7654", "b3210"),
        (4, "b0000", "b2765", "b31"),
        (4, "b7777", "b0123", "b0"),
        (2, "h10", "h32", "h10"),
        (2, "h30", "h22", "h1"),
    ];
    for (count, sa, sb, mask) in cases {
        let bits = 32 / count;
        let default = count == 4 && sa == "b3210" || count == 2 && sa == "h10";
        let (pa, pb) = if default {
            ("%a".to_owned(), "%b".to_owned())
        } else {
            (format!("%a.{sa}"), format!("%b.{sb}"))
        };
        let target = if default {
            "%o".to_owned()
        } else {
            format!("%o.{mask}")
        };
        let chosen = |at: usize| {
            mask[1..]
                .bytes()
                .any(|digit| usize::from(digit - b'0') == at)
        };
        let merge = |values: Vec<i128>, c: u32| {
            (0..count).fold(0, |all, at| {
                let field = ((1u64 << bits) - 1) as u32;
                let value = if chosen(at) {
                    values[at] as u32
                } else {
                    c >> (at as u32 * bits as u32)
                };
                all | (value & field) << (at * bits)
            })
        };
        let sum = |values: Vec<i128>, c: u32| {
            (0..count)
                .filter(|&at| chosen(at))
                .fold(c, |all, at| all.wrapping_add(values[at] as u32))
        };
        for (name, d, ta, tb) in [
            ("add", "s32", "s32", "u32"),
            ("sub", "u32", "u32", "u32"),
            ("avrg", "s32", "s32", "s32"),
            ("absdiff", "u32", "u32", "u32"),
            ("min", "s32", "s32", "s32"),
            ("max", "u32", "u32", "s32"),
        ] {
            let all = |a: u32, b: u32| -> Vec<i128> {
                let (x, y) = (picked(a, b, sa, sign_of(ta)), picked(a, b, sb, sign_of(tb)));
                x.into_iter()
                    .zip(y)
                    .map(|(x, y)| compute(name, x, y))
                    .collect()
            };
            let (low, high) = range(bits as u32, sign_of(d));
            b32(
                &format!("v{name}{count}.{d}.{ta}.{tb} {target}, {pa}, {pb}, %c;"),
                |a, b, c| merge(all(a, b), c),
            );
            b32(
                &format!("v{name}{count}.{d}.{ta}.{tb}.sat {target}, {pa}, {pb}, %c;"),
                |a, b, c| {
                    merge(
                        all(a, b)
                            .into_iter()
                            .map(|value| value.clamp(low, high))
                            .collect(),
                        c,
                    )
                },
            );
            b32(
                &format!("v{name}{count}.{d}.{ta}.{tb}.add {target}, {pa}, {pb}, %c;"),
                |a, b, c| sum(all(a, b), c),
            );
        }
        for name in ["eq", "lt", "ge"] {
            let all = |a: u32, b: u32| -> Vec<i128> {
                let (x, y) = (picked(a, b, sa, true), picked(a, b, sb, false));
                x.into_iter()
                    .zip(y)
                    .map(|(x, y)| compute(name, x, y))
                    .collect()
            };
            b32(
                &format!("vset{count}.s32.u32.{name} {target}, {pa}, {pb}, %c;"),
                |a, b, c| merge(all(a, b), c),
            );
            b32(
                &format!("vset{count}.s32.u32.{name}.add {target}, {pa}, {pb}, %c;"),
                |a, b, c| sum(all(a, b), c),
            );
        }
    }
}
