//! Whole kernels around an instruction: what each thread writes, given what all of them read.

use super::{HEAD, tested};
use crate::common::{Machine, Random};

/// `%in` and `%out` are where the thread's words begin, `%ins` and `%outs` where the first one's do, `%i` is its index.
/// `%r`, `%d`, `%h`, `%f`, `%g`, `%p` and `%q` are registers of 32, 64, 16 bits, f32, f64, predicates and of 128 bits.
#[derive(Default)]
pub struct Script {
    pub opcode: String,
    /// Before the kernel: functions and variables.
    pub outside: String,
    /// After the parameters that each kernel has: `, .param .b8 block[64]`.
    pub params: String,
    pub extra: Vec<u64>,
    pub body: String,
    /// Words of 64 bits of each thread.
    pub reads: usize,
    pub writes: usize,
    pub wanted: Option<Wanted>,
    /// Instead of random words.
    pub inputs: Option<Vec<u64>>,
    /// The inputs after the run, where the kernel changes them.
    pub after: Option<Wanted>,
}

/// What a thread's words must be, by all threads' words.
pub type Wanted = Box<dyn Fn(usize, &[Vec<u64>]) -> Vec<u64>>;

/// Threads of a block, of which there are two.
pub const THREADS: usize = 96;
pub const BLOCKS: usize = 2;
pub const UNTOUCHED: u64 = 0xa5a5_a5a5_a5a5_a5a5;
const BATCH: usize = 40;

fn text(at: usize, script: &Script) -> String {
    format!(
        "{}\n.visible .entry k{at}(.param .u64 p0, .param .u64 p1{}) {{
.reg .b32 %i, %t, %r<24>; .reg .b64 %in, %out, %ins, %outs, %d<24>; .reg .b16 %h<24>; .reg .f32 %f<12>; .reg .f64 %g<12>;
.reg .pred %p<8>, %skip; .reg .b128 %q<6>;
ld.param.u64 %outs, [p0]; ld.param.u64 %ins, [p1]; mov.u32 %t, %ctaid.x; mov.u32 %i, %tid.x; mad.lo.u32 %i, %t, {THREADS}, %i;
mul.wide.u32 %d0, %i, {}; add.u64 %in, %ins, %d0; mul.wide.u32 %d0, %i, {}; add.u64 %out, %outs, %d0;
and.b32 %t, %i, 3; setp.eq.u32 %skip, %t, 1;
{}
ret; }}\n",
        script.outside.replace("AT", &format!("{at}x")),
        script.params,
        8 * script.reads,
        8 * script.writes,
        script.body.replace("AT", &format!("{at}x"))
    )
}

pub fn check(scripts: Vec<Script>) {
    for batch in scripts.chunks(BATCH) {
        let mut ptx = HEAD.to_owned();
        for (at, script) in batch.iter().enumerate() {
            ptx += &text(at, script);
        }
        let mut machine = Machine::new(&ptx);
        let most = |words: fn(&Script) -> usize| {
            BLOCKS * THREADS * batch.iter().map(words).max().unwrap_or(0).max(1)
        };
        let out = machine.buffer(&vec![0u64; most(|script| script.writes)]);
        let inputs = machine.buffer(&vec![0u64; most(|script| script.reads)]);
        for (at, script) in batch.iter().enumerate() {
            check_one(&machine, at, script, [out, inputs]);
        }
    }
}

fn check_one(machine: &Machine, at: usize, script: &Script, [out, input]: [u64; 2]) {
    let total = BLOCKS * THREADS;
    let mut random = Random((script.body.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let words: Vec<Vec<u64>> = match &script.inputs {
        Some(given) => given.chunks(script.reads).map(<[u64]>::to_vec).collect(),
        None => (0..total)
            .map(|_| (0..script.reads).map(|_| random.next()).collect())
            .collect(),
    };
    let bytes = |words: &[u64]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    machine.write_bytes(input, &bytes(&words.concat()));
    machine.write_bytes(out, &bytes(&vec![UNTOUCHED; total * script.writes]));
    let mut params = vec![out, input];
    params.extend(&script.extra);
    machine.launch(&format!("k{at}"), BLOCKS as u32, THREADS as u32, &params);
    let check = |what: &str, address: u64, count: usize, wanted: &Option<Wanted>| {
        let Some(wanted) = wanted else { return };
        let got = machine.read::<u64>(address, total * count);
        for (thread, got) in got.chunks(count.max(1)).enumerate().take(total) {
            let wanted = wanted(thread, &words);
            assert!(
                got == wanted,
                "{}: {what} of thread {thread}: got {got:x?}, wanted {wanted:x?}\n{}",
                script.opcode,
                script.body
            );
        }
    };
    assert!(script.wanted.is_some() || script.after.is_some());
    check("results", out, script.writes, &script.wanted);
    check("memory", input, script.reads, &script.after);
    tested(&script.opcode);
}
