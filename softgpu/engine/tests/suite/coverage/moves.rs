//! Moves: of registers, packed and taken apart, and of vectors.

use super::of;
use super::run::{Case, Wanted, case, check, plain};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in of(&["mov"]) {
        let (opcode, ty) = (&form.opcode, form.last());
        let vector = match form.one_of(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        if vector > 1 {
            let from = ["%a", "%b", "%c", "%d"][..vector].join(", ");
            for at in 0..vector {
                let mut to = vec!["_"; vector];
                to[at] = "%o";
                let text = format!("{opcode} {{{}}}, {{{from}}};", to.join(", "));
                cases.push(case(opcode, text, &[ty; 4][..vector], ty, move |v| {
                    Wanted::Bits(v[at])
                }));
            }
            continue;
        }
        if ty == "b128" {
            for at in 0..2 {
                let to = ["{%o, %w}", "{%w, %o}"][at];
                // The register is a pair of 64 bits, declared once for both times that the text runs.
                let text = format!(
                    "{{ .reg .b128 %q1, %q2; mov.b128 %q1, {{%a, %b}}; {opcode} %q2, %q1; mov.b128 {to}, %q2; }}"
                );
                cases.push(case(opcode, text, &["b64", "b64"], "b64", move |v| {
                    Wanted::Bits(v[at])
                }));
            }
            continue;
        }
        cases.push(plain(opcode, &[ty], ty, |v| Wanted::Bits(v[0])));
        let halves = match ty {
            "b32" => Some(("b16", 16)),
            "b64" => Some(("b32", 32)),
            _ => None,
        };
        if let Some((half, bits)) = halves {
            cases.push(case(
                opcode,
                format!("{opcode} %o, {{%a, %b}};"),
                &[half, half],
                ty,
                move |v| Wanted::Bits(v[0] | v[1] << bits),
            ));
            for at in 0..2 {
                let to = ["{%o, _}", "{_, %o}"][at];
                cases.push(case(
                    opcode,
                    format!("{opcode} {to}, %a;"),
                    &[ty],
                    half,
                    move |v| Wanted::Bits(v[0] >> (bits * at)),
                ));
            }
        }
    }
    cases
}

pub fn all() {
    check(cases());
}
