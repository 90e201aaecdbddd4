//! What the session sends, hashed and written beside its own work. The thread that plays commands only copies the bytes; where the one that hashes
//! does not keep up, or the session has sent what it may leave, the rest is not kept.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rgpu_content::{What, Writer};
use rgpu_proto::content::{Digest, Fingerprint};

/// Bytes that may wait to be hashed.
const WAITING: u64 = 32 << 20;

/// What bytes are for that a session has sent.
pub enum Sent {
    Piece,
    Code(What),
}

pub struct Recorder {
    /// Bytes that the session may still leave.
    left: u64,
    waiting: Arc<AtomicU64>,
    queue: Sender<(Sent, Vec<u8>)>,
    hashing: JoinHandle<Option<Writer>>,
}

impl Recorder {
    /// `known`: what need not be kept again.
    pub fn begin(budget: u64, known: HashSet<Digest>) -> Option<Recorder> {
        let (queue, sent) = channel();
        let waiting = Arc::<AtomicU64>::default();
        let counter = waiting.clone();
        let hashing = crate::threads::spawn("content", move || write(&sent, &counter, known));
        let hashing = hashing
            .inspect_err(|error| tracing::warn!(%error, "nothing is kept of this session"))
            .ok()?;
        Some(Recorder {
            left: budget,
            waiting,
            queue,
            hashing,
        })
    }

    pub fn record(&mut self, sent: Sent, bytes: &[u8]) {
        let len = bytes.len() as u64;
        if len > self.left || self.waiting.load(Ordering::Relaxed) + len > WAITING {
            return;
        }
        self.left -= len;
        self.waiting.fetch_add(len, Ordering::Relaxed);
        // An error: the other thread could not write, and has said so.
        let _ = self.queue.send((sent, bytes.to_vec()));
    }

    /// The segment, if there is anything in it.
    pub fn end(self, machine: Digest) -> Option<OwnedFd> {
        let Recorder { queue, hashing, .. } = self;
        drop(queue);
        let writer = hashing.join().ok().flatten()?;
        if writer.bytes() == 0 {
            return None;
        }
        writer
            .finish(machine)
            .inspect_err(|error| tracing::warn!(%error, "what the session has sent is not kept"))
            .ok()
    }
}

/// Until the session is over.
fn write(
    sent: &Receiver<(Sent, Vec<u8>)>,
    waiting: &AtomicU64,
    mut known: HashSet<Digest>,
) -> Option<Writer> {
    let begun = Writer::new().and_then(|mut writer| {
        while let Ok((sent, bytes)) = sent.recv() {
            waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            let what = match sent {
                Sent::Piece => What::Piece(Fingerprint::of(&bytes)),
                Sent::Code(what) => what,
            };
            let digest = what.digest(&bytes);
            if !writer.is_full() && known.insert(digest) {
                writer.push(what, digest, &bytes)?;
            }
        }
        Ok(writer)
    });
    begun
        .inspect_err(|error| tracing::warn!(%error, "what the session sends is not kept"))
        .ok()
}
