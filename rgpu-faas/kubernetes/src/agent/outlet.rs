//! The script's output on its way to the runner: its first half as it comes, its end at the end, bounded also while the runner is away.

use super::client::{CallError, Client};
use crate::protocol::{MAX_PIECE, TAIL};
use std::collections::VecDeque;
use std::io::{PipeReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// How long the pipe may stay open after everything that could write to it has ended.
const CLOSE: Duration = Duration::from_secs(2);

/// How often the runner is asked, at least, while the script runs.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// What is not with the runner yet.
struct Kept {
    /// Offset of the first byte in `unsent`.
    offset: u64,
    unsent: VecDeque<u8>,
    head_left: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    dropped: u64,
    recent: VecDeque<u8>,
    is_closed: bool,
}

/// The way out.
pub struct Outlet {
    kept: Arc<Mutex<Kept>>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

impl Kept {
    fn new(limit: u64) -> Kept {
        let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        Kept {
            offset: 0,
            unsent: VecDeque::new(),
            head_left: half,
            tail: VecDeque::new(),
            tail_limit: half,
            dropped: 0,
            recent: VecDeque::new(),
            is_closed: false,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.is_closed {
            return;
        }
        keep_last(&mut self.recent, bytes, TAIL);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_left));
        self.unsent.extend(head);
        self.head_left -= head.len();
        self.dropped += keep_last(&mut self.tail, rest, self.tail_limit) as u64;
    }

    /// No more comes: what was held back follows.
    fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if self.dropped > 0 {
            let line = format!("\n[… {} bytes left out …]\n", self.dropped);
            self.unsent.extend(line.as_bytes());
        }
        self.unsent.append(&mut self.tail);
    }

    fn piece(&self) -> (u64, Vec<u8>) {
        let piece = self.unsent.iter().take(MAX_PIECE).copied().collect();
        (self.offset, piece)
    }

    /// The runner has everything before `next`.
    fn sent(&mut self, next: u64) {
        let count = next.saturating_sub(self.offset);
        let count = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.unsent.len());
        self.unsent.drain(..count);
        self.offset += count as u64;
    }
}

/// Appends, drops from the front what is beyond `limit`, and says how much that was.
fn keep_last(buffer: &mut VecDeque<u8>, bytes: &[u8], limit: usize) -> usize {
    let skipped = bytes.len().saturating_sub(limit);
    buffer.extend(&bytes[skipped..]);
    let excess = buffer.len().saturating_sub(limit);
    buffer.drain(..excess);
    skipped + excess
}

impl Outlet {
    /// Begins to read, in a thread, and to copy to this process's own output, where Kubernetes keeps it too.
    pub fn begin(limit: u64, mut output: PipeReader) -> Outlet {
        let outlet = Outlet {
            kept: Arc::new(Mutex::new(Kept::new(limit))),
            changed: watch::Sender::new(0),
        };
        let (kept, changed) = (outlet.kept.clone(), outlet.changed.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0u8; 64 << 10];
            loop {
                match output.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Ok(count) if count > 0 => {
                        let mut own = std::io::stdout().lock();
                        let _ = own.write_all(&buffer[..count]).and_then(|()| own.flush());
                        lock(&kept).push(&buffer[..count]);
                        changed.send_modify(|count| *count += 1);
                    }
                    _ => break,
                }
            }
            lock(&kept).close();
            changed.send_modify(|count| *count += 1);
        });
        outlet
    }

    /// Sends what there is and what comes, until there will be no more. While nothing comes the runner is asked now and then all the same, as
    /// it may no longer want the attempt. `stops`: whether its wish that the script ends is an error.
    pub async fn send(&self, client: &Client, stops: bool) -> Result<(), CallError> {
        let mut changed = self.changed.subscribe();
        let mut pauses = client.pauses();
        loop {
            changed.mark_unchanged();
            let (piece, is_closed) = {
                let kept = lock(&self.kept);
                (kept.piece(), kept.is_closed)
            };
            let (offset, bytes) = piece;
            if bytes.is_empty() {
                if is_closed {
                    return Ok(());
                }
                // Its sender is here.
                if tokio::time::timeout(HEARTBEAT, changed.changed())
                    .await
                    .is_ok()
                {
                    continue;
                }
            }
            match client.post_log(offset, bytes).await {
                Ok(progress) => {
                    pauses = client.pauses();
                    lock(&self.kept).sent(progress.next);
                    if progress.stop && stops {
                        return Err(CallError::Stop);
                    }
                    if progress.next < offset {
                        return Err(CallError::Gone("the runner has lost the log".into()));
                    }
                }
                // A log is no reason to fail.
                Err(CallError::Refused(_)) => lock(&self.kept).sent(u64::MAX),
                Err(CallError::Late(why)) => pauses.pause(&why).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the end of the output, whose writers have ended.
    pub async fn close(&self) {
        let mut changed = self.changed.subscribe();
        let ended = async {
            while !lock(&self.kept).is_closed {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(CLOSE, ended).await.is_err() {
            lock(&self.kept).close();
        }
    }

    /// The last of it.
    pub fn recent(&self) -> String {
        let mut kept = lock(&self.kept);
        String::from_utf8_lossy(kept.recent.make_contiguous()).into_owned()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(|error| error.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(kept: &mut Kept) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (offset, piece) = kept.piece();
            assert_eq!(offset, all.len() as u64);
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(&piece);
            kept.sent(offset + piece.len() as u64);
        }
    }

    #[test]
    fn both_ends_are_kept_whoever_listens() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| b'a' + (i % 26) as u8).collect();
        for listens in [false, true] {
            let mut kept = Kept::new(1000);
            let mut all = Vec::new();
            for chunk in bytes.chunks(777) {
                kept.push(chunk);
                assert!(
                    kept.unsent.len() <= 500 && kept.tail.len() <= 500,
                    "bounded"
                );
                if listens {
                    let (offset, piece) = kept.piece();
                    kept.sent(offset + piece.len() as u64);
                    all.extend(piece);
                }
            }
            kept.close();
            kept.close();
            kept.push(b"too late");
            if listens {
                let (offset, piece) = kept.piece();
                assert_eq!(offset, all.len() as u64);
                all.extend(piece);
            } else {
                all = drained(&mut kept);
            }
            assert!(all.starts_with(&bytes[..500]) && all.ends_with(&bytes[99_500..]));
            assert!(String::from_utf8_lossy(&all).contains("99000 bytes left out"));
            assert!(all.len() < 1100);
        }
    }

    #[test]
    fn what_the_runner_has_is_not_sent_again() {
        let mut kept = Kept::new(1000);
        kept.push(b"one two three");
        kept.sent(4);
        assert_eq!(kept.piece(), (4, b"two three".to_vec()));
        kept.sent(2);
        assert_eq!(kept.piece().0, 4, "never backwards");
        kept.sent(u64::MAX);
        assert_eq!(kept.piece(), (13, Vec::new()));
    }
}
