//! Every form that the engine accepts, run and compared with values computed independently: by the soft floats of
//! `rustc_apfloat`, by 128-bit integers, by plain loops over lanes. `cargo xtask coverage` prints what share that is.

mod addresses;
mod atomics;
mod barriers;
mod bits;
mod compared;
mod converted;
mod copies;
mod flow;
mod hints;
mod integers;
mod loads;
mod moves;
mod numbers;
mod refused;
pub mod run;
mod script;
mod soft;
pub mod values;
mod video;
mod warps;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use softgpu_engine::forms;

/// The newest target that forms are for.
const HEAD: &str = ".version 8.6\n.target sm_100a\n.address_size 64\n";

static TESTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// To be called when results of this opcode were compared, and agreed.
pub fn tested(opcode: &str) {
    let forms = forms::forms_of(opcode).unwrap_or_else(|why| panic!("{opcode}: {why:?}"));
    TESTED
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .extend(forms);
}

/// A form, taken apart.
pub struct Form {
    pub opcode: String,
    pub name: String,
    pub words: Vec<String>,
}

impl Form {
    pub fn new(opcode: &str) -> Form {
        let mut words = opcode.split('.').map(str::to_owned);
        Form {
            opcode: opcode.to_owned(),
            name: words.next().unwrap_or_default(),
            words: words.collect(),
        }
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// The first of these words that it has.
    pub fn one_of<'w>(&self, words: &[&'w str]) -> Option<&'w str> {
        words.iter().copied().find(|word| self.has(word))
    }

    /// Its types, in order.
    pub fn types(&self) -> Vec<&str> {
        let words = self.words.iter().map(String::as_str);
        words.filter(|word| values::is_type(word)).collect()
    }

    pub fn last(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }
}

/// Forms of these instructions.
fn of(names: &[&str]) -> Vec<Form> {
    let all = forms::all().into_iter();
    let plain = all
        .filter(|form| !form.contains(' '))
        .map(|form| Form::new(&form));
    plain
        .filter(|form| names.contains(&form.name.as_str()))
        .collect()
}

/// Instructions that compute values from values, for programs that are made of them.
pub fn computations() -> Vec<run::Case> {
    let mut cases = integers::cases();
    cases.extend(bits::cases());
    cases.extend(numbers::cases());
    cases.extend(compared::cases());
    cases.extend(converted::cases());
    cases.extend(video::cases());
    cases.extend(moves::cases());
    cases
}

type Part = (&'static str, fn());

const PARTS: &[Part] = &[
    ("integers", integers::all),
    ("bits", bits::all),
    ("numbers", numbers::all),
    ("comparisons", compared::all),
    ("conversions", converted::all),
    ("video", video::all),
    ("moves", moves::all),
    ("addresses", addresses::all),
    ("loads and stores", loads::all),
    ("atomics", atomics::all),
    ("warps", warps::all),
    ("barriers", barriers::all),
    ("flow", flow::all),
    ("copies and mbarriers", copies::all),
    ("hints", hints::all),
    ("mma", crate::matrix::all_products),
    ("wmma", crate::matrix::all_fragments),
    ("tiles", crate::matrix::all_tiles),
    ("textures", crate::textures::all),
];

/// Set to the start of a part's name to run it alone, without counting.
const ONLY: &str = "SOFTGPU_FORMS_ONLY";

#[test]
fn every_accepted_form_gives_what_it_should() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let parts: Vec<Part> = PARTS
        .iter()
        .copied()
        .filter(|(name, _)| name.starts_with(&only))
        .collect();
    let failed = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, part)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            if std::panic::catch_unwind(part).is_err() {
                failed.lock().unwrap_or_else(|e| e.into_inner()).push(*name);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let tested = TESTED.lock().unwrap_or_else(|e| e.into_inner()).clone();
    let accepted = forms::all();
    let missing: Vec<&String> = accepted
        .iter()
        .filter(|form| !tested.contains(*form))
        .collect();
    // What `cargo xtask coverage` reads.
    println!(
        "forms tested {} accepted {}",
        accepted.len() - missing.len(),
        accepted.len()
    );
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    assert!(failed.is_empty(), "wrong: {failed:?}");
    if only.is_empty() {
        for form in &missing {
            println!("not tested: {form}");
        }
        assert!(
            missing.is_empty(),
            "{} forms were not tested",
            missing.len()
        );
    }
}
