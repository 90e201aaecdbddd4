//! Divergence, barriers, memory spaces, atomics, warps, calls.

use crate::common::{HEAD, Machine};

pub fn run(ptx: &str, grid: u32, block: u32, out: usize, more: &[u64]) -> Vec<u32> {
    run_under(HEAD, ptx, grid, block, out, more)
}

/// Under another head, of a newer target.
pub fn run_under(
    head: &str,
    ptx: &str,
    grid: u32,
    block: u32,
    out: usize,
    more: &[u64],
) -> Vec<u32> {
    let mut machine = Machine::new(&format!("{head}{ptx}"));
    let output = machine.buffer(&vec![0u32; out]);
    let mut params = vec![output];
    params.extend(more);
    machine.launch("k", grid, block, &params);
    machine.read(output, out)
}

/// Opening of a kernel: thread number of the grid in %i, address of its word of the output in %o.
pub const OPEN: &str = ".visible .entry k(.param .u64 po) {
.reg .b32 %i, %t, %n, %r<20>; .reg .b64 %o, %w, %d<10>; .reg .pred %p, %q; .reg .f32 %f<4>;
ld.param.u64 %o, [po]; mov.u32 %t, %tid.x; mov.u32 %i, %ctaid.x; mov.u32 %n, %ntid.x; mad.lo.u32 %i, %i, %n, %t;
mul.wide.u32 %w, %i, 4; mov.b64 %d9, %o; add.u64 %o, %o, %w;\n";

#[test]
fn loops_of_different_lengths() {
    // Collatz steps, which differ wildly from lane to lane.
    let ptx = format!(
        "{OPEN} add.u32 %r0, %i, 1; mov.u32 %r1, 0;
L: setp.eq.u32 %p, %r0, 1; @%p bra END;
and.b32 %r2, %r0, 1; setp.eq.u32 %q, %r2, 0; @%q bra EVEN;
mad.lo.u32 %r0, %r0, 3, 1; bra NEXT;
EVEN: shr.u32 %r0, %r0, 1;
NEXT: add.u32 %r1, %r1, 1; bra L;
END: st.global.u32 [%o], %r1; }}"
    );
    for block in [1u32, 20, 32, 96, 250] {
        let n = 500usize;
        let got = run(&ptx, (n as u32).div_ceil(block), block, n + 250, &[]);
        for (i, &got) in got.iter().enumerate().take(n) {
            let (mut x, mut steps) = (i as u64 + 1, 0);
            while x != 1 {
                x = if x & 1 == 0 { x / 2 } else { 3 * x + 1 };
                steps += 1;
            }
            assert_eq!(got, steps, "{i} in blocks of {block}");
        }
    }
}

#[test]
fn nested_branches_join_again() {
    // Behind the branches all lanes must be together: activemask sees them.
    let ptx = format!(
        "{OPEN} and.b32 %r0, %t, 3; setp.eq.u32 %p, %r0, 0; @%p bra A;
setp.eq.u32 %p, %r0, 1; @%p bra B; mov.u32 %r1, 30; setp.eq.u32 %q, %r0, 3; @!%q bra JOIN; add.u32 %r1, %r1, 5; bra JOIN;
A: mov.u32 %r1, 10; bra JOIN;
B: mov.u32 %r1, 20;
JOIN: activemask.b32 %r2; popc.b32 %r2, %r2; mad.lo.u32 %r1, %r2, 1000, %r1; st.global.u32 [%o], %r1; ret; }}"
    );
    let got = run(&ptx, 2, 64, 128, &[]);
    for (i, &got) in got.iter().enumerate() {
        assert_eq!(got, 32000 + [10, 20, 30, 35][i % 4]);
    }
}

#[test]
fn switches() {
    let ptx = format!(
        "{OPEN} and.b32 %r0, %t, 3;
T: .branchtargets L0, L1, L2, L3;
brx.idx %r0, T;
L0: mov.u32 %r1, 7; bra E; L1: mov.u32 %r1, 11; bra E; L2: mov.u32 %r1, 13; bra E; L3: mov.u32 %r1, 17;
E: st.global.u32 [%o], %r1; ret; }}"
    );
    let got = run(&ptx, 1, 50, 50, &[]);
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &got)| got == [7, 11, 13, 17][i % 4])
    );
}

#[test]
fn shared_memory_and_barriers() {
    // A sum by halving; the second half of the block waits at the barrier through another branch.
    let ptx = format!(
        "{OPEN} .shared .align 4 .b8 s[1024];
mov.u32 %r0, s; shl.b32 %r1, %t, 2; add.u32 %r2, %r0, %r1;
mul.lo.u32 %r3, %i, %i; st.shared.u32 [%r2], %r3;
bar.sync 0;
shr.u32 %r4, %n, 1;
L: setp.ge.u32 %p, %t, %r4; @%p bra SKIP;
shl.b32 %r5, %r4, 2; add.u32 %r5, %r2, %r5;
ld.shared.u32 %r6, [%r2]; ld.shared.u32 %r7, [%r5]; add.u32 %r6, %r6, %r7; st.shared.u32 [%r2], %r6;
bar.sync 0; bra NEXT;
SKIP: bar.sync 0;
NEXT: shr.u32 %r4, %r4, 1; setp.ne.u32 %q, %r4, 0; @%q bra L;
ld.shared.u32 %r8, [s]; st.global.u32 [%o], %r8; ret; }}"
    );
    for block in [1u32, 2, 16, 32, 64, 256] {
        let got = run(&ptx, 3, block, 3 * block as usize, &[]);
        for (i, &got) in got.iter().enumerate() {
            let first = i as u32 / block * block;
            let wanted = (first..first + block).fold(0u32, |sum, i| sum.wrapping_add(i * i));
            assert_eq!(got, wanted, "{i} in blocks of {block}");
        }
    }
}

#[test]
fn reductions_at_barriers() {
    let ptx = format!(
        "{OPEN} .reg .pred %a, %b; setp.lt.u32 %p, %t, 5; bar.red.popc.u32 %r0, 0, %p;
bar.red.or.pred %a, 1, %p; setp.lt.u32 %q, %t, 1000; bar.red.and.pred %b, 1, %q;
selp.u32 %r1, 100, 0, %a; selp.u32 %r2, 1000, 0, %b; add.u32 %r0, %r0, %r1; add.u32 %r0, %r0, %r2;
st.global.u32 [%o], %r0; ret; }}"
    );
    assert!(run(&ptx, 2, 100, 200, &[]).iter().all(|&got| got == 1105));
}

#[test]
fn named_barriers_hand_over() {
    // Warp 0 produces, warp 1 consumes: arrive and sync on barrier 3.
    let ptx = format!(
        "{OPEN} .shared .align 4 .b8 s[128]; .reg .b32 %s;
and.b32 %r0, %t, 31; shl.b32 %r1, %r0, 2; mov.u32 %s, s; add.u32 %s, %s, %r1;
setp.ge.u32 %p, %t, 32; @%p bra CONSUME;
add.u32 %r2, %r0, 500; st.shared.u32 [%s], %r2; bar.arrive 3, 64; bra E;
CONSUME: bar.sync 3, 64; ld.shared.u32 %r2, [%s];
E: st.global.u32 [%o], %r2; ret; }}"
    );
    let got = run(&ptx, 4, 64, 256, &[]);
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &got)| got == 500 + i as u32 % 32)
    );
}

#[test]
fn shuffles() {
    let shuffle = |mode: &str, by: u32, control: u32| {
        let ptx = format!(
            "{OPEN} shfl.sync.{mode}.b32 %r0|%p, %t, {by}, {control}, 0xffffffff;
selp.u32 %r1, 1000, 0, %p; add.u32 %r0, %r0, %r1; st.global.u32 [%o], %r0; ret; }}"
        );
        run(&ptx, 1, 64, 64, &[])
    };
    for (i, got) in shuffle("bfly", 5, 0x1f).into_iter().enumerate() {
        assert_eq!(got, 1000 + (i as u32 ^ 5));
    }
    for (i, got) in shuffle("up", 3, 0).into_iter().enumerate() {
        let (lane, i) = (i as u32 % 32, i as u32);
        assert_eq!(got, if lane >= 3 { 1000 + i - 3 } else { i });
    }
    for (i, got) in shuffle("down", 4, 0x1f).into_iter().enumerate() {
        let (lane, i) = (i as u32 % 32, i as u32);
        assert_eq!(got, if lane + 4 < 32 { 1000 + i + 4 } else { i });
    }
    // Segments of 8 lanes: lane 2 of each.
    for (i, got) in shuffle("idx", 2, 0x181f).into_iter().enumerate() {
        assert_eq!(got, 1000 + i as u32 / 8 * 8 + 2);
    }
    for (i, got) in shuffle("down", 3, 0x181f).into_iter().enumerate() {
        let i = i as u32;
        assert_eq!(got, if i % 8 + 3 < 8 { 1000 + i + 3 } else { i });
    }
}

#[test]
fn lanes_gather_for_a_shuffle() {
    // Half of the warp takes a detour; the shuffle behind it names all lanes.
    let ptx = format!(
        "{OPEN} mov.u32 %r1, %t; setp.lt.u32 %p, %t, 16; @%p bra FAR;
BACK: shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1; st.global.u32 [%o], %r2; ret;
FAR: add.u32 %r1, %r1, 100; bra BACK; }}"
    );
    let got = run(&ptx, 1, 32, 32, &[]);
    for (i, &got) in got.iter().enumerate() {
        let from = i as u32 ^ 16;
        assert_eq!(got, if from < 16 { from + 100 } else { from });
    }
}

#[test]
fn votes_matches_and_reductions() {
    let ptx = format!(
        "{OPEN} setp.lt.u32 %p, %t, 9; vote.sync.ballot.b32 %r0, %p, -1; vote.sync.any.pred %q, %p, -1; selp.u32 %r1, 1, 0, %q;
vote.sync.all.pred %q, %p, -1; selp.u32 %r2, 2, 0, %q; or.b32 %r1, %r1, %r2;
and.b32 %r3, %t, 3; match.any.sync.b32 %r4, %r3, -1; redux.sync.add.s32 %r5, %t, -1; redux.sync.max.u32 %r6, %t, -1;
mov.u32 %r7, %lanemask_lt; mov.u32 %r8, %laneid; mov.u32 %r10, %warpid;
mul.wide.u32 %d0, %i, 32; add.u64 %o, %d9, %d0;
st.global.v4.u32 [%o], {{%r0, %r1, %r4, %r5}}; st.global.v4.u32 [%o+16], {{%r6, %r7, %r8, %r10}}; ret; }}"
    );
    let got = run(&ptx, 1, 64, 64 * 8, &[]);
    for i in 0..64u32 {
        let row = &got[i as usize * 8..][..8];
        let (warp, lane) = (i / 32, i % 32);
        assert_eq!(row[0], if warp == 0 { 0x1ff } else { 0 });
        assert_eq!(row[1], u32::from(warp == 0));
        assert_eq!(row[2], 0x1111_1111 << (i % 4));
        assert_eq!(row[3], (0..32).map(|l| warp * 32 + l).sum::<u32>());
        assert_eq!(row[4..], [warp * 32 + 31, (1u32 << lane) - 1, lane, warp]);
    }
}

#[test]
fn atomics_count_right() {
    let ptx = format!(
        "{OPEN} atom.global.add.u32 %r0, [%d9], 3; atom.global.max.s32 %r1, [%d9+4], %i; red.global.add.f32 [%d9+8], 0f3F000000;
atom.global.inc.u32 %r2, [%d9+12], 6; atom.global.cas.b32 %r3, [%d9+16], 0, 77; red.global.or.b32 [%d9+20], %i;
atom.global.exch.b32 %r4, [%d9+24], %i; red.global.add.u64 [%d9+32], 5; red.global.min.u32 [%d9+40], %i;
.shared .align 4 .b8 s[4]; setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [s], 0; bar.sync 0;
atom.shared.add.u32 %r5, [s], 1; bar.sync 0; ld.shared.u32 %r6, [s]; setp.ne.u32 %q, %r6, %n; @%q trap; ret; }}"
    );
    for block in [8u32, 96] {
        let got = run(&ptx, 12, block, 16, &[]);
        let n = 12 * block;
        assert_eq!(got[0], 3 * n);
        assert_eq!(got[1], n - 1);
        assert_eq!(f32::from_bits(got[2]), n as f32 / 2.0);
        assert_eq!(got[3], n % 7);
        assert_eq!(got[4], 77);
        assert_eq!(got[5], (0..n).fold(0, |all, i| all | i));
        assert!(got[6] < n);
        assert_eq!(u64::from(got[8]), 5 * u64::from(n));
        assert_eq!(got[10], 0);
    }
}

#[test]
fn blocks_on_threads_add_up() {
    let ptx = format!("{HEAD}{OPEN} atom.global.add.u32 %r0, [%d9], 1; ret; }}");
    let mut machine = Machine::new(&ptx);
    let output = machine.buffer(&[0u32; 64]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| machine.launch("k", 100, 64, &[output]));
        }
    });
    assert_eq!(machine.read::<u32>(output, 1), [4 * 100 * 64]);
}

#[test]
fn a_spin_lock_between_lanes_of_a_warp_comes_to_an_end() {
    let ptx = format!(
        "{OPEN} LOCK: atom.global.cas.b32 %r0, [%d9], 0, 1; setp.ne.u32 %p, %r0, 0; @%p bra LOCK;
ld.volatile.global.u32 %r1, [%d9+4]; add.u32 %r1, %r1, 1; st.volatile.global.u32 [%d9+4], %r1;
membar.gl; atom.global.exch.b32 %r2, [%d9], 0; ret; }}"
    );
    for (grid, block) in [(1, 32), (2, 48), (3, 8)] {
        assert_eq!(run(&ptx, grid, block, 16, &[])[1], grid * block);
    }
}

#[test]
fn lanes_and_blocks_wait_for_each_other() {
    // Block 0's lane 0 sets the flag last; everyone else spins on plain volatile loads.
    let ptx = format!(
        "{OPEN} setp.eq.u32 %p, %i, 40; @%p bra SET;
WAIT: ld.volatile.global.u32 %r0, [%d9]; setp.eq.u32 %q, %r0, 0; @%q bra WAIT; bra E;
SET: mov.u32 %r0, 9; st.volatile.global.u32 [%d9], %r0;
E: setp.eq.u32 %p, %i, 0; @%p bra OUT; st.global.u32 [%o], %r0; OUT: ret; }}"
    );
    for block in [4u32, 64] {
        let got = run(&ptx, 64 / block, block, 64, &[]);
        assert!(got.iter().all(|&got| got == 9));
    }
}

#[test]
fn local_arrays() {
    let ptx = format!(
        "{OPEN} .local .align 8 .b8 __local_depot0[64]; .reg .b64 %SP, %SPL;
mov.u64 %SPL, __local_depot0; cvta.local.u64 %SP, %SPL; mov.u32 %r0, 0;
L: mul.wide.u32 %d0, %r0, 4; add.u64 %d1, %SPL, %d0; mul.lo.u32 %r1, %r0, %i; st.local.u32 [%d1], %r1;
add.u32 %r0, %r0, 1; setp.lt.u32 %p, %r0, 16; @%p bra L;
and.b32 %r2, %i, 15; mul.wide.u32 %d0, %r2, 4; add.u64 %d1, %SP, %d0; ld.u32 %r3, [%d1];
ld.local.u32 %r4, [__local_depot0+12]; add.u32 %r3, %r3, %r4; st.global.u32 [%o], %r3; ret; }}"
    );
    for block in [5u32, 40] {
        let got = run(&ptx, 8, block, 8 * block as usize, &[]);
        assert!(
            got.iter()
                .enumerate()
                .all(|(i, &got)| got == (i as u32 % 16) * i as u32 + 3 * i as u32)
        );
    }
}

#[test]
fn generic_addresses_find_their_space() {
    let ptx = format!(
        "{OPEN} .shared .align 4 .b8 s[512]; .local .align 4 .b8 l[4]; .reg .b64 %a;
mov.u64 %a, s; mul.wide.u32 %d0, %t, 4; add.u64 %a, %a, %d0; cvta.shared.u64 %a, %a;
mov.u64 %d1, l; cvta.local.u64 %d1, %d1; setp.lt.u32 %p, %t, 20; selp.b64 %d2, %a, %d1, %p;
@!%p bra G; isspacep.shared %q, %d2; bra H; G: isspacep.local %q, %d2; H:
and.b32 %r0, %t, 1; setp.eq.u32 %p, %r0, 0; selp.b64 %d2, %d2, %o, %p;
st.u32 [%d2], %i; ld.u32 %r1, [%d2]; @!%q mov.u32 %r1, 12345; st.global.u32 [%o], %r1; ret; }}"
    );
    let got = run(&ptx, 2, 40, 80, &[]);
    assert!(
        got.iter().enumerate().all(|(i, &got)| got == i as u32),
        "{got:?}"
    );
}

#[test]
fn calls_pass_values_and_structs() {
    let ptx = ".func (.param .b32 r) twice(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; add.u32 %a, %a, %a; st.param.b32 [r], %a; ret; }
.func (.param .align 8 .b8 r[16]) pair(.param .align 8 .b8 p[16], .param .b32 y) {
.reg .b64 %d; .reg .b32 %a, %b; ld.param.u64 %d, [p]; ld.param.u32 %a, [p+8]; ld.param.u32 %b, [y]; add.u32 %a, %a, %b;
{ .param .b32 param0; st.param.b32 [param0], %a; .param .b32 retval0; call.uni (retval0), twice, (param0); ld.param.b32 %a, [retval0]; }
st.param.u64 [r], %d; st.param.u32 [r+8], %a; ret; }
.func (.reg .u32 r) old(.reg .u32 x) { add.u32 r, x, 1; ret; }\n";
    let body = format!(
        "{OPEN} cvt.u64.u32 %d0, %i; {{ .param .align 8 .b8 param0[16]; st.param.u64 [param0], %d0; st.param.u32 [param0+8], %i;
.param .b32 param1; st.param.b32 [param1], 7; .param .align 8 .b8 retval0[16];
call.uni (retval0), pair, (param0, param1); ld.param.u64 %d1, [retval0]; ld.param.u32 %r1, [retval0+8]; }}
cvt.u32.u64 %r2, %d1; mad.lo.u32 %r1, %r2, 1000, %r1; call (%r3), old, (%r1); st.global.u32 [%o], %r3; ret; }}"
    );
    let got = run(&format!("{ptx}{body}"), 2, 33, 66, &[]);
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &got)| got == i as u32 * 1000 + 2 * (i as u32 + 7) + 1)
    );
}

#[test]
fn recursion_with_lanes_at_different_depths() {
    let ptx = ".func (.param .b32 r) fib(.param .b32 x) { .reg .b32 %a<6>; .reg .pred %p; ld.param.b32 %a0, [x];
setp.lt.u32 %p, %a0, 2; @%p bra DONE; sub.u32 %a1, %a0, 1;
{ .param .b32 param0; st.param.b32 [param0], %a1; .param .b32 retval0; call.uni (retval0), fib, (param0); ld.param.b32 %a2, [retval0]; }
sub.u32 %a1, %a0, 2;
{ .param .b32 param0; st.param.b32 [param0], %a1; .param .b32 retval0; call.uni (retval0), fib, (param0); ld.param.b32 %a3, [retval0]; }
add.u32 %a0, %a2, %a3;
DONE: st.param.b32 [r], %a0; ret; }\n";
    let body = format!(
        "{OPEN} and.b32 %r0, %i, 15; {{ .param .b32 param0; st.param.b32 [param0], %r0; .param .b32 retval0;
call.uni (retval0), fib, (param0); ld.param.b32 %r1, [retval0]; }} st.global.u32 [%o], %r1; ret; }}"
    );
    let got = run(&format!("{ptx}{body}"), 1, 40, 40, &[]);
    let fib = |n: u32| (0..n).fold((0u32, 1), |(a, b), _| (b, a + b)).0;
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &got)| got == fib(i as u32 % 16)),
        "{got:?}"
    );
}

#[test]
fn calls_through_pointers_in_variables() {
    let ptx = ".func (.param .b32 r) inc(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; add.u32 %a, %a, 1; st.param.b32 [r], %a; ret; }
.func (.param .b32 r) dbl(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; add.u32 %a, %a, %a; st.param.b32 [r], %a; ret; }
.global .align 8 .u64 table[2] = {inc, dbl};
.const .align 4 .b32 numbers[4] = {5, 6, 7, 8};
.global .align 8 .u64 where = generic(numbers)+4;\n";
    let body = format!(
        "{OPEN} and.b32 %r0, %t, 1; mul.wide.u32 %d0, %r0, 8; mov.u64 %d1, table; add.u64 %d1, %d1, %d0; ld.global.u64 %d2, [%d1];
{{ .param .b32 param0; st.param.b32 [param0], %i; .param .b32 retval0;
P: .callprototype (.param .b32 _) _ (.param .b32 _);
call (retval0), %d2, (param0), P; ld.param.b32 %r1, [retval0]; }}
ld.const.u32 %r2, [numbers+8]; ld.global.u64 %d3, [where]; ld.u32 %r3, [%d3]; mad.lo.u32 %r2, %r2, 100, %r3;
mad.lo.u32 %r1, %r1, 1000, %r2; st.global.u32 [%o], %r1; ret; }}"
    );
    let got = run(&format!("{ptx}{body}"), 1, 40, 40, &[]);
    let value = |i: u32| if i & 1 == 0 { i + 1 } else { 2 * i };
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &got)| got == value(i as u32) * 1000 + 706),
        "{got:?}"
    );
}

#[test]
fn vectors_and_narrow_types_in_memory() {
    let ptx = format!(
        "{OPEN} mul.wide.u32 %d0, %i, 16; add.u64 %d1, %d9, %d0; .reg .b16 %h<4>; .reg .f32 %x<4>;
add.u32 %r1, %i, 1; add.u32 %r2, %i, 2; add.u32 %r3, %i, 3; st.global.v4.u32 [%d1], {{%i, %r1, %r2, %r3}};
ld.global.v2.u32 {{%r4, %r5}}, [%d1+8]; ld.global.u8 %r6, [%d1]; ld.global.s8 %r7, [%d1+1]; ld.global.u16 %h0, [%d1+4];
cvt.u32.u16 %r8, %h0; add.u32 %r4, %r4, %r5; add.u32 %r6, %r6, %r8; cvt.u16.u32 %h1, %r6; cvt.u16.u32 %h2, %r4;
st.global.v2.b16 [%d1], {{%h1, %h2}}; st.global.u8 [%d1+12], 200; ld.global.s8 %r9, [%d1+12]; st.global.u32 [%d1+4], %r9; ret; }}"
    );
    let got = run(&ptx, 2, 50, 400, &[]);
    for i in 0..100u32 {
        let row = &got[i as usize * 4..][..4];
        assert_eq!(row[0], (2 * i + 1) | (2 * i + 5) << 16);
        assert_eq!(row[1], -56i32 as u32);
        assert_eq!(row[2..], [i + 2, (i + 3) & !255 | 200]);
    }
}

/// Half of each warp goes round a loop meanwhile, for so long that the others are let on.
const APART: &str =
    "and.b32 %r1, %t, 1; mul.lo.u32 %r1, %r1, 100; LOOP: setp.eq.u32 %p, %r1, 0; @%p bra DONE;
ld.volatile.shared.u32 %r2, [s]; sub.u32 %r1, %r1, 1; bra LOOP; DONE:";

#[test]
fn a_barrier_with_a_number_waits_for_whole_warps() {
    let ptx = format!(
        "{OPEN} .shared .b32 s[97]; shl.b32 %r3, %t, 2; mov.u32 %r4, s; add.u32 %r3, %r3, %r4; st.shared.u32 [%r3], 1000;
bar.sync 0; {APART} st.shared.u32 [%r3], %t; bar.sync 1, 96;
add.u32 %r5, %t, 1; rem.u32 %r5, %r5, 96; shl.b32 %r5, %r5, 2; add.u32 %r5, %r5, %r4; ld.shared.u32 %r6, [%r5];
st.global.u32 [%o], %r6; ret; }}"
    );
    for (i, got) in run(&ptx, 2, 96, 192, &[]).into_iter().enumerate() {
        assert_eq!(got as usize, (i % 96 + 1) % 96);
    }
}

#[test]
fn a_warp_arrives_when_its_last_thread_does() {
    // The first warp writes and goes on, the second one waits for it.
    let ptx = format!(
        "{OPEN} .shared .b32 s[65]; shl.b32 %r3, %t, 2; and.b32 %r3, %r3, 127; mov.u32 %r4, s; add.u32 %r3, %r3, %r4;
setp.lt.u32 %q, %t, 32; @%q bra GIVE; bar.sync 1, 64; ld.shared.u32 %r6, [%r3]; st.global.u32 [%o], %r6; ret;
GIVE: {APART} add.u32 %r5, %t, 7; st.shared.u32 [%r3], %r5; bar.arrive 1, 64; ret; }}"
    );
    for (i, got) in run(&ptx, 2, 64, 128, &[]).into_iter().enumerate() {
        let wanted = if i % 64 < 32 { 0 } else { i % 64 - 32 + 7 };
        assert_eq!(got as usize, wanted, "{i}");
    }
}

#[test]
fn reductions_at_different_places_are_one() {
    let ptx = format!(
        "{OPEN} mov.u32 %r1, 0; mov.u32 %r2, 0; and.b32 %r3, %t, 1; setp.eq.u32 %p, %r3, 0; setp.lt.u32 %q, %t, 32; @%q bra A;
barrier.red.popc.u32 %r1, 1, %p; bra B; A: barrier.red.popc.u32 %r2, 1, !%p; B: mad.lo.u32 %r1, %r2, 1000, %r1; st.global.u32 [%o], %r1; ret; }}"
    );
    for (i, got) in run(&ptx, 2, 96, 192, &[]).into_iter().enumerate() {
        // 16 of the first warp's and 32 of the others'.
        assert_eq!(got, if i % 96 < 32 { 48_000 } else { 48 }, "{i}");
    }
}

#[test]
fn barriers_of_small_blocks_are_their_own() {
    let ptx = format!(
        "{OPEN} .shared .b32 s[17]; shl.b32 %r3, %t, 2; mov.u32 %r4, s; add.u32 %r3, %r3, %r4; {APART} st.shared.u32 [%r3], %i;
bar.sync 1, 32; xor.b32 %r5, %t, 7; shl.b32 %r5, %r5, 2; add.u32 %r5, %r5, %r4; ld.shared.u32 %r6, [%r5]; st.global.u32 [%o], %r6; ret; }}"
    );
    let ptx = ptx.replace("mul.lo.u32 %r1, %r1, 100", "mad.lo.u32 %r1, %r1, 100, %i");
    for (i, got) in run(&ptx, 9, 8, 72, &[]).into_iter().enumerate() {
        assert_eq!(got as usize, i ^ 7, "{i}");
    }
}
