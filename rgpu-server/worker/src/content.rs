//! Content of the tenant's earlier sessions, which the client need not send again, and what this session leaves for later ones.
//!
//! What the client is told it may name at any time, so this process keeps all of it mapped until its end.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rgpu_content::{Entry, Segment, What};
use rgpu_proto::CudaError;
use rgpu_proto::content::{
    Digest, Known, KnownCode, KnownPiece, LEAST, MAX_BYTES, MAX_KNOWN, Wanted,
};
use rgpu_proto::snapshot::Snapshot;

use crate::held::Held;
use crate::page::Row;
use recorder::Recorder;

mod recorder;

/// What the broker has given for this session.
#[derive(Default)]
pub struct Given {
    /// Their numbers, as the broker counts them.
    pub segments: Vec<(u64, OwnedFd)>,
    /// Bytes that the session may leave.
    pub budget: u64,
    /// The driver that is loaded: see [`driver`].
    pub driver: Digest,
    /// Where the session counts what it holds, if its vGPU's sessions count together.
    pub row: Option<Row>,
    /// Who says what the driver holds.
    pub held: Option<Held>,
}

struct Kept {
    number: u64,
    segment: Segment,
    used: AtomicBool,
}

/// An entry's place: of its segment, and in it.
type Place = (usize, usize);

pub struct Contents {
    wanted: Wanted,
    kept: Vec<Kept>,
    /// In the order in which the client has been told.
    code: Vec<Place>,
    pieces: Vec<Place>,
    machine: Digest,
    /// None once it is over.
    recorder: Mutex<Option<Recorder>>,
}

/// What a session leaves.
#[derive(Default)]
pub struct Left {
    pub segment: Option<OwnedFd>,
    /// Numbers of the segments that were of use.
    pub used: Vec<u64>,
}

/// What makes functions of code, so far as it shows: the driver's file, since an update may leave the version that it tells as it is, and what says
/// whether code is compiled anew. To be asked before the driver is loaded.
pub fn driver(path: &Path) -> Digest {
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let state = std::fs::metadata(&file).ok();
    let state = state.map(|about| (about.len(), about.mtime(), about.mtime_nsec()));
    let compiling = ["CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_PTX_JIT"].map(std::env::var_os);
    Digest::of(format!("{file:?}|{state:?}|{compiling:?}").as_bytes())
}

/// Driver and devices, as far as tables of functions depend on them.
fn machine(driver: Digest, snapshot: &Snapshot) -> Digest {
    let mut text = format!("{}|{}", driver.hex(), snapshot.driver_version);
    for device in &snapshot.devices {
        let (name, attributes) = (&device.name, &device.attributes);
        text.push_str(&format!("|{name}|{:?}|{attributes:?}", device.uuid));
    }
    Digest::of(text.as_bytes())
}

impl Contents {
    /// And what the client is told. `None`: it wants nothing.
    pub fn begin(given: Given, wanted: Wanted, snapshot: &Snapshot) -> Option<(Contents, Known)> {
        if wanted == Wanted::Nothing {
            return None;
        }
        let open = |(number, file)| match Segment::open(file) {
            Ok(segment) => Some(Kept {
                number,
                segment,
                used: AtomicBool::new(false),
            }),
            Err(error) => {
                tracing::warn!(number, %error, "what an earlier session has left cannot be used");
                None
            }
        };
        let kept: Vec<Kept> = given.segments.into_iter().filter_map(open).collect();
        let machine = machine(given.driver, snapshot);
        let (mut known, mut told, mut bytes) = (Known::default(), HashSet::new(), 0);
        let (mut code, mut pieces) = (Vec::new(), Vec::new());
        for (at, Kept { segment, .. }) in kept.iter().enumerate() {
            for (place, entry) in segment.entries().iter().enumerate() {
                let digest = entry.digest;
                match &entry.what {
                    What::Piece(fingerprint) if wanted == Wanted::All => {
                        bytes += size_of::<KnownPiece>();
                        if bytes > MAX_BYTES || pieces.len() == MAX_KNOWN || !told.insert(digest) {
                            continue;
                        }
                        let fingerprint = *fingerprint;
                        pieces.push((at, place));
                        known.pieces.push(KnownPiece {
                            fingerprint,
                            digest,
                        });
                    }
                    What::Module { table, .. } | What::Library { table, .. }
                        if segment.machine() == machine =>
                    {
                        bytes += table.len() + size_of::<KnownCode>();
                        if bytes > MAX_BYTES || code.len() == MAX_KNOWN || !told.insert(digest) {
                            continue;
                        }
                        code.push((at, place));
                        known.code.push(KnownCode {
                            digest,
                            table: table.clone(),
                        });
                    }
                    _ => {}
                }
            }
        }
        let recorder = (given.budget > 0)
            .then(|| Recorder::begin(given.budget, told))
            .flatten();
        let contents = Contents {
            wanted,
            kept,
            code,
            pieces,
            machine,
            recorder: Mutex::new(recorder),
        };
        Some((contents, known))
    }

    /// What the client was told at this place.
    fn find(&self, list: &[Place], known: u32) -> Result<(&Entry, &[u8]), CudaError> {
        let place = list.get(known as usize);
        let (at, place) = *place.ok_or(CudaError::INVALID_VALUE)?;
        let kept = &self.kept[at];
        kept.used.store(true, Ordering::Relaxed);
        let entry = &kept.segment.entries()[place];
        Ok((entry, kept.segment.content(entry)))
    }

    pub fn code(&self, known: u32) -> Result<(&What, &[u8]), CudaError> {
        let (entry, image) = self.find(&self.code, known)?;
        Ok((&entry.what, image))
    }

    pub fn piece(&self, known: u32) -> Result<&[u8], CudaError> {
        Ok(self.find(&self.pieces, known)?.1)
    }

    /// The client has sent the bytes of a copy.
    pub fn sent(&self, bytes: &[u8]) {
        if self.wanted == Wanted::All && bytes.len() >= LEAST {
            self.record(recorder::Sent::Piece, bytes);
        }
    }

    /// The client has sent code, which has been loaded: its place in the reply is with `what`.
    pub fn loaded(&self, what: What, image: &[u8]) {
        self.record(recorder::Sent::Code(what), image);
    }

    fn record(&self, sent: recorder::Sent, bytes: &[u8]) {
        let mut recorder = self.recorder();
        if let Some(recorder) = recorder.as_mut() {
            recorder.record(sent, bytes);
        }
    }

    fn recorder(&self) -> std::sync::MutexGuard<'_, Option<Recorder>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left, once.
    pub fn end(&self) -> Left {
        let recorder = self.recorder().take();
        let used = self
            .kept
            .iter()
            .filter(|kept| kept.used.load(Ordering::Relaxed));
        Left {
            segment: recorder.and_then(|recorder| recorder.end(self.machine)),
            used: used.map(|kept| kept.number).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_driver_that_was_updated_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("libcuda.so.1.1"), "a driver").unwrap();
        symlink("libcuda.so.1.1", at("libcuda.so.1")).unwrap();
        let first = driver(&at("libcuda.so.1"));
        assert_eq!(driver(&at("libcuda.so.1.1")), first);
        // The link goes to another file, of the same length.
        fs::write(at("libcuda.so.1.2"), "b driver").unwrap();
        fs::remove_file(at("libcuda.so.1")).unwrap();
        symlink("libcuda.so.1.2", at("libcuda.so.1")).unwrap();
        assert_ne!(driver(&at("libcuda.so.1")), first);
        // The file is another under the same name: by its length, and by its time.
        fs::write(at("libcuda.so.1.1"), "a longer driver").unwrap();
        let longer = driver(&at("libcuda.so.1.1"));
        assert_ne!(longer, first);
        let file = fs::File::options()
            .write(true)
            .open(at("libcuda.so.1.1"))
            .unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_ne!(driver(&at("libcuda.so.1.1")), longer);
    }
}
