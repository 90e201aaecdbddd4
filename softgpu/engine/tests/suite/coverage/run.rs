//! Instructions that compute a value from values, many in one module: each is run by whole blocks, and once more by those
//! lanes only for which a branch was not taken.

use super::tested;
use super::values::{Operands, mask, width};
use crate::common::{Machine, Random};

/// What a result must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    Bits(u64),
    /// Any NaN of the result's type.
    Nan,
    /// Between two numbers, as the result's type, f32 or f64.
    Within(f64, f64),
    Anything,
}

/// What operands give.
type Judge = Box<dyn Fn(&[u64]) -> Wanted>;

pub struct Case {
    /// What counts as tested when all results agree.
    pub opcode: String,
    /// `%o` from `%a`, `%b`, `%c` and `%d`; may use `%x`, `%y` (32 bits), `%w` (64), `%h`, `%g` (16), `%p`, `%q`.
    pub text: String,
    pub srcs: Vec<String>,
    pub dst: String,
    pub wanted: Judge,
}

pub fn case(
    opcode: &str,
    text: String,
    srcs: &[&str],
    dst: &str,
    wanted: impl Fn(&[u64]) -> Wanted + 'static,
) -> Case {
    Case {
        opcode: opcode.to_owned(),
        text,
        srcs: srcs.iter().map(|ty| (*ty).to_owned()).collect(),
        dst: dst.to_owned(),
        wanted: Box::new(wanted),
    }
}

/// `opcode %o, %a, …;`, with predicates where types are `pred`.
pub fn plain(
    opcode: &str,
    srcs: &[&str],
    dst: &str,
    wanted: impl Fn(&[u64]) -> Wanted + 'static,
) -> Case {
    let operands: String = ["%a", "%b", "%c", "%d"][..srcs.len()]
        .iter()
        .map(|name| format!(", {name}"))
        .collect();
    case(opcode, format!("{opcode} %o{operands};"), srcs, dst, wanted)
}

const THREADS: u32 = 160;
const BLOCKS: u32 = 4;
const LANES: usize = (THREADS * BLOCKS) as usize;
/// Cases of one module.
const BATCH: usize = 48;
const LETTERS: [&str; 4] = ["a", "b", "c", "d"];
const BEFORE: u64 = 0xa5a5_a5a5_a5a5_a5a5;

fn register(ty: &str, letter: &str) -> String {
    match ty {
        "pred" => format!(".reg .pred %{letter};"),
        _ => format!(".reg .b{} %{letter};", width(ty)),
    }
}

/// A kernel around a text, which has operands of these types.
pub fn kernel(at: usize, srcs: &[String], dst: &str, text: &str) -> String {
    let mut declared = register(dst, "o");
    let mut loads = String::new();
    for (letter, ty) in LETTERS.iter().zip(srcs) {
        declared += &register(ty, letter);
        loads += &match ty.as_str() {
            "pred" => format!("ld.global.b32 %t, [%p{letter}]; setp.ne.b32 %{letter}, %t, 0;\n"),
            _ => format!("ld.global.b{} %{letter}, [%p{letter}];\n", width(ty)),
        };
    }
    // A predicate is seen as a number.
    let (clear, shown) = match dst {
        "pred" => (
            "setp.ne.b32 %o, 0xa5, 0;".to_owned(),
            "selp.b32 %z, 1, 0, %o; st.global.b32 [%po+AT], %z;".to_owned(),
        ),
        ty => (
            format!("ld.global.b{} %o, [%po+AT];", width(ty)),
            format!("st.global.b{} [%po+AT], %o;", width(ty)),
        ),
    };
    let again = LANES * 8;
    format!(
        ".visible .entry k{at}(.param .u64 po, .param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd) {{
.reg .b32 %i, %t, %n, %z, %x, %y; .reg .b64 %off, %w, %po, %pa, %pb, %pc, %pd; .reg .b16 %h, %g; .reg .pred %p, %q, %skip; {declared}
ld.param.u64 %po, [po]; ld.param.u64 %pa, [pa]; ld.param.u64 %pb, [pb]; ld.param.u64 %pc, [pc]; ld.param.u64 %pd, [pd];
mov.u32 %i, %tid.x; mov.u32 %t, %ctaid.x; mov.u32 %n, %ntid.x; mad.lo.u32 %i, %t, %n, %i; mul.wide.u32 %off, %i, 8;
add.u64 %po, %po, %off; add.u64 %pa, %pa, %off; add.u64 %pb, %pb, %off; add.u64 %pc, %pc, %off; add.u64 %pd, %pd, %off;
{loads}{} {text} {}
{}
and.b32 %t, %i, 3; setp.eq.u32 %skip, %t, 1; @%skip bra SKIP;
{text}
SKIP: {} ret; }}\n",
        clear.replace("+AT", ""),
        shown.replace("+AT", ""),
        clear.replace("AT", &again.to_string()),
        shown.replace("AT", &again.to_string()),
    )
}

fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    }) | 1
}

fn is_nan(ty: &str, bits: u64) -> bool {
    match ty {
        "f16" => half::f16::from_bits(bits as u16).is_nan(),
        "bf16" => half::bf16::from_bits(bits as u16).is_nan(),
        "f32" => f32::from_bits(bits as u32).is_nan(),
        _ => f64::from_bits(bits).is_nan(),
    }
}

fn number(ty: &str, bits: u64) -> f64 {
    match ty {
        "f16" => half::f16::from_bits(bits as u16).to_f64(),
        "bf16" => half::bf16::from_bits(bits as u16).to_f64(),
        "f32" => f32::from_bits(bits as u32).into(),
        _ => f64::from_bits(bits),
    }
}

fn holds(wanted: Wanted, ty: &str, got: u64) -> bool {
    let all = mask(if ty == "pred" { 32 } else { width(ty) });
    match wanted {
        Wanted::Bits(bits) => got == bits & all,
        Wanted::Nan => is_nan(ty, got),
        Wanted::Within(low, high) => (low..=high).contains(&number(ty, got)),
        Wanted::Anything => true,
    }
}

pub fn check(cases: Vec<Case>) {
    for batch in cases.chunks(BATCH) {
        let mut ptx = crate::coverage::HEAD.to_owned();
        for (at, case) in batch.iter().enumerate() {
            ptx += &kernel(at, &case.srcs, &case.dst, &case.text);
        }
        let mut machine = Machine::new(&ptx);
        let buffers = [(); 5].map(|()| machine.buffer(&[0u64; 2 * LANES]));
        for (at, case) in batch.iter().enumerate() {
            check_one(&machine, at, case, &buffers);
        }
    }
}

fn check_one(machine: &Machine, at: usize, case: &Case, buffers: &[u64; 5]) {
    let seed = seed(&case.text);
    let mut random = Random(seed);
    let mut operands: Vec<Operands> = case.srcs.iter().map(|ty| Operands::new(ty)).collect();
    let inputs: Vec<Vec<u64>> = (0..LANES)
        .map(|_| {
            let mut values = Vec::new();
            for operand in &mut operands {
                let other = values.last().copied().unwrap_or(0);
                values.push(operand.next(&mut random, other));
            }
            values
        })
        .collect();
    let bytes = |values: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
        values.flat_map(u64::to_le_bytes).collect()
    };
    machine.write_bytes(
        buffers[0],
        &bytes(&mut std::iter::repeat_n(BEFORE, 2 * LANES)),
    );
    for (column, buffer) in buffers[1..].iter().enumerate().take(case.srcs.len()) {
        machine.write_bytes(*buffer, &bytes(&mut inputs.iter().map(|row| row[column])));
    }
    machine.launch(&format!("k{at}"), BLOCKS, THREADS, buffers);
    let results = machine.read::<u64>(buffers[0], 2 * LANES);
    let all = mask(if case.dst == "pred" {
        32
    } else {
        width(&case.dst)
    });
    for (at, &got) in results.iter().enumerate() {
        let lane = at % LANES;
        let got = got & all;
        let wanted = if at >= LANES && lane % 4 == 1 {
            // Left as it was.
            Wanted::Bits(if case.dst == "pred" { 1 } else { BEFORE })
        } else {
            (case.wanted)(&inputs[lane])
        };
        assert!(
            holds(wanted, &case.dst, got),
            "{}: operands {:x?}: got {got:#x}, wanted {wanted:x?}, lane {lane}, {}, seed {seed:#x}",
            case.text,
            inputs[lane],
            if at >= LANES { "diverged" } else { "together" },
        );
    }
    tested(&case.opcode);
}
