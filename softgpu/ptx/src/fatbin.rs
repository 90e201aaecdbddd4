//! NVIDIA's fat binary container: entries of PTX and machine code for several architectures, raw or compressed.
//!
//! Bytes here come from a file or from another process's memory: lengths are checked before they are believed, and a
//! payload that unpacks to more than it says, or to more than [`MAX_TEXT`], is refused.

use std::io::Read;

/// First word of the wrapper that compilers put around a container, in `.nvFatBinSegment`.
pub const WRAPPER_MAGIC: u32 = 0x4662_43b1;
/// First word of a container.
pub const CONTAINER_MAGIC: u32 = 0xba55_ed50;
/// Bytes of a container's header.
pub const HEADER: usize = 16;
/// Largest container, in bytes.
pub const MAX_CONTAINER: u64 = 1 << 30;
/// Largest unpacked PTX text, in bytes.
pub const MAX_TEXT: u64 = 256 << 20;
const MAX_ENTRIES: usize = 4096;
/// What every entry's header has at least; it says its own size.
const ENTRY_HEADER: usize = 64;

const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatbinError {
    #[error("not a fat binary: it starts with {0:#010x}, not with {CONTAINER_MAGIC:#010x}")]
    Magic(u32),
    #[error("the fat binary ends early: {what} needs {needed} bytes, {present} are there")]
    Truncated {
        what: &'static str,
        needed: u64,
        present: u64,
    },
    #[error("the fat binary claims {0} bytes, more than {MAX_CONTAINER}")]
    TooLarge(u64),
    #[error("the fat binary has more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("entry at byte {at} of the fat binary is malformed: {why}")]
    Entry { at: usize, why: &'static str },
    #[error("cannot unpack PTX: {0}")]
    Unpack(String),
    #[error("the PTX of the fat binary is not UTF-8 text")]
    NotText,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ptx,
    Elf,
    Other(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub kind: Kind,
    /// Compute capability times ten: 86.
    pub arch: u32,
    /// PTX version, (major, minor).
    pub version: (u16, u16),
    pub flags: u64,
    payload: &'a [u8],
    unpacked: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes of the whole container, from its first [`HEADER`] bytes.
pub fn container_length(header: &[u8; HEADER]) -> Result<u64, FatbinError> {
    let magic = u32_at(header, 0);
    if magic != CONTAINER_MAGIC {
        return Err(FatbinError::Magic(magic));
    }
    let size = u64_at(header, 8);
    let total = size.saturating_add(u64::from(u16_at(header, 6)));
    if total > MAX_CONTAINER {
        Err(FatbinError::TooLarge(total))
    } else {
        Ok(total)
    }
}

/// The entries of a container.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>, FatbinError> {
    let truncated = |what, needed: u64, present: usize| FatbinError::Truncated {
        what,
        needed,
        present: present as u64,
    };
    let header: &[u8; HEADER] = bytes
        .first_chunk()
        .ok_or_else(|| truncated("the header", HEADER as u64, bytes.len()))?;
    let total = container_length(header)?;
    if (bytes.len() as u64) < total {
        return Err(truncated("the container", total, bytes.len()));
    }
    let bytes = &bytes[..total as usize];
    let mut at = usize::from(u16_at(header, 6));
    if at < HEADER {
        return Err(FatbinError::Entry {
            at: 0,
            why: "the container's header is shorter than 16 bytes",
        });
    }
    let mut found = Vec::new();
    while at < bytes.len() {
        if found.len() == MAX_ENTRIES {
            return Err(FatbinError::TooMany);
        }
        let rest = &bytes[at..];
        if rest.len() < ENTRY_HEADER {
            return Err(truncated(
                "an entry's header",
                ENTRY_HEADER as u64,
                rest.len(),
            ));
        }
        let header = u32_at(rest, 4) as usize;
        let payload = u64_at(rest, 8);
        let compressed = u64::from(u32_at(rest, 16));
        if header < ENTRY_HEADER {
            return Err(FatbinError::Entry {
                at,
                why: "its header is shorter than 64 bytes",
            });
        }
        let end = payload.saturating_add(header as u64);
        if end > rest.len() as u64 {
            return Err(truncated("an entry", end, rest.len()));
        }
        if compressed > payload {
            return Err(FatbinError::Entry {
                at,
                why: "its compressed size is larger than its payload",
            });
        }
        let used = if compressed == 0 { payload } else { compressed };
        found.push(Entry {
            kind: match u16_at(rest, 0) {
                1 => Kind::Ptx,
                2 => Kind::Elf,
                other => Kind::Other(other),
            },
            arch: u32_at(rest, 28),
            version: (u16_at(rest, 26), u16_at(rest, 24)),
            flags: u64_at(rest, 40),
            payload: &rest[header..header + used as usize],
            unpacked: u64_at(rest, 56),
        });
        at += end as usize;
    }
    Ok(found)
}

/// The newest PTX that a device of this compute capability (times ten) may run.
pub fn select_ptx<'e, 'a>(entries: &'e [Entry<'a>], capability: u32) -> Option<&'e Entry<'a>> {
    entries
        .iter()
        .filter(|entry| entry.kind == Kind::Ptx && entry.arch <= capability)
        .max_by_key(|entry| entry.arch)
}

impl Entry<'_> {
    /// The payload, unpacked.
    pub fn unpack(&self) -> Result<Vec<u8>, FatbinError> {
        let packed = self.flags & (FLAG_LZ4 | FLAG_ZSTD);
        if packed != 0 && self.unpacked > MAX_TEXT {
            return Err(FatbinError::Unpack(format!(
                "it claims {} bytes, more than {MAX_TEXT}",
                self.unpacked
            )));
        }
        if packed & FLAG_ZSTD != 0 {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(self.payload)
                .map_err(|error| FatbinError::Unpack(format!("Zstandard: {error}")))?;
            // Grows as data comes out, so that a false claim costs nothing.
            let mut text = Vec::new();
            decoder
                .by_ref()
                .take(self.unpacked + 1)
                .read_to_end(&mut text)
                .map_err(|error| FatbinError::Unpack(format!("Zstandard: {error}")))?;
            self.complete(text)
        } else if packed & FLAG_LZ4 != 0 {
            // An LZ4 block cannot expand more than 255 times.
            if self.unpacked > (self.payload.len() as u64).saturating_mul(255) {
                return Err(FatbinError::Unpack(
                    "LZ4: it claims more than the format can hold".into(),
                ));
            }
            let text = lz4_flex::block::decompress(self.payload, self.unpacked as usize)
                .map_err(|error| FatbinError::Unpack(format!("LZ4: {error}")))?;
            self.complete(text)
        } else {
            Ok(self.payload.to_vec())
        }
    }

    fn complete(&self, text: Vec<u8>) -> Result<Vec<u8>, FatbinError> {
        if text.len() as u64 != self.unpacked {
            return Err(FatbinError::Unpack(format!(
                "{} bytes were promised, {} came out",
                self.unpacked,
                text.len()
            )));
        }
        Ok(text)
    }

    /// The PTX text, without the zero bytes that pad it.
    pub fn text(&self) -> Result<String, FatbinError> {
        let mut bytes = self.unpack()?;
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len());
        bytes.truncate(end);
        String::from_utf8(bytes).map_err(|_| FatbinError::NotText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, arch: u32, flags: u64, payload: &[u8], unpacked: u64) -> Vec<u8> {
        let padded = payload.len().next_multiple_of(8);
        let mut bytes = vec![0; ENTRY_HEADER];
        bytes[0..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&(ENTRY_HEADER as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&(padded as u64).to_le_bytes());
        bytes[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[28..32].copy_from_slice(&arch.to_le_bytes());
        bytes[40..48].copy_from_slice(&flags.to_le_bytes());
        bytes[56..64].copy_from_slice(&unpacked.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(ENTRY_HEADER + padded, 0);
        bytes
    }

    fn container(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut bytes = CONTAINER_MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&16u16.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn unpacks_raw_lz4_and_zstd_and_picks_the_newest_that_fits() {
        let text =
            b".version 8.0\n.target sm_86\n.address_size 64\n// and again, and again, and again\0";
        let lz4 = lz4_flex::block::compress(text);
        let zstd = ruzstd::encoding::compress_to_vec(
            &text[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let bytes = container(&[
            entry(1, 52, 0x11, text, 0),
            entry(2, 86, 0x11, b"\x7fELF", 0),
            entry(1, 75, 0x2011, &lz4, text.len() as u64),
            entry(1, 86, 0x8011, &zstd, text.len() as u64),
            entry(1, 90, 0x11, text, 0),
        ]);
        let found = entries(&bytes).unwrap();
        let wanted = String::from_utf8(text[..text.len() - 1].to_vec()).unwrap();
        for at in [0, 2, 3] {
            assert_eq!(found[at].text().unwrap(), wanted);
        }
        assert_eq!(found[1].kind, Kind::Elf);
        assert_eq!(select_ptx(&found, 86).unwrap().arch, 86);
        assert_eq!(select_ptx(&found, 80).unwrap().arch, 75);
        assert!(select_ptx(&found, 50).is_none());
    }

    #[test]
    fn refuses_lies_about_sizes() {
        let text = vec![b'x'; 4096];
        let lz4 = lz4_flex::block::compress(&text);
        let zstd = ruzstd::encoding::compress_to_vec(
            &text[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        for (flags, packed) in [(0x2000, &lz4), (0x8000, &zstd)] {
            for claim in [0, 4095, 4097, u64::MAX, MAX_TEXT] {
                let bytes = container(&[entry(1, 86, flags, packed, claim)]);
                assert!(
                    matches!(
                        entries(&bytes).unwrap()[0].text(),
                        Err(FatbinError::Unpack(_))
                    ),
                    "{claim}"
                );
            }
        }
        let mut bytes = container(&[entry(1, 86, 0, &text, 0)]);
        bytes[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(matches!(entries(&bytes), Err(FatbinError::TooLarge(_))));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..400, 0u8..=255), 1..12), cut in 0usize..400) {
            let text = b".version 8.0\n.target sm_86\n.address_size 64\n// padding padding padding";
            let lz4 = lz4_flex::block::compress(text);
            let zstd = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
            let mut bytes = container(&[
                entry(1, 75, 0x2011, &lz4, text.len() as u64),
                entry(1, 86, 0x8011, &zstd, text.len() as u64),
            ]);
            for (at, value) in flips {
                let len = bytes.len();
                bytes[at % len] = value;
            }
            bytes.truncate(400.max(cut));
            if let Ok(found) = entries(&bytes) {
                for entry in found {
                    let _ = entry.text();
                }
            }
        }
    }
}
