//! Random programs that are well defined give the same under any schedule: threads of the host, blocks side by side or one
//! by one and in another order, longer and shorter turns, and other rotation among threads that went apart.

mod generate;

use std::sync::Mutex;

use softgpu_engine::{CheckLevel, LaunchContext, Outcome};

use crate::common::{Machine, Random};
use generate::{BLOCKS, Generator, Program, THREADS, WORDS};

/// How many programs, and from which seed on: to search longer, or to see one again.
const COUNT: &str = "SOFTGPU_PROGRAMS";
const SEED: &str = "SOFTGPU_SEED";

struct Schedule {
    host_threads: usize,
    /// Blocks that run as one; none for as many as the engine likes.
    gang: Option<usize>,
    backwards: bool,
    budget: u64,
    rotate_after: Option<u32>,
}

const FIRST: Schedule = Schedule {
    host_threads: 1,
    gang: None,
    backwards: false,
    budget: 1 << 20,
    rotate_after: None,
};

const SECOND: Schedule = Schedule {
    host_threads: 4,
    gang: Some(1),
    backwards: true,
    budget: 61,
    rotate_after: Some(1),
};

/// Everything that the program wrote.
fn run(ptx: &str, inputs: &[u64], schedule: &Schedule) -> Vec<u64> {
    let mut machine = Machine::new(ptx);
    let input = machine.buffer(inputs);
    let total = BLOCKS * THREADS * WORDS + generate::SUMS;
    let output = machine.buffer(&vec![0u64; total]);
    machine
        .program
        .prepare(0)
        .unwrap_or_else(|error| panic!("{error}\n{ptx}"));
    let params: Vec<u8> = [output, input]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let launch = LaunchContext {
        kernel: 0,
        grid: [BLOCKS as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        dynamic_shared: 0,
        params: &params,
        globals: &machine.globals,
        memory: &machine.space,
        check: CheckLevel::Pages,
        heap: None,
        workspace: 0,
        print: None,
        objects: None,
    };
    let gang = schedule
        .gang
        .unwrap_or_else(|| machine.program.gang(&launch));
    let mut blocks: Vec<[u32; 3]> = (0..BLOCKS as u32).map(|x| [x, 0, 0]).collect();
    if schedule.backwards {
        blocks.reverse();
    }
    let mut running: Vec<_> = blocks
        .chunks(gang)
        .map(|chunk| machine.program.start_blocks(&launch, chunk))
        .collect();
    if let Some(branches) = schedule.rotate_after {
        running
            .iter_mut()
            .for_each(|block| block.rotate_after(branches));
    }
    running.reverse();
    let queue = Mutex::new(running);
    let work = || loop {
        let Some(mut block) = queue.lock().unwrap().pop() else {
            return;
        };
        // Ends: loops are bounded, and whoever waits is waited for by all.
        for turn in 0.. {
            match block.run(schedule.budget) {
                Outcome::Done => break,
                Outcome::Yielded => assert!(turn < 1 << 22, "no end\n{ptx}"),
                Outcome::Fault(fault) => panic!("{fault}\n{ptx}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..schedule.host_threads {
            scope.spawn(work);
        }
    });
    machine.read(output, total)
}

/// The text of one, for tests that take texts.
pub fn text(seed: u64) -> String {
    Generator::new().program(seed, true).text()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn schedules_agree() {
    let count = number(COUNT).unwrap_or(240);
    let seed = number(SEED).unwrap_or(0x5eed_0001);
    println!("{count} programs from seed {seed}");
    let mut generator = Generator::new();
    let mut mixed = 0;
    for at in 0..count {
        // Each program has a seed of its own, by which it can be made alone.
        let own = seed + at;
        let program = generator.program(own, at % 4 != 3);
        mixed += u64::from(program.is_mixed());
        let mut random = Random(own.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let inputs: Vec<u64> = (0..BLOCKS * THREADS * WORDS)
            .map(|_| random.next())
            .collect();
        let first = run(&program.text(), &inputs, &FIRST);
        if first != run(&program.text(), &inputs, &SECOND) {
            let differs = |program: &Program| {
                let text = program.text();
                run(&text, &inputs, &FIRST) != run(&text, &inputs, &SECOND)
            };
            let text = program.reduced(differs).text();
            let (first, second) = (run(&text, &inputs, &FIRST), run(&text, &inputs, &SECOND));
            let words = first.iter().zip(&second).enumerate();
            let found: Vec<_> = words.filter(|(_, (one, other))| one != other).collect();
            panic!(
                "{SEED}={own} {COUNT}=1: {:x?}\n{text}",
                &found[..found.len().min(4)]
            );
        }
        // A program that leaves what it is given alone shows nothing.
        assert!(first.iter().any(|word| *word != 0));
    }
    println!("{mixed} of them mix divergence, barriers and shuffles");
    assert!(2 * mixed >= count);
}
