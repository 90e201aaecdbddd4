//! `cp.async`, `mbarrier`, and what lanes of a warp elect and reduce.

use softgpu_engine::FaultKind;

use crate::common::{HEAD, Machine};
use crate::flow::{OPEN, run, run_under};

/// Copy to shared memory, wait, and write what is there to the output; the source is the output's second half.
fn copied(block: u32, size: u32, extra: &str, prepare: &str) -> (Vec<u8>, Vec<u8>) {
    let ptx = format!(
        "{HEAD}{OPEN} .shared .align 16 .b8 s[4096]; .reg .b32 %s, %k; .reg .b64 %src, %dst;
ld.param.u64 %src, [po]; mul.lo.u32 %r1, %t, {size}; cvt.u64.u32 %d1, %r1; add.u64 %src, %src, 4096; add.u64 %src, %src, %d1;
mov.u32 %s, s; add.u32 %s, %s, %r1;
mov.u32 %k, -1; L0: setp.lt.u32 %q, %r1, 4096; {prepare}
cp.async.ca.shared.global [%s], [%src], {size}{extra};
cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;
ld.param.u64 %dst, [po]; add.u64 %dst, %dst, %d1; mov.u32 %r2, 0;
L: ld.shared.u8 %r3, [%s]; st.global.u8 [%dst], %r3; add.u32 %s, %s, 1; add.u64 %dst, %dst, 1; add.u32 %r2, %r2, 1;
setp.lt.u32 %p, %r2, {size}; @%p bra L; ret; }}"
    );
    let mut machine = Machine::new(&ptx);
    let source: Vec<u8> = (0..4096u32)
        .map(|at| (at * 7 + at / 256) as u8 | 1)
        .collect();
    let mut all = vec![0xeeu8; 4096];
    all.extend(&source);
    let out = machine.buffer(&all);
    machine.launch("k", 1, block, &[out]);
    (machine.read(out, 4096), source)
}

#[test]
fn copies_of_all_sizes() {
    for size in [4u32, 8, 16] {
        for block in [1, 20, 64, 256] {
            let (got, source) = copied(block, size, "", "");
            let n = (block * size) as usize;
            assert_eq!(got[..n], source[..n], "{size} bytes by {block} threads");
            assert!(got[n..].iter().all(|&byte| byte == 0xee));
        }
    }
}

#[test]
fn copies_fill_up_with_zeros() {
    // Each thread reads as many bytes as its number says, at most all.
    let (got, source) = copied(40, 16, ", %t", "");
    for (at, &byte) in got[..640].iter().enumerate() {
        let wanted = if at % 16 < at / 16 { source[at] } else { 0 };
        assert_eq!(byte, wanted, "{at}");
    }
    let (got, source) = copied(64, 8, ", %p", "and.b32 %r4, %t, 1; setp.eq.u32 %p, %r4, 1;");
    for (at, &byte) in got[..512].iter().enumerate() {
        assert_eq!(byte, if at / 8 % 2 == 1 { 0 } else { source[at] }, "{at}");
    }
    let (got, source) = copied(
        64,
        8,
        ", !%p",
        "and.b32 %r4, %t, 1; setp.eq.u32 %p, %r4, 1;",
    );
    for (at, &byte) in got[..512].iter().enumerate() {
        assert_eq!(byte, if at / 8 % 2 == 0 { 0 } else { source[at] }, "{at}");
    }
}

fn fault(body: &str, block: u32) -> softgpu_engine::Fault {
    let mut machine = Machine::new(&format!(
        "{HEAD}{OPEN} .shared .align 16 .b8 s[64]; .reg .b32 %s; .reg .b64 %b; mov.u32 %s, s; cvt.u64.u32 %b, %s; {body} ret; }}"
    ));
    let out = machine.buffer(&[0u32; 1024]);
    let launched = machine.launch_with("k", [2, 1, 1], [block, 1, 1], 0, &[out], (1 << 20, 100));
    launched.expect_err("this must fault")
}

#[test]
fn bad_places_are_faults() {
    let cases = [
        (
            "cp.async.cg.shared.global [%s], [%d9+8], 16;",
            FaultKind::Misaligned,
        ),
        (
            "cp.async.cg.shared.global [%s+8], [%d9], 16;",
            FaultKind::Misaligned,
        ),
        (
            "cp.async.cg.shared.global [%s+64], [%d9], 16;",
            FaultKind::IllegalAddress,
        ),
        (
            "cp.async.ca.shared.global [%s], [0], 4;",
            FaultKind::IllegalAddress,
        ),
        (
            "mov.u32 %r1, -8; cp.async.ca.shared.global [%r1], [%d9], 8;",
            FaultKind::IllegalAddress,
        ),
        ("mbarrier.init.shared.b64 [%s+4], 1;", FaultKind::Misaligned),
        (
            "mbarrier.init.shared.b64 [%s+64], 1;",
            FaultKind::IllegalAddress,
        ),
        (
            "mbarrier.init.shared.b64 [%s], 0;",
            FaultKind::IllegalInstruction,
        ),
        (
            "mbarrier.init.shared.b64 [%s], 0x100000;",
            FaultKind::IllegalInstruction,
        ),
        (
            "mbarrier.init.b64 [%d9], 1;",
            FaultKind::InvalidAddressSpace,
        ),
        (
            "mbarrier.init.shared.b64 [%s], 1; mbarrier.arrive.shared.b64 _, [%s], 2;",
            FaultKind::IllegalInstruction,
        ),
        (
            "atom.global.add.v2.f32 _, [%d9+4], {%f0, %f1};",
            FaultKind::Misaligned,
        ),
        (
            "red.global.add.v4.f32 [16], {%f0, %f1, %f2, %f3};",
            FaultKind::IllegalAddress,
        ),
    ];
    for (body, kind) in cases {
        for block in [1, 40] {
            assert_eq!(fault(body, block).kind, kind, "{body}");
        }
    }
    // The other source of a copy that reads nothing may be anywhere.
    let (got, _) = copied(8, 4, ", 0", "mov.u64 %src, 3;");
    assert!(got[..32].iter().all(|&byte| byte == 0));
}

#[test]
fn phases_of_an_mbarrier() {
    // Half of the warps produce round by round, the others consume; two objects say full and empty.
    let ptx = format!(
        "{OPEN} .shared .align 8 .b64 full; .shared .align 8 .b64 empty; .shared .align 4 .b32 data[32]; .reg .b32 %s, %round, %sum;
setp.eq.u32 %p, %t, 0; @!%p bra READY; mbarrier.init.shared::cta.b64 [full], 32; mbarrier.init.shared::cta.b64 [empty], 32;
READY: bar.sync 0; and.b32 %r0, %t, 31; mov.u32 %s, data; mad.lo.u32 %s, %r0, 4, %s; mov.u32 %round, 0; mov.u32 %sum, 0;
setp.ge.u32 %p, %t, 32; @%p bra CONSUME;
PRODUCE: and.b32 %r1, %round, 1; xor.b32 %r1, %r1, 1;
W0: mbarrier.try_wait.parity.shared::cta.b64 %q, [empty], %r1; @!%q bra W0;
mad.lo.u32 %r2, %round, 1000, %r0; st.shared.u32 [%s], %r2; mbarrier.arrive.release.cta.shared::cta.b64 _, [full];
add.u32 %round, %round, 1; setp.lt.u32 %q, %round, 9; @%q bra PRODUCE; bra E;
CONSUME: and.b32 %r1, %round, 1;
W1: mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 %q, [full], %r1; @!%q bra W1;
ld.shared.u32 %r2, [%s]; add.u32 %sum, %sum, %r2; mbarrier.arrive.shared.b64 %d0, [empty];
add.u32 %round, %round, 1; setp.lt.u32 %q, %round, 9; @%q bra CONSUME;
E: st.global.u32 [%o], %sum; ret; }}"
    );
    let got = run(&ptx, 5, 64, 320, &[]);
    for (i, &got) in got.iter().enumerate() {
        let lane = i as u32 % 32;
        assert_eq!(got, if i % 64 < 32 { 0 } else { 36_000 + 9 * lane }, "{i}");
    }
}

#[test]
fn states_counts_and_bytes() {
    let ptx = format!(
        "{OPEN} .shared .align 8 .b64 m; .reg .b64 %a, %first, %second; .reg .b32 %x<9>;
mov.u64 %a, m; cvta.shared.u64 %a, %a; mbarrier.init.b64 [%a], 3;
mbarrier.arrive.b64 %first, [%a]; mbarrier.pending_count.b64 %x0, %first; mbarrier.test_wait.b64 %p, [%a], %first; selp.u32 %x1, 1, 0, %p;
mbarrier.arrive.expect_tx.shared::cta.b64 %second, [m], 64; mbarrier.pending_count.b64 %x2, %second;
mbarrier.arrive_drop.b64 _, [%a]; mbarrier.test_wait.b64 %p, [%a], %first; selp.u32 %x3, 1, 0, %p;
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [m], 60; mbarrier.test_wait.b64 %p, [%a], %second; selp.u32 %x4, 1, 0, %p;
mbarrier.complete_tx.shared::cta.b64 [m], 4; mbarrier.test_wait.b64 %p, [%a], %second; selp.u32 %x5, 1, 0, %p;
cp.async.mbarrier.arrive.shared.b64 [m]; mbarrier.arrive.noComplete.b64 %second, [%a], 1; mbarrier.pending_count.b64 %x6, %second;
mbarrier.test_wait.parity.b64 %p, [%a], 1; selp.u32 %x7, 1, 0, %p;
cp.async.mbarrier.arrive.noinc.b64 [%a]; mbarrier.test_wait.parity.b64 %p, [%a], 1; selp.u32 %x8, 1, 0, %p;
mbarrier.inval.b64 [%a]; mul.wide.u32 %d0, %i, 48; add.u64 %o, %d9, %d0;
st.global.v4.u32 [%o], {{%x0, %x1, %x2, %x3}}; st.global.v4.u32 [%o+16], {{%x4, %x5, %x6, %x7}}; st.global.u32 [%o+32], %x8; ret; }}"
    );
    // Blocks of one thread: several of them run side by side, each with an object of its own.
    let got = run(&ptx, 70, 1, 70 * 12, &[]);
    for row in got.chunks(12) {
        assert_eq!(row[..9], [3, 0, 2, 0, 0, 1, 2, 0, 1]);
    }
}

#[test]
fn one_lane_is_elected() {
    let ptx = format!(
        "{OPEN} mov.u32 %r5, 0xdead; elect.sync %r0|%p, -1; selp.u32 %r1, 1, 0, %p; and.b32 %r2, %t, 31; setp.lt.u32 %q, %r2, 12; @%q bra LOW;
elect.sync %r3|%p, 0xfffff000; bra JOIN; LOW: elect.sync %r3|%p, 0x00000fff;
JOIN: selp.u32 %r4, 1, 0, %p; elect.sync _|%p, -1; mul.wide.u32 %d0, %i, 16; add.u64 %o, %d9, %d0; st.global.v4.u32 [%o], {{%r0, %r1, %r3, %r4}}; ret; }}"
    );
    let got = run(&ptx, 2, 64, 512, &[]);
    for (i, row) in got.chunks(4).enumerate() {
        let lane = i as u32 % 32;
        let leader = if lane < 12 { 0 } else { 12 };
        assert_eq!(
            row,
            [0, u32::from(lane == 0), leader, u32::from(lane == leader)],
            "{i}"
        );
    }
}

const SINCE_100: &str = ".version 8.6\n.target sm_100a\n.address_size 64\n";

#[test]
fn reductions_of_floats() {
    let run = |ptx: &str| run_under(SINCE_100, ptx, 1, 64, 64, &[]);
    let ptx = |word: &str, ty: &str| {
        format!(
            "{OPEN} .reg .b32 %x; mad.lo.u32 %x, %i, 0x9e3779b9, 0x7f4a7c15; and.b32 %r0, %t, 7; setp.eq.u32 %p, %r0, 3; @%p mov.b32 %x, 0xffc00000;
redux.sync.{word}.{ty} %r1, %x, -1; st.global.u32 [%o], %r1; ret; }}"
        )
    };
    let values: Vec<u32> = (0..64u32)
        .map(|i| {
            let x = i.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
            if i % 8 == 3 { 0xffc0_0000 } else { x }
        })
        .collect();
    for (word, greatest, abs) in [
        ("min", false, false),
        ("max", true, false),
        ("max.abs", true, true),
        ("min.abs", false, true),
    ] {
        let got = run(&ptx(word, "f32"));
        for (warp, values) in values.chunks(32).enumerate() {
            let numbers = values
                .iter()
                .map(|&bits| f32::from_bits(bits))
                .filter(|value| !value.is_nan())
                .map(|value| if abs { value.abs() } else { value });
            let wanted = numbers
                .reduce(|a, b| if (a < b) == greatest { b } else { a })
                .unwrap();
            assert!(
                got[warp * 32..][..32]
                    .iter()
                    .all(|&bits| bits == wanted.to_bits()),
                "{word}"
            );
        }
        let nan = run(&ptx(&format!("{word}.NaN"), "f32"));
        assert!(nan.iter().all(|&bits| bits == 0x7fff_ffff), "{word}");
    }
    for (word, ty, f) in [
        ("add", "u32", u32::wrapping_add as fn(u32, u32) -> u32),
        ("min", "s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max", "u32", |a, b| a.max(b)),
        ("and", "b32", |a, b| a & b),
        ("or", "b32", |a, b| a | b),
        ("xor", "b32", |a, b| a ^ b),
    ] {
        let got = run(&ptx(word, ty));
        for (at, got) in got.into_iter().enumerate() {
            let warp = &values[at / 32 * 32..][..32];
            assert_eq!(got, warp.iter().copied().reduce(f).unwrap(), "{word}.{ty}");
        }
    }
}
