//! What lanes of a warp do together: all of them, and those for which a branch was not taken.

use super::script::{Script, Wanted, check};
use super::{Form, of, soft};

/// Lanes that take part once a quarter went elsewhere.
const SOME: u32 = 0xdddd_dddd;

/// A value of each lane of the thread's warp.
fn warp<T>(thread: usize, words: &[Vec<u64>], of: impl Fn(&[u64], usize) -> T) -> Vec<T> {
    let first = thread / 32 * 32;
    (0..32).map(|lane| of(&words[first + lane], lane)).collect()
}

/// The body for all lanes and for some, each leaving a word; `MASK` is what the members are.
fn script(
    form: &Form,
    prepare: &str,
    text: &str,
    result: &str,
    wanted: impl Fn(usize, &[Vec<u64>], u32) -> u64 + 'static,
) -> Script {
    let opcode = &form.opcode;
    let part = |members: u32, at: usize| {
        format!(
            "{}\n{result}\nst.global.b64 [%out+{at}], %d1;\n",
            text.replace("OP", opcode)
                .replace("MASK", &format!("{members:#x}"))
        )
    };
    let wanted: Wanted = Box::new(move |thread, words| {
        let left = super::script::UNTOUCHED;
        let some = if thread % 4 == 1 {
            left
        } else {
            wanted(thread, words, SOME)
        };
        vec![wanted(thread, words, u32::MAX), some]
    });
    Script {
        opcode: opcode.clone(),
        body: format!(
            "{prepare}\n{}@%skip bra ENDAT;\n{}ENDAT:\n",
            part(u32::MAX, 0),
            part(SOME, 8)
        ),
        reads: 4,
        writes: 2,
        wanted: Some(wanted),
        ..Script::default()
    }
}

const WIDEN: &str = "cvt.u64.u32 %d1, %r1;";
const BOTH: &str = "selp.u32 %r9, 1, 0, %p1; mov.b64 %d1, {%r1, %r9};";
const SEEN: &str = "selp.u64 %d1, 1, 0, %p1;";

fn shuffles(form: &Form) -> Vec<Script> {
    let members = if form.has("sync") { ", MASK" } else { "" };
    let mode = form.one_of(&["up", "down", "bfly", "idx"]).expect("a mode");
    // Lanes of the same quarter, so that whoever is asked takes part.
    let by = "ld.global.u32 %r0, [%in]; ld.global.u32 %r3, [%in+8]; and.b32 %r3, %r3, 28;";
    let by = if mode == "idx" {
        format!("{by} mov.u32 %r4, %laneid; and.b32 %r4, %r4, 3; or.b32 %r3, %r3, %r4;")
    } else {
        by.into()
    };
    let edge = if mode == "up" { 0u32 } else { 31 };
    let mut scripts = Vec::new();
    for segment in [0u32, 0x10, 0x18] {
        let control = segment << 8 | edge;
        let text = format!("OP %r1|%p1, %r0, %r3, {control}{members};");
        scripts.push(script(form, &by, &text, BOTH, move |thread, words, _| {
            let values = warp(thread, words, |words, lane| {
                (
                    words[0] as u32,
                    words[1] as u32 & 28 | if mode == "idx" { lane as u32 & 3 } else { 0 },
                )
            });
            let lane = thread as i64 % 32;
            let (by, low) = (
                i64::from(values[lane as usize].1),
                lane & i64::from(segment),
            );
            let limit = low | i64::from(edge) & !i64::from(segment);
            let (from, inside) = match mode {
                "up" => (lane - by, lane - by >= limit),
                "down" => (lane + by, lane + by <= limit),
                "bfly" => (lane ^ by, lane ^ by <= limit),
                _ => (
                    low | by & !i64::from(segment),
                    low | by & !i64::from(segment) <= limit,
                ),
            };
            let from = if inside { from } else { lane };
            u64::from(values[from as usize].0) | u64::from(inside) << 32
        }));
    }
    scripts
}

fn votes(form: &Form) -> Vec<Script> {
    let members = if form.has("sync") { ", MASK" } else { "" };
    let mode = form
        .one_of(&["all", "any", "uni", "ballot"])
        .expect("a mode");
    let mut scripts = Vec::new();
    // Mixed, nearly all the same, and all the same.
    for (compare, number) in [
        ("lt", 0x8000_0000u32),
        ("ge", 0x0400_0000),
        ("ge", 0),
        ("lt", 0),
    ] {
        for not in ["", "!"] {
            let prepare =
                format!("ld.global.u32 %r0, [%in]; setp.{compare}.u32 %p0, %r0, {number};");
            let dst = if mode == "ballot" { "%r1" } else { "%p1" };
            let text = format!("OP {dst}, {not}%p0{members};");
            let result = if mode == "ballot" { WIDEN } else { SEEN };
            scripts.push(script(
                form,
                &prepare,
                &text,
                result,
                move |thread, words, members| {
                    let yes = warp(thread, words, |words, _| {
                        let found = if compare == "lt" {
                            (words[0] as u32) < number
                        } else {
                            words[0] as u32 >= number
                        };
                        found != (not == "!")
                    });
                    let ballot = (0..32)
                        .filter(|&lane| yes[lane] && members >> lane & 1 != 0)
                        .fold(0u32, |all, lane| all | 1 << lane);
                    match mode {
                        "ballot" => ballot.into(),
                        "all" => u64::from(ballot == members),
                        "any" => u64::from(ballot != 0),
                        _ => u64::from(ballot == members || ballot == 0),
                    }
                },
            ));
        }
    }
    scripts
}

fn matches(form: &Form) -> Vec<Script> {
    let wide = form.last() == "b64";
    let all = form.has("all");
    let mut scripts = Vec::new();
    for values in [0u64, 1, 3] {
        let prepare = if wide {
            format!(
                "ld.global.u64 %d2, [%in]; and.b64 %d2, %d2, {:#x};",
                values << 40
            )
        } else {
            format!("ld.global.u32 %r2, [%in]; and.b32 %r2, %r2, {values};")
        };
        let value = move |words: &[u64]| {
            if wide {
                words[0] & values << 40
            } else {
                words[0] & values
            }
        };
        let text = format!(
            "OP {}, {}, MASK;",
            if all { "%r1|%p1" } else { "%r1" },
            if wide { "%d2" } else { "%r2" }
        );
        scripts.push(script(
            form,
            &prepare,
            &text,
            if all { BOTH } else { WIDEN },
            move |thread, words, members| {
                let seen = warp(thread, words, |words, _| value(words));
                let mine = seen[thread % 32];
                let same = (0..32)
                    .filter(|&lane| seen[lane] == mine && members >> lane & 1 != 0)
                    .fold(0u32, |all, lane| all | 1 << lane);
                match (all, same == members) {
                    (false, _) => same.into(),
                    (true, true) => u64::from(members) | 1 << 32,
                    (true, false) => 0,
                }
            },
        ));
    }
    scripts
}

fn reductions(form: &Form) -> Script {
    let float = form.last() == "f32";
    let signed = form.last() == "s32";
    let (absolute, nan) = (form.has("abs"), form.has("NaN"));
    let name = form
        .one_of(&["add", "min", "max", "and", "or", "xor"])
        .expect("an operation");
    let (letter, result) = if float {
        ("f", "mov.b32 %r1, %f1; cvt.u64.u32 %d1, %r1;")
    } else {
        ("r", WIDEN)
    };
    let prepare = format!("ld.global.b32 %{letter}0, [%in];");
    script(
        form,
        &prepare,
        &format!("OP %{letter}1, %{letter}0, MASK;"),
        result,
        move |thread, words, members| {
            let values = warp(thread, words, |words, _| words[0] as u32);
            let values = (0..32)
                .filter(|lane| members >> lane & 1 != 0)
                .map(|lane| values[lane]);
            if !float {
                let meant = values.map(|x| {
                    if signed {
                        i64::from(x as i32)
                    } else {
                        x.into()
                    }
                });
                return u64::from(match name {
                    "add" => meant.sum::<i64>() as u32,
                    "min" => meant.min().unwrap_or(0) as u32,
                    "max" => meant.max().unwrap_or(0) as u32,
                    "and" => meant.fold(-1, |all, x| all & x) as u32,
                    "or" => meant.fold(0, |all, x| all | x) as u32,
                    _ => meant.fold(0, |all, x| all ^ x) as u32,
                });
            }
            let values: Vec<u64> = values
                .map(|x| if absolute { x & 0x7fff_ffff } else { x }.into())
                .collect();
            let numbers: Vec<u64> = values
                .iter()
                .copied()
                .filter(|x| !soft::is_nan("f32", *x))
                .collect();
            if numbers.is_empty() || nan && numbers.len() < values.len() {
                return 0x7fff_ffff;
            }
            let pick = |x: u64, y: u64| {
                let less = match soft::order("f32", x, y) {
                    Some(std::cmp::Ordering::Equal) => x >> 31 != 0,
                    order => order == Some(std::cmp::Ordering::Less),
                };
                if less == (name == "min") { x } else { y }
            };
            numbers.into_iter().reduce(pick).unwrap_or(0)
        },
    )
}

fn presence(form: &Form) -> Script {
    if form.name == "activemask" {
        return script(form, "", "OP %r1;", WIDEN, |_, _, members| members.into());
    }
    script(form, "", "OP %r1|%p1, MASK;", BOTH, |thread, _, members| {
        let leader = members.trailing_zeros();
        u64::from(leader) | u64::from(thread as u32 % 32 == leader) << 32
    })
}

pub fn all() {
    let mut scripts: Vec<Script> = of(&["shfl"]).iter().flat_map(shuffles).collect();
    scripts.extend(of(&["vote"]).iter().flat_map(votes));
    scripts.extend(of(&["match"]).iter().flat_map(matches));
    scripts.extend(of(&["redux"]).iter().map(reductions));
    scripts.extend(of(&["activemask", "elect"]).iter().map(presence));
    check(scripts);
}
