//! The forms of instructions that the engine accepts, as a list: lowering asks it first, and the tests walk over it.

mod table;

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use softgpu_ptx::ScalarType;
use table::{CLASSES, TABLE};

struct Slot {
    words: Vec<&'static str>,
    optional: bool,
    hint: bool,
    /// Filled in the order of the slots.
    ordered: bool,
}

struct Pattern {
    slots: Vec<Slot>,
}

/// Words whose order matters: types, also those that no register or variable has, and layouts of matrices.
fn is_ordered(word: &str) -> bool {
    ScalarType::parse(word).is_some()
        || matches!(
            word,
            "u16x2" | "s16x2" | "tf32" | "e4m3x2" | "e5m2x2" | "e4m3" | "e5m2"
        )
        || matches!(word, "u2" | "s2" | "u4" | "s4" | "b1" | "row" | "col")
}

fn slot(text: &'static str) -> Slot {
    let (text, hint) = match text.strip_prefix('~') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (text, optional) = match text.strip_suffix('?') {
        Some(rest) => (rest, true),
        None => (text, hint),
    };
    let class = text.strip_prefix('$').and_then(|name| {
        let found = CLASSES.iter().find(|(known, _)| *known == name);
        found.map(|(_, words)| *words)
    });
    let words: Vec<_> = class.unwrap_or(text).split('|').collect();
    Slot {
        optional,
        hint,
        ordered: words.iter().all(|word| is_ordered(word)),
        words,
    }
}

fn patterns() -> &'static HashMap<&'static str, Vec<Pattern>> {
    static ALL: OnceLock<HashMap<&'static str, Vec<Pattern>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: HashMap<_, Vec<Pattern>> = HashMap::new();
        for (mnemonics, slots) in TABLE.lines().filter_map(|line| line.split_once(':')) {
            // A word may have colons of its own, a mnemonic has none.
            for mnemonic in mnemonics.split_ascii_whitespace() {
                all.entry(mnemonic).or_default().push(Pattern {
                    slots: slots.split_ascii_whitespace().map(slot).collect(),
                });
            }
        }
        all
    })
}

impl Pattern {
    /// The word of each slot. Else how many words found their place, before one did not or this slot was left.
    fn place<'w>(
        &self,
        words: &[&'w str],
    ) -> Result<Vec<Option<&'w str>>, (usize, &[&'static str])> {
        let mut placed: Vec<Option<&str>> = vec![None; self.slots.len()];
        let mut from = 0;
        for (at, word) in words.iter().enumerate() {
            let ordered = is_ordered(word);
            let start = if ordered { from } else { 0 };
            let free = self
                .slots
                .iter()
                .enumerate()
                .skip(start)
                .find(|(at, slot)| {
                    placed[*at].is_none() && slot.ordered == ordered && slot.words.contains(word)
                });
            let Some((found, _)) = free else {
                return Err((at, &[]));
            };
            placed[found] = Some(word);
            if ordered {
                from = found + 1;
            }
        }
        let mut slots = self.slots.iter().zip(&placed);
        match slots.find(|(slot, word)| !slot.optional && word.is_none()) {
            Some((slot, _)) => Err((words.len(), &slot.words)),
            None => Ok(placed),
        }
    }
}

/// Why an opcode is none of the list's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown<'a> {
    Mnemonic,
    /// The first modifier that does not go with those before it.
    Modifier(&'a str),
    /// All modifiers are known, but one of these is missing.
    Missing(&'static [&'static str]),
}

/// The forms that an opcode counts as: itself with its modifiers in the table's order, without hints, and each hint.
pub fn forms_of(opcode: &str) -> Result<Vec<String>, Unknown<'_>> {
    let mut words = opcode.split('.');
    let mnemonic = words.next().unwrap_or("");
    let words: Vec<&str> = words.collect();
    let mut best: (usize, &[&str]) = (0, &[]);
    for pattern in patterns().get(mnemonic).ok_or(Unknown::Mnemonic)? {
        match pattern.place(&words) {
            Ok(placed) => {
                let mut form = mnemonic.to_owned();
                let mut hints = Vec::new();
                for (slot, word) in pattern.slots.iter().zip(placed) {
                    match word {
                        Some(word) if slot.hint => hints.push(hint(mnemonic, word)),
                        Some(word) => {
                            form.push('.');
                            form.push_str(word);
                        }
                        None => {}
                    }
                }
                hints.insert(0, form);
                return Ok(hints);
            }
            Err(reached) if reached.0 > best.0 || best.1.is_empty() && reached.0 == best.0 => {
                best = reached;
            }
            Err(_) => {}
        }
    }
    Err(match words.get(best.0) {
        Some(word) => Unknown::Modifier(word),
        None => Unknown::Missing(best.1),
    })
}

fn hint(mnemonic: &str, word: &str) -> String {
    format!("{mnemonic} with {word}")
}

/// All of them, sorted: opcodes, and hints as `ld with L1::evict_last`.
pub fn all() -> Vec<String> {
    let mut forms = BTreeSet::new();
    for (mnemonic, patterns) in patterns() {
        for pattern in patterns {
            let mut spelled = vec![(*mnemonic).to_owned()];
            for slot in &pattern.slots {
                if slot.hint {
                    forms.extend(slot.words.iter().map(|word| hint(mnemonic, word)));
                    continue;
                }
                let bare = if slot.optional {
                    spelled.clone()
                } else {
                    Vec::new()
                };
                let with = |form: &String| {
                    let form = form.clone();
                    slot.words.iter().map(move |word| format!("{form}.{word}"))
                };
                let longer: Vec<_> = spelled.iter().flat_map(with).collect();
                spelled = bare;
                spelled.extend(longer);
            }
            forms.extend(spelled);
        }
    }
    forms.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_known_and_slots_have_one_kind_of_words() {
        for pattern in patterns().values().flatten() {
            for slot in &pattern.slots {
                let kinds: BTreeSet<_> = slot.words.iter().map(|word| is_ordered(word)).collect();
                assert_eq!(kinds.len(), 1, "{:?}", slot.words);
                assert!(!slot.words.iter().any(|word| word.starts_with(['$', '~'])));
            }
        }
    }

    #[test]
    fn each_form_is_the_form_of_itself() {
        let all = all();
        println!("{} forms", all.len());
        for form in all.iter().filter(|form| !form.contains(' ')) {
            assert_eq!(forms_of(form), Ok(vec![form.clone()]));
        }
    }

    #[test]
    fn order_is_free_but_for_types() {
        let form = |opcode| forms_of(opcode).unwrap().remove(0);
        assert_eq!(
            form("atom.global.gpu.acq_rel.add.f32"),
            form("atom.acq_rel.gpu.global.add.f32")
        );
        assert_ne!(form("cvt.s32.u16"), form("cvt.u16.s32"));
        assert_eq!(forms_of("cvt.f32.rzi.s32"), Err(Unknown::Modifier("s32")));
        assert_eq!(forms_of("add.frob.u32"), Err(Unknown::Modifier("frob")));
        assert_eq!(forms_of("mul.u32"), Err(Unknown::Missing(&["hi", "lo"])));
        assert!(
            matches!(forms_of("cvt.rn.f32"), Err(Unknown::Missing(words)) if words.contains(&"s8"))
        );
        assert_eq!(
            forms_of("vote.sync.ballot"),
            Err(Unknown::Missing(&["b32"]))
        );
        assert_eq!(forms_of("frob.u32"), Err(Unknown::Mnemonic));
        assert_eq!(
            forms_of("ld.global.L1::evict_last.ca.u32").unwrap(),
            ["ld.global.u32", "ld with ca", "ld with L1::evict_last"]
        );
    }
}
