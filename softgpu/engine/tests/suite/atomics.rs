//! Atomics of vectors, halves and 128 bits.

use crate::common::{HEAD, Machine};
use crate::flow::{OPEN, run};
use crate::formats::{BF16, F16};

#[test]
fn every_scalar_operation() {
    // One lane at a time, so that what was there before is known, too.
    type Update = fn(u64, u64) -> u64;
    let cases: [(&str, &str, u32, Update); 25] = [
        ("add", "u32", 4, |a, b| a.wrapping_add(b)),
        ("add", "s32", 4, |a, b| a.wrapping_add(b)),
        ("add", "u64", 8, |a, b| a.wrapping_add(b)),
        ("min", "u32", 4, |a, b| a.min(b)),
        ("min", "s32", 4, |a, b| (a as i32).min(b as i32) as u64),
        ("min", "u64", 8, |a, b| a.min(b)),
        ("min", "s64", 8, |a, b| (a as i64).min(b as i64) as u64),
        ("max", "u32", 4, |a, b| a.max(b)),
        ("max", "s32", 4, |a, b| (a as i32).max(b as i32) as u64),
        ("max", "u64", 8, |a, b| a.max(b)),
        ("max", "s64", 8, |a, b| (a as i64).max(b as i64) as u64),
        ("and", "b32", 4, |a, b| a & b),
        ("or", "b64", 8, |a, b| a | b),
        ("xor", "b32", 4, |a, b| a ^ b),
        ("and", "b64", 8, |a, b| a & b),
        ("xor", "b64", 8, |a, b| a ^ b),
        ("exch", "b32", 4, |_, b| b),
        ("exch", "b64", 8, |_, b| b),
        ("inc", "u32", 4, |a, b| if a >= b { 0 } else { a + 1 }),
        (
            "dec",
            "u32",
            4,
            |a, b| if a == 0 || a > b { b } else { a - 1 },
        ),
        ("add", "f32", 4, |a, b| {
            (f32::from_bits(a as u32) + f32::from_bits(b as u32))
                .to_bits()
                .into()
        }),
        ("add", "f64", 8, |a, b| {
            (f64::from_bits(a) + f64::from_bits(b)).to_bits()
        }),
        ("add.noftz", "f16", 2, |a, b| {
            F16.nearest(F16.value(a) + F16.value(b))
        }),
        ("add.noftz", "bf16", 2, |a, b| {
            BF16.nearest(BF16.value(a) + BF16.value(b))
        }),
        ("add.noftz", "f16x2", 4, |a, b| {
            F16.nearest(F16.value(a & 0xffff) + F16.value(b & 0xffff))
                | F16.nearest(F16.value(a >> 16) + F16.value(b >> 16)) << 16
        }),
    ];
    for (op, ty, size, update) in cases {
        for space in ["global", "shared", ""] {
            let bits = size * 8;
            let dot = if space.is_empty() { "" } else { "." };
            let address = if space == "shared" { "s" } else { "%d9" };
            let start = if space == "shared" {
                format!("ld.global.b{bits} %x, [%d9]; st.shared.b{bits} [s], %x;")
            } else {
                String::new()
            };
            let end = if space == "shared" {
                format!("ld.shared.b{bits} %x, [s]; st.global.b{bits} [%d9], %x;")
            } else {
                String::new()
            };
            let ptx = format!(
                "{HEAD}{OPEN} .shared .align 8 .b8 s[8]; .reg .b{bits} %x, %y; {start} ld.global.b{bits} %y, [%d9+8];
atom{dot}{space}.{op}.{ty} %x, [{address}], %y; st.global.b{bits} [%d9+16], %x; {end} ret; }}"
            );
            let mask = u64::MAX >> (64 - bits);
            let tame = if ty.ends_with("f32") || ty.ends_with("f64") || ty.contains("f16") {
                0x3c3c_3c3c_3c3c_3c3c
            } else {
                0
            };
            for (a, b) in [
                (0u64, 0u64),
                (5, 7),
                (7, 5),
                (0x8000_0000_8000_8000, 1),
                (u64::MAX, 0x1234_5678_9abc_def0),
            ] {
                let (a, b) = (
                    if tame == 0 {
                        a
                    } else {
                        a & 0x0303_0303_0303_0303 | tame
                    } & mask,
                    if tame == 0 {
                        b
                    } else {
                        b & 0x0303_0303_0303_0303 | tame
                    } & mask,
                );
                let mut machine = Machine::new(&ptx);
                let buffer = machine.buffer(&[a, b, 0]);
                machine.launch("k", 1, 1, &[buffer]);
                let got = machine.read::<u64>(buffer, 3);
                assert_eq!(
                    got[0],
                    update(a, b) & mask,
                    "{op}.{ty} {space} of {a:#x}, {b:#x}"
                );
                assert_eq!(got[2], a, "what {op}.{ty} {space} found");
            }
        }
    }
}

#[test]
fn comparing_and_swapping() {
    for (bits, size) in [(16, 2u64), (32, 4), (64, 8)] {
        let ptx = format!(
            "{OPEN} .reg .b{bits} %x<4>; mov.b{bits} %x1, 5; mov.b{bits} %x2, 9; atom.global.cas.b{bits} %x0, [%d9], %x1, %x2;
st.global.b{bits} [%d9+8], %x0; atom.cas.b{bits} %x0, [%d9], %x2, %x1; atom.cas.b{bits} %x0, [%d9], %x2, %x2; st.global.b{bits} [%d9+16], %x0; ret; }}"
        );
        let mut machine = Machine::new(&format!("{HEAD}{ptx}"));
        let buffer = machine.buffer(&[5u64, 0, 0]);
        machine.launch("k", 1, 1, &[buffer]);
        assert_eq!(machine.read::<u64>(buffer, 3), [5, 5, 5], "{size} bytes");
    }
}

#[test]
fn vectors_add_up() {
    let ptx = format!(
        "{OPEN} cvt.rn.f32.u32 %f0, %i; mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; mov.f32 %f3, 0f3F000000;
red.global.add.v4.f32 [%d9], {{%f0, %f1, %f2, %f3}}; atom.global.v2.f32.add {{%f0, %f1}}, [%d9+16], {{%f1, %f2}};
.reg .b16 %h<9>; mov.b16 %h0, 0x3c00; mov.b16 %h1, 0x3800; cvt.rn.f16.u32 %h2, %i; cvt.rn.bf16.u32 %h3, %i;
red.global.add.noftz.v2.f16 [%d9+24], {{%h0, %h1}}; red.global.max.noftz.v2.f16 [%d9+28], {{%h2, %h0}}; red.global.min.noftz.v2.bf16 [%d9+32], {{%h3, %h3}};
mov.b32 %r1, 0x3c003800; red.global.add.noftz.v2.f16x2 [%d9+40], {{%r1, %r1}};
atom.global.v8.f16.max.noftz {{%h0, _, %h1, %h4, %h5, %h6, %h7, %h8}}, [%d9+48], {{%h2, %h2, %h2, %h2, %h2, %h2, %h2, %h2}}; ret; }}"
    );
    let mut machine = Machine::new(&format!("{HEAD}{ptx}"));
    let mut start = [0u32; 16];
    start[8] = 0x7f80_7f80;
    let buffer = machine.buffer(&start);
    machine.launch("k", 4, 50, &[buffer]);
    let got = machine.read::<u32>(buffer, 16);
    let single = |at: usize| f32::from_bits(got[at]);
    assert_eq!(
        [single(0), single(1), single(2), single(3)],
        [19_900.0, 200.0, 400.0, 100.0]
    );
    assert_eq!([single(4), single(5)], [200.0, 400.0]);
    let half = |at: usize| {
        [
            F16.value(u64::from(got[at]) & 0xffff),
            F16.value(u64::from(got[at]) >> 16),
        ]
    };
    assert_eq!(half(6), [200.0, 100.0]);
    assert_eq!(half(7), [199.0, 1.0]);
    assert_eq!(got[8], 0, "the least is that of thread 0");
    assert_eq!([half(10), half(11)], [[100.0, 200.0]; 2]);
    for at in 12..16 {
        assert_eq!(half(at), [199.0; 2]);
    }
}

#[test]
fn vectors_say_what_was_there() {
    let ptx = format!(
        "{OPEN} mov.f32 %f2, 0f3F800000; mov.f32 %f3, 0f40000000; atom.global.add.v2.f32 {{%f0, %f1}}, [%d9+128], {{%f2, %f3}};
cvt.rzi.u32.f32 %r0, %f0; cvt.rzi.u32.f32 %r1, %f1; shl.b32 %r2, %r0, 1; setp.ne.u32 %p, %r1, %r2; @%p trap;
mul.wide.u32 %d0, %r0, 4; add.u64 %d0, %d9, %d0; st.global.u32 [%d0], 1; ret; }}"
    );
    let got = run(&ptx, 1, 32, 34, &[]);
    assert!(got[..32].iter().all(|&seen| seen == 1), "{got:?}");
}

#[test]
fn sixteen_bytes_at_once() {
    // Each thread adds to a number of 128 bits by comparing and swapping, while others do.
    let ptx = format!(
        "{HEAD}{OPEN} .reg .b128 %old, %new, %seen; .reg .b64 %lo, %hi, %a, %b; ld.global.b128 %old, [%d9];
L: mov.b128 {{%lo, %hi}}, %old; add.cc.u64 %lo, %lo, 0xffffffffffffffff; addc.u64 %hi, %hi, 1; mov.b128 %new, {{%lo, %hi}};
atom.global.cas.b128 %seen, [%d9], %old, %new; mov.b128 {{%a, %b}}, %seen; mov.b128 {{%lo, %hi}}, %old;
setp.ne.u64 %p, %a, %lo; setp.ne.or.u64 %p, %b, %hi, %p; mov.b128 %old, %seen; @%p bra L;
mov.b128 %new, {{%w, %d9}}; atom.exch.b128 %seen, [%d9+16], %new; st.global.b128 [%d9+32], %seen; ret; }}"
    );
    let mut machine = Machine::new(&ptx);
    let buffer = machine.buffer(&[7u64, 0, 1, 2, 3, 4]);
    machine.launch("k", 3, 40, &[buffer]);
    let got = machine.read::<u64>(buffer, 6);
    // 120 times 2^65 - 1.
    let wanted = 7 + 120 * ((1u128 << 65) - 1);
    assert_eq!([got[0], got[1]], [wanted as u64, (wanted >> 64) as u64]);
    assert_eq!(got[3], buffer);
    assert!([2, buffer].contains(&got[5]));
}
