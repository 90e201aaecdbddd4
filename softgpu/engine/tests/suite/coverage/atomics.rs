//! Atomics, each thread on a place of its own: what was there before, and what is there then.

use super::integers::value;
use super::script::{BLOCKS, Script, THREADS, UNTOUCHED, check};
use super::values::{Operands, mask};
use super::{Form, of, soft};
use crate::common::Random;

/// Words of a thread: four of the place, two of the operand, two of what `cas` puts there.
const WORDS: usize = 8;

fn bits(ty: &str) -> usize {
    let digits: String = ty
        .trim_end_matches("x2")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let one: usize = digits.parse().expect("a width");
    if ty.ends_with("x2") { 2 * one } else { one }
}

/// Element `at` of so many bits.
fn get(words: &[u64], at: usize, bits: usize) -> u64 {
    words[at * bits / 64] >> (at * bits % 64) & mask(bits as u32)
}

fn put(words: &mut [u64], at: usize, bits: usize, value: u64) {
    let (word, shift) = (at * bits / 64, at * bits % 64);
    words[word] =
        words[word] & !(mask(bits as u32) << shift) | (value & mask(bits as u32)) << shift;
}

fn halves(name: &str, ty: &str, old: u64, a: u64) -> u64 {
    let nan = |x| soft::is_nan(ty, x);
    let result = match name {
        "add" => soft::compute(ty, "add", &[old, a], soft::rounding("rn")),
        _ if nan(old) => a,
        _ if nan(a) => old,
        name => {
            let less = match soft::order(ty, old, a) {
                Some(std::cmp::Ordering::Equal) => old & soft::sign(ty) != 0,
                order => order == Some(std::cmp::Ordering::Less),
            };
            if less == (name == "min") { old } else { a }
        }
    };
    if nan(result) {
        if ty == "f32" { 0x7fff_ffff } else { 0x7fff }
    } else {
        result
    }
}

fn update(name: &str, ty: &str, old: u64, a: u64, b: u64) -> u64 {
    if let Some(single) = ty.strip_suffix("x2") {
        return halves(name, single, old & 0xffff, a & 0xffff)
            | halves(name, single, old >> 16, a >> 16) << 16;
    }
    if ty.contains('f') {
        return halves(name, ty, old, a);
    }
    let (x, y) = (value(ty, old), value(ty, a));
    match name {
        "add" => (x + y) as u64,
        "min" => x.min(y) as u64,
        "max" => x.max(y) as u64,
        "inc" => {
            if x >= y {
                0
            } else {
                (x + 1) as u64
            }
        }
        "dec" => {
            if x == 0 || x > y {
                a
            } else {
                (x - 1) as u64
            }
        }
        "and" => old & a,
        "or" => old | a,
        "xor" => old ^ a,
        "exch" => a,
        _ => {
            if old == a {
                b
            } else {
                old
            }
        }
    }
}

fn operands(ty: &str) -> Vec<u64> {
    let mut random = Random(0x1357_9bdf_0246_8ace ^ ty.len() as u64);
    let (mut source, size) = (Operands::new(ty), bits(ty).min(64));
    let mut all = Vec::new();
    for thread in 0..BLOCKS * THREADS {
        let mut words = vec![0; WORDS];
        for at in 0..WORDS * 64 / size {
            let before = if at >= 256 / size {
                get(&words, at - 256 / size, size)
            } else {
                0
            };
            let mut value = source.next(&mut random, before);
            if ty == "f64" && f64::from_bits(value).is_nan() {
                // Which NaN comes out is not said.
                value = 1.5f64.to_bits();
            }
            put(&mut words, at, size, value);
        }
        if thread % 2 == 0 {
            // What `cas` waits for is there.
            (words[4], words[5]) = (words[0], words[1]);
        }
        all.extend(words);
    }
    all
}

fn script(form: &Form) -> Script {
    let names = [
        "add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas",
    ];
    let name = form.one_of(&names).expect("an operation");
    let ty = form.last().to_owned();
    let size = bits(&ty);
    let count = match form.one_of(&["v2", "v4", "v8"]) {
        Some(vector) => vector[1..].parse().expect("a number"),
        None => 1,
    };
    let letter = match ty.as_str() {
        "f32" => 'f',
        "f64" => 'g',
        _ => match size {
            16 => 'h',
            32 => 'r',
            64 => 'd',
            _ => 'q',
        },
    };
    let vector = |from: usize| {
        let all: Vec<String> = (from..from + count)
            .map(|at| format!("%{letter}{at}"))
            .collect();
        if count == 1 {
            all[0].clone()
        } else {
            format!("{{{}}}", all.join(", "))
        }
    };
    // Loads and stores of a register, whatever it is.
    let load = |register: usize, at: usize| match letter {
        'q' => format!(
            "ld.global.b64 %d5, [%in+{at}]; ld.global.b64 %d6, [%in+{}]; mov.b128 %q{register}, {{%d5, %d6}};\n",
            at + 8
        ),
        _ => format!("ld.global.b{size} %{letter}{register}, [%in+{at}];\n"),
    };
    let clear = |register: usize| match letter {
        'q' => format!("mov.b64 %d5, {UNTOUCHED:#x}; mov.b128 %q{register}, {{%d5, %d5}};\n"),
        _ => format!("ld.global.b{size} %{letter}{register}, [%out+24];\n"),
    };
    let show = |register: usize, at: usize| match letter {
        'q' => format!(
            "mov.b128 {{%d5, %d6}}, %q{register}; st.global.b64 [%out], %d5; st.global.b64 [%out+8], %d6;\n"
        ),
        _ => format!("st.global.b{size} [%out+{at}], %{letter}{register};\n"),
    };
    let (olds, first, second) = if count == 8 {
        (1, 9, 9)
    } else {
        (1, 1 + count, 1 + 2 * count)
    };
    let mut body = String::new();
    for at in 0..count {
        body += &load(first + at, 32 + at * size / 8);
        body += &clear(olds + at);
    }
    if name == "cas" {
        body += &load(second, 48);
    }
    let shared = form.one_of(&["shared", "shared::cta"]).is_some();
    let place = if shared {
        body += &format!(
            ".shared .align 32 .b8 s[{}]; mov.u32 %r20, %tid.x; mul.wide.u32 %d20, %r20, 32; mov.u64 %d21, s; add.u64 %d20, %d20, %d21;\n",
            THREADS * 32
        );
        for at in 0..4 {
            body += &format!(
                "ld.global.b64 %d21, [%in+{0}]; st.shared.b64 [%d20+{0}], %d21;\n",
                8 * at
            );
        }
        "[%d20]"
    } else {
        "[%in]"
    };
    let returns = form.name == "atom";
    let dst = if returns {
        format!("{}, ", vector(olds))
    } else {
        String::new()
    };
    let new = if name == "cas" {
        format!(", {}", vector(second))
    } else {
        String::new()
    };
    body += &format!(
        "@!%skip {} {dst}{place}, {}{new};\n",
        form.opcode,
        vector(first)
    );
    if shared {
        for at in 0..4 {
            body += &format!(
                "ld.shared.b64 %d21, [%d20+{0}]; st.global.b64 [%in+{0}], %d21;\n",
                8 * at
            );
        }
    }
    if returns {
        for at in 0..count {
            body += &show(olds + at, at * size / 8);
        }
    }
    let name = name.to_owned();
    let kind = ty.clone();
    let after = move |thread: usize, words: &[Vec<u64>]| {
        let mut words = words[thread].clone();
        if thread % 4 == 1 {
            return words;
        }
        if size == 128 {
            let (old, a, new) = (
                [words[0], words[1]],
                [words[4], words[5]],
                [words[6], words[7]],
            );
            let result = match name.as_str() {
                "exch" => a,
                _ if old == a => new,
                _ => old,
            };
            (words[0], words[1]) = (result[0], result[1]);
            return words;
        }
        for at in 0..count {
            let (old, a, b) = (
                get(&words, at, size),
                get(&words[4..], at, size),
                get(&words[6..], at, size),
            );
            put(&mut words, at, size, update(&name, &kind, old, a, b));
        }
        words
    };
    Script {
        opcode: form.opcode.clone(),
        body,
        reads: WORDS,
        writes: 4,
        inputs: Some(operands(if size == 128 { "b64" } else { &ty })),
        wanted: Some(Box::new(move |thread, words| {
            let mut results = vec![UNTOUCHED; 4];
            if returns && thread % 4 != 1 {
                if size == 128 {
                    results[..2].copy_from_slice(&words[thread][..2]);
                } else {
                    for at in 0..count {
                        put(&mut results, at, size, get(&words[thread], at, size));
                    }
                }
            }
            results
        })),
        after: Some(Box::new(after)),
        ..Script::default()
    }
}

pub fn all() {
    check(of(&["atom", "red"]).iter().map(script).collect());
}
