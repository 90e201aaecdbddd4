//! What goes wrong is said with its place, and nothing else suffers.

use crate::common::{HEAD, Machine};
use softgpu_engine::{Fault, FaultKind, interpreter};

fn kernel(body: &str) -> Machine {
    Machine::new(&format!(
        "{HEAD}.visible .entry k(.param .u64 po) {{
.reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p;
ld.param.u64 %d0, [po];
mov.u32 %r0, %tid.x;
mov.u32 %r1, %ctaid.x;
{body}
ret; }}"
    ))
}

fn fault(machine: &mut Machine, grid: [u32; 3], block: [u32; 3]) -> Fault {
    let buffer = machine.buffer(&[0u32; 1024]);
    machine
        .launch_with("k", grid, block, 0, &[buffer], (1 << 20, 100))
        .expect_err("this kernel must fault")
}

#[test]
fn a_bad_address_names_thread_block_line() {
    for (block, thread) in [(64u32, 37u32), (8, 5)] {
        let mut machine = kernel(&format!(
            "setp.eq.u32 %p, %r0, {thread}; setp.eq.and.u32 %p, %r1, 2, %p;\n@%p mov.u64 %d0, 0xdead0000;\nst.global.u32 [%d0], %r0;"
        ));
        let fault = fault(&mut machine, [4, 1, 1], [block, 1, 1]);
        assert_eq!(fault.kind, FaultKind::IllegalAddress);
        assert_eq!((fault.block, fault.thread), ([2, 0, 0], [thread, 0, 0]));
        assert_eq!((fault.address, fault.line), (0xdead_0000, 11));
        assert_eq!(fault.instruction, "st.global.u32");
        assert_eq!(fault.kernel, "k");
    }
}

#[test]
fn threads_of_three_dimensions_are_named() {
    let mut machine = kernel("mov.u32 %r2, %tid.z; setp.eq.u32 %p, %r2, 2; @%p trap;");
    let fault = fault(&mut machine, [1, 2, 1], [4, 3, 3]);
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, [0, 0, 2]));
}

#[test]
fn every_space_has_its_bounds() {
    let cases = [
        ("ld.global.u32 %r3, [0];", FaultKind::IllegalAddress),
        (
            "mov.u64 %d1, 0; ld.u32 %r3, [%d1];",
            FaultKind::IllegalAddress,
        ),
        ("ld.global.u32 %r3, [%d0+2];", FaultKind::Misaligned),
        (
            "ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%d0+8];",
            FaultKind::Misaligned,
        ),
        (
            "atom.global.add.u32 %r3, [%d0+1], 1;",
            FaultKind::Misaligned,
        ),
        (
            ".shared .align 4 .b8 s[64]; st.shared.u32 [s+64], %r0;",
            FaultKind::IllegalAddress,
        ),
        (
            ".shared .align 4 .b8 s[64]; mov.u32 %r2, -4; st.shared.u32 [%r2], %r0;",
            FaultKind::IllegalAddress,
        ),
        (
            ".local .align 4 .b8 l[64]; st.local.u32 [l+4096], %r0;",
            FaultKind::IllegalAddress,
        ),
        (
            ".local .align 4 .b8 l[64]; mov.u64 %d1, -16; st.local.u32 [%d1], %r0;",
            FaultKind::IllegalAddress,
        ),
        ("ld.param.u64 %d1, [po+64];", FaultKind::IllegalAddress),
        (
            "mov.u64 %d1, 0x1000000000000; st.u32 [%d1], %r0;",
            FaultKind::IllegalAddress,
        ),
        (
            "mov.u64 %d1, 0xfffffffffffffffc; ld.u32 %r3, [%d1];",
            FaultKind::IllegalAddress,
        ),
        (
            "add.u32 %r2, %r0, 1; mul.wide.u32 %d1, %r2, 0x10000000; add.u64 %d1, %d0, %d1; ld.global.u32 %r3, [%d1];",
            FaultKind::IllegalAddress,
        ),
        (
            "atom.global.add.u32 %r3, [16], 1;",
            FaultKind::IllegalAddress,
        ),
    ];
    for (body, kind) in cases {
        for block in [1, 20, 33] {
            assert_eq!(
                fault(&mut kernel(body), [2, 1, 1], [block, 1, 1]).kind,
                kind,
                "{body}"
            );
        }
    }
}

#[test]
fn the_end_of_mapped_memory_is_exact_to_a_page() {
    let machine = kernel("ld.global.u32 %r3, [%d0]; ld.global.u32 %r3, [%d0+4];");
    let end = machine.space.base() + crate::common::SIZE;
    let launch = |at| machine.launch_with("k", [1, 1, 1], [32, 1, 1], 0, &[at], (1 << 20, 10));
    assert_eq!(launch(end - 8), Ok(true));
    assert_eq!(launch(end - 4).expect_err("beyond the end").address, end);
    machine.space.unmap(end - 4096, 4096).unwrap();
    assert_eq!(launch(end - 8).expect_err("unmapped").address, end - 8);
}

#[test]
fn host_ranges_are_allowed_by_name() {
    let machine =
        kernel("ld.global.u32 %r3, [%d0]; add.u32 %r3, %r3, 1; st.global.u32 [%d0], %r3;");
    let mut value = Box::new([41u32; 4]);
    let at = value.as_mut_ptr() as u64;
    let launch = || machine.launch_with("k", [1, 1, 1], [1, 1, 1], 0, &[at], (1 << 20, 10));
    assert!(launch().is_err());
    machine.space.allow_host(at, 16).unwrap();
    assert!(machine.space.allow_host(at + 8, 16).is_err());
    assert_eq!(launch(), Ok(true));
    assert_eq!(machine.read::<u32>(at, 1), [42]);
    machine.space.forbid_host(at).unwrap();
    assert!(launch().is_err());
    drop(value);
}

#[test]
fn endless_kernels_yield() {
    for body in [
        "L: bra L;",
        "L: setp.eq.u32 %p, %r0, 3; @%p bra L; bar.sync 0;",
        "L: nanosleep.u32 10; bra.uni L;",
    ] {
        let mut machine = kernel(body);
        let buffer = machine.buffer(&[0u32; 4]);
        assert_eq!(
            machine.launch_with("k", [1, 1, 1], [64, 1, 1], 0, &[buffer], (5000, 20)),
            Ok(false),
            "{body}"
        );
    }
    // A barrier that part of the block never reaches: each branch waits at its own.
    let mut machine = kernel("setp.eq.u32 %p, %r0, 3; @%p bra A; bar.sync 1; ret; A: bar.sync 2;");
    let buffer = machine.buffer(&[0u32; 4]);
    assert_eq!(
        machine.launch_with("k", [1, 1, 1], [64, 1, 1], 0, &[buffer], (5000, 20)),
        Ok(false)
    );
}

#[test]
fn bad_launches_are_refused() {
    let mut machine = kernel("");
    for block in [
        [0, 1, 1],
        [1025, 1, 1],
        [64, 64, 1],
        [u32::MAX, u32::MAX, 1],
    ] {
        assert!(matches!(
            fault(&mut machine, [1, 1, 1], block).kind,
            FaultKind::Launch(_)
        ));
    }
    let buffer = machine.buffer(&[0u32; 4]);
    let shared = machine
        .launch_with("k", [1, 1, 1], [1, 1, 1], 1 << 30, &[buffer], (1, 1))
        .expect_err("too much");
    assert!(matches!(shared.kind, FaultKind::Launch(_)));
}

#[test]
fn endless_recursion_is_a_fault() {
    let mut machine = Machine::new(&format!(
        "{HEAD}.func f() {{ .local .b8 l[256]; call f; ret; }} .visible .entry k(.param .u64 po) {{ call f; ret; }}"
    ));
    assert!(matches!(
        fault(&mut machine, [1, 1, 1], [32, 1, 1]).kind,
        FaultKind::Launch(_)
    ));
}

#[test]
fn what_is_not_known_is_refused_where_it_is_reached() {
    let text = format!(
        "{HEAD}.func g() {{ ret; }}
.func bad() {{
.reg .b32 %r<9>;
frobnicate.b32 %r0, %r1;
ret; }}
.visible .entry fine() {{ call g; ret; }}
.visible .entry broken() {{ call bad; ret; }}"
    );
    let program = interpreter()
        .compile(&softgpu_ptx::parse(&text).unwrap())
        .unwrap();
    assert_eq!(
        program
            .kernels()
            .iter()
            .map(|k| k.name.as_str())
            .collect::<Vec<_>>(),
        ["fine", "broken"]
    );
    program.prepare(0).unwrap();
    let error = program.prepare(1).unwrap_err();
    assert_eq!((error.function.as_str(), error.line), ("bad", 7));
    assert!(error.message.contains("frobnicate.b32"), "{error}");
}

#[test]
fn asserts_carry_their_text() {
    let mut machine = Machine::new(&format!(
        "{HEAD}.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.global .align 1 .b8 text[6] = {{120, 32, 62, 32, 48, 0}};
.visible .entry k(.param .u64 po) {{ .reg .b64 %d; .reg .b32 %t; .reg .pred %p; mov.u32 %t, %tid.x; setp.ne.u32 %p, %t, 7; @%p bra E;
mov.u64 %d, text; cvta.global.u64 %d, %d;
{{ .param .b64 p0; st.param.b64 [p0], %d; .param .b64 p1; st.param.b64 [p1], %d; .param .b32 p2; st.param.b32 [p2], 3;
.param .b64 p3; st.param.b64 [p3], %d; .param .b64 p4; st.param.b64 [p4], 1;
call.uni __assertfail, (p0, p1, p2, p3, p4); }}
E: ret; }}"
    ));
    let fault = fault(&mut machine, [1, 1, 1], [32, 1, 1]);
    assert_eq!(
        (fault.kind, fault.thread),
        (FaultKind::Assert("x > 0".into()), [7, 0, 0])
    );
}
