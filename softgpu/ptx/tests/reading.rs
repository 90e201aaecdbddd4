//! Real texts are read, and mutations of them never do worse than an error with a place.

use proptest::prelude::*;
use softgpu_ptx::{Base, Init, Linkage, Opaque, Operand, ScalarType, Space, parse};

const TEXTS: [&str; 4] = [
    include_str!("data/compiled.ptx"),
    include_str!("data/convolution_f32.ptx"),
    include_str!("data/reduction_int.ptx"),
    include_str!("data/mean_f16.ptx"),
];

#[test]
fn addresses_have_64_bits_unless_a_text_says_otherwise() {
    let size = |text: &str| parse(text).unwrap().address_size;
    assert_eq!(size(".version 1.4\n.target sm_10, map_f64_to_f32\n"), 64);
    assert_eq!(size(".version 7.0\n.target sm_80\n.address_size 32\n"), 32);
}

#[test]
fn reads_what_compilers_emit() {
    for text in TEXTS {
        let module = parse(text).unwrap();
        assert!(module.functions.iter().any(|function| function.is_entry));
    }
    let module = parse(TEXTS[0]).unwrap();
    assert_eq!(
        (module.version, module.target.as_str(), module.address_size),
        ((9, 5), "sm_86", 64)
    );
    let names: Vec<_> = module
        .variables
        .iter()
        .map(|variable| variable.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "coefficients",
            "pointers",
            "bytes",
            "dynamic",
            "floats",
            "managed"
        ]
    );
    let managed = module.variables.iter().map(|variable| variable.managed);
    assert_eq!(
        managed.collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
    let pointers = &module.variables[1];
    assert_eq!(
        (pointers.space, pointers.element, pointers.size),
        (Space::Global, ScalarType::U64, 24)
    );
    assert_eq!(
        pointers.init[0],
        Init::Address {
            symbol: "coefficients".into(),
            offset: 4,
            generic: true,
            mask: None
        }
    );
    assert_eq!(module.variables[3].linkage, Linkage::Extern);
    let kernel = module
        .functions
        .iter()
        .find(|function| function.name == "k")
        .unwrap();
    assert_eq!(kernel.bounds.maxntid, Some([256, 1, 1]));
    assert_eq!(kernel.bounds.minnctapersm, Some(2));
    assert_eq!(
        kernel
            .params
            .iter()
            .map(|param| (param.size, param.align))
            .collect::<Vec<_>>(),
        [(8, 8), (12, 4)]
    );
    let setp = kernel
        .body
        .iter()
        .find(|instruction| instruction.mnemonic() == "setp")
        .unwrap();
    assert!(matches!(
        setp.operands[..],
        [Operand::Pair(..), _, Operand::Int(16), Operand::Negated(_)]
    ));
    let load = kernel
        .body
        .iter()
        .find(|instruction| instruction.opcode.contains("v4"))
        .unwrap();
    assert_eq!(load.span.line, 64);
    assert!(matches!(
        load.operands[1],
        Operand::Address {
            base: Base::Register(_),
            offset: -16
        }
    ));
    // The same name in two scopes is two registers.
    let parts: Vec<_> = kernel
        .body
        .iter()
        .filter(|i| matches!(i.operands.first(), Some(Operand::Vector(_))))
        .collect();
    let (Operand::Vector(first), Operand::Vector(second)) =
        (&parts[0].operands[0], &parts[1].operands[0])
    else {
        panic!("vectors are there");
    };
    assert_ne!(first[0], second[1]);
    assert_eq!(kernel.tables[0].targets.len(), 2);
}

#[test]
fn says_line_column_and_what_was_expected() {
    let head = ".version 8.0\n.target sm_86\n.address_size 64\n";
    let cases = [
        ("", 1, "`.version`"),
        ("nonsense", 1, "`.version`"),
        (".entry", 4, "the name of a function"),
        (".entry k( .param .u64 a", 4, "`,`"),
        (".entry k() { mov.u32 %r1, 5; }", 4, "destination"),
        (
            ".entry k() {\n .reg .b32 %r<2>;\n add.u32 %r1, %r1, %r2;\n}",
            6,
            "`%r2` is not declared",
        ),
        (
            ".entry k() {\n bra NOWHERE;\n}",
            5,
            "label `NOWHERE` is nowhere",
        ),
        (".entry k() {\n L: L: ret;\n}", 5, "there twice"),
        (
            ".shared .attribute(.managed) .b32 s;",
            4,
            "only variables of `.global` are managed",
        ),
        (".entry k() { ret }", 4, "expected"),
        (".entry k() { ret;", 4, "has no end"),
        (".global .b8 x[99999999999999999];", 4, "larger than"),
        (".global .align 3 .b8 x;", 4, "no power of two"),
        (
            ".global .b8 x[2] = {1, 2, 3};",
            4,
            "larger than the variable",
        ),
    ];
    for (text, line, message) in cases {
        let whole = if line == 1 {
            text.to_owned()
        } else {
            format!("{head}{text}")
        };
        match parse(&whole) {
            Err(error) => {
                assert_eq!(error.line, line, "{text}: {error}");
                assert!(
                    error.to_string().contains(message) || message == "destination",
                    "{text}: {error}"
                );
            }
            Ok(_) => panic!("{text} was read"),
        }
    }
}

#[test]
fn textures_are_declared() {
    let head = ".version 8.0\n.target sm_86, texmode_independent\n.address_size 64\n";
    let module = parse(&format!(
        "{head}.global .texref a, b; .extern .global .surfref c;
.tex .u32 old;
.global .samplerref d = {{ addr_mode_0 = clamp_to_border, filter_mode = nearest, force_unnormalized_coords = 1 }};
.entry k(.param .texref t, .param .u64 .ptr .surfref s) {{ tex.1d.v4.f32.s32 {{x, x, x, x}}|x, [a, d, {{x}}], {{1}}; }}"
    ));
    // The last instruction's operands are no registers: that is the engine's to refuse.
    let module = module.unwrap();
    let found: Vec<_> = module
        .variables
        .iter()
        .map(|variable| (variable.name.as_str(), variable.opaque, variable.size))
        .collect();
    let (texture, surface) = (Some(Opaque::Texture), Some(Opaque::Surface));
    assert_eq!(
        found,
        [
            ("a", texture, 8),
            ("b", texture, 8),
            ("c", surface, 8),
            ("old", texture, 8),
            ("d", Some(Opaque::Sampler), 8)
        ]
    );
    assert_eq!(module.variables[2].linkage, Linkage::Extern);
    let field = |name: &str, value: &str| Init::Field {
        name: name.into(),
        value: value.into(),
    };
    assert_eq!(
        module.variables[4].init,
        [
            field("addr_mode_0", "clamp_to_border"),
            field("filter_mode", "nearest"),
            field("force_unnormalized_coords", "1")
        ]
    );
    assert_eq!(module.functions[0].params[0].size, 8);
    let bad = [
        ".shared .texref a;",
        ".global .texref a[4];",
        ".global .v2 .texref a;",
        ".global .texref .b32 a;",
        ".global .samplerref a = { filter_mode };",
        ".global .samplerref a = { filter_mode = linear",
        ".global .samplerref a = linear;",
        ".entry k() { .reg .texref a; }",
        ".func f(.reg .texref a) { ret; }",
    ];
    for text in bad {
        assert!(parse(&format!("{head}{text}")).is_err(), "{text} was read");
    }
    let many = "a = 1, ".repeat(1000);
    assert!(parse(&format!("{head}.global .samplerref s = {{ {many} }};")).is_err());
}

#[test]
fn depth_and_counts_are_bounded() {
    let head = ".version 8.0\n.target sm_86\n.address_size 64\n";
    let deep = "{".repeat(100_000);
    assert!(parse(&format!("{head}.entry k() {{ {deep}")).is_err());
    assert!(parse(&format!("{head}.entry k() {{ mov.b32 {deep}")).is_err());
    assert!(parse(&format!("{head}.global .b8 x[9] = {deep}")).is_err());
    let list = "1, ".repeat(100_000);
    assert!(parse(&format!("{head}.entry k() {{ mov.b32 {{ {list} }}; }}")).is_err());
    // A huge range costs nothing while nobody uses it.
    assert!(
        parse(&format!(
            "{head}.entry k() {{ .reg .b32 %r<4000000000>; mov.b32 %r3999999999, 1; }}"
        ))
        .is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn mutations_never_panic(
        which in 0usize..TEXTS.len(),
        edits in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u8..5), 1..8),
    ) {
        let mut text = TEXTS[which].as_bytes().to_vec();
        let snippets: [&[u8]; 12] = [b"{", b"}", b"(", b"[", b";", b"%r1", b".reg", b"<999>", b"@!", b"0x", b"\"", b"/*"];
        for (at, value, kind) in edits {
            let len = text.len().max(1);
            let at = at as usize % len;
            match kind {
                0 if !text.is_empty() => text[at] = (value % 128) as u8,
                1 => { text.splice(at..at, snippets[value as usize % snippets.len()].iter().copied()); }
                2 => { text.drain(at..(at + value as usize % 40).min(text.len())); }
                3 => { let copy = text[at..(at + value as usize % 200).min(text.len())].to_vec(); text.splice(at..at, copy); }
                _ => text.truncate(at),
            }
        }
        if let Err(error) = parse(&String::from_utf8_lossy(&text)) {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }
}
