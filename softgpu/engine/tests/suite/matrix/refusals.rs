//! What is not there, not for the module's target, or not written as PTX wants it, is refused with its line.

use softgpu_engine::{CompileError, interpreter};

fn compile_version(version: &str, target: &str, instruction: &str) -> Result<(), CompileError> {
    let text = format!(
        ".version {version}\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 p) {{
.reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<9>; .reg .b16 %h<9>; .reg .pred %p; .shared .align 16 .b8 s[64]; .global .align 16 .b8 g[64];
{instruction}
ret; }}"
    );
    let module = softgpu_ptx::parse(&text).expect("the text is well-formed");
    interpreter().compile(&module)?.prepare(0)
}

fn compile(target: &str, instruction: &str) -> Result<(), CompileError> {
    compile_version("8.0", target, instruction)
}

fn refused(target: &str, instruction: &str, reason: &str) {
    let error = compile(target, instruction).expect_err(instruction);
    assert_eq!((error.function.as_str(), error.line), ("k", 6), "{error}");
    assert!(error.message.contains(reason), "{instruction}: {error}");
}

const D: &str = "{%f0, %f1, %f2, %f3}";
const A: &str = "{%r0, %r1, %r2, %r3}";
const B: &str = "{%r4, %r5}";

fn half(modifiers: &str) -> String {
    format!("{modifiers} {D}, {A}, {B}, {D};")
}

#[test]
fn targets_decide() {
    let mma = half("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    for target in ["sm_80", "sm_86", "sm_90a", "sm_100", "sm_120f"] {
        compile(target, &mma).unwrap();
    }
    for target in ["sm_75", "sm_70", "sm_35", "texmode_unified"] {
        refused(target, &mma, "needs `.target sm_80`");
    }
    for (target, since, instruction) in [
        ("sm_70", 75, "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];".to_owned()),
        ("sm_70", 75, "movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;".to_owned()),
        ("sm_89", 90, "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r1], {%r0};".to_owned()),
        ("sm_62", 70, "mma.sync.aligned.m8n8k4.row.col.f16.f16.f16.f16 {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%r0, %r1}, {%r0, %r1, %r2, %r3};".to_owned()),
        ("sm_75", 80, "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.and.popc {%r0, %r1}, {%r0}, {%r0}, {%r0, %r1};".to_owned()),
        ("sm_86", 89, half("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32")),
        ("sm_89", 90, "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%d0, %d1, %d2, %d3}, {%d0, %d1}, {%d0}, {%d0, %d1, %d2, %d3};".to_owned()),
        ("sm_62", 70, "wmma.load.c.sync.aligned.row.m16n16k16.global.f16 {%r0, %r1, %r2, %r3}, [%d0];".to_owned()),
        ("sm_70", 72, "wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {%r0, %r1}, [%d0];".to_owned()),
        ("sm_72", 75, "wmma.load.a.sync.aligned.row.m8n8k32.global.s4 {%r0}, [%d0];".to_owned()),
        ("sm_75", 80, "wmma.load.b.sync.aligned.row.m16n16k16.global.bf16 {%r0, %r1, %r2, %r3}, [%d0];".to_owned()),
        ("sm_75", 80, "wmma.mma.and.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32 {%r0, %r1}, {%r0}, {%r0}, {%r0, %r1};".to_owned()),
        ("sm_90", 100, "redux.sync.min.f32 %f0, %f1, -1;".to_owned()),
        ("sm_90", 100, "ld.global.v4.b64 {%d0, %d1, %d2, %d3}, [%d4];".to_owned()),
        ("sm_90", 100, "st.global.v8.b32 [%d0], {%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7};".to_owned()),
    ] {
        refused(target, &instruction, &format!("needs `.target sm_{since}`"));
        compile(&format!("sm_{since}"), &instruction).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn sync_and_aligned_are_needed() {
    refused(
        "sm_80",
        &half("mma.sync.m16n8k16.row.col.f32.f16.f16.f32"),
        "`.aligned`",
    );
    refused(
        "sm_80",
        &half("mma.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
        "`.sync`",
    );
    refused(
        "sm_80",
        "ldmatrix.sync.m8n8.x1.shared.b16 {%r0}, [%r1];",
        "`.aligned`",
    );
    let old = "wmma.load.c.sync.row.m16n16k16.global.f16 {%r0, %r1, %r2, %r3}, [%d0];";
    refused("sm_80", old, "`.aligned`");
    compile_version("6.0", "sm_70", old).unwrap();
}

#[test]
fn what_does_not_exist_is_not_supported() {
    for modifiers in [
        "mma.sync.aligned.m16n8k16.col.row.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.row.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32.f32",
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f16",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f16.bf16.bf16.f16",
        "mma.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32",
        "mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s4.s32",
        "mma.sync.aligned.m16n8k32.row.col.f32.s8.s8.f32",
        "mma.sync.aligned.m16n8k16.row.col.satfinite.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.rn.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32.xor.popc",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.popc",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.and.popc",
        "mma.sync.aligned.m16n8k16.row.col.shared.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.m16n8k16.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.aligned.m16n8k16.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m016n8k16.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k99999999999999999999.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m0n0k0.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.trans.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m8n8k4.row.col.f16.f16.f16.f32",
        "mma.sync.aligned.m8n8k4.row.f16.f16.f16.f16",
        "mma.sync.aligned.m8n8k4.row.col.rz.f16.f16.f16.f16",
        "mma.sync.aligned.m8n8k4.col.row.f64.f64.f64.f64",
        "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
        "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32",
        "mma",
        "wmma.sync.aligned",
        "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f16.f16.f32",
        "wmma.mma.sync.aligned.row.col.m16n16k16.f32",
        "wmma.mma.sync.aligned.row.col.m16n16k16.satfinite.f32.f32",
        "wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.u8.s32",
        "wmma.mma.sync.aligned.row.row.m8n8k32.s32.s4.s4.s32",
        "wmma.mma.sync.aligned.row.col.m16n8k16.f32.f32",
        "wmma.load.a.sync.aligned.col.m8n8k32.global.s4",
        "wmma.load.b.sync.aligned.row.m8n8k128.global.b1",
        "wmma.load.a.sync.aligned.row.m16n16k16.global.f32",
        "wmma.load.c.sync.aligned.row.m16n16k16.global.bf16",
        "wmma.load.d.sync.aligned.row.m16n16k16.global.f32",
        "wmma.store.c.sync.aligned.row.m16n16k16.global.f32",
        "wmma.load.c.sync.aligned.row.m8n8k4.global.f32",
        "wmma.load.c.sync.aligned.row.m16n16k16.local.f32",
        "wmma.load.c.sync.aligned.m16n16k16.global.f32",
        "ldmatrix.sync.aligned.m8n8.shared.b16",
        "ldmatrix.sync.aligned.m8n8.x3.shared.b16",
        "ldmatrix.sync.aligned.x1.shared.b16",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b8",
        "ldmatrix.sync.aligned.m16n16.x1.shared.b8",
        "ldmatrix.sync.aligned.m8n8.x1.x2.shared.b16",
        "ldmatrix.sync.aligned.m8n8.x1.global.b16",
        "ldmatrix.sync.aligned.m8n8.x1.shared::cluster.b16",
        "movmatrix.sync.aligned.m8n8.b16",
        "movmatrix.sync.aligned.m8n8.x1.trans.b16",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16",
        "tcgen05.mma.cta_group::1.kind::f16",
    ] {
        let error = compile("sm_90", &half(modifiers)).expect_err(modifiers);
        assert_eq!((error.function.as_str(), error.line), ("k", 6), "{error}");
    }
    refused(
        "sm_90",
        &half("mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32"),
        "mma.sp.sync",
    );
    refused("sm_90", "wgmma.fence.sync.aligned;", "wgmma.fence");
}

#[test]
fn operands_are_judged() {
    let mma = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
    for (operands, reason) in [
        (String::new(), "takes 4 operands"),
        (format!("{D}, {A}, {B}"), "takes 4 operands"),
        (format!("{D}, {A}, {B}, {D}, 0"), "takes 4 operands"),
        (format!("{D}, {A}, {A}, {D}"), "takes a vector of 2 where 4"),
        (format!("{D}, {B}, {B}, {D}"), "takes a vector of 4 where 2"),
        (format!("%f0, {A}, {B}, {D}"), "where no vector"),
        (
            format!("{{}}, {A}, {B}, {D}"),
            "takes a vector of 4 where 0",
        ),
        (format!("{D}, {A}, {B}, {{%d0, %d1, %d2, %d3}}"), "64 bits"),
        (format!("{{%d0, %d1, %d2, %d3}}, {A}, {B}, {D}"), "64 bits"),
        (format!("{D}, {A}, {{%h0, %h1}}, {D}"), "16 bits"),
        (format!("{D}, {A}, {{%p, %r1}}, {D}"), "register is needed"),
        (
            format!("{{%p, %f0, %f1, %f2}}, {A}, {B}, {D}"),
            "register is needed",
        ),
        (
            format!("{{1, %f0, %f1, %f2}}, {A}, {B}, {D}"),
            "register is needed",
        ),
        (format!("{D}, {A}, {{s, %r1}}, {D}"), "register is needed"),
        (
            format!("{D}, {A}, {{{{%r0, %r1}}, %r1}}, {D}"),
            "register is needed",
        ),
        (format!("{D}, {A}, [%d0], {D}"), "where no vector"),
        (
            format!("{D}, {A}, {{%tid.x, %r1}}, {D}"),
            "register is needed",
        ),
    ] {
        refused("sm_80", &format!("{mma} {operands};"), reason);
    }
    for (instruction, reason) in [
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r0, [%r1];",
            "where no vector",
        ),
        (
            "movmatrix.sync.aligned.m8n8.trans.b16 %r0, 5;",
            "register is needed",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0}, [%r1];",
            "takes a vector of 2 where 1",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%h0}, [%r1];",
            "16 bits",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, %r1;",
            "address in brackets",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%h1];",
            "32 or 64 bits",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [g];",
            "does not lie in the space",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [nowhere];",
            "not declared",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0};",
            "takes 2 operands",
        ),
        (
            "stmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];",
            "takes a vector of 1",
        ),
        (
            "movmatrix.sync.aligned.m8n8.trans.b16 %r0;",
            "takes 2 operands",
        ),
        ("movmatrix.sync.aligned.m8n8.trans.b16 %d0, %r1;", "64 bits"),
        (
            "movmatrix.sync.aligned.m8n8.trans.b16 %r0, %p;",
            "register is needed",
        ),
        (
            "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r0, %r1, %r2, %r3}, [%d0];",
            "takes a vector of 8",
        ),
        (
            "wmma.load.c.sync.aligned.row.m8n8k4.global.f64 {%r0, %r1}, [%d0];",
            "32 bits",
        ),
        (
            "wmma.load.c.sync.aligned.row.m8n8k4.global.f64 {%d0, %d1}, [%d0], %p;",
            "predicate",
        ),
        (
            "wmma.load.c.sync.aligned.row.m8n8k4.global.f64 {%d0, %d1}, [%d0], 8, 8;",
            "takes 2 or 3 operands",
        ),
        (
            "wmma.load.c.sync.aligned.row.m8n8k4.global.f64 {%d0, %d1};",
            "takes 2 or 3 operands",
        ),
        (
            "wmma.load.c.sync.aligned.row.m8n8k4.global.f64 [%d0], {%d0, %d1};",
            "where no vector",
        ),
        (
            "wmma.store.d.sync.aligned.row.m8n8k4.global.f64 {%d0, %d1}, [%d0];",
            "where no vector",
        ),
    ] {
        refused("sm_90", instruction, reason);
    }
    // Constants as operands, and results that nobody wants.
    compile(
        "sm_80",
        &format!(
            "{mma} {{_, %f1, %f2, %f3}}, {A}, {{0, 0x3c003c00}}, {{0f00000000, 0f00000000, 0, 0}};"
        ),
    )
    .unwrap();
}
