//! What the interpreter does at once for many lanes, by how their values lie: equal ones, neighbours, rows of them, no order; and that it
//! notices when that changes.

use crate::common::{HEAD, Machine, Random};

/// Which element each of so many lanes touches, of `count`; no two the same one where `apart`.
fn ways(lanes: usize, count: usize, apart: bool) -> Vec<(&'static str, Vec<u32>)> {
    let mut random = Random(77);
    let mut shuffled: Vec<u32> = (0..lanes as u32).collect();
    for at in (1..lanes).rev() {
        shuffled.swap(at, random.next() as usize % (at + 1));
    }
    let by = |f: &dyn Fn(usize) -> usize| (0..lanes).map(|i| (f(i) % count) as u32).collect();
    let mut all: Vec<(&str, Vec<u32>)> = vec![
        ("next", by(&|i| i)),
        ("backwards", by(&|i| lanes - 1 - i)),
        ("every other", by(&|i| 2 * i)),
        ("rows that swap", by(&|i| i ^ 16)),
        ("rows apart", by(&|i| i / 16 * 48 + i % 16)),
        (
            "one out of place",
            by(&|i| if i == 37 { count - 1 } else { i }),
        ),
        ("shuffled", shuffled),
    ];
    if !apart {
        all.push(("same", by(&|_| 5)));
        all.push(("same in rows", by(&|i| i / 16)));
        all.push(("rows that repeat", by(&|i| i % 16 + 3)));
        all.push((
            "same in some rows",
            by(&|i| if i / 16 % 2 == 0 { 9 } else { i }),
        ));
    }
    all
}

/// (type in memory, register in bits, bytes of an element)
const TYPES: [(&str, u32, usize); 7] = [
    ("u8", 32, 1),
    ("s8", 32, 1),
    ("u16", 32, 2),
    ("b16", 16, 2),
    ("b32", 32, 4),
    ("u32", 64, 4),
    ("b64", 64, 8),
];
const BLOCKS: [[u32; 3]; 6] = [
    [256, 1, 1],
    [16, 16, 1],
    [250, 1, 1],
    [48, 3, 1],
    [8, 1, 1],
    [33, 1, 1],
];

/// Moves table[index + 2] + table[index - 1] to out, the table copied to shared memory first where `space` says so.
fn load_kernel(ty: &str, bits: u32, size: usize, space: &str, count: usize) -> String {
    let (copy, base) = match space {
        "global" => ("", "add.u64 %at, %table, %w;".to_owned()),
        "generic" => (
            "SHARE",
            "cvta.shared.u64 %at, %copy; add.u64 %at, %at, %w;".to_owned(),
        ),
        _ => (
            "SHARE",
            "cvt.u32.u64 %at32, %w; add.u32 %at32, %at32, %copy32;".to_owned(),
        ),
    };
    let (address, op) = match space {
        "global" => ("%at", "ld.global"),
        "generic" => ("%at", "ld"),
        _ => ("%at32", "ld.shared"),
    };
    let share = if copy.is_empty() {
        String::new()
    } else {
        format!(
            "mov.u32 %k, %lane; SHARE: setp.ge.u32 %p, %k, {count}; @%p bra SHARED;
cvt.u64.u32 %w, %k; mul.lo.u64 %w, %w, {size}; add.u64 %at, %table, %w; ld.global.b{width} %e, [%at];
add.u64 %at, %copy, %w; st.shared.b{width} [%at], %e;
add.u32 %k, %k, %threads; bra SHARE; SHARED: bar.sync 0;",
            width = size * 8
        )
    };
    let wide = if size == 8 { 64 } else { 32 };
    format!(
        "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pt, .param .u64 pi)
{{
.shared .align 16 .b8 copy[{shared}];
.reg .b64 %out, %table, %index, %w, %at, %copy; .reg .b32 %lane, %k, %x, %y, %z, %threads, %at32, %copy32, %i;
.reg .b{wide} %e; .reg .b{bits} %one, %two; .reg .pred %p;
ld.param.u64 %out, [po]; ld.param.u64 %table, [pt]; ld.param.u64 %index, [pi];
mov.u32 %lane, %tid.x; mov.u32 %x, %ntid.x; mov.u32 %y, %tid.y; mad.lo.u32 %lane, %y, %x, %lane;
mov.u32 %y, %ntid.y; mul.lo.u32 %threads, %x, %y;
mov.u64 %copy, copy; mov.u32 %copy32, copy;
{share}
mul.wide.u32 %w, %lane, 4; add.u64 %index, %index, %w; ld.global.u32 %i, [%index];
cvt.u64.u32 %w, %i; mul.lo.u64 %w, %w, {size};
{base}
{op}.{ty} %one, [{address}+{far}]; {op}.{ty} %two, [{address}+-{size}];
add.u{bits} %one, %one, %two;
mov.u32 %x, %ctaid.x; mad.lo.u32 %lane, %x, %threads, %lane; mul.wide.u32 %w, %lane, {bytes};
add.u64 %out, %out, %w; st.global.b{bits} [%out], %one;
ret;
}}",
        shared = count * size,
        far = 2 * size,
        bytes = bits / 8,
    )
}

#[test]
fn loads_as_addresses_lie() {
    const COUNT: usize = 1024;
    for (ty, bits, size) in TYPES {
        let mut random = Random(5);
        let bytes: Vec<u8> = (0..COUNT * size).map(|_| random.next() as u8).collect();
        let element = |at: usize| {
            let mut value = [0; 8];
            value[..size].copy_from_slice(&bytes[at * size..][..size]);
            let value = u64::from_le_bytes(value);
            if ty == "s8" {
                value as u8 as i8 as i64 as u64
            } else {
                value
            }
        };
        for space in ["global", "shared", "generic"] {
            let mut machine = Machine::new(&load_kernel(ty, bits, size, space, COUNT));
            let table = machine.buffer(&bytes);
            let out = machine.buffer(&[0u8; 256 * 8 * 3]);
            for block in BLOCKS {
                let lanes = block.iter().product::<u32>() as usize;
                for (way, index) in ways(lanes, COUNT - 4, false) {
                    let index: Vec<u32> = index.iter().map(|at| at + 1).collect();
                    let lists = machine.buffer(&index);
                    let done = machine.launch_with(
                        "k",
                        [3, 1, 1],
                        block,
                        0,
                        &[out, table, lists],
                        (1 << 20, 10),
                    );
                    assert_eq!(done, Ok(true));
                    let width = bits as usize / 8;
                    let got = machine.read::<u8>(out, 3 * lanes * width);
                    for (at, got) in got.chunks_exact(width).enumerate() {
                        let i = index[at % lanes] as usize;
                        let wanted = element(i + 2).wrapping_add(element(i - 1)).to_le_bytes();
                        assert_eq!(
                            got,
                            &wanted[..width],
                            "{ty}, {space}, {way}, {block:?}, lane {at}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn stores_as_addresses_lie() {
    const COUNT: usize = 1024;
    for (ty, bits, size) in TYPES {
        let ptx = format!(
            "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pi)
{{
.reg .b64 %out, %index, %w; .reg .b32 %lane, %x, %y, %i; .reg .b{bits} %v; .reg .b32 %v32;
ld.param.u64 %out, [po]; ld.param.u64 %index, [pi];
mov.u32 %lane, %tid.x; mov.u32 %x, %ntid.x; mov.u32 %y, %tid.y; mad.lo.u32 %lane, %y, %x, %lane;
mul.wide.u32 %w, %lane, 4; add.u64 %index, %index, %w; ld.global.u32 %i, [%index];
cvt.u64.u32 %w, %i; mul.lo.u64 %w, %w, {size}; add.u64 %out, %out, %w;
mad.lo.u32 %v32, %lane, 257, 3; {convert}
st.global.{ty} [%out+{size}], %v;
ret;
}}",
            convert = if bits == 32 {
                "mov.b32 %v, %v32;".to_owned()
            } else {
                format!("cvt.u{bits}.u32 %v, %v32;")
            },
        );
        let mut machine = Machine::new(&ptx);
        for block in BLOCKS {
            let lanes = block.iter().product::<u32>() as usize;
            for (way, index) in ways(lanes, COUNT, true) {
                let out = machine.buffer(&vec![0xa5u8; (COUNT + 1) * size]);
                let lists = machine.buffer(&index);
                let done =
                    machine.launch_with("k", [1, 1, 1], block, 0, &[out, lists], (1 << 20, 10));
                assert_eq!(done, Ok(true));
                let mut wanted = vec![0xa5u8; (COUNT + 1) * size];
                for (lane, at) in index.iter().enumerate() {
                    let value = (lane as u64 * 257 + 3).to_le_bytes();
                    wanted[(*at as usize + 1) * size..][..size].copy_from_slice(&value[..size]);
                }
                let got = machine.read::<u8>(out, wanted.len());
                assert_eq!(got, wanted, "{ty}, {way}, {block:?}");
            }
        }
    }
}

/// An address is used, changed for some lanes only, and used again; its neighbours in memory must not be read in its stead.
#[test]
fn an_address_changes_for_some_lanes() {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pt)
{{
.reg .b64 %out, %table, %w, %at; .reg .b32 %lane, %t, %one, %two; .reg .pred %p;
ld.param.u64 %out, [po]; ld.param.u64 %table, [pt];
mov.u32 %lane, %tid.x; mul.wide.u32 %w, %lane, 4; add.u64 %at, %table, %w; add.u64 %out, %out, %w;
ld.global.u32 %one, [%at];
and.b32 %t, %lane, 5; setp.eq.u32 %p, %t, 1;
@%p add.u64 %at, %at, 400;
ld.global.u32 %two, [%at]; add.u32 %one, %one, %two;
setp.ne.u32 %p, %t, 4; @%p bra JOIN;
mov.u64 %at, %table;
JOIN: ld.global.u32 %two, [%at]; add.u32 %one, %one, %two;
ld.global.u64 %at, [%at]; cvt.u32.u64 %two, %at; add.u32 %one, %one, %two;
st.global.u32 [%out], %one;
ret;
}}"
    );
    let mut machine = Machine::new(&ptx);
    let table: Vec<u32> = (0..1024)
        .map(|i: u32| i.wrapping_mul(0x9e37_79b9))
        .collect();
    let words = machine.buffer(&table);
    let out = machine.buffer(&vec![0u32; 256]);
    let twice = |at: usize| table[at];
    // Aligned to eight bytes for the last load: even lanes only.
    let even = ptx.replace("mul.wide.u32 %w, %lane, 4", "mul.wide.u32 %w, %lane, 8");
    let mut eights = Machine::new(&even);
    let (words8, out8) = (eights.buffer(&table), eights.buffer(&vec![0u32; 512]));
    eights.launch("k", 1, 256, &[out8, words8]);
    let got = eights.read::<u32>(out8, 512);
    for lane in 0..256 {
        let first = 2 * lane;
        let second = first + if lane & 5 == 1 { 100 } else { 0 };
        let third = if lane & 5 == 4 { 0 } else { second };
        let wanted = [first, second, third, third]
            .into_iter()
            .fold(0u32, |sum, at| sum.wrapping_add(twice(at)));
        assert_eq!(got[2 * lane], wanted, "lane {lane}");
    }
    let fault = machine.launch_with("k", [1, 1, 1], [256, 1, 1], 0, &[out, words], (1 << 20, 10));
    assert!(fault.is_err(), "a load of eight bytes at an odd word");
}

/// What is the same in a block is computed once; then it is not the same any more, and blocks differ.
#[test]
fn uniform_values_part_and_meet() {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pt, .param .u32 pn)
{{
.reg .b64 %out, %table, %w, %at; .reg .b32 %lane, %block, %n, %k, %sum, %v, %u, %t; .reg .pred %p, %q;
ld.param.u64 %out, [po]; ld.param.u64 %table, [pt]; ld.param.u32 %n, [pn];
mov.u32 %lane, %tid.x; mov.u32 %block, %ctaid.x; mov.u32 %k, 0; mov.u32 %sum, 0; mov.u32 %u, %block;
LOOP:
mad.lo.u32 %v, %k, 3, %block; mul.wide.u32 %w, %v, 4; add.u64 %at, %table, %w; ld.global.u32 %v, [%at];
add.u32 %sum, %sum, %v; add.u32 %u, %u, 7;
and.b32 %t, %lane, 3; setp.eq.u32 %p, %t, %k; @%p mul.lo.u32 %u, %u, 5;
setp.ne.u32 %q, %t, 2; @%q bra JOIN;
add.u32 %u, %sum, %k; mov.u32 %sum, %u;
JOIN: xor.b32 %sum, %sum, %u;
add.u32 %k, %k, 1; setp.lt.u32 %p, %k, %n; @%p bra LOOP;
mov.u32 %t, %ntid.x; mad.lo.u32 %t, %block, %t, %lane; mul.wide.u32 %w, %t, 4; add.u64 %out, %out, %w;
st.global.u32 [%out], %sum;
ret;
}}"
    );
    let mut machine = Machine::new(&ptx);
    let table: Vec<u32> = (0..256).map(|i: u32| i.wrapping_mul(0x85eb_ca6b)).collect();
    let (words, out) = (machine.buffer(&table), machine.buffer(&vec![0u32; 4096]));
    for threads in [4, 32, 64, 100, 256, 1024] {
        machine.launch("k", 4, threads, &[out, words, 6]);
        let got = machine.read::<u32>(out, 4 * threads as usize);
        for (at, &got) in got.iter().enumerate() {
            let (block, lane) = (at as u32 / threads, at as u32 % threads);
            let (mut sum, mut u) = (0u32, block);
            for k in 0..6 {
                sum = sum.wrapping_add(table[(k * 3 + block) as usize]);
                u = u.wrapping_add(7);
                if lane & 3 == k {
                    u = u.wrapping_mul(5);
                }
                if lane & 3 == 2 {
                    u = sum.wrapping_add(k);
                    sum = u;
                }
                sum ^= u;
            }
            assert_eq!(got, sum, "thread {lane} of block {block} of {threads}");
        }
    }
}

/// Flushing is left out where no operand is subnormal: results still are flushed, and a subnormal that comes later is noticed.
#[test]
fn subnormals_come_and_go() {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pa, .param .u64 pb)
{{
.reg .b64 %out, %a, %b, %w; .reg .b32 %lane, %t; .reg .f32 %x, %y, %z, %s, %v<4>; .reg .pred %p;
ld.param.u64 %out, [po]; ld.param.u64 %a, [pa]; ld.param.u64 %b, [pb];
mov.u32 %lane, %tid.x; mul.wide.u32 %w, %lane, 4;
ld.global.v4.f32 {{%v0, %v1, %v2, %v3}}, [%b+16];
add.u64 %a, %a, %w; add.u64 %b, %b, %w; mul.wide.u32 %w, %lane, 32; add.u64 %out, %out, %w;
ld.global.f32 %x, [%a];
mul.ftz.f32 %y, %x, 0f3F000000; st.global.f32 [%out], %y;
mov.f32 %s, %y;
and.b32 %t, %lane, 3; setp.eq.u32 %p, %t, 1;
@%p ld.global.f32 %s, [%b];
fma.rn.ftz.f32 %z, %s, 0f3F800000, %y; st.global.f32 [%out+4], %z;
@%p mul.f32 %z, %x, 0f3F000000;
add.ftz.f32 %z, %z, %z; st.global.f32 [%out+8], %z;
ld.global.f32 %x, [%b];
add.ftz.f32 %x, %x, %x; st.global.f32 [%out+12], %x;
add.ftz.f32 %v0, %v0, %y; add.ftz.f32 %v1, %v1, %v1; add.ftz.f32 %v2, %v2, %y; add.ftz.f32 %v3, %v3, %v3;
st.global.v4.f32 [%out+16], {{%v0, %v1, %v2, %v3}};
ret;
}}"
    );
    let mut machine = Machine::new(&ptx);
    // Normal ones, some the least of all, whose halves are subnormal.
    let a: Vec<f32> = (0..256)
        .map(|i| {
            if i % 3 == 0 {
                f32::MIN_POSITIVE
            } else {
                i as f32 - 100.5
            }
        })
        .collect();
    let b: Vec<f32> = (0..256u32)
        .map(|i| {
            if i % 2 == 1 {
                f32::from_bits((i * 1000) | 1)
            } else {
                -(i as f32)
            }
        })
        .collect();
    let flush = |x: f32| {
        if x.is_subnormal() {
            0.0f32.copysign(x)
        } else {
            x
        }
    };
    let (pa, pb) = (machine.buffer(&a), machine.buffer(&b));
    let out = machine.buffer(&vec![0f32; 2048]);
    for threads in [256, 200, 32] {
        machine.launch("k", 1, threads, &[out, pa, pb]);
        let got = machine.read::<f32>(out, 8 * threads as usize);
        for lane in 0..threads as usize {
            let odd = lane & 3 == 1;
            let half = flush(a[lane] * 0.5);
            let second = flush(flush(if odd { b[lane] } else { half }) + half);
            let third = if odd { a[lane] * 0.5 } else { second };
            let wanted = [
                half,
                second,
                flush(flush(third) + flush(third)),
                flush(flush(b[lane]) + flush(b[lane])),
                flush(flush(b[4]) + half),
                flush(flush(b[5]) + flush(b[5])),
                flush(flush(b[6]) + half),
                flush(flush(b[7]) + flush(b[7])),
            ];
            for (part, wanted) in wanted.into_iter().enumerate() {
                let got = got[8 * lane + part];
                assert_eq!(
                    got.to_bits(),
                    wanted.to_bits(),
                    "result {part} of lane {lane} of {threads}: {got:e}, not {wanted:e}"
                );
            }
        }
    }
}
