//! Branches, calls, the end of threads, local memory taken on the way, fences, and instructions that change nothing.

use softgpu_engine::FaultKind;

use super::script::{Script, THREADS, UNTOUCHED, check};
use super::{Form, HEAD, of, tested};
use crate::common::Machine;

fn script(
    form: &Form,
    body: String,
    wanted: impl Fn(usize, &[Vec<u64>]) -> u64 + 'static,
) -> Script {
    Script {
        opcode: form.opcode.clone(),
        body,
        reads: 2,
        writes: 1,
        wanted: Some(Box::new(move |thread, words| vec![wanted(thread, words)])),
        ..Script::default()
    }
}

fn loops(form: &Form) -> Script {
    // Each lane goes round as often as its number says; with `.uni` all go alike.
    let times = if form.has("uni") {
        "mov.u32 %r1, 5;"
    } else {
        "and.b32 %r1, %r0, 7;"
    };
    let uniform = form.has("uni");
    let opcode = &form.opcode;
    script(
        form,
        format!(
            "ld.global.u32 %r0, [%in]; {times} mov.u32 %r2, 0; LAT: setp.eq.u32 %p1, %r1, 0; @%p1 {opcode} EAT;
add.u32 %r2, %r2, %r1; mul.lo.u32 %r2, %r2, 3; sub.u32 %r1, %r1, 1; {opcode} LAT;
EAT: cvt.u64.u32 %d1, %r2; st.global.b64 [%out], %d1;"
        ),
        move |thread, words| {
            let times = if uniform { 5 } else { words[thread][0] as u32 & 7 };
            (1..=times).rev().fold(0u32, |sum, left| sum.wrapping_add(left).wrapping_mul(3)).into()
        },
    )
}

fn calls(form: &Form) -> Vec<Script> {
    // A function that returns early for some, called by name and through a pointer.
    let back = if form.name == "ret" {
        &form.opcode
    } else {
        "ret"
    };
    let call = if form.name == "call" {
        &form.opcode
    } else {
        "call"
    };
    let uniform = back == "ret.uni";
    let early = if uniform {
        "mov.u32 %r1, 0;"
    } else {
        "and.b32 %r1, %r0, 1;"
    };
    let outside = format!(
        ".func (.param .b32 o) fAT(.param .b32 x) {{ .reg .b32 %r<4>; .reg .pred %p; ld.param.u32 %r0, [x]; {early} add.u32 %r2, %r0, 1;
st.param.b32 [o], %r2; setp.eq.u32 %p, %r1, 0; @%p {back}; mul.lo.u32 %r2, %r0, 7; st.param.b32 [o], %r2; {back}; }}"
    );
    let ways = [
        format!("{call} (o), fAT, (x);"),
        format!(
            "mov.u64 %d2, fAT; PAT: .callprototype (.param .b32 _) _ (.param .b32 _); {call} (o), %d2, (x), PAT;"
        ),
    ];
    ways.into_iter()
        .map(|way| Script {
            outside: outside.clone(),
            ..script(
                form,
                format!(
                    "ld.global.u32 %r0, [%in]; {{ .param .b32 x; .param .b32 o; st.param.b32 [x], %r0; {way} ld.param.b32 %r1, [o]; }}
cvt.u64.u32 %d1, %r1; st.global.b64 [%out], %d1;"
                ),
                move |thread, words| {
                    let x = words[thread][0] as u32;
                    if uniform || x & 1 == 0 { x.wrapping_add(1) } else { x.wrapping_mul(7) }.into()
                },
            )
        })
        .collect()
}

fn tables(form: &Form) -> Script {
    let uniform = form.has("uni");
    let index = if uniform {
        "mov.u32 %r0, %ctaid.x; and.b32 %r0, %r0, 3;"
    } else {
        "ld.global.u32 %r0, [%in]; and.b32 %r0, %r0, 3;"
    };
    script(
        form,
        format!(
            "{index} TAT: .branchtargets AAT, BAT, CAT, AAT; {} %r0, TAT;
AAT: mov.b64 %d1, 10; bra EAT; BAT: mov.b64 %d1, 20; bra EAT; CAT: mov.b64 %d1, 30; EAT: st.global.b64 [%out], %d1;",
            form.opcode
        ),
        move |thread, words| {
            let index = if uniform { thread / THREADS } else { words[thread][0] as usize & 3 };
            [10, 20, 30, 10][index]
        },
    )
}

/// What a program that has no debugger and no profiler, and one kernel at a time, does not notice.
fn unnoticed(form: &Form) -> Script {
    let operand = match form.name.as_str() {
        "pmevent" => "3",
        "setmaxnreg" => "64",
        "nanosleep" => "%r0",
        _ => "",
    };
    script(
        form,
        format!(
            "ld.global.b64 %d1, [%in]; mov.u32 %r0, 20; st.global.b64 [%out], %d1; {0} {operand}; ld.global.b64 %d2, [%out];
add.u64 %d2, %d2, %d1; @!%skip {0} {operand}; st.global.b64 [%out], %d2;",
            form.opcode
        ),
        |thread, words| words[thread][0].wrapping_mul(2),
    )
}

fn ends(form: &Form) -> Script {
    script(
        form,
        format!(
            "ld.global.b64 %d1, [%in]; @%skip {}; st.global.b64 [%out], %d1;",
            form.opcode
        ),
        |thread, words| {
            if thread % 4 == 1 {
                UNTOUCHED
            } else {
                words[thread][0]
            }
        },
    )
}

/// A message from one block to the other: data, fence, flag on the one side, flag, fence, data on the other.
fn fences(form: &Form) -> Script {
    let fence = &form.opcode;
    Script {
        outside: format!(".global .b64 dataAT[{THREADS}]; .global .b32 flagAT;"),
        ..script(
            form,
            format!(
                "mov.u32 %r0, %ctaid.x; mov.u32 %r1, %tid.x; mul.wide.u32 %d0, %r1, 8; mov.u64 %d2, dataAT; add.u64 %d2, %d2, %d0;
ld.global.b64 %d1, [%in]; setp.eq.u32 %p1, %r0, 1; @%p1 bra GIVEAT;
WAITAT: ld.volatile.global.u32 %r2, [flagAT]; setp.ne.u32 %p2, %r2, {THREADS}; @%p2 bra WAITAT;
{fence}; ld.global.b64 %d1, [%d2]; bra ENDAT;
GIVEAT: st.global.b64 [%d2], %d1; {fence}; red.global.add.u32 [flagAT], 1;
ENDAT: st.global.b64 [%out], %d1;"
            ),
            |thread, words| words[THREADS + thread % THREADS][0],
        )
    }
}

fn stack(form: &Form) -> Script {
    let bits = form.last()[1..].to_owned();
    let letter = if bits == "64" { 'd' } else { 'r' };
    let opcode = |name: &str| {
        if name == form.name {
            form.opcode.clone()
        } else {
            format!("{name}.u{bits}")
        }
    };
    let (take, save, restore) = (
        opcode("alloca"),
        opcode("stacksave"),
        opcode("stackrestore"),
    );
    script(
        form,
        format!(
            "ld.global.b64 %d1, [%in]; ld.global.b64 %d2, [%in+8]; {take} %{letter}5, 16; st.local.b64 [%{letter}5], %d1;
{save} %{letter}6; {take} %{letter}7, 32; st.local.b64 [%{letter}7+24], %d2; ld.local.b64 %d3, [%{letter}5]; ld.local.b64 %d4, [%{letter}7+24];
{restore} %{letter}6; {take} %{letter}8, 8; setp.eq.u{bits} %p1, %{letter}8, %{letter}7; setp.ne.u{bits} %p2, %{letter}7, %{letter}5;
xor.b64 %d3, %d3, %d4; selp.u64 %d4, 1, 0, %p1; selp.u64 %d1, 1, 0, %p2; add.u64 %d3, %d3, %d4; add.u64 %d3, %d3, %d1; st.global.b64 [%out], %d3;"
        ),
        |thread, words| (words[thread][0] ^ words[thread][1]).wrapping_add(2),
    )
}

fn traps(form: &Form) {
    let ptx = format!(
        "{HEAD}.visible .entry k() {{ .reg .b32 %t; .reg .pred %p; mov.u32 %t, %tid.x; setp.eq.u32 %p, %t, 37; @%p {}; ret; }}",
        form.opcode
    );
    let launched = Machine::new(&ptx).launch_with("k", [1, 1, 1], [64, 1, 1], 0, &[], (1000, 10));
    let fault = launched.expect_err("a trap is a fault");
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, [37, 0, 0]));
    tested(&form.opcode);
}

pub fn all() {
    let mut scripts: Vec<Script> = of(&["bra"]).iter().map(loops).collect();
    scripts.extend(of(&["call", "ret"]).iter().flat_map(calls));
    scripts.extend(of(&["brx"]).iter().map(tables));
    scripts.extend(
        of(&[
            "brkpt",
            "pmevent",
            "nanosleep",
            "griddepcontrol",
            "setmaxnreg",
        ])
        .iter()
        .map(unnoticed),
    );
    scripts.extend(of(&["exit"]).iter().map(ends));
    scripts.extend(of(&["membar", "fence"]).iter().map(fences));
    scripts.extend(
        of(&["alloca", "stacksave", "stackrestore"])
            .iter()
            .map(stack),
    );
    check(scripts);
    of(&["trap"]).iter().for_each(traps);
}
