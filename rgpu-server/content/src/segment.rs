//! What one session has sent: contents one behind the other, then their index. In memory it is a sealed file, which processes hand each other;
//! on disk it has the same bytes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use memmap2::Mmap;
use rgpu_proto::codec;
use rgpu_proto::content::{Code, Digest, Fingerprint, MAX_KNOWN};
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"rGPUcnt1";
/// Magic, where the index begins and how long it is, its digest.
const HEAD: usize = 40;
/// Longest segment in bytes, and longest index.
pub const MAX_SEGMENT: u64 = 8 << 30;
const MAX_INDEX: usize = 16 << 20;
/// Nobody can change what another has checked.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// What a content is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Bytes of a copy.
    Piece(Fingerprint),
    /// Code for a module of a context's.
    Module {
        device: i32,
        max_registers: u32,
        /// Its table of functions, encoded.
        table: Vec<u8>,
    },
    /// Code for a library.
    Library {
        device: i32,
        options: Vec<u8>,
        table: Vec<u8>,
    },
}

impl What {
    /// By what a content for this is recognised.
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        match self {
            What::Piece(_) => Digest::of(bytes),
            What::Module {
                device,
                max_registers,
                ..
            } => {
                let code = Code::Module {
                    device: *device,
                    max_registers: *max_registers,
                };
                Digest::of_code(&code, bytes)
            }
            What::Library {
                device, options, ..
            } => {
                let code = Code::Library {
                    device: *device,
                    options,
                };
                Digest::of_code(&code, bytes)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub what: What,
    pub digest: Digest,
    offset: u64,
    len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    /// Driver and devices that the tables of functions are of.
    machine: Digest,
    entries: Vec<Entry>,
}

/// A file that is no segment, or a damaged one.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not sealed")]
    NotSealed,
    #[error("it is no whole file of contents: {0}")]
    Damaged(String),
}

fn damaged(why: impl Into<String>) -> SegmentError {
    SegmentError::Damaged(why.into())
}

/// A file in memory that can be sealed.
pub fn memory() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("rgpu-content", flags)?;
    Ok(file.into())
}

/// A segment in the making.
pub struct Writer {
    file: File,
    end: u64,
    entries: Vec<Entry>,
}

impl Writer {
    pub fn new() -> io::Result<Writer> {
        Ok(Writer {
            file: memory()?,
            end: HEAD as u64,
            entries: Vec::new(),
        })
    }

    /// Bytes of its contents.
    pub fn bytes(&self) -> u64 {
        self.end - HEAD as u64
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_KNOWN
    }

    /// Appends a content. `digest`: as [`What::digest`] gives it.
    pub fn push(&mut self, what: What, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.entries.push(Entry {
            what,
            digest,
            offset: self.end,
            len: bytes.len() as u64,
        });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Closes and seals it. `machine`: what the tables of functions are of.
    pub fn finish(self, machine: Digest) -> io::Result<OwnedFd> {
        let Writer { file, end, entries } = self;
        let index = Index { machine, entries };
        let index =
            codec::encode::<MAX_INDEX, _>("index of contents", &index).map_err(io::Error::other)?;
        file.write_all_at(&index, end)?;
        let mut head = MAGIC.to_vec();
        head.extend(end.to_le_bytes());
        head.extend((index.len() as u64).to_le_bytes());
        head.extend(Digest::of(&index).bytes());
        file.write_all_at(&head, 0)?;
        seal(file)
    }
}

/// No process can change it from here on.
pub fn seal(file: File) -> io::Result<OwnedFd> {
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// One that is there, mapped. It is not checked but for its form: see [`Segment::verify`].
#[derive(Debug)]
pub struct Segment {
    file: OwnedFd,
    map: Mmap,
    index: Index,
}

impl Segment {
    pub fn open(file: OwnedFd) -> Result<Segment, SegmentError> {
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| SegmentError::NotSealed)?;
        if !seals.contains(SEALS) {
            return Err(SegmentError::NotSealed);
        }
        let len = rustix::fs::fstat(&file).map_err(io::Error::from)?.st_size as u64;
        if !(HEAD as u64..=MAX_SEGMENT).contains(&len) {
            return Err(damaged(format!("{len} bytes")));
        }
        // SAFETY: the file is sealed: neither its length nor its bytes can change.
        let map = unsafe { Mmap::map(&file) }?;
        let index = index(&map)?;
        Ok(Segment { file, map, index })
    }

    pub fn machine(&self) -> Digest {
        self.index.machine
    }

    pub fn entries(&self) -> &[Entry] {
        &self.index.entries
    }

    /// Bytes of the whole.
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.index.entries.is_empty()
    }

    /// The content of an entry.
    pub fn content(&self, entry: &Entry) -> &[u8] {
        // In range: `index` has checked it.
        &self.map[entry.offset as usize..(entry.offset + entry.len) as usize]
    }

    /// Every content against its digest. Reads all of it.
    pub fn verify(&self) -> Result<(), SegmentError> {
        for (at, entry) in self.index.entries.iter().enumerate() {
            let bytes = self.content(entry);
            let same_print = match entry.what {
                What::Piece(print) => print == Fingerprint::of(bytes),
                _ => true,
            };
            if entry.what.digest(bytes) != entry.digest || !same_print {
                return Err(damaged(format!("content {at} is another than it says")));
            }
        }
        Ok(())
    }

    /// All of it, as it is on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What a worker hands over, checked before it is anybody's. `promised`: bytes of content that it may have.
pub fn adopt(file: OwnedFd, promised: u64) -> Result<Segment, SegmentError> {
    let segment = Segment::open(file)?;
    if segment.len() > promised + MAX_INDEX as u64 {
        return Err(damaged(format!(
            "{} bytes, where {promised} were promised",
            segment.len()
        )));
    }
    segment.verify()?;
    Ok(segment)
}

/// Reads and checks the index.
fn index(bytes: &[u8]) -> Result<Index, SegmentError> {
    let (head, rest) = bytes
        .split_first_chunk::<HEAD>()
        .ok_or_else(|| damaged("no head"))?;
    let (magic, head) = head.split_at(8);
    let number = |at: usize| -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let (at, len, digest) = (number(0), number(8), &head[16..]);
    if magic != MAGIC {
        return Err(damaged("another magic"));
    }
    let end = at.checked_add(len);
    let is_there = at >= HEAD as u64 && end == Some(bytes.len() as u64);
    if !is_there || len > MAX_INDEX as u64 {
        return Err(damaged("its index is not at its end"));
    }
    let encoded = &rest[at as usize - HEAD..];
    if Digest::of(encoded).bytes() != *digest {
        return Err(damaged("its index is another than it says"));
    }
    let index: Index = codec::decode::<MAX_INDEX, _>("index of contents", encoded)
        .map_err(|error| damaged(error.to_string()))?;
    let inside = |entry: &Entry| {
        let end = entry.offset.checked_add(entry.len);
        entry.offset >= HEAD as u64 && end.is_some_and(|end| end <= at)
    };
    if index.entries.len() > MAX_KNOWN || !index.entries.iter().all(inside) {
        return Err(damaged("its index names what is not in it"));
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8]) -> What {
        What::Piece(Fingerprint::of(bytes))
    }

    fn contents() -> Vec<(What, Vec<u8>)> {
        let table = b"a table".to_vec();
        vec![
            (piece(&[7; 5000]), vec![7; 5000]),
            (
                What::Module {
                    device: 0,
                    max_registers: 32,
                    table: table.clone(),
                },
                b".version 7.0".to_vec(),
            ),
            (
                What::Library {
                    device: 1,
                    options: b"opt".to_vec(),
                    table,
                },
                b"an image".to_vec(),
            ),
            (piece(b""), Vec::new()),
        ]
    }

    fn written() -> OwnedFd {
        let mut writer = Writer::new().unwrap();
        for (what, bytes) in contents() {
            let digest = what.digest(&bytes);
            writer.push(what, digest, &bytes).unwrap();
        }
        writer.finish(Digest::of(b"machine")).unwrap()
    }

    fn bytes_of(file: OwnedFd) -> Vec<u8> {
        let file = File::from(file);
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn reopened(bytes: &[u8]) -> Result<Segment, SegmentError> {
        let file = memory().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let segment = Segment::open(seal(file).unwrap())?;
        segment.verify()?;
        Ok(segment)
    }

    #[test]
    fn what_was_written_is_read() {
        let segment = Segment::open(written()).unwrap();
        segment.verify().unwrap();
        assert_eq!(segment.machine(), Digest::of(b"machine"));
        let read: Vec<_> = segment
            .entries()
            .iter()
            .map(|entry| (entry.what.clone(), segment.content(entry).to_vec()))
            .collect();
        assert_eq!(read, contents());
    }

    #[test]
    fn a_segment_can_change_no_more() {
        let file = File::from(written());
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(10).is_err() && file.set_len(1 << 20).is_err());
        let open = memory().unwrap();
        open.write_all_at(&bytes_of(file.into()), 0).unwrap();
        let refused = Segment::open(open.into()).unwrap_err();
        assert!(matches!(refused, SegmentError::NotSealed));
        let on_disk = tempfile::tempfile().unwrap();
        let refused = Segment::open(on_disk.into()).unwrap_err();
        assert!(matches!(refused, SegmentError::NotSealed));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let good = bytes_of(written());
        reopened(&good).unwrap();
        // In the contents of one piece all bytes are alike to the check: the ends do.
        let places = (0..HEAD + 8).chain(HEAD + 4990..good.len());
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(reopened(&bad).is_err(), "byte {at}");
        }
        for len in (0..good.len()).step_by(7) {
            assert!(reopened(&good[..len]).is_err(), "cut to {len}");
        }
        let longer = [&good[..], b"more"].concat();
        assert!(reopened(&longer).is_err());
    }

    /// A whole index that lies: its digest is right.
    #[test]
    fn an_index_cannot_name_what_is_outside() {
        for (offset, len) in [
            (0, 8),
            (HEAD as u64, 1 << 40),
            (u64::MAX, 2),
            (HEAD as u64 + 4, 1),
        ] {
            let entry = Entry {
                what: piece(b"x"),
                digest: Digest::of(b"x"),
                offset,
                len,
            };
            let writer = Writer {
                file: memory().unwrap(),
                end: HEAD as u64 + 4,
                entries: vec![entry],
            };
            let refused = Segment::open(writer.finish(Digest::default()).unwrap());
            assert!(
                matches!(refused, Err(SegmentError::Damaged(_))),
                "{offset} {len}"
            );
        }
    }
}
