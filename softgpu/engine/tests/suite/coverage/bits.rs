//! Bits: counted, found, moved, cut out and combined.

use super::integers::value;
use super::run::{Case, Wanted, case, check, plain};
use super::values::width;
use super::{Form, of};

fn counting(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let size = width(&ty);
    let (name, amount) = (form.name.clone(), form.has("shiftamt"));
    let dst = if name == "brev" { form.last() } else { "u32" };
    plain(&form.opcode, &[form.last()], dst, move |v| {
        let set = |bit: u32| v[0] >> bit & 1 != 0;
        let mut ones = (0..size).filter(|&bit| set(bit));
        Wanted::Bits(match name.as_str() {
            "popc" => ones.count() as u64,
            "clz" => ones.next_back().map_or(size, |bit| size - 1 - bit).into(),
            "brev" => ones.fold(0, |all, bit| all | 1 << (size - 1 - bit)),
            _ => {
                // Of a negative number the highest zero.
                let one = !(ty.starts_with('s') && set(size - 1));
                let found = (0..size).rev().find(|&bit| set(bit) == one);
                found.map_or(0xffff_ffff, |bit| {
                    if amount { size - 1 - bit } else { bit }.into()
                })
            }
        })
    })
}

fn fields(form: &Form) -> Vec<Case> {
    let ty = form.last().to_owned();
    let size = width(&ty);
    let opcode = &form.opcode;
    // Positions and lengths of all sizes, and as they come.
    let limits = ["", "and.b32 %x, %x, 63; and.b32 %y, %y, 63;"];
    let cut = |limited: bool, bits: u64| if limited { bits & 63 } else { bits } & 255;
    let mut cases = Vec::new();
    for (limited, limit) in limits.iter().enumerate() {
        let limited = limited == 1;
        if form.name == "bfe" {
            let kind = ty.clone();
            let text = format!("mov.b32 %x, %b; mov.b32 %y, %c; {limit} {opcode} %o, %a, %x, %y;");
            cases.push(case(opcode, text, &[&ty, "u32", "u32"], &ty, move |v| {
                let (position, length) = (cut(limited, v[1]), cut(limited, v[2]));
                let signed = kind.starts_with('s');
                let top = u64::from(size - 1);
                let sign = if !signed || length == 0 {
                    0
                } else {
                    v[0] >> (position + length - 1).min(top) & 1
                };
                let bit = |at: u64| {
                    if at < length && position + at <= top {
                        v[0] >> (position + at) & 1
                    } else {
                        sign
                    }
                };
                Wanted::Bits((0..u64::from(size)).fold(0, |all, at| all | bit(at) << at))
            }));
        } else {
            let text =
                format!("mov.b32 %x, %c; mov.b32 %y, %d; {limit} {opcode} %o, %a, %b, %x, %y;");
            cases.push(case(
                opcode,
                text,
                &[&ty, &ty, "u32", "u32"],
                &ty,
                move |v| {
                    let (position, length) = (cut(limited, v[2]), cut(limited, v[3]));
                    let bit = |at: u64| {
                        let inside = at >= position && at < position + length;
                        if inside {
                            v[0] >> (at - position) & 1
                        } else {
                            v[1] >> at & 1
                        }
                    };
                    Wanted::Bits((0..u64::from(size)).fold(0, |all, at| all | bit(at) << at))
                },
            ));
        }
    }
    cases
}

fn rare(form: &Form) -> Vec<Case> {
    let opcode = &form.opcode;
    let (clamp, signed) = (form.has("clamp"), form.has("s32"));
    let limited = format!("mov.b32 %x, %b; and.b32 %x, %x, 31; {opcode} %o, %a, %x;");
    match form.name.as_str() {
        "fns" => {
            let wanted = |mask: u64, base: u64, offset: i64| {
                if base > 31 {
                    return 0xffff_ffff;
                }
                let set = |at: i64| mask >> at & 1 != 0;
                let mut left = offset.abs().max(1);
                let step = if offset < 0 { -1 } else { 1 };
                let mut at = base as i64;
                while (0..32).contains(&at) {
                    if set(at) {
                        left -= 1;
                        if left == 0 {
                            return at as u64;
                        }
                    }
                    if offset == 0 {
                        break;
                    }
                    at += step;
                }
                0xffff_ffff
            };
            let near = format!("and.b32 %x, %b, 31; shr.s32 %y, %c, 28; {opcode} %o, %a, %x, %y;");
            vec![
                plain(opcode, &["b32"; 3], "b32", move |v| {
                    Wanted::Bits(wanted(v[0], v[1], i64::from(v[2] as i32)))
                }),
                case(opcode, near, &["b32"; 3], "b32", move |v| {
                    Wanted::Bits(wanted(v[0], v[1] & 31, i64::from(v[2] as i32) >> 28))
                }),
            ]
        }
        "szext" => {
            let wanted = move |a: u64, width: u64| {
                let width = if clamp { width.min(32) } else { width & 31 };
                let low = u128::from(a) & ((1 << width) - 1);
                let negative = signed && width > 0 && low >> (width - 1) & 1 != 0;
                Wanted::Bits(if negative {
                    (low as i128 - (1i128 << width)) as u64
                } else {
                    low as u64
                })
            };
            vec![
                plain(opcode, &["b32"; 2], "b32", move |v| wanted(v[0], v[1])),
                case(opcode, limited, &["b32"; 2], "b32", move |v| {
                    wanted(v[0], v[1] & 31)
                }),
            ]
        }
        _ => {
            let wanted = move |a: u64, b: u64| {
                let meant = |x: u64| if clamp { x.min(32) } else { x & 31 };
                let (from, count) = (meant(a), meant(b));
                Wanted::Bits((from..32.min(from + count)).fold(0, |all, bit| all | 1 << bit))
            };
            let both = format!("and.b32 %x, %a, 31; and.b32 %y, %b, 31; {opcode} %o, %x, %y;");
            vec![
                plain(opcode, &["b32"; 2], "b32", move |v| wanted(v[0], v[1])),
                case(opcode, both, &["b32"; 2], "b32", move |v| {
                    wanted(v[0] & 31, v[1] & 31)
                }),
            ]
        }
    }
}

fn logic(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let name = form.name.clone();
    let count = if matches!(name.as_str(), "not" | "cnot") {
        1
    } else {
        2
    };
    let pred = ty == "pred";
    plain(
        &form.opcode,
        &[form.last(); 2][..count],
        form.last(),
        move |v| {
            Wanted::Bits(match name.as_str() {
                "and" => v[0] & v[1],
                "or" => v[0] | v[1],
                "xor" => v[0] ^ v[1],
                "cnot" => u64::from(v[0] == 0),
                _ if pred => v[0] ^ 1,
                _ => !v[0],
            })
        },
    )
}

fn tables(form: &Form) -> Vec<Case> {
    let opcode = &form.opcode;
    let join = form.one_of(&["and", "or"]);
    let mut cases = Vec::new();
    for table in [
        0u64, 0xff, 0xf0, 0xcc, 0xaa, 0x1a, 0x40, 0xd8, 0x7e, 0x81, 0x96,
    ] {
        let value = move |v: &[u64]| {
            (0..32).fold(0, |all, bit| {
                let row = (v[0] >> bit & 1) << 2 | (v[1] >> bit & 1) << 1 | v[2] >> bit & 1;
                all | (table >> row & 1) << bit
            })
        };
        let Some(join) = join else {
            cases.push(case(
                opcode,
                format!("{opcode} %o, %a, %b, %c, {table};"),
                &["b32"; 3],
                "b32",
                move |v| Wanted::Bits(value(v)),
            ));
            continue;
        };
        for not in ["", "!"] {
            let srcs = ["b32", "b32", "b32", "pred"];
            cases.push(case(
                opcode,
                format!("{opcode} %o|%p, %a, %b, %c, {table}, {not}%d;"),
                &srcs,
                "b32",
                move |v| Wanted::Bits(value(v)),
            ));
            cases.push(case(
                opcode,
                format!("{opcode} %x|%o, %a, %b, %c, {table}, {not}%d;"),
                &srcs,
                "pred",
                move |v| {
                    let (some, with) = (value(v) != 0, (v[3] != 0) != (not == "!"));
                    Wanted::Bits(
                        if join == "and" {
                            some && with
                        } else {
                            some || with
                        }
                        .into(),
                    )
                },
            ));
        }
    }
    cases
}

fn shifts(form: &Form) -> Vec<Case> {
    let opcode = &form.opcode;
    let ty = form.last().to_owned();
    let size = width(&ty);
    let mut cases = Vec::new();
    for limited in [false, true] {
        let limit = if limited { "and.b32 %x, %x, 127;" } else { "" };
        let cut = move |bits: u64| if limited { bits & 127 } else { bits };
        if form.name == "shf" {
            let (left, wrap) = (form.has("l"), form.has("wrap"));
            let text = format!("mov.b32 %x, %c; {limit} {opcode} %o, %a, %b, %x;");
            cases.push(case(opcode, text, &["b32"; 3], "b32", move |v| {
                let count = if wrap {
                    cut(v[2]) & 31
                } else {
                    cut(v[2]).min(32)
                };
                let both = u128::from(v[1]) << 32 | u128::from(v[0]);
                Wanted::Bits(
                    (if left {
                        both << count >> 32
                    } else {
                        both >> count
                    }) as u64,
                )
            }));
            continue;
        }
        let (kind, left) = (ty.clone(), form.name == "shl");
        let text = format!("mov.b32 %x, %b; {limit} {opcode} %o, %a, %x;");
        cases.push(case(opcode, text, &[&ty, "u32"], &ty, move |v| {
            let count = cut(v[1]).min(u64::from(size)) as u32;
            Wanted::Bits(if left {
                (u128::from(v[0]) << count) as u64
            } else {
                (value(&kind, v[0]) >> count) as u64
            })
        }));
    }
    cases
}

fn permute(form: &Form) -> Case {
    let mode = form.one_of(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    plain(&form.opcode, &["b32"; 3], "b32", move |v| {
        let bytes = (v[1] << 32 | v[0]).to_le_bytes();
        // The document's tables, highest byte first, for each value of the selector.
        let rows = match mode {
            Some("f4e") => ["3210", "4321", "5432", "6543"],
            Some("b4e") => ["5670", "6701", "7012", "0123"],
            Some("rc8") => ["0000", "1111", "2222", "3333"],
            Some("ecl") => ["3210", "3211", "3222", "3333"],
            Some("ecr") => ["0000", "1110", "2210", "3210"],
            Some(_) => ["1010", "3232", "1010", "3232"],
            None => {
                let byte = |at: u32| {
                    let control = v[2] >> (4 * at) & 15;
                    let byte = u64::from(bytes[control as usize & 7]);
                    if control & 8 == 0 {
                        byte
                    } else {
                        (byte >> 7) * 255
                    }
                };
                return Wanted::Bits((0..4).fold(0, |all, at| all | byte(at) << (8 * at)));
            }
        };
        Wanted::Bits(rows[v[2] as usize & 3].bytes().fold(0, |all, digit| {
            all << 8 | u64::from(bytes[usize::from(digit - b'0')])
        }))
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(of(&["popc", "clz", "brev", "bfind"]).iter().map(counting));
    cases.extend(of(&["bfe", "bfi"]).iter().flat_map(fields));
    cases.extend(of(&["fns", "szext", "bmsk"]).iter().flat_map(rare));
    cases.extend(of(&["and", "or", "xor", "not", "cnot"]).iter().map(logic));
    cases.extend(of(&["lop3"]).iter().flat_map(tables));
    cases.extend(of(&["shl", "shr", "shf"]).iter().flat_map(shifts));
    cases.extend(of(&["prmt"]).iter().map(permute));
    cases
}

pub fn all() {
    check(cases());
}
