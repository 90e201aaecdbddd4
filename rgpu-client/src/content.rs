//! What the server has of earlier sessions of this function, and need not be sent again: recognised by a cheap look first, then by hash.

use std::collections::HashMap;

use rgpu_proto::content::{Code, Digest, Fingerprint, Known, LEAST, MAX_FUNCTION, Reuse, Wanted};
use rgpu_transport::Endpoint;

use crate::config::Config;

/// Whether to make use of it (RGPU_CONTENT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Code always, copies where the link is slower than their hash.
    Auto,
    /// Both, wherever the server is.
    On,
    Off,
}

/// What is known, by the place that the server has given it.
#[derive(Debug, Default)]
pub struct Contents {
    code: HashMap<Digest, (u32, Vec<u8>)>,
    pieces: HashMap<Fingerprint, Vec<(Digest, u32)>>,
}

impl Contents {
    pub fn new(known: Known) -> Contents {
        let mut contents = Contents::default();
        for (place, code) in (0..).zip(known.code) {
            contents.code.insert(code.digest, (place, code.table));
        }
        for (place, piece) in (0..).zip(known.pieces) {
            let alike = contents.pieces.entry(piece.fingerprint).or_default();
            alike.push((piece.digest, place));
        }
        contents
    }

    /// The place of code, and its table of functions.
    pub fn code(&self, code: &Code<'_>, image: &[u8]) -> Option<(u32, &[u8])> {
        if self.code.is_empty() {
            return None;
        }
        let (place, table) = self.code.get(&Digest::of_code(code, image))?;
        Some((*place, table))
    }

    /// The place of a copy's bytes.
    pub fn piece(&self, bytes: &[u8]) -> Option<u32> {
        if self.pieces.is_empty() || bytes.len() < LEAST {
            return None;
        }
        let alike = self.pieces.get(&Fingerprint::of(bytes))?;
        let digest = Digest::of(bytes);
        let found = alike.iter().find(|(known, _)| *known == digest);
        found.map(|(_, place)| *place)
    }
}

/// What is asked of a server. Within one host bytes move faster than they are hashed.
pub fn wanted(config: &Config, endpoint: &Endpoint) -> Reuse {
    let wanted = match config.content {
        Setting::Off => Wanted::Nothing,
        Setting::On => Wanted::All,
        Setting::Auto if endpoint.is_local() => Wanted::Code,
        Setting::Auto => Wanted::All,
    };
    Reuse {
        wanted,
        function: config.function.clone(),
    }
}

/// Programs whose first argument that is no option is what they run; of others it is what they work on.
const INTERPRETERS: [&str; 7] = ["python", "pypy", "julia", "node", "perl", "ruby", "lua"];

/// The program, and of an interpreter also what it runs. Folders do not belong to it, since each job may have its own.
pub fn function(program: &str, mut arguments: impl Iterator<Item = String>) -> String {
    let interprets = INTERPRETERS.iter().any(|name| program.starts_with(name));
    let mut words = arguments.by_ref().skip(1).filter(|_| interprets);
    let script = words.find(|word| !word.starts_with('-'));
    let script = script.as_deref().unwrap_or_default();
    let script = script.rsplit('/').next().unwrap_or_default();
    bounded(&format!("{program} {script}"))
}

/// As much of a name as is told.
pub fn bounded(name: &str) -> String {
    let mut end = name.len().min(MAX_FUNCTION);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_proto::content::{KnownCode, KnownPiece};

    fn piece(bytes: &[u8]) -> KnownPiece {
        KnownPiece {
            fingerprint: Fingerprint::of(bytes),
            digest: Digest::of(bytes),
        }
    }

    #[test]
    fn only_equal_bytes_are_recognised() {
        let (first, second) = (vec![1; LEAST], vec![2; 2 * LEAST]);
        // Alike to the cheap look, which does not read this byte.
        let mut alike = first.clone();
        alike[9] = 0;
        assert_eq!(Fingerprint::of(&first), Fingerprint::of(&alike));
        let contents = Contents::new(Known {
            code: Vec::new(),
            pieces: vec![piece(&first), piece(&second)],
        });
        assert_eq!(contents.piece(&first), Some(0));
        assert_eq!(contents.piece(&second), Some(1));
        assert_eq!(contents.piece(&alike), None);
        assert_eq!(contents.piece(&second[1..]), None);
        let both = Contents::new(Known {
            code: Vec::new(),
            pieces: vec![piece(&first), piece(&alike), piece(&[3; 10])],
        });
        assert_eq!(both.piece(&alike), Some(1));
        assert_eq!(both.piece(&[3; 10]), None, "too short to look for");
    }

    #[test]
    fn code_is_known_for_its_device_and_options() {
        let code = |device| Code::Module {
            device,
            max_registers: 0,
        };
        let contents = Contents::new(Known {
            code: vec![KnownCode {
                digest: Digest::of_code(&code(0), b"image"),
                table: b"table".to_vec(),
            }],
            pieces: Vec::new(),
        });
        assert_eq!(contents.code(&code(0), b"image"), Some((0, &b"table"[..])));
        assert_eq!(contents.code(&code(1), b"image"), None);
    }

    #[test]
    fn a_function_is_a_program_and_what_it_runs() {
        let name = |words: &[&str]| function(words[0], words.iter().map(|word| word.to_string()));
        assert_eq!(
            name(&["python3", "-u", "/job/17/classify.py", "x"]),
            "python3 classify.py"
        );
        assert_eq!(name(&["a.out", "clip7.dcm"]), "a.out");
        assert_eq!(name(&["python3", "-c"]), "python3");
        assert!(name(&["perl", &"é".repeat(100)]).len() <= MAX_FUNCTION);
    }
}
