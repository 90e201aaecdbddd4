//! Registers of several parts, other names of functions, memory that threads take while they run.

use softgpu_engine::FaultKind;

use crate::common::{HEAD, Machine};
use crate::flow::{OPEN, run};

#[test]
fn registers_of_several_parts() {
    let ptx = format!(
        "{OPEN} .reg .v4 .u32 %v; .reg .v2 .b32 %u<3>; .reg .b128 %q, %z; .reg .v2 .b16 %h; .reg .b64 %lo, %hi;
mov.u32 %v.x, %i; add.u32 %v.y, %v.x, 1; mul.lo.u32 %v.z, %v.y, 3; mov.u32 %v.w, 9;
mul.wide.u32 %d0, %i, 64; add.u64 %o, %d9, %d0; st.global.v4.u32 [%o], %v;
mov.v2.b32 %u0, {{%v.y, %v.z}}; mov.v2.b32 %u0, {{%u0.y, %u0.x}}; mov.b64 %d1, %u0; mov.b64 %u2, %d1; st.global.v2.b32 [%o+16], %u2;
ld.global.v2.u32 %u1, [%o+8]; st.global.v2.u32 [%o+24], %u1;
mov.b128 %q, {{%d1, %d0}}; mov.b128 %z, %q; mov.b128 {{%lo, %hi}}, %z; mov.b128 %z, {{%hi, %lo}}; st.global.b128 [%o+32], %z;
ld.global.b128 %q, [%o]; mov.b128 {{_, %hi}}, %q; mov.b32 %h, %v.x; mov.b32 %r0, {{%h.y, %h.x}};
st.global.b64 [%o+48], %hi; mov.v4.u32 %v, %tid; st.global.v2.u32 [%o+56], {{%v.x, %r0}}; ret; }}"
    );
    let got = run(&ptx, 2, 40, 80 * 16, &[]);
    for (i, row) in got.chunks(16).enumerate() {
        let i = i as u32;
        let (y, z) = (i + 1, 3 * (i + 1));
        assert_eq!(row[..8], [i, y, z, 9, z, y, z, 9], "{i}");
        assert_eq!(row[8..12], [i * 64, 0, z, y], "{i}");
        assert_eq!(row[12..], [z, 9, i % 40, i << 16], "{i}");
    }
}

#[test]
fn functions_have_other_names() {
    let functions = ".func (.param .b32 r) one(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; add.u32 %a, %a, 1; st.param.b32 [r], %a; ret; }
.func (.param .b32 r) two(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; add.u32 %a, %a, 2; st.param.b32 [r], %a; ret; }
.visible .func (.param .b32 r) other(.param .b32 x);
.alias other, one;\n";
    let body = format!(
        "{OPEN} {{ .param .b32 a; .param .b32 b; st.param.b32 [a], %i; call.uni (b), other, (a); ld.param.b32 %r0, [b];
mov.u64 %d0, other; mov.u64 %d1, two; and.b32 %r1, %t, 1; setp.eq.u32 %p, %r1, 1; selp.b64 %d0, %d0, %d1, %p;
T: .calltargets one, two; call (b), %d0, (a), T; ld.param.b32 %r2, [b]; }}
mad.lo.u32 %r0, %r0, 1000, %r2; st.global.u32 [%o], %r0; ret; }}"
    );
    let got = run(&format!("{functions}{body}"), 1, 40, 40, &[]);
    for (i, got) in got.into_iter().enumerate() {
        let i = i as u32;
        assert_eq!(got, (i + 1) * 1000 + if i % 2 == 1 { i + 1 } else { i + 2 });
    }
}

#[test]
fn constants_are_told_from_global_memory() {
    let ptx = format!(
        ".const .align 4 .b32 c[4] = {{1, 2, 3, 4}}; .const .b32 e; .global .align 4 .b32 g[4];
{OPEN} mov.u64 %d0, c; add.u64 %d0, %d0, 12; mov.u64 %d1, g; mov.u64 %d2, e; mov.u32 %r0, 0;
isspacep.const %p, %d0; selp.u32 %r1, 1, 0, %p; or.b32 %r0, %r0, %r1; isspacep.global %p, %d0; selp.u32 %r1, 2, 0, %p; or.b32 %r0, %r0, %r1;
isspacep.const %p, %d1; selp.u32 %r1, 4, 0, %p; or.b32 %r0, %r0, %r1; isspacep.global %p, %d1; selp.u32 %r1, 8, 0, %p; or.b32 %r0, %r0, %r1;
isspacep.const %p, %d2; selp.u32 %r1, 16, 0, %p; or.b32 %r0, %r0, %r1; isspacep.global %p, %d9; selp.u32 %r1, 32, 0, %p; or.b32 %r0, %r0, %r1;
isspacep.const %p, %d9; selp.u32 %r1, 64, 0, %p; or.b32 %r0, %r0, %r1; st.global.u32 [%o], %r0; ret; }}"
    );
    assert!(
        run(&ptx, 1, 33, 33, &[])
            .iter()
            .all(|&got| got == 1 + 8 + 16 + 32)
    );
}

#[test]
fn what_a_block_knows_of_clusters() {
    let ptx = format!(
        "{OPEN} mov.u32 %r0, %clusterid.x; mov.u32 %r1, %nclusterid.x; mad.lo.u32 %r0, %r0, 100, %r1; mov.u32 %r1, %cluster_ctarank;
mov.u32 %r2, %cluster_nctarank; mad.lo.u32 %r0, %r0, 10, %r1; mad.lo.u32 %r0, %r0, 10, %r2; mov.pred %p, %is_explicit_cluster;
selp.u32 %r1, 1, 0, %p; mad.lo.u32 %r0, %r0, 10, %r1; st.global.u32 [%o], %r0; ret; }}"
    );
    for (i, got) in run(&ptx, 5, 20, 100, &[]).into_iter().enumerate() {
        assert_eq!(got, (i as u32 / 20 * 100 + 5) * 1000 + 10);
    }
}

#[test]
fn memory_that_a_thread_takes() {
    // Each thread takes as much as its number says, fills it, and calls a function that takes some for itself.
    let ptx = format!(
        ".func (.param .b32 r) sum(.param .b32 n) {{ .reg .b64 %p, %w; .reg .b32 %n, %k, %s, %x; .reg .pred %q; ld.param.b32 %n, [n];
mul.wide.u32 %w, %n, 4; alloca.u64 %p, %w, 64; and.b64 %w, %p, 63; setp.ne.u64 %q, %w, 0; @%q trap; mov.u32 %k, 0; mov.u32 %s, 0;
L: setp.ge.u32 %q, %k, %n; @%q bra E; mul.wide.u32 %w, %k, 4; add.u64 %w, %p, %w; st.local.u32 [%w], %k; ld.local.u32 %x, [%w]; add.u32 %s, %s, %x;
add.u32 %k, %k, 1; bra L; E: st.param.b32 [r], %s; ret; }}
{OPEN} stacksave.u64 %d0; add.u32 %r0, %t, 4; cvt.u64.u32 %d1, %r0; alloca.u64 %d2, %d1; cvta.local.u64 %d3, %d2; st.u32 [%d3], %i; mov.u32 %r9, 0;
R: {{ .param .b32 a; .param .b32 b; and.b32 %r1, %t, 15; st.param.b32 [a], %r1; call.uni (b), sum, (a); ld.param.b32 %r2, [b]; }}
add.u32 %r9, %r9, 1; setp.lt.u32 %p, %r9, 300; @%p bra R;
ld.local.u32 %r3, [%d2]; stackrestore.u64 %d0; alloca.u64 %d4, 16000; setp.eq.u64 %p, %d4, %d2; @!%p trap;
mad.lo.u32 %r3, %r3, 1000, %r2; st.global.u32 [%o], %r3; ret; }}"
    );
    for (i, got) in run(&ptx, 2, 50, 100, &[]).into_iter().enumerate() {
        let n = i as u32 % 50 % 16;
        assert_eq!(got, i as u32 * 1000 + n * n.saturating_sub(1) / 2, "{i}");
    }
}

#[test]
fn too_much_of_it_is_a_fault() {
    for size in ["20000", "0xffffffffffffffff"] {
        let mut machine = Machine::new(&format!(
            "{HEAD}{OPEN} setp.eq.u32 %p, %t, 3; mov.u64 %d0, 8; @%p mov.u64 %d0, {size}; alloca.u64 %d1, %d0; ret; }}"
        ));
        let out = machine.buffer(&[0u32; 64]);
        let launched = machine.launch_with("k", [1, 1, 1], [40, 1, 1], 0, &[out], (1 << 20, 10));
        let fault = launched.expect_err("a thread has not that much");
        assert!(matches!(fault.kind, FaultKind::Launch(_)));
        assert_eq!(fault.thread, [3, 0, 0]);
    }
}

const HEAP: &str = ".extern .func (.param .b64 r) malloc(.param .b64 n);
.extern .func free(.param .b64 p);\n";

#[test]
fn memory_from_the_heap() {
    let ptx = format!(
        "{HEAD}{HEAP}{OPEN} {{ .param .b64 n; st.param.b64 [n], 40; .param .b64 r; call.uni (r), malloc, (n); ld.param.b64 %d0, [r]; }}
setp.eq.u64 %p, %d0, 0; @%p trap; st.u32 [%d0], %i; st.u32 [%d0+36], %i; bar.sync 0; ld.u32 %r0, [%d0]; ld.u32 %r1, [%d0+36]; add.u32 %r0, %r0, %r1;
st.global.u32 [%o], %r0; and.b32 %r2, %t, 1; setp.eq.u32 %p, %r2, 1; @%p bra E;
{{ .param .b64 n; st.param.b64 [n], %d0; call.uni free, (n); }} E: ret; }}
.visible .entry all(.param .u64 po) {{ .reg .b64 %d<3>; {{ .param .b64 n; st.param.b64 [n], 0x100000; .param .b64 r; call.uni (r), malloc, (n); ld.param.b64 %d0, [r]; }}
ld.param.u64 %d1, [po]; st.global.u64 [%d1], %d0; ret; }}"
    );
    let mut machine = Machine::new(&ptx);
    assert!(
        machine
            .program
            .kernels()
            .iter()
            .all(|kernel| kernel.uses_heap)
    );
    let out = machine.buffer(&[0u32; 200]);
    machine.launch("k", 4, 50, &[out]);
    let got = machine.read::<u32>(out, 200);
    assert!(got.iter().enumerate().all(|(i, &got)| got == 2 * i as u32));
    // Half of it is still taken: not all the heap is there in one piece.
    machine.launch("all", 1, 1, &[out]);
    assert_eq!(machine.read::<u64>(out, 1), [0]);
}

#[test]
fn what_was_not_given_is_not_taken_back() {
    let mut machine = Machine::new(&format!(
        "{HEAD}{HEAP}{OPEN} {{ .param .b64 n; st.param.b64 [n], 0; call.uni free, (n); st.param.b64 [n], %d9; call.uni free, (n); }} ret; }}"
    ));
    let out = machine.buffer(&[0u32; 64]);
    let launched = machine.launch_with("k", [1, 1, 1], [1, 1, 1], 0, &[out], (1 << 20, 10));
    let fault = launched.expect_err("no such allocation");
    assert_eq!(
        (fault.kind, fault.address),
        (FaultKind::IllegalAddress, out)
    );
}

#[test]
fn hints_and_fences_change_nothing() {
    let ptx = format!(
        "{OPEN} .reg .b64 %policy; .reg .f32 %y; createpolicy.fractional.L2::evict_last.b64 %policy, 0f3F800000; prefetch.global.L2 [%d9]; prefetchu.L1 [%d9];
ld.global.L2::cache_hint.u32 %r0, [%o], %policy; st.relaxed.gpu.global.L2::cache_hint.u32 [%o], %i, %policy; fence.acq_rel.gpu; fence.sc.sys; membar.cta;
ld.acquire.sys.global.L1::no_allocate.u32 %r1, [%o]; atom.global.add.L2::cache_hint.u32 %r2, [%o], 5, %policy; red.release.gpu.global.add.L2::cache_hint.u32 [%o], 6, %policy;
st.release.cta.global.u32 [%o+0], %r1; ld.volatile.global.u32 %r3, [%o]; griddepcontrol.wait; griddepcontrol.launch_dependents; setmaxnreg.inc.sync.aligned.u32 64;
nanosleep.u32 1; pmevent 3; applypriority.global.L2::evict_normal [%d9], 128; add.u32 %r3, %r3, %r2; st.global.u32 [%o], %r3; ret; }}"
    );
    for (i, got) in run(&ptx, 2, 30, 60, &[]).into_iter().enumerate() {
        assert_eq!(got, 2 * i as u32);
    }
}
