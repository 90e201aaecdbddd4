//! `cp.async` and `mbarrier`.

use super::script::{Script, THREADS, UNTOUCHED, check};
use super::{Form, of};

/// An object in shared memory and its address in `%r20`, a generic one in `%d20`.
const OBJECT: &str = ".shared .align 16 .b64 object; mov.u32 %r20, object; cvt.u64.u32 %d20, %r20; cvta.shared.u64 %d20, %d20;\n";

/// How a form names the object.
fn address(form: &Form) -> &'static str {
    if form.one_of(&["shared", "shared::cta"]).is_some() {
        "[%r20]"
    } else {
        "[%d20]"
    }
}

/// One thread of each block runs the text, which leaves predicates that are collected as bits.
fn alone(form: &Form, text: &str, wanted: u64) -> Script {
    let mut body = format!(
        "{OBJECT}mov.u32 %r2, %tid.x; setp.ne.u32 %p7, %r2, 0; mov.u32 %r1, 0; @%p7 bra ENDAT;\n"
    );
    for line in text
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        // `see` appends what the predicate says.
        body += &match line {
            "see" => {
                "shl.b32 %r1, %r1, 1; selp.u32 %r3, 1, 0, %p1; or.b32 %r1, %r1, %r3;\n".to_owned()
            }
            other => format!(
                "{};\n",
                other
                    .replace("OP", &form.opcode)
                    .replace("AT", address(form))
            ),
        };
    }
    body += "cvt.u64.u32 %d1, %r1; st.global.b64 [%out], %d1;\nENDAT:\n";
    Script {
        opcode: form.opcode.clone(),
        body,
        reads: 1,
        writes: 1,
        wanted: Some(Box::new(move |thread, _| {
            vec![if thread % THREADS == 0 {
                wanted
            } else {
                UNTOUCHED
            }]
        })),
        ..Script::default()
    }
}

fn barrier(form: &Form) -> Script {
    let test = "mbarrier.test_wait.parity.shared.b64 %p1, [%r20]";
    let (expect, partial) = (form.has("expect_tx"), form.has("noComplete"));
    match form.words[0].as_str() {
        // Two arrivals end the phase, not one.
        "init" => alone(
            form,
            &format!(
                "OP AT, 2; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see; {test}, 1; see"
            ),
            0b010,
        ),
        // The place is one like others then, and a new object can be made there.
        "inval" => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 7; OP AT; mov.b64 %d3, 77; st.shared.b64 [%r20], %d3; ld.shared.b64 %d4, [%r20]; setp.eq.u64 %p1, %d4, 77; see; mbarrier.init.shared.b64 [%r20], 1; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see"
            ),
            0b11,
        ),
        "expect_tx" => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 1; OP AT, 64; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see; mbarrier.complete_tx.shared.b64 [%r20], 64; {test}, 0; see"
            ),
            0b01,
        ),
        "complete_tx" => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 1; mbarrier.expect_tx.shared.b64 [%r20], 64; mbarrier.arrive.shared.b64 _, [%r20]; OP AT, 24; {test}, 0; see; OP AT, 40; {test}, 0; see"
            ),
            0b01,
        ),
        "arrive" if expect => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 1; OP %d2, AT, 16; {test}, 0; see; mbarrier.complete_tx.shared.b64 [%r20], 16; {test}, 0; see; mbarrier.test_wait.shared.b64 %p1, [%r20], %d2; see"
            ),
            0b011,
        ),
        "arrive" if partial => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 4; OP %d2, AT, 3; {test}, 0; see; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see"
            ),
            0b01,
        ),
        "arrive" => alone(
            form,
            &format!(
                "mbarrier.init.shared.b64 [%r20], 3; OP %d2, AT; {test}, 0; see; mbarrier.test_wait.shared.b64 %p1, [%r20], %d2; see; OP _, AT, 2; {test}, 0; see; mbarrier.test_wait.shared.b64 %p1, [%r20], %d2; see"
            ),
            0b0011,
        ),
        // The next phase expects one less.
        "arrive_drop" => {
            let drop = match () {
                () if expect => "OP %d2, AT, 8; mbarrier.complete_tx.shared.b64 [%r20], 8",
                () if partial => "OP %d2, AT, 1",
                () => "OP %d2, AT",
            };
            alone(
                form,
                &format!(
                    "mbarrier.init.shared.b64 [%r20], 2; {drop}; {test}, 0; see; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 0; see; {test}, 1; see; mbarrier.arrive.shared.b64 _, [%r20]; {test}, 1; see"
                ),
                0b0101,
            )
        }
        "pending_count" => alone(
            form,
            "mbarrier.init.shared.b64 [%r20], 5; mbarrier.arrive.shared.b64 _, [%r20], 2; mbarrier.arrive.shared.b64 %d2, [%r20]; OP %r4, %d2; setp.eq.u32 %p1, %r4, 3; see",
            1,
        ),
        _ => {
            let (before, after) = if form.has("parity") {
                ("0", "1")
            } else {
                ("%d2", "%d3")
            };
            alone(
                form,
                &format!(
                    "mbarrier.init.shared.b64 [%r20], 2; mbarrier.arrive.shared.b64 %d2, [%r20]; OP %p1, AT, {before}; see; mbarrier.arrive.shared.b64 _, [%r20]; OP %p1, AT, {before}; see; mbarrier.arrive.shared.b64 %d3, [%r20]; OP %p1, AT, {after}; see"
                ),
                0b010,
            )
        }
    }
}

/// Copies, each thread 16 bytes, and a wait in the manner of the form.
fn copies(form: &Form) -> Vec<Script> {
    let opcode = &form.opcode;
    let open = format!(
        ".shared .align 16 .b8 s[{}]; mov.u32 %r2, %tid.x; shl.b32 %r3, %r2, 4; mov.u32 %r4, s; add.u32 %r4, %r4, %r3;
mov.b64 %d1, {UNTOUCHED:#x}; st.shared.b64 [%r4], %d1; st.shared.b64 [%r4+8], %d1;\n",
        THREADS * 16
    );
    let show = "ld.shared.b64 %d1, [%r4]; st.global.b64 [%out], %d1; ld.shared.b64 %d1, [%r4+8]; st.global.b64 [%out+8], %d1;";
    let script = |text: String, bytes: usize, zeros: usize, some: bool| Script {
        opcode: opcode.clone(),
        body: format!("{open}{text}\n{show}"),
        reads: 2,
        writes: 2,
        wanted: Some(Box::new(move |thread, words| {
            let mut wanted: Vec<u8> = UNTOUCHED.to_le_bytes().repeat(2);
            if !some || thread % 4 != 1 {
                let from: Vec<u8> = words[thread]
                    .iter()
                    .flat_map(|word| word.to_le_bytes())
                    .collect();
                wanted[..bytes].copy_from_slice(&from[..bytes]);
                wanted[bytes..bytes + zeros].fill(0);
            }
            wanted
                .chunks(8)
                .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight")))
                .collect()
        })),
        ..Script::default()
    };
    let copy = "cp.async.ca.shared.global [%r4], [%in], 16;";
    match form.last() {
        "commit_group" => vec![script(
            format!("{copy} {opcode}; cp.async.wait_group 0;"),
            16,
            0,
            false,
        )],
        "wait_group" => vec![script(
            format!("{copy} cp.async.commit_group; cp.async.commit_group; {opcode} 1;"),
            16,
            0,
            false,
        )],
        "wait_all" => vec![script(format!("{copy} {opcode};"), 16, 0, false)],
        "b64" => {
            // All threads arrive when their copies are done; without `.noinc` these arrivals come on top.
            let (count, own) = if form.has("noinc") {
                (THREADS, "")
            } else {
                (THREADS, "mbarrier.arrive.shared.b64 _, [%r20];")
            };
            vec![script(
                format!(
                    "{OBJECT}setp.eq.u32 %p1, %r2, 0; @%p1 mbarrier.init.shared.b64 [%r20], {count}; bar.sync 0; {copy} {opcode} {}; {own}
WAITAT: mbarrier.try_wait.parity.shared.b64 %p1, [%r20], 0; @!%p1 bra WAITAT;",
                    address(form)
                ),
                16,
                0,
                false,
            )]
        }
        _ => {
            let sizes: &[usize] = if form.has("ca") { &[4, 8, 16] } else { &[16] };
            let wait = "cp.async.wait_all;";
            let mut scripts = Vec::new();
            for &size in sizes {
                scripts.push(script(
                    format!("{opcode} [%r4], [%in], {size}; {wait}"),
                    size,
                    0,
                    false,
                ));
                scripts.push(script(
                    format!("@!%skip {opcode} [%r4], [%in], {size}; {wait}"),
                    size,
                    0,
                    true,
                ));
                scripts.push(script(
                    format!("mov.u32 %r5, 3; {opcode} [%r4], [%in], {size}, %r5; {wait}"),
                    3,
                    size - 3,
                    false,
                ));
                scripts.push(script(
                    format!("setp.ne.u32 %p1, %r2, -1; {opcode} [%r4], [%in], {size}, %p1; {wait}"),
                    0,
                    size,
                    false,
                ));
            }
            scripts
        }
    }
}

pub fn all() {
    let mut scripts: Vec<Script> = of(&["mbarrier"]).iter().map(barrier).collect();
    scripts.extend(of(&["cp"]).iter().flat_map(copies));
    check(scripts);
}
