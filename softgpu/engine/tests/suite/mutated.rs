//! Texts with words taken out, doubled, exchanged, and numbers made huge: the parser and the loader refuse them or take
//! them, but do not panic, and ask for no more memory than a text of that size could need.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use softgpu_engine::interpreter;

use crate::common::Random;

thread_local! {
    /// Bytes that this thread holds while it is watched, and the most that it held.
    static HELD: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

struct Watched;

fn count(change: impl Fn(usize) -> usize) {
    // At the end of a thread there is nothing to count any more.
    let _ = HELD.try_with(|held| {
        if let Some((now, most)) = held.get() {
            let now = change(now);
            held.set(Some((now, most.max(now))));
        }
    });
}

// SAFETY: the system's allocator does it; counting allocates nothing.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|now| now + layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|now| now.saturating_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// What reading and compiling a text of these tests may take at most: they have some ten thousand bytes.
const MOST: usize = 256 << 20;
/// Variables of more than this are not made, as the driver does not make those that the device has no memory for.
const IMAGE: u64 = 1 << 20;

/// Read and compile all kernels; true when one of them compiles.
fn load(text: &str) -> bool {
    let Ok(module) = softgpu_ptx::parse(text) else {
        return false;
    };
    let Ok(program) = interpreter().compile(&module) else {
        return false;
    };
    let placed = vec![0x2100_0000_0000; program.globals().len()];
    for (at, global) in program.globals().iter().enumerate() {
        if global.size <= IMAGE {
            program.initial_image(at, &placed);
        }
    }
    (0..program.kernels().len())
        .filter(|&kernel| program.prepare(kernel).is_ok())
        .count()
        > 0
}

/// Words, and what stands between them.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '_' | '.' | ':');
        let end = match word(first) {
            true => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        pieces.push(&rest[..end]);
        rest = &rest[end..];
    }
    pieces
}

const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "3",
    "255",
    "65536",
    "0x7fffffff",
    "0x80000000",
    "4294967296",
    "0xffffffffffffffff",
    "1e308",
    "0f7fffffff",
];
const OTHERS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ";",
    ",",
    "(",
    ")",
    "_",
    "%tid",
    ".v4",
    ".align",
    ".b128",
    "<1000000>",
    "@%p1",
    "extern",
];

fn mutated(text: &str, random: &mut Random) -> String {
    let mut pieces = pieces(text);
    for _ in 0..1 + random.next() % 4 {
        let at = |random: &mut Random| (random.next() >> 8) as usize % pieces.len().max(1);
        let (here, there) = (at(random), at(random));
        if pieces.is_empty() {
            break;
        }
        let kind = random.next() >> 8;
        let is_number = |piece: &&str| piece.starts_with(|c: char| c.is_ascii_digit());
        match kind % 8 {
            0 => {
                pieces.remove(here);
            }
            1 => pieces.insert(here, pieces[there]),
            2 => pieces.swap(here, there),
            3 => pieces[here] = pieces[there],
            4 | 5 => {
                let numbers: Vec<usize> = (0..pieces.len())
                    .filter(|&at| is_number(&pieces[at]))
                    .collect();
                if let Some(&at) = numbers.get(here % numbers.len().max(1)) {
                    pieces[at] = NUMBERS[there % NUMBERS.len()];
                }
            }
            6 => pieces[here] = OTHERS[there % OTHERS.len()],
            _ => {
                // A part of it once more.
                let length = (there % 60).min(pieces.len() - here);
                let part: Vec<&str> = pieces[here..here + length].to_vec();
                let to = (kind >> 20) as usize % pieces.len();
                pieces.splice(to..to, part);
            }
        }
    }
    pieces.concat()
}

#[test]
fn mutated_texts_are_refused_or_taken() {
    let texts = [
        include_str!("../../../ptx/tests/data/compiled.ptx"),
        include_str!("../../../ptx/tests/data/convolution_f32.ptx"),
        include_str!("../../../ptx/tests/data/reduction_int.ptx"),
        include_str!("../../../ptx/tests/data/mean_f16.ptx"),
    ];
    let programs: Vec<String> = (0..8).map(|at| crate::programs::text(at + 1)).collect();
    let texts: Vec<&str> = texts
        .into_iter()
        .chain(programs.iter().map(String::as_str))
        .collect();
    let seed = 0x0dd_ba11;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..600 {
        let text = mutated(texts[round % texts.len()], &mut random);
        HELD.set(Some((0, 0)));
        let result = std::panic::catch_unwind(|| load(&text));
        let (_, most) = HELD.take().unwrap_or_default();
        match result {
            Ok(true) => taken += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("round {round} of seed {seed:#x} panics:\n{text}"),
        }
        assert!(
            most <= MOST,
            "round {round} of seed {seed:#x} takes {most} bytes:\n{text}"
        );
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 50 && refused > 50);
}
