//! `ldmatrix`, `stmatrix`, `movmatrix`.

use super::head;
use crate::common::{Machine, Random};
use crate::coverage::tested;
use softgpu_engine::FaultKind;

const WARPS: usize = 3;
const BLOCKS: usize = 4;
/// 16-byte rows of shared memory of a warp.
const ROWS: usize = 48;

/// Shared memory of each warp from and to device memory, with `body` between: %s is a warp's shared memory, %y the address
/// of the row that the lane was given, %g the same as a generic address, %r0 … the lane's registers, from and to memory.
fn machine(target: &str, body: &str) -> Machine {
    let bytes = ROWS * 16;
    let copy = |accesses: &str| {
        let steps = (0..bytes).step_by(128).map(|at| {
            format!(
                "shl.b32 %t, %l, 2; add.u32 %t, %t, {at}; add.u32 %v, %s, %t; cvt.u64.u32 %x, %t; add.u64 %x, %m, %x;
{accesses}\n"
            )
        });
        steps.collect::<String>()
    };
    Machine::new(&format!(
        "{}.visible .entry k(.param .u64 pm, .param .u64 pi, .param .u64 pr) {{
.reg .b64 %m, %i, %r, %x, %g; .reg .b32 %t, %w, %l, %s, %y, %v, %r<4>; .reg .pred %q;
.shared .align 16 .b8 area[{}];
ld.param.u64 %m, [pm]; ld.param.u64 %i, [pi]; ld.param.u64 %r, [pr];
mov.u32 %t, %tid.x; and.b32 %l, %t, 31; shr.u32 %t, %t, 5;
mov.u32 %s, area; mad.lo.u32 %s, %t, {bytes}, %s;
mov.u32 %w, %ctaid.x; mad.lo.u32 %w, %w, {WARPS}, %t;
mul.wide.u32 %x, %w, {bytes}; add.u64 %m, %m, %x;
mad.lo.u32 %t, %w, 32, %l; mul.wide.u32 %x, %t, 4; add.u64 %i, %i, %x;
ld.global.u32 %y, [%i]; shl.b32 %y, %y, 4; add.u32 %y, %y, %s;
cvt.u64.u32 %g, %y; cvta.shared.u64 %g, %g;
mul.wide.u32 %x, %t, 16; add.u64 %r, %r, %x; ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%r];
{}bar.warp.sync 0xffffffff;
{body}
bar.warp.sync 0xffffffff;
{}st.global.v4.u32 [%r], {{%r0, %r1, %r2, %r3}}; ret; }}",
        head(target),
        bytes * WARPS,
        copy("ld.global.u32 %t, [%x]; st.shared.u32 [%v], %t;"),
        copy("ld.shared.u32 %t, [%v]; st.global.u32 [%x], %t;"),
    ))
}

struct State {
    /// [warp][row][column]
    memory: Vec<Vec<[u16; 8]>>,
    /// [warp][lane]
    rows: Vec<[u32; 32]>,
    registers: Vec<[[u32; 4]; 32]>,
}

fn state(seed: u64) -> State {
    let mut random = Random(seed);
    let warps = WARPS * BLOCKS;
    State {
        memory: (0..warps)
            .map(|_| {
                (0..ROWS)
                    .map(|_| std::array::from_fn(|_| random.next() as u16))
                    .collect()
            })
            .collect(),
        rows: (0..warps)
            .map(|_| {
                // All different, so that stores do not meet.
                let mut all: Vec<u32> = (0..ROWS as u32).collect();
                for at in 0..ROWS {
                    all.swap(at, random.next() as usize % ROWS);
                }
                std::array::from_fn(|lane| all[lane])
            })
            .collect(),
        registers: (0..warps)
            .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u32)))
            .collect(),
    }
}

/// What a state becomes.
fn run(target: &str, body: &str, state: &State) -> State {
    let mut machine = machine(target, body);
    let flat: Vec<u16> = state.memory.iter().flatten().flatten().copied().collect();
    let memory = machine.buffer(&flat);
    let rows: Vec<u32> = state.rows.iter().flatten().copied().collect();
    let rows = machine.buffer(&rows);
    let flat: Vec<u32> = state
        .registers
        .iter()
        .flatten()
        .flatten()
        .copied()
        .collect();
    let registers = machine.buffer(&flat);
    machine.launch(
        "k",
        BLOCKS as u32,
        32 * WARPS as u32,
        &[memory, rows, registers],
    );
    let words = machine.read::<u32>(registers, flat.len());
    let halves = machine.read::<u16>(memory, ROWS * 8 * WARPS * BLOCKS);
    State {
        memory: halves
            .chunks_exact(ROWS * 8)
            .map(|warp| {
                warp.chunks_exact(8)
                    .map(|row| row.try_into().expect("8"))
                    .collect()
            })
            .collect(),
        rows: state.rows.clone(),
        registers: words
            .chunks_exact(128)
            .map(|warp| std::array::from_fn(|lane| warp[lane * 4..][..4].try_into().expect("4")))
            .collect(),
    }
}

fn vector(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|at| format!("%r{at}")).collect();
    format!("{{{}}}", names.join(", "))
}

#[test]
pub fn loads_tiles() {
    for count in [1, 2, 4] {
        for trans in ["", ".trans"] {
            for (space, address) in [
                (".shared", "%y"),
                (".shared::cta", "%y"),
                ("", "%g"),
                ("", "%y"),
            ] {
                let body = format!(
                    "ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 {}, [{address}];",
                    vector(count)
                );
                let before = state(count as u64 + 77);
                let after = run("sm_75", &body, &before);
                for warp in 0..WARPS * BLOCKS {
                    for lane in 0..32 {
                        for tile in 0..4 {
                            let got = after.registers[warp][lane][tile];
                            if tile >= count {
                                assert_eq!(got, before.registers[warp][lane][tile]);
                                continue;
                            }
                            let element = |row: usize, column: usize| {
                                let at = before.rows[warp][tile * 8 + row];
                                u32::from(before.memory[warp][at as usize][column])
                            };
                            let (row, column) = (lane / 4, lane % 4 * 2);
                            let wanted = if trans.is_empty() {
                                element(row, column) | element(row, column + 1) << 16
                            } else {
                                element(column, row) | element(column + 1, row) << 16
                            };
                            assert_eq!(got, wanted, "{body}: warp {warp} lane {lane} tile {tile}");
                        }
                    }
                }
                assert_eq!(after.memory, before.memory);
                tested(body.split(' ').next().unwrap_or(""));
            }
        }
    }
}

#[test]
fn the_order_of_modifiers_is_cutlass_s_too() {
    let before = state(5);
    let wanted = run(
        "sm_80",
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r0, %r1}, [%y];",
        &before,
    );
    let got = run(
        "sm_80",
        "ldmatrix.sync.aligned.x2.trans.m8n8.shared.b16 {%r0, %r1}, [%y];",
        &before,
    );
    assert_eq!(got.registers, wanted.registers);
}

#[test]
pub fn stores_tiles() {
    for count in [1, 2, 4] {
        for trans in ["", ".trans"] {
            for (space, address) in [(".shared", "%y"), (".shared::cta", "%y"), ("", "%g")] {
                let body = format!(
                    "stmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 [{address}], {};",
                    vector(count)
                );
                let before = state(count as u64 + 1234);
                let after = run("sm_90", &body, &before);
                for warp in 0..WARPS * BLOCKS {
                    let mut wanted = before.memory[warp].clone();
                    for tile in 0..count {
                        for lane in 0..32 {
                            let word = before.registers[warp][lane][tile];
                            for (half, value) in
                                [word as u16, (word >> 16) as u16].into_iter().enumerate()
                            {
                                let (mut row, mut column) = (lane / 4, lane % 4 * 2 + half);
                                if !trans.is_empty() {
                                    (row, column) = (column, row);
                                }
                                let at = before.rows[warp][tile * 8 + row];
                                wanted[at as usize][column] = value;
                            }
                        }
                    }
                    assert_eq!(after.memory[warp], wanted, "{body}: warp {warp}");
                }
                assert_eq!(after.registers, before.registers);
                tested(body.split(' ').next().unwrap_or(""));
            }
        }
    }
}

#[test]
pub fn turns_tiles() {
    // Source and destination apart, and the same.
    for (body, to, from) in [
        ("movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0;", 1, 0),
        ("movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r2;", 2, 2),
    ] {
        let before = state(31);
        let after = run("sm_75", body, &before);
        for warp in 0..WARPS * BLOCKS {
            let element = |registers: &[[u32; 4]; 32], at: usize, row: usize, column: usize| {
                (registers[row * 4 + column / 2][at] >> (column % 2 * 16)) as u16
            };
            for row in 0..8 {
                for column in 0..8 {
                    assert_eq!(
                        element(&after.registers[warp], to, row, column),
                        element(&before.registers[warp], from, column, row)
                    );
                }
            }
        }
        tested(body.split(' ').next().unwrap_or(""));
    }
}

#[test]
fn bad_rows_are_faults() {
    let cases = [
        (
            "sm_75",
            "add.u32 %y, %y, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%y];",
            FaultKind::Misaligned,
        ),
        (
            "sm_75",
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%y+65536];",
            FaultKind::IllegalAddress,
        ),
        (
            "sm_75",
            "mov.u32 %y, -16; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%y];",
            FaultKind::IllegalAddress,
        ),
        (
            "sm_75",
            "ldmatrix.sync.aligned.m8n8.x1.b16 {%r0}, [%r];",
            FaultKind::InvalidAddressSpace,
        ),
        (
            "sm_75",
            "ldmatrix.sync.aligned.m8n8.x4.b16 {%r0, %r1, %r2, %r3}, [0];",
            FaultKind::InvalidAddressSpace,
        ),
        (
            "sm_90",
            "stmatrix.sync.aligned.m8n8.x1.b16 [%r], {%r0};",
            FaultKind::InvalidAddressSpace,
        ),
        (
            "sm_90",
            "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%y+1], {%r0};",
            FaultKind::Misaligned,
        ),
    ];
    for (target, body, kind) in cases {
        let mut machine = machine(target, body);
        let memory = machine.buffer(&vec![0u32; 1 << 16]);
        let fault = machine
            .launch_with("k", [2, 1, 1], [96, 1, 1], 0, &[memory; 3], (1 << 20, 10))
            .expect_err(body);
        assert_eq!(fault.kind, kind, "{body}");
        assert_eq!(fault.instruction.split('.').nth(1), Some("sync"));
    }
    // Lanes whose addresses are not asked for may have any.
    let mut machine = machine(
        "sm_80",
        "setp.gt.u32 %q, %l, 15; @%q mov.u32 %y, 3; ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0, %r1}, [%y];",
    );
    let memory = machine.buffer(&vec![0u32; 1 << 16]);
    machine.launch("k", 2, 96, &[memory; 3]);
}

#[test]
fn a_part_of_a_warp_is_an_illegal_instruction() {
    let ptx = |body: &str| {
        format!(
            "{}.visible .entry k(.param .u64 p) {{ .reg .b32 %r<9>; .reg .pred %q; .reg .f32 %f<9>; .shared .align 16 .b8 s[4096];
mov.u32 %r0, %tid.x; setp.lt.u32 %q, %r0, 40; mov.u32 %r8, s;
{body}
ret; }}",
            head("sm_90")
        )
    };
    for instruction in [
        "movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0;",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r8];",
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r8], {%r0};",
        "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r1, %r2}, {%r0}, {%r0}, {%r0, %r0};",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r0}, {%r0}, {%f0, %f1, %f2, %f3};",
        "wmma.load.c.sync.aligned.row.m8n8k32.shared.s32 {%r1, %r2}, [%r8];",
        "wmma.store.d.sync.aligned.row.m8n8k32.shared.s32 [%r8], {%r1, %r2};",
    ] {
        // A block that ends within a warp, a guard within a warp, a branch within a warp.
        for (threads, body) in [
            (40, instruction.to_owned()),
            (64, format!("@%q {instruction}")),
            (64, format!("@!%q bra E; {instruction}\nE:")),
        ] {
            let mut machine = Machine::new(&ptx(&body));
            let buffer = machine.buffer(&[0u32; 4]);
            let fault = machine
                .launch_with("k", [1, 1, 1], [threads, 1, 1], 0, &[buffer], (1 << 20, 10))
                .expect_err(&body);
            assert_eq!(fault.kind, FaultKind::IllegalInstruction, "{body}");
            assert_eq!(fault.thread, [32, 0, 0], "{body}");
        }
        // Whole warps that stay away are no concern.
        let body = format!("setp.lt.u32 %q, %r0, 32; @%q {instruction}");
        let mut machine = Machine::new(&ptx(&body));
        let buffer = machine.buffer(&[0u32; 4]);
        machine.launch("k", 3, 96, &[buffer]);
    }
}
