//! Loads and stores of all spaces, sizes and vectors, by the bytes that they move.

use super::integers::value;
use super::script::{BLOCKS, Script, THREADS, UNTOUCHED, check};
use super::values::mask;
use super::{Form, of};

/// Bytes of each thread.
const ROOM: usize = 32;
const WORDS: usize = ROOM / 8;

struct Shape {
    ty: String,
    size: usize,
    count: usize,
    space: String,
}

fn size(ty: &str) -> usize {
    ty[1..].parse::<usize>().expect("a width") / 8
}

fn shape(form: &Form) -> Shape {
    let spaces = [
        "global",
        "const",
        "shared",
        "shared::cta",
        "local",
        "param",
        "param::entry",
        "param::func",
    ];
    Shape {
        ty: form.last().to_owned(),
        size: size(form.last()),
        count: match form.one_of(&["v2", "v4", "v8"]) {
            Some(vector) => vector[1..].parse().expect("a number"),
            None => 1,
        },
        space: form.one_of(&spaces).unwrap_or("").to_owned(),
    }
}

/// Element `at` of words that lie one after the other.
fn element(words: &[u64], at: usize, size: usize) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes[at * size..][..size]
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Registers that hold an element of a type, by letter, with their width: those of its size, and wider ones.
fn registers(ty: &str, size: usize) -> Vec<(char, u32)> {
    match size {
        8 => vec![('d', 64)],
        4 if ty == "f32" => vec![('f', 32)],
        4 => vec![('r', 32), ('d', 64)],
        _ => vec![('h', 16), ('r', 32), ('d', 64)],
    }
}

fn vector(letter: char, count: usize, from: usize) -> String {
    let names: Vec<String> = (from..from + count)
        .map(|at| format!("%{letter}{at}"))
        .collect();
    if count == 1 {
        names[0].clone()
    } else {
        format!("{{{}}}", names.join(", "))
    }
}

/// Copies the thread's bytes to where the space is, leaving an address in `%d20`; what is to be declared outside.
fn prepared(space: &str) -> String {
    let copy = |space: &str| -> String {
        (0..WORDS)
            .map(|at| {
                format!(
                    "ld.global.b64 %d21, [%in+{0}]; st.{space}.b64 [%d20+{0}], %d21;\n",
                    8 * at
                )
            })
            .collect()
    };
    match space {
        "" | "global" => "mov.u64 %d20, %in;\n".into(),
        "shared" | "shared::cta" => format!(
            ".shared .align 32 .b8 s[{}]; mov.u32 %r20, %tid.x; mul.wide.u32 %d20, %r20, {ROOM}; mov.u64 %d21, s; add.u64 %d20, %d20, %d21;\n{}",
            THREADS * ROOM,
            copy("shared")
        ),
        "local" => format!(
            ".local .align 32 .b8 l[{ROOM}]; mov.u64 %d20, l;\n{}",
            copy("local")
        ),
        "const" => format!(
            "mov.u64 %d21, constants; mul.wide.u32 %d20, %i, {ROOM}; add.u64 %d20, %d20, %d21;\n"
        ),
        _ => format!(
            "mov.u64 %d21, block; mul.wide.u32 %d20, %i, {ROOM}; add.u64 %d20, %d20, %d21;\n"
        ),
    }
}

/// The same for every thread, since they come with the module or the launch.
fn given() -> Vec<u64> {
    (0..(BLOCKS * THREADS * WORDS) as u64)
        .map(|at| (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at << 56)
        .collect()
}

fn load(form: &Form) -> Vec<Script> {
    let Shape {
        ty,
        size,
        count,
        space,
    } = shape(form);
    let opcode = &form.opcode;
    if size == 16 {
        return vec![load_wide(form, &space)];
    }
    let mut scripts = Vec::new();
    for (letter, bits) in registers(&ty, size) {
        let (all, some) = (vector(letter, count, 1), vector(letter, count, 10 - count));
        let mut body = String::new();
        let store = |at: usize, from: usize| {
            format!("st.global.b{bits} [%out+{}], %{letter}{from};\n", 8 * at)
        };
        let (first, second) = (1, 10 - count);
        let inner = {
            // All lanes, then those only that are not to be left alone.
            for at in 0..count {
                body += &format!("ld.global.b{bits} %{letter}{}, [%outs];\n", second + at);
            }
            body += &format!("{opcode} {all}, [ADDRESS];\n");
            for at in 0..count {
                body += &store(at, first + at);
            }
            body += &format!("@!%skip {opcode} {some}, [ADDRESS];\n");
            for at in 0..count {
                body += &store(count + at, second + at);
            }
            body
        };
        // Registers of eight from 1 and from 2 on would overlap.
        let inner = if count == 8 {
            two_rounds(opcode, letter, bits)
        } else {
            inner
        };
        let mut script = placed(form, &space, &inner.replace("ld.global.b", "LOAD.b"));
        script.body = script.body.replace("LOAD.b", "ld.global.b");
        script.outside = script.outside.replace("LOAD.b", "ld.global.b");
        script.writes = 2 * count + 1;
        let ty = ty.clone();
        let fixed = matches!(space.as_str(), "const" | "param" | "param::entry");
        script.wanted = Some(Box::new(move |thread, words| {
            let data = given();
            let from = if fixed {
                &data[thread * WORDS..][..WORDS]
            } else {
                &words[thread][..WORDS]
            };
            let whole = |at: usize| {
                let bits_of = element(from, at, size);
                let extended = if size < 8 && ty.starts_with('s') {
                    value(&ty, bits_of) as u64
                } else {
                    bits_of
                };
                UNTOUCHED & !mask(bits) | extended & mask(bits)
            };
            let mut wanted: Vec<u64> = (0..count).map(whole).collect();
            wanted.extend((0..count).map(|at| {
                if thread % 4 == 1 {
                    UNTOUCHED
                } else {
                    whole(at)
                }
            }));
            wanted.push(UNTOUCHED);
            wanted
        }));
        scripts.push(script);
    }
    scripts
}

fn two_rounds(opcode: &str, letter: char, bits: u32) -> String {
    let all = vector(letter, 8, 1);
    let mut body = format!("{opcode} {all}, [ADDRESS];\n");
    for at in 0..8 {
        body += &format!(
            "st.global.b{bits} [%out+{}], %{letter}{};\n",
            8 * at,
            at + 1
        );
    }
    for at in 0..8 {
        body += &format!("ld.global.b{bits} %{letter}{}, [%outs+128];\n", at + 1);
    }
    body += &format!("@!%skip {opcode} {all}, [ADDRESS];\n");
    for at in 0..8 {
        body += &format!(
            "st.global.b{bits} [%out+{}], %{letter}{};\n",
            8 * (at + 8),
            at + 1
        );
    }
    body
}

/// The instruction where its space is: in the kernel, or in a function that it calls.
fn placed(form: &Form, space: &str, inner: &str) -> Script {
    let mut script = Script {
        opcode: form.opcode.clone(),
        reads: WORDS,
        ..Script::default()
    };
    match space {
        "param::func" => {
            script.outside = format!(
                ".func fAT(.param .align 32 .b8 v[{ROOM}], .param .b64 outs, .param .b64 out, .param .b32 i) {{
.reg .b32 %i, %t, %r<24>; .reg .b64 %out, %outs, %d<24>; .reg .b16 %h<24>; .reg .f32 %f<12>; .reg .pred %skip; .reg .b128 %q<6>;
ld.param.u64 %outs, [outs]; ld.param.u64 %out, [out]; ld.param.u32 %i, [i]; and.b32 %t, %i, 3; setp.eq.u32 %skip, %t, 1;
{} ret; }}\n",
                inner.replace("ADDRESS", "v")
            );
            let fill: String = (0..WORDS)
                .map(|at| {
                    format!(
                        "ld.global.b64 %d21, [%in+{0}]; st.param.b64 [a+{0}], %d21;\n",
                        8 * at
                    )
                })
                .collect();
            script.body = format!(
                "{{ .param .align 32 .b8 a[{ROOM}]; .param .b64 b; .param .b64 c; .param .b32 e;\n{fill}
st.param.b64 [b], %outs; st.param.b64 [c], %out; st.param.b32 [e], %i; call fAT, (a, b, c, e); }}"
            );
        }
        _ => {
            script.body = format!("{}{}", prepared(space), inner.replace("ADDRESS", "%d20"));
            if space == "const" {
                let bytes: Vec<String> = given().iter().map(|word| format!("{word:#x}")).collect();
                script.outside = format!(
                    ".const .align 32 .b64 constantsAT[{}] = {{{}}};",
                    bytes.len(),
                    bytes.join(", ")
                );
                script.body = script.body.replace("constants", "constantsAT");
            }
            if space.starts_with("param") {
                script.params = format!(
                    ", .param .align 32 .b8 pad[16], .param .align 32 .b8 block[{}]",
                    BLOCKS * THREADS * ROOM
                );
                // Parameters before it end where its alignment wants it.
                script.extra = [vec![0; 6], given()].concat();
            }
        }
    }
    script
}

fn load_wide(form: &Form, space: &str) -> Script {
    let opcode = &form.opcode;
    let show = |at: usize, q: usize| {
        format!(
            "mov.b128 {{%d1, %d2}}, %q{q}; st.global.b64 [%out+{}], %d1; st.global.b64 [%out+{}], %d2;\n",
            8 * at,
            8 * at + 8
        )
    };
    let inner = format!(
        "ld.global.b64 %d3, [%outs]; mov.b128 %q2, {{%d3, %d3}}; {opcode} %q1, [ADDRESS];\n@!%skip {opcode} %q2, [ADDRESS];\n{}{}",
        show(0, 1),
        show(2, 2)
    );
    // What was there before is read from behind the words that threads write.
    let mut script = placed(form, space, &inner.replace("[%outs]", "[%out]"));
    script.writes = 4;
    let fixed = matches!(space, "const" | "param" | "param::entry");
    script.wanted = Some(Box::new(move |thread, words| {
        let data = given();
        let from = if fixed {
            &data[thread * WORDS..][..WORDS]
        } else {
            &words[thread][..WORDS]
        };
        let second = |at: usize| if thread % 4 == 1 { UNTOUCHED } else { from[at] };
        vec![from[0], from[1], second(0), second(1)]
    }));
    script
}

fn store(form: &Form) -> Vec<Script> {
    let Shape {
        ty,
        size,
        count,
        space,
    } = shape(form);
    let opcode = &form.opcode;
    let letters = if size == 16 {
        vec![('q', 128)]
    } else {
        registers(&ty, size)
    };
    let mut scripts = Vec::new();
    for (letter, bits) in letters {
        let from = vector(letter, count, 1);
        let mut values = String::new();
        for at in 1..=count {
            values += &match size {
                16 => "ld.global.b64 %d1, [%in]; ld.global.b64 %d2, [%in+8]; mov.b128 %q1, {%d1, %d2};\n".to_owned(),
                _ => format!("ld.global.b{bits} %{letter}{at}, [%in+{}];\n", 8 * (at - 1)),
            };
        }
        let call = space.starts_with("param");
        let target = match space.as_str() {
            "" | "global" => "mov.u64 %d20, %out;\n".to_owned(),
            "param" | "param::func" => String::new(),
            other => prepared(other)
                .lines()
                .take(1)
                .map(|line| format!("{line}\n"))
                .collect(),
        };
        let mut fill = String::new();
        let mut show = String::new();
        if !matches!(space.as_str(), "" | "global") && !call {
            let plain = if space == "local" { "local" } else { "shared" };
            for at in 0..WORDS {
                fill += &format!(
                    "mov.b64 %d21, {UNTOUCHED:#x}; st.{plain}.b64 [%d20+{}], %d21;\n",
                    8 * at
                );
                show += &format!(
                    "ld.{plain}.b64 %d21, [%d20+{0}]; st.global.b64 [%out+{0}], %d21;\n",
                    8 * at
                );
            }
        }
        let mut script = Script {
            opcode: opcode.clone(),
            reads: 8,
            writes: WORDS,
            body: format!("{values}{target}{fill}@!%skip {opcode} [%d20], {from};\n{show}"),
            ..Script::default()
        };
        if call {
            let plain: String = (0..WORDS)
                .map(|at| {
                    format!(
                        "mov.b64 %d21, {UNTOUCHED:#x}; st.param.b64 [a+{}], %d21;\n",
                        8 * at
                    )
                })
                .collect();
            script.body = format!(
                "{values}{{ .param .align 32 .b8 a[{ROOM}]; .param .b64 b;\n{plain}@!%skip {opcode} [a], {from};\nst.param.b64 [b], %out; call fAT, (a, b); }}"
            );
            let shown: String = (0..WORDS)
                .map(|at| {
                    format!(
                        "ld.param.b64 %d1, [v+{0}]; st.global.b64 [%out+{0}], %d1;\n",
                        8 * at
                    )
                })
                .collect();
            script.outside = format!(
                ".func fAT(.param .align 32 .b8 v[{ROOM}], .param .b64 out) {{ .reg .b64 %out, %d<4>; ld.param.u64 %out, [out];\n{shown} ret; }}\n"
            );
        }
        script.wanted = Some(Box::new(move |thread, words| {
            let mut bytes: Vec<u8> = UNTOUCHED.to_le_bytes().repeat(WORDS);
            if thread % 4 != 1 {
                for at in 0..count {
                    let value: Vec<u8> = words[thread][at..]
                        .iter()
                        .take(2)
                        .flat_map(|word| word.to_le_bytes())
                        .collect();
                    bytes[at * size..][..size].copy_from_slice(&value[..size]);
                }
            }
            bytes
                .chunks(8)
                .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight")))
                .collect()
        }));
        scripts.push(script);
    }
    scripts
}

pub fn all() {
    check(of(&["ld", "ldu"]).iter().flat_map(load).collect());
    check(of(&["st"]).iter().flat_map(store).collect());
}
