//! What is near to a form of the list, but is none, is refused: also where its operands would do.

use std::collections::{BTreeMap, BTreeSet};

use softgpu_engine::{forms, interpreter};

use super::run::{Case, kernel};
use super::{Form, HEAD, computations, values};
use crate::common::Random;

fn compiles(case: &Case, text: &str) -> bool {
    let changed = kernel(0, &case.srcs, &case.dst, text);
    let Ok(module) = softgpu_ptx::parse(&format!("{HEAD}{changed}")) else {
        return false;
    };
    let program = interpreter().compile(&module);
    program.is_ok_and(|program| program.prepare(0).is_ok())
}

#[test]
fn neighbours_of_forms_are_forms_or_refused() {
    // Words that each instruction has anywhere.
    let mut words: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for form in forms::all().iter().filter(|form| !form.contains(' ')) {
        let (name, rest) = form.split_once('.').unwrap_or((form, ""));
        let known = words.entry(name.to_owned()).or_default();
        known.extend(rest.split('.').map(str::to_owned));
    }
    let seed = 0x00c0_ffee_u64;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let (mut accepted, mut refused) = (0, 0);
    for case in computations() {
        let (name, rest) = case.opcode.split_once('.').unwrap_or((&case.opcode, ""));
        let pool: Vec<&String> = words[name].iter().collect();
        let mut parts: Vec<&str> = rest.split('.').collect();
        let (at, word) = (random.next() as usize >> 8, random.next() as usize >> 8);
        let (at, word) = (at % parts.len(), pool[word % pool.len()].as_str());
        match random.next() >> 8 & 3 {
            0 => parts.insert(at, word),
            1 => parts[at] = word,
            2 => parts.push(word),
            _ => {
                parts.remove(at);
            }
        }
        let opcode = [vec![name], parts].concat().join(".");
        let text = case
            .text
            .replace(&format!("{} ", case.opcode), &format!("{opcode} "));
        if compiles(&case, &text) {
            accepted += 1;
            assert!(forms::forms_of(&opcode).is_ok(), "{text}");
        } else {
            refused += 1;
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 100 && refused > 1000);
}

/// Compilers write modifiers as they like; only types keep their order.
#[test]
fn modifiers_may_stand_in_any_order() {
    let mut turned = 0;
    for case in computations() {
        let form = Form::new(&case.opcode);
        let (types, mut others): (Vec<_>, Vec<_>) =
            form.words.iter().partition(|word| values::is_type(word));
        if others.len() < 2 {
            continue;
        }
        others.reverse();
        let words: Vec<&str> = others
            .into_iter()
            .chain(types)
            .map(String::as_str)
            .collect();
        let opcode = format!("{}.{}", form.name, words.join("."));
        let text = case
            .text
            .replace(&format!("{} ", case.opcode), &format!("{opcode} "));
        assert!(compiles(&case, &text), "{text}");
        turned += 1;
    }
    assert!(turned > 1000);
}
