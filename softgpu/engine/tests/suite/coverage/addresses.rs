//! Addresses of one space as generic ones, and back.

use super::of;
use super::script::{Script, check};

const VARIABLES: &str = ".global .align 8 .b64 gAT = 0x1111111111111111; .const .align 8 .b64 cAT = 0x2222222222222222;";
const LOCALS: &str = ".shared .align 8 .b64 s; .local .align 8 .b64 l; mov.b64 %d1, 0x3333333333333333; st.shared.u64 [s], %d1;
mov.b64 %d1, 0x4444444444444444; st.local.u64 [l], %d1;\n";
const PARAM: u64 = 0x5555_5555_5555_5555;

/// Where a variable of the space is, and what it holds.
fn place(space: &str) -> (&'static str, u64) {
    match space {
        "global" => ("gAT", 0x1111_1111_1111_1111),
        "const" => ("cAT", 0x2222_2222_2222_2222),
        "shared" | "shared::cta" | "shared::cluster" => ("s", 0x3333_3333_3333_3333),
        "local" => ("l", 0x4444_4444_4444_4444),
        _ => ("p2", PARAM),
    }
}

fn script(opcode: &str, body: String, wanted: Vec<u64>) -> Script {
    Script {
        opcode: opcode.to_owned(),
        outside: VARIABLES.to_owned(),
        params: ", .param .b64 p2".into(),
        extra: vec![PARAM],
        body: format!("{LOCALS}{body}"),
        reads: 1,
        writes: wanted.len(),
        wanted: Some(Box::new(move |_, _| wanted.clone())),
        ..Script::default()
    }
}

fn converted(opcode: &str, space: &str, to: bool) -> Script {
    let (variable, value) = place(space);
    let named = match space {
        "param::entry" => "param",
        other => other,
    };
    // There and back, and each way alone.
    let way = if to {
        format!(
            "mov.u64 %d0, {variable}; cvta.{space}.u64 %d1, %d0; {opcode} %d1, %d1; ld.{named}.u64 %d2, [%d1];"
        )
    } else {
        format!("mov.u64 %d0, {variable}; {opcode} %d1, %d0; ld.u64 %d2, [%d1];")
    };
    script(
        opcode,
        format!("{way} st.global.u64 [%out], %d2;"),
        vec![value],
    )
}

fn asked(opcode: &str, space: &str) -> Script {
    let spaces = ["global", "const", "shared", "local", "param"];
    let mut body = String::new();
    for (at, other) in spaces.iter().enumerate() {
        body += &format!(
            "mov.u64 %d0, {}; cvta.{other}.u64 %d0, %d0; {opcode} %p0, %d0; selp.u64 %d1, 1, 0, %p0; st.global.u64 [%out+{}], %d1;\n",
            place(other).0,
            8 * at
        );
    }
    let here = |other: &&str| u64::from(space.split(':').next() == Some(*other));
    script(opcode, body, spaces.iter().map(here).collect())
}

pub fn all() {
    let mut scripts = Vec::new();
    for form in of(&["cvta"]) {
        let space = &form.words[form.words.len() - 2];
        scripts.push(converted(&form.opcode, space, form.has("to")));
    }
    for form in of(&["isspacep"]) {
        scripts.push(asked(&form.opcode, &form.words[0]));
    }
    check(scripts);
}
