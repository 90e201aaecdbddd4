//! Instructions on matrices, against plain loops over matrices. Where elements lie is stated here once more, as the PTX
//! document does, element by element.

mod elements;
mod layouts;
mod products;
mod quad_pairs;
mod refusals;
mod tiles;
mod wmma;

use crate::common::Machine;

/// Tests of the forms, for the count of those that are tested.
pub fn all_products() {
    products::halves();
    products::brains_and_tf32();
    products::eighths();
    products::doubles();
    products::doubles_round_as_they_say();
    products::bytes_and_half_bytes();
    products::single_bits();
    quad_pairs::four_products_of_eight_lanes();
}

pub fn all_fragments() {
    wmma::in_every_space_and_layout();
}

pub fn all_tiles() {
    tiles::loads_tiles();
    tiles::stores_tiles();
    tiles::turns_tiles();
}

pub fn head(target: &str) -> String {
    format!(".version 8.0\n.target {target}\n.address_size 64\n")
}

/// Registers of a warp: `[register][lane]`.
pub type Registers = Vec<[u64; 32]>;

/// An instruction `opcode d, a, b, c;` and how many registers of how many bits it takes.
pub struct Instruction<'a> {
    pub opcode: &'a str,
    pub target: &'a str,
    pub bits: usize,
    pub counts: [usize; 4],
    /// What comes before it, such as a divergence.
    pub before: &'a str,
}

/// Run an instruction for each warp's A, B and C in blocks of `warps` warps; each warp's D.
pub fn run(of: &Instruction<'_>, warps: usize, inputs: &[[Registers; 3]]) -> Vec<Registers> {
    assert!(inputs.len().is_multiple_of(warps));
    let Instruction { bits, counts, .. } = *of;
    let mut body = String::new();
    let names = |letter: char, count: usize| {
        let all: Vec<String> = (0..count).map(|at| format!("%{letter}{at}")).collect();
        format!("{{{}}}", all.join(", "))
    };
    for (letter, &count) in ['d', 'a', 'b', 'c'].iter().zip(&counts) {
        body += &format!(".reg .b{bits} %{letter}<{count}>;\n");
    }
    for (at, (letter, &count)) in ['a', 'b', 'c'].iter().zip(&counts[1..]).enumerate() {
        body += &format!(
            "mad.lo.u32 %t, %w, {}, %l; mul.wide.u32 %x, %t, {}; add.u64 %x, %x, %p{at};\n",
            count * 32,
            bits / 8
        );
        for register in 0..count {
            body += &format!(
                "ld.global.b{bits} %{letter}{register}, [%x+{}];\n",
                register * 32 * bits / 8
            );
        }
    }
    body += of.before;
    body += &format!(
        "\n{} {}, {}, {}, {};\n",
        of.opcode,
        names('d', counts[0]),
        names('a', counts[1]),
        names('b', counts[2]),
        names('c', counts[3])
    );
    body += &format!(
        "mad.lo.u32 %t, %w, {}, %l; mul.wide.u32 %x, %t, {}; add.u64 %x, %x, %po;\n",
        counts[0] * 32,
        bits / 8
    );
    for register in 0..counts[0] {
        body += &format!(
            "st.global.b{bits} [%x+{}], %d{register};\n",
            register * 32 * bits / 8
        );
    }
    let mut machine = Machine::new(&format!(
        "{}.visible .entry k(.param .u64 po, .param .u64 p0, .param .u64 p1, .param .u64 p2) {{
.reg .b64 %x, %po, %p<3>; .reg .b32 %t, %w, %l; .reg .pred %q;
ld.param.u64 %po, [po]; ld.param.u64 %p0, [p0]; ld.param.u64 %p1, [p1]; ld.param.u64 %p2, [p2];
mov.u32 %t, %tid.x; and.b32 %l, %t, 31; shr.u32 %t, %t, 5; mov.u32 %w, %ctaid.x; mad.lo.u32 %w, %w, {warps}, %t;
{body}ret; }}",
        head(of.target)
    ));
    let buffers: Vec<u64> = (0..3)
        .map(|at| {
            let values = inputs
                .iter()
                .flat_map(|warp| warp[at].iter().flatten().copied());
            if bits == 64 {
                machine.buffer(&values.collect::<Vec<u64>>())
            } else {
                machine.buffer(&values.map(|value| value as u32).collect::<Vec<u32>>())
            }
        })
        .collect();
    let count = inputs.len() * counts[0] * 32;
    let out = machine.buffer(&vec![0u64; count]);
    machine.launch(
        "k",
        (inputs.len() / warps) as u32,
        32 * warps as u32,
        &[out, buffers[0], buffers[1], buffers[2]],
    );
    let got: Vec<u64> = if bits == 64 {
        machine.read(out, count)
    } else {
        let narrow = machine.read::<u32>(out, count);
        narrow.into_iter().map(u64::from).collect()
    };
    let registers = |chunk: &[u64]| {
        let strips = chunk.chunks_exact(32);
        strips
            .map(|strip| strip.try_into().expect("32"))
            .collect::<Registers>()
    };
    got.chunks_exact(counts[0] * 32).map(registers).collect()
}

/// Element `at` of a lane, of registers of `width` bits.
pub fn get(registers: &Registers, lane: usize, at: usize, bits: usize, width: usize) -> u64 {
    let per = width / bits;
    let value = registers[at / per][lane] >> (at % per * bits);
    if bits == 64 {
        value
    } else {
        value & ((1 << bits) - 1)
    }
}

pub fn put(
    registers: &mut Registers,
    lane: usize,
    at: usize,
    bits: usize,
    width: usize,
    value: u64,
) {
    let per = width / bits;
    registers[at / per][lane] |= value << (at % per * bits);
}
