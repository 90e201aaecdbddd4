//! `wmma`: from memory to memory, so that the fragments' layout does not matter.

use super::elements::{bits, integer, is_integer, random, value};
use super::head;
use crate::common::{Machine, Random};
use crate::coverage::tested;
use softgpu_engine::FaultKind;

const WARPS: usize = 2;
const BLOCKS: usize = 5;

struct Product {
    target: &'static str,
    shape: &'static str,
    size: [usize; 3],
    /// D, A, B, C
    elements: [&'static str; 4],
    /// Registers of each.
    counts: [usize; 4],
    /// By columns: A, B, C, D.
    columns: [bool; 4],
    /// More than the shortest stride, in elements.
    pad: usize,
    space: &'static str,
    /// Behind `wmma.mma`, behind the shape, and at the end.
    modifiers: [&'static str; 3],
}

fn stored(rows: usize, columns: usize, by_columns: bool, pad: usize) -> (usize, usize) {
    let (inner, outer) = if by_columns {
        (rows, columns)
    } else {
        (columns, rows)
    };
    (inner + pad, outer)
}

impl Product {
    /// Rows and columns of D, A, B, C, stride, number of rows or columns in memory.
    fn sizes(&self) -> [(usize, usize, bool, usize, usize); 4] {
        let [m, n, k] = self.size;
        let [a, b, c, d] = self.columns;
        [(m, n, d), (m, k, a), (k, n, b), (m, n, c)].map(|(rows, columns, by_columns)| {
            let (stride, outer) = stored(rows, columns, by_columns, self.pad);
            (rows, columns, by_columns, stride, outer)
        })
    }

    /// Bytes of each matrix in memory.
    fn bytes(&self) -> [usize; 4] {
        let sizes = self.sizes();
        std::array::from_fn(|at| {
            let (.., stride, outer) = sizes[at];
            (stride * outer * bits(self.elements[at]) / 8).next_multiple_of(128)
        })
    }

    fn ptx(&self) -> String {
        let layout = |by_columns: bool| if by_columns { "col" } else { "row" };
        let [d, a, b, c] = self.elements;
        let width = if d == "f64" { 64 } else { 32 };
        let [of_a, of_b, of_c, of_d] = self.columns.map(layout);
        let bytes = self.bytes();
        let total: usize = bytes.iter().sum();
        let names = |letter: char, count: usize| {
            let all: Vec<String> = (0..count).map(|at| format!("%{letter}{at}")).collect();
            format!("{{{}}}", all.join(", "))
        };
        let shared = self.space != ".global" && self.space != "generic";
        let space = match self.space {
            "generic" | "generic shared" => "",
            other => other,
        };
        let mut text = format!(
            "{}.visible .entry k(.param .u64 pd, .param .u64 pa, .param .u64 pb, .param .u64 pc) {{
.reg .b64 %x, %y, %gd, %ga, %gb, %gc, %qd, %qa, %qb, %qc; .reg .b32 %t, %w, %l, %sd, %sa, %sb, %sc, %u; .reg .pred %p;
.reg .b{width} %d<8>, %a<8>, %b<8>, %c<8>;
.shared .align 128 .b8 area[{}];
ld.param.u64 %gd, [pd]; ld.param.u64 %ga, [pa]; ld.param.u64 %gb, [pb]; ld.param.u64 %gc, [pc];
mov.u32 %t, %tid.x; and.b32 %l, %t, 31; shr.u32 %t, %t, 5;
mov.u32 %sd, area; mad.lo.u32 %sd, %t, {total}, %sd;
add.u32 %sa, %sd, {}; add.u32 %sb, %sa, {}; add.u32 %sc, %sb, {};
mov.u32 %w, %ctaid.x; mad.lo.u32 %w, %w, {WARPS}, %t;
",
            head(self.target),
            if shared { total * WARPS } else { 128 },
            bytes[0],
            bytes[1],
            bytes[2]
        );
        for (letter, bytes) in ['d', 'a', 'b', 'c'].into_iter().zip(bytes) {
            text += &format!("mul.wide.u32 %x, %w, {bytes}; add.u64 %g{letter}, %g{letter}, %x;\n");
            text += &match self.space {
                "generic shared" => format!(
                    "cvt.u64.u32 %q{letter}, %s{letter}; cvta.shared.u64 %q{letter}, %q{letter};\n"
                ),
                _ => format!("mov.u64 %q{letter}, %g{letter};\n"),
            };
        }
        let copy = |text: &mut String, letter: char, bytes: usize, back: bool| {
            let label = format!("{}{letter}", if back { "OUT" } else { "IN" });
            *text += &format!(
                "mul.lo.u32 %t, %l, 4; {label}: add.u32 %u, %s{letter}, %t; cvt.u64.u32 %x, %t; add.u64 %x, %x, %g{letter};\n"
            );
            *text += if back {
                "ld.shared.u32 %u, [%u]; st.global.u32 [%x], %u;\n"
            } else {
                "ld.global.u32 %w, [%x]; st.shared.u32 [%u], %w;\n"
            };
            *text += &format!(
                "add.u32 %t, %t, 128; setp.lt.u32 %p, %t, {bytes}; @%p bra {label}; bar.warp.sync 0xffffffff;\n"
            );
        };
        if shared {
            for (letter, bytes) in ['d', 'a', 'b', 'c'].into_iter().zip(bytes) {
                copy(&mut text, letter, bytes, false);
            }
        }
        let base = if space.starts_with(".shared") {
            's'
        } else {
            'q'
        };
        let sizes = self.sizes();
        let stride = |at: usize| match self.pad {
            0 => String::new(),
            _ => format!(", {}", sizes[at].3),
        };
        for (at, letter, layout, element) in
            [(1, 'a', of_a, a), (2, 'b', of_b, b), (3, 'c', of_c, c)]
        {
            text += &format!(
                "wmma.load.{letter}.sync.aligned.{layout}.{}{space}.{element} {}, [%{base}{letter}]{};\n",
                self.shape,
                names(letter, self.counts[at]),
                stride(at)
            );
        }
        let types = if a == "f16" {
            format!("{d}.{c}")
        } else {
            format!("{d}.{a}.{b}.{c}")
        };
        text += &format!(
            "wmma.mma{}.sync.aligned.{of_a}.{of_b}.{}{}.{types}{} {}, {}, {}, {};\n",
            self.modifiers[0],
            self.shape,
            self.modifiers[1],
            self.modifiers[2],
            names('d', self.counts[0]),
            names('a', self.counts[1]),
            names('b', self.counts[2]),
            names('c', self.counts[3])
        );
        text += &format!(
            "wmma.store.d.sync.aligned.{of_d}.{}{space}.{d} [%{base}d], {}{};\n",
            self.shape,
            names('d', self.counts[0]),
            stride(0)
        );
        if shared {
            text += "bar.warp.sync 0xffffffff;\n";
            copy(&mut text, 'd', bytes[0], true);
        }
        text + "ret; }"
    }

    fn check(&self, seed: u64) {
        let mut seed = Random(seed | 1);
        let ptx = self.ptx();
        let mut machine = Machine::new(&ptx);
        let (bytes, sizes) = (self.bytes(), self.sizes());
        // [warp][D, A, B, C]
        let images: Vec<[Vec<u8>; 4]> = (0..WARPS * BLOCKS)
            .map(|_| {
                std::array::from_fn(|at| {
                    let element = self.elements[at];
                    let mut image = vec![0u8; bytes[at]];
                    for index in 0..bytes[at] * 8 / bits(element) {
                        let raw = random(element, &mut seed, true);
                        set(&mut image, index, bits(element), raw);
                    }
                    image
                })
            })
            .collect();
        let buffers: [u64; 4] = std::array::from_fn(|at| {
            let all: Vec<u8> = images
                .iter()
                .flat_map(|image| &image[at])
                .copied()
                .collect();
            machine.buffer(&all)
        });
        machine.launch("k", BLOCKS as u32, 32 * WARPS as u32, &buffers);
        let [d, a, b, c] = self.elements;
        let [m, n, k] = self.size;
        for (warp, image) in images.iter().enumerate() {
            let got = machine.read::<u8>(buffers[0] + (warp * bytes[0]) as u64, bytes[0]);
            let at = |of: usize, row: usize, column: usize| {
                let (.., by_columns, stride, _) = sizes[of];
                if by_columns {
                    column * stride + row
                } else {
                    row * stride + column
                }
            };
            let raw = |of: usize, row: usize, column: usize| {
                let index = at(of, row, column);
                peek(&image[of], index, bits(self.elements[of]))
            };
            let mut written = image[0].clone();
            for row in 0..m {
                for column in 0..n {
                    let found = peek(&got, at(0, row, column), bits(d));
                    if is_integer(d) {
                        let sum: i128 = (0..k)
                            .map(|k| {
                                let (x, y) = (
                                    i128::from(integer(a, raw(1, row, k))),
                                    i128::from(integer(b, raw(2, k, column))),
                                );
                                match self.modifiers[0] {
                                    ".xor.popc" => x ^ y,
                                    ".and.popc" => x & y,
                                    _ => x * y,
                                }
                            })
                            .sum();
                        let sum = sum + i128::from(integer(c, raw(3, row, column)));
                        let wanted = if self.modifiers[2] == ".satfinite" {
                            sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32
                        } else {
                            sum as i32
                        };
                        assert_eq!(found as u32 as i32, wanted, "{row}, {column}:\n{ptx}");
                    } else {
                        let wanted = (0..k).fold(value(c, raw(3, row, column)), |sum, k| {
                            sum + value(a, raw(1, row, k)) * value(b, raw(2, k, column))
                        });
                        assert_eq!(value(d, found), wanted, "{row}, {column}:\n{ptx}");
                    }
                    set(&mut written, at(0, row, column), bits(d), found);
                }
            }
            assert!(written == got, "what is between rows is left alone:\n{ptx}");
        }
        let opcodes = ptx.lines().filter(|line| line.starts_with("wmma"));
        opcodes.for_each(|line| tested(line.split(' ').next().unwrap_or("")));
    }
}

fn set(image: &mut [u8], index: usize, bits: usize, value: u64) {
    if bits >= 8 {
        let bytes = bits / 8;
        image[index * bytes..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    } else {
        let (byte, shift) = (index * bits / 8, index * bits % 8);
        let mask = ((1u8 << bits) - 1) << shift;
        image[byte] = image[byte] & !mask | (value as u8) << shift;
    }
}

fn peek(image: &[u8], index: usize, bits: usize) -> u64 {
    if bits >= 8 {
        let bytes = bits / 8;
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&image[index * bytes..][..bytes]);
        u64::from_le_bytes(value)
    } else {
        let (byte, shift) = (index * bits / 8, index * bits % 8);
        u64::from(image[byte] >> shift) & ((1 << bits) - 1)
    }
}

const EITHER: [bool; 2] = [false, true];
const SPACES: [&str; 4] = [".global", "generic", ".shared", "generic shared"];

fn shapes(name: &str) -> [usize; 3] {
    let numbers: Vec<usize> = name
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    numbers.try_into().expect("three numbers")
}

/// All layouts, in every space, with and without a stride.
fn check_all(
    target: &'static str,
    shape: &'static str,
    elements: [&'static str; 4],
    counts: [usize; 4],
    modifiers: [&'static str; 3],
    along: bool,
) {
    let mut seed = 1;
    for a in EITHER {
        for b in EITHER {
            if along && (a || !b) {
                continue;
            }
            for sums in EITHER {
                // The pad keeps rows of elements below a byte apart by whole registers.
                for pad in [0, if along { 128 } else { 8 }] {
                    let space = SPACES[seed as usize % 4];
                    seed += 1;
                    Product {
                        target,
                        shape,
                        size: shapes(shape),
                        elements,
                        counts,
                        columns: [a, b, sums, sums != (pad != 0)],
                        pad,
                        space,
                        modifiers,
                    }
                    .check(seed * 7919);
                }
            }
        }
    }
}

const PLAIN: [&str; 3] = ["", "", ""];
const SHAPES: [&str; 3] = ["m16n16k16", "m32n8k16", "m8n32k16"];

/// Target, shape, elements, registers, modifiers, and whether multiplicands lie along k only.
type Kind = (
    &'static str,
    &'static str,
    [&'static str; 4],
    [usize; 4],
    [&'static str; 3],
    bool,
);

fn halves() -> Vec<Kind> {
    let count = |element| if element == "f16" { 4 } else { 8 };
    let mut kinds = Vec::new();
    for shape in SHAPES {
        for d in ["f16", "f32"] {
            for c in ["f16", "f32"] {
                let counts = [count(d), 8, 8, count(c)];
                kinds.push(("sm_70", shape, [d, "f16", "f16", c], counts, PLAIN, false));
            }
        }
    }
    kinds
}

fn brains_tf32_and_doubles() -> Vec<Kind> {
    let elements = ["f32", "tf32", "tf32", "f32"];
    let mut kinds = vec![("sm_80", "m16n16k8", elements, [8, 4, 4, 8], PLAIN, false)];
    for (shape, a, b) in [("m16n16k16", 4, 4), ("m32n8k16", 8, 2), ("m8n32k16", 2, 8)] {
        let elements = ["f32", "bf16", "bf16", "f32"];
        kinds.push(("sm_80", shape, elements, [8, a, b, 8], PLAIN, false));
    }
    for mode in ["", ".rn", ".rz", ".rm", ".rp"] {
        let modifiers = ["", mode, ""];
        let counts = [2, 1, 1, 2];
        kinds.push(("sm_80", "m8n8k4", ["f64"; 4], counts, modifiers, false));
    }
    kinds
}

fn bytes() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (shape, a, b) in [("m16n16k16", 2, 2), ("m32n8k16", 4, 1), ("m8n32k16", 1, 4)] {
        for element in ["s8", "u8"] {
            for saturate in ["", ".satfinite"] {
                let elements = ["s32", element, element, "s32"];
                let modifiers = ["", "", saturate];
                kinds.push(("sm_72", shape, elements, [8, a, b, 8], modifiers, false));
            }
        }
    }
    kinds
}

fn half_bytes_and_bits() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let counts = [2, 1, 1, 2];
    for element in ["s4", "u4"] {
        for saturate in ["", ".satfinite"] {
            let elements = ["s32", element, element, "s32"];
            kinds.push((
                "sm_75",
                "m8n8k32",
                elements,
                counts,
                ["", "", saturate],
                true,
            ));
        }
    }
    for (target, operation) in [("sm_75", ".xor.popc"), ("sm_80", ".and.popc")] {
        let elements = ["s32", "b1", "b1", "s32"];
        kinds.push((
            target,
            "m8n8k128",
            elements,
            counts,
            [operation, "", ""],
            true,
        ));
    }
    kinds
}

fn kinds() -> Vec<Kind> {
    [
        halves(),
        brains_tf32_and_doubles(),
        bytes(),
        half_bytes_and_bits(),
    ]
    .concat()
}

#[test]
fn products() {
    for (target, shape, elements, counts, modifiers, along) in kinds() {
        check_all(target, shape, elements, counts, modifiers, along);
    }
}

/// Each layout of each matrix from and to each space, by every name that the space has.
pub fn in_every_space_and_layout() {
    let mut seed = 1;
    for (target, shape, elements, counts, modifiers, along) in kinds() {
        for space in ["generic", ".global", ".shared", ".shared::cta"] {
            for (a, b) in [(false, true), (false, false), (true, false), (true, true)] {
                if along && (a || !b) {
                    continue;
                }
                // Where A and B have one layout only, those of the sums still differ.
                for sums in if along { vec![false, true] } else { vec![a] } {
                    seed += 1;
                    Product {
                        target,
                        shape,
                        size: shapes(shape),
                        elements,
                        counts,
                        columns: [a, b, sums, !sums],
                        pad: 0,
                        space,
                        modifiers,
                    }
                    .check(seed * 7919);
                }
            }
        }
    }
}

/// Programs go by this although nobody promised it: rows and columns of an accumulator as in two `m16n8`.
#[test]
fn accumulators_of_16_by_16_lie_as_two_of_16_by_8() {
    let mut machine = Machine::new(&format!(
        "{}.visible .entry k(.param .u64 po, .param .u64 pc) {{ .reg .b64 %o, %c, %x; .reg .b32 %c<8>, %t;
ld.param.u64 %o, [po]; ld.param.u64 %c, [pc]; mov.u32 %t, %tid.x; mul.wide.u32 %x, %t, 32; add.u64 %o, %o, %x;
wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {{%c0, %c1, %c2, %c3, %c4, %c5, %c6, %c7}}, [%c];
st.global.v4.b32 [%o], {{%c0, %c1, %c2, %c3}}; st.global.v4.b32 [%o+16], {{%c4, %c5, %c6, %c7}}; ret; }}",
        head("sm_80")
    ));
    let c = machine.buffer(&(0..256u32).collect::<Vec<_>>());
    let out = machine.buffer(&[0u32; 256]);
    machine.launch("k", 1, 32, &[out, c]);
    let got = machine.read::<u32>(out, 256);
    for lane in 0..32 {
        for i in 0..8 {
            let row = lane / 4 + if i / 2 % 2 == 1 { 8 } else { 0 };
            let column = lane % 4 * 2 + i % 2 + if i >= 4 { 8 } else { 0 };
            assert_eq!(got[lane * 8 + i] as usize, row * 16 + column);
        }
    }
}

#[test]
fn matrices_that_are_not_there_are_faults() {
    let run = |body: &str| {
        let mut machine = Machine::new(&format!(
            "{}.visible .entry k(.param .u64 p) {{ .reg .b64 %p, %x; .reg .b32 %r<8>, %t; .shared .align 16 .b8 s[512];
.local .align 16 .b8 l[1024];
ld.param.u64 %p, [p];
{body}
ret; }}",
            head("sm_80")
        ));
        let buffer = machine.buffer(&[0u32; 4096]);
        let last = machine.space.base() + crate::common::SIZE;
        let fault = machine
            .launch_with("k", [1, 1, 1], [64, 1, 1], 0, &[buffer], (1 << 20, 10))
            .err();
        (fault.map(|fault| (fault.kind, fault.address)), buffer, last)
    };
    let c = "wmma.load.c.sync.aligned.row.m16n16k16";
    let all = "{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}";
    let (fault, ..) = run(&format!("{c}.global.f32 {all}, [0];"));
    assert_eq!(fault, Some((FaultKind::IllegalAddress, 0)));
    let (fault, buffer, _) = run(&format!("{c}.global.f32 {all}, [%p+2];"));
    assert_eq!(fault, Some((FaultKind::Misaligned, buffer + 2)));
    let (fault, ..) = run(&format!("{c}.shared.f32 {all}, [s];"));
    assert_eq!(fault, Some((FaultKind::IllegalAddress, 512)));
    let (fault, ..) = run(&format!("{c}.shared.f32 {all}, [s], 0xffffffff;"));
    assert!(matches!(fault, Some((FaultKind::IllegalAddress, _))));
    let (fault, ..) = run(&format!("{c}.f32 {all}, [0xffffffffffffffc0];"));
    assert!(matches!(fault, Some((FaultKind::IllegalAddress, _))));
    let (fault, ..) = run(&format!(
        "mov.u64 %x, l; cvta.local.u64 %x, %x; {c}.f32 {all}, [%x];"
    ));
    assert!(matches!(fault, Some((FaultKind::InvalidAddressSpace, _))));
    let (fault, ..) = run(&format!(
        "mov.u64 %x, p; cvta.param.u64 %x, %x; wmma.store.d.sync.aligned.row.m16n16k16.f32 [%x], {all};"
    ));
    assert!(matches!(fault, Some((FaultKind::InvalidAddressSpace, _))));
    let (fault, ..) = run("wmma.load.a.sync.aligned.row.m8n8k32.global.s4 {%r0}, [%p], 36;");
    assert!(matches!(fault, Some((FaultKind::Misaligned, _))));
    // Rows that are there, with nothing between them, are enough.
    let (fault, ..) = run(&format!(
        "mov.u64 %x, %p; {c}.global.f32 {all}, [%x], 0; {c}.f32 {all}, [%x], 16;"
    ));
    assert_eq!(fault, None);
}

/// A matrix whose rows are there, and pages between them not.
#[test]
fn only_what_is_read_must_be_there() {
    let mut machine = Machine::new(&format!(
        "{}.visible .entry k(.param .u64 po, .param .u64 pc) {{ .reg .b64 %o, %c; .reg .b32 %r<8>;
ld.param.u64 %o, [po]; ld.param.u64 %c, [pc];
wmma.load.c.sync.aligned.row.m8n8k32.global.s32 {{%r0, %r1}}, [%c], 2048;
wmma.store.d.sync.aligned.row.m8n8k32.global.s32 [%o], {{%r0, %r1}}; ret; }}",
        head("sm_75")
    ));
    let mut image = vec![0u32; 8 * 2048];
    for row in 0..8 {
        for column in 0..8 {
            image[row * 2048 + column] = (row * 8 + column) as u32;
        }
    }
    let start = (machine.space.base() + (1 << 20)).next_multiple_of(4096);
    let bytes: Vec<u8> = image.iter().flat_map(|value| value.to_le_bytes()).collect();
    machine.write_bytes(start, &bytes);
    for row in 0..7u64 {
        machine
            .space
            .unmap(start + row * 8192 + 4096, 4096)
            .unwrap();
    }
    let out = machine.buffer(&[0u32; 64]);
    machine.launch("k", 1, 32, &[out, start]);
    assert_eq!(machine.read::<u32>(out, 64), (0..64).collect::<Vec<_>>());
}
