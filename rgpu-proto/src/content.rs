//! Content that need not be sent again: what a server has kept of a function's earlier starts, and how the client recognises it.
//!
//! The server tells it with its welcome, as two lists; the client names an entry by its place in them. So a client can name nothing that it
//! was not told, and it is told only what sessions of its own tenant have sent.

use serde::{Deserialize, Serialize};

/// Shortest copy that is recognised: what is shorter is sent for less than it takes to look for it.
pub const LEAST: usize = 4096;
/// Most entries of each list.
pub const MAX_KNOWN: usize = 16_384;
/// Bound of both lists in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Longest name of a function in bytes.
pub const MAX_FUNCTION: usize = 64;

/// The first half of a BLAKE3 hash. Whoever wants another content with the same one must find it for content that somebody else chose: 2^128
/// tries. Two of one's own choice with the same one (2^64) deceive nobody, since the lists are of one tenant's own content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest([u8; 16]);

impl Digest {
    fn end(hasher: &blake3::Hasher) -> Digest {
        let mut half = Digest::default();
        hasher.finalize_xof().fill(&mut half.0);
        half
    }

    /// Of the bytes of a copy.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::end(blake3::Hasher::new().update(bytes))
    }

    /// Of code with all that its table of functions depends on.
    pub fn of_code(code: &Code<'_>, image: &[u8]) -> Digest {
        // A context of its own: code is never taken for a copy's bytes.
        let mut hasher = blake3::Hasher::new_derive_key("rgpu 2026 code and how it is loaded");
        match code {
            Code::Module {
                device,
                max_registers,
            } => {
                hasher.update(&[0]).update(&device.to_le_bytes());
                hasher.update(&max_registers.to_le_bytes());
            }
            Code::Library { device, options } => {
                hasher.update(&[1]).update(&device.to_le_bytes());
                hasher.update(&(options.len() as u64).to_le_bytes());
                hasher.update(options);
            }
        }
        Digest::end(hasher.update(image))
    }

    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// From [`Self::hex`].
    pub fn from_hex(text: &str) -> Option<Digest> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Digest(bytes))
    }

    /// As a name for files.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How an image is loaded. Loads that want a log are not of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// `rgpuModuleLoad`, in a context of this device of the server's.
    Module { device: i32, max_registers: u32 },
    /// `rgpuLibraryLoad`; `options` as they travel.
    Library { device: i32, options: &'a [u8] },
}

/// What costs next to nothing to compute, and differs for nearly all contents: content that has no known one is sent without being hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint([u8; 8]);

/// Words that are looked at.
const SAMPLES: usize = 32;
const WORD: usize = 8;

impl Fingerprint {
    /// Of the length, and of words that are spread evenly over the bytes.
    pub fn of(bytes: &[u8]) -> Fingerprint {
        let mut state = fold(bytes.len() as u64, 0x9e37_79b9_7f4a_7c15);
        let last = bytes.len().saturating_sub(WORD);
        for sample in 0..SAMPLES {
            let at = last * sample / (SAMPLES - 1);
            let word = bytes.get(at..at + WORD);
            let word = word.and_then(|word| word.first_chunk::<WORD>());
            let word = word.map_or(0, |word| u64::from_le_bytes(*word));
            state = fold(state ^ word, 0xd6e8_feb8_6659_fd93);
        }
        Fingerprint(state.to_le_bytes())
    }
}

/// Both halves of a product, which mixes each bit of the word into all others.
fn fold(word: u64, by: u64) -> u64 {
    let product = u128::from(word ^ 0xa076_1d64_78bd_642f) * u128::from(by);
    (product as u64) ^ ((product >> 64) as u64)
}

/// What a client can make use of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// Nothing is told, and nothing is kept of what the session sends.
    #[default]
    Nothing,
    /// Code: its table of functions comes with the welcome, so that a load need not wait.
    Code,
    /// Code and copies: the link is slower than a hash.
    All,
}

/// The client's part of it, in its greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    pub wanted: Wanted,
    /// Which of the tenant's functions this is. It decides what is told, and is no secret: any text does.
    pub function: String,
}

/// Code that the server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCode {
    pub digest: Digest,
    /// Its table of functions, encoded.
    pub table: Vec<u8>,
}

/// Bytes of a copy that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPiece {
    pub fingerprint: Fingerprint,
    pub digest: Digest,
}

/// The server's part of it, in its welcome. The session has all of it until its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub code: Vec<KnownCode>,
    pub pieces: Vec<KnownPiece>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_lengths_and_sampled_words_apart() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let whole = Fingerprint::of(&bytes);
        assert_eq!(whole, Fingerprint::of(&bytes.clone()));
        assert_ne!(whole, Fingerprint::of(&bytes[..bytes.len() - 1]));
        for at in [0, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(whole, Fingerprint::of(&other), "{at}");
        }
        // Zeros of different lengths, down to none at all.
        let zeros: Vec<Fingerprint> = (0..20).map(|len| Fingerprint::of(&vec![0; len])).collect();
        for (at, one) in zeros.iter().enumerate() {
            assert!(!zeros[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_in_every_build() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(
            Fingerprint::of(&bytes),
            Fingerprint(FINGERPRINT_OF_ALL_BYTES)
        );
    }
    const FINGERPRINT_OF_ALL_BYTES: [u8; 8] = [50, 82, 219, 179, 10, 17, 56, 1];

    #[test]
    fn code_is_told_apart_by_all_that_its_table_depends_on() {
        let module = |device, max_registers| Code::Module {
            device,
            max_registers,
        };
        let library = |device, options| Code::Library { device, options };
        let all = [
            Digest::of(b"image"),
            Digest::of_code(&module(0, 0), b"image"),
            Digest::of_code(&module(1, 0), b"image"),
            Digest::of_code(&module(0, 32), b"image"),
            Digest::of_code(&library(0, b""), b"image"),
            Digest::of_code(&library(0, b"i"), b"mage"),
            Digest::of_code(&library(1, b""), b"image"),
            Digest::of_code(&module(0, 0), b"imagf"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        let hash = blake3::hash(b"image").to_hex();
        assert_eq!(Digest::of(b"image").hex(), hash[..32]);
        assert_eq!(Digest::from_hex(&hash[..32]), Some(Digest::of(b"image")));
        assert_eq!(Digest::from_hex("no"), None);
        assert_eq!(Digest::from_hex(&"é".repeat(16)), None);
    }
}
