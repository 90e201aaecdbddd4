//! Barriers, where one side must wait for what the other has not done yet: it stands first in the code, and runs first.

use super::script::{Script, THREADS, check};
use super::{Form, of};

fn exchange(form: &Form) -> Vec<Script> {
    let mut scripts = Vec::new();
    let arrives = form.has("arrive");
    let warp = form.has("warp");
    let stem = form.opcode.split(".arrive").next().unwrap_or("");
    for operands in ["1", "%r3", "1, 96", "%r3, %r4"] {
        if arrives && !operands.contains(',') || warp && operands != "1" {
            continue;
        }
        let tail = if form.has("aligned") { ".aligned" } else { "" };
        let (wait, give) = if warp {
            (
                format!("{} -1;", form.opcode),
                format!("{} -1;", form.opcode),
            )
        } else if arrives {
            (
                format!("{stem}.sync{tail} {operands};"),
                format!("{} {operands};", form.opcode),
            )
        } else {
            let both = format!("{} {operands};", form.opcode);
            (both.clone(), both)
        };
        // Warp 0, or every other lane, produces what the others of the block, or its neighbour, take.
        let producer = if warp {
            "and.b32 %r5, %r2, 1;"
        } else {
            "shr.u32 %r5, %r2, 5; min.u32 %r5, %r5, 1; xor.b32 %r5, %r5, 1;"
        };
        let slot = if warp {
            "and.b32 %r6, %r2, 0xfffffffe;"
        } else {
            "and.b32 %r6, %r2, 31;"
        };
        scripts.push(Script {
            opcode: form.opcode.clone(),
            body: format!(
                ".shared .b64 s[{THREADS}]; mov.u32 %r3, 1; mov.u32 %r4, 96; mov.u32 %r2, %tid.x; {producer} {slot}
mul.wide.u32 %d2, %r6, 8; mov.u64 %d3, s; add.u64 %d2, %d2, %d3; mov.b64 %d1, 7; st.shared.b64 [%d2], %d1; bar.sync 5;
ld.global.b64 %d1, [%in]; setp.ne.u32 %p1, %r5, 0; @%p1 bra GIVEAT;
{wait} ld.shared.b64 %d1, [%d2]; bra ENDAT;
GIVEAT: st.shared.b64 [%d2], %d1; {give}
ENDAT: st.global.b64 [%out], %d1;"
            ),
            reads: 1,
            writes: 1,
            wanted: Some(Box::new(move |thread, words| {
                let block = thread / THREADS * THREADS;
                let lane = thread % THREADS;
                vec![words[if warp { block + (lane | 1) } else { block + lane % 32 }][0]]
            })),
            ..Script::default()
        });
    }
    scripts
}

fn reduced(form: &Form) -> Vec<Script> {
    let mut scripts = Vec::new();
    let name = form.one_of(&["popc", "and", "or"]).expect("an operation");
    for operands in ["0", "%r3", "2, 96"] {
        for (compare, not) in [
            ("lt.u32 %p0, %r0, 0x80000000", false),
            ("ge.u32 %p0, %r0, 0", false),
            ("lt.u32 %p0, %r0, 0", false),
            ("ge.u32 %p0, %r0, 0", true),
        ] {
            let (dst, show) = if name == "popc" {
                ("%r1", "cvt.u64.u32 %d1, %r1;")
            } else {
                ("%p1", "selp.u64 %d1, 1, 0, %p1;")
            };
            let sign = if not { "!" } else { "" };
            scripts.push(Script {
                opcode: form.opcode.clone(),
                body: format!(
                    "mov.u32 %r3, 3; ld.global.u32 %r0, [%in]; setp.{compare}; {} {dst}, {operands}, {sign}%p0; {show} st.global.b64 [%out], %d1;",
                    form.opcode
                ),
                reads: 1,
                writes: 1,
                wanted: Some(Box::new(move |thread, words| {
                    let block = thread / THREADS * THREADS;
                    let count = (0..THREADS)
                        .filter(|lane| {
                            let value = words[block + lane][0] as u32;
                            let found = match compare {
                                "ge.u32 %p0, %r0, 0" => true,
                                "lt.u32 %p0, %r0, 0" => false,
                                _ => value < 0x8000_0000,
                            };
                            found != not
                        })
                        .count();
                    vec![match name {
                        "popc" => count as u64,
                        "and" => u64::from(count == THREADS),
                        _ => u64::from(count > 0),
                    }]
                })),
                ..Script::default()
            });
        }
    }
    scripts
}

pub fn all() {
    let forms = of(&["bar", "barrier"]);
    let each = |form: &Form| {
        if form.has("red") {
            reduced(form)
        } else {
            exchange(form)
        }
    };
    check(forms.iter().flat_map(each).collect());
}
