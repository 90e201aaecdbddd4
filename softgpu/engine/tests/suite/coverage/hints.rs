//! What only says how an access will be used: data and results are as without it.

use softgpu_engine::forms;

use super::script::{Script, check};
use super::{Form, of};

/// A policy in `%d10`.
const POLICY: &str = "createpolicy.fractional.L2::evict_first.b64 %d10;";

fn script(opcode: String, body: String, wanted: impl Fn(&[u64]) -> u64 + 'static) -> Script {
    Script {
        opcode,
        body,
        reads: 2,
        writes: 1,
        wanted: Some(Box::new(move |thread, words| vec![wanted(&words[thread])])),
        ..Script::default()
    }
}

fn hinted(name: &str, hint: &str) -> Script {
    let policy = if hint == "L2::cache_hint" {
        ", %d10"
    } else {
        ""
    };
    match name {
        "ld" => {
            let opcode = format!("ld.global.{hint}.b64");
            let body = format!("{POLICY} {opcode} %d1, [%in]{policy}; st.global.b64 [%out], %d1;");
            script(opcode, body, |words| words[0])
        }
        "st" => {
            let opcode = format!("st.global.{hint}.b64");
            let body = format!("{POLICY} ld.global.b64 %d1, [%in]; {opcode} [%out], %d1{policy};");
            script(opcode, body, |words| words[0])
        }
        "atom" | "red" => {
            let opcode = format!("{name}.global.add.{hint}.u64");
            let dst = if name == "atom" { "%d3, " } else { "" };
            let body = format!(
                "{POLICY} ld.global.b64 %d1, [%in]; ld.global.b64 %d2, [%in+8]; st.global.b64 [%out], %d1; {opcode} {dst}[%out], %d2{policy};"
            );
            script(opcode, body, |words| words[0].wrapping_add(words[1]))
        }
        "cp" => {
            let opcode = format!("cp.async.ca.shared.global.{hint}");
            let body = format!(
                "{POLICY} .shared .align 16 .b8 s[1536]; mov.u32 %r1, %tid.x; shl.b32 %r1, %r1, 4; mov.u32 %r2, s; add.u32 %r1, %r1, %r2;
{opcode} [%r1], [%in], 16{policy}; cp.async.wait_all; ld.shared.b64 %d1, [%r1+8]; st.global.b64 [%out], %d1;"
            );
            script(opcode, body, |words| words[1])
        }
        other => panic!("no test of hints of {other}"),
    }
}

/// Instructions that are nothing but a hint, between a load and a store.
fn alone(form: &Form) -> Script {
    let space = form.one_of(&["global", "local"]);
    let place = if space == Some("local") {
        "[%d4]"
    } else {
        "[%in]"
    };
    let size = if matches!(form.name.as_str(), "applypriority" | "discard") {
        ", 128"
    } else {
        ""
    };
    // What is discarded may hold anything, so it is written anew.
    let place = if form.name == "discard" {
        "[%outs]"
    } else {
        place
    };
    let body = format!(
        ".local .align 16 .b8 l[64]; mov.u64 %d4, l; ld.global.b64 %d1, [%in]; st.local.b64 [%d4], %d1; {} {place}{size};
ld.local.b64 %d2, [%d4]; ld.global.b64 %d3, [%in]; bar.sync 0; add.u64 %d2, %d2, %d3; st.global.b64 [%out], %d2;",
        form.opcode
    );
    script(form.opcode.clone(), body, |words| words[0].wrapping_mul(2))
}

/// A policy is made, and goes with a load, a store and an atomic.
fn policy(form: &Form) -> Script {
    let made = match form.words[0].as_str() {
        "range" => format!("{} %d10, [%in], 64, 128;", form.opcode),
        "cvt" => format!("mov.b64 %d11, 0; {} %d10, %d11;", form.opcode),
        _ => format!("{} %d10, 0f3F000000; {} %d10;", form.opcode, form.opcode),
    };
    let body = format!(
        "{made} ld.global.L2::cache_hint.b64 %d1, [%in], %d10; st.global.L2::cache_hint.b64 [%out], %d1, %d10;
red.global.add.L2::cache_hint.u64 [%out], 5, %d10;"
    );
    script(form.opcode.clone(), body, |words| words[0].wrapping_add(5))
}

pub fn all() {
    let all = forms::all();
    // Those of surfaces are on the accesses that their own part makes.
    let hints = all
        .iter()
        .filter_map(|form| form.split_once(" with "))
        .filter(|(name, _)| !matches!(*name, "suld" | "sust"));
    let mut scripts: Vec<Script> = hints.map(|(name, hint)| hinted(name, hint)).collect();
    scripts.extend(
        of(&["prefetch", "prefetchu", "applypriority", "discard"])
            .iter()
            .map(alone),
    );
    scripts.extend(of(&["createpolicy"]).iter().map(policy));
    check(scripts);
}
