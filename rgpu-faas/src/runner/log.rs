//! A job's output in a file of bounded size: its beginning and its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

/// Bytes of the end that go into a failure's reason.
const RECENT: usize = 2048;

/// The first half of the limit is written as it comes, so that it can be read meanwhile; of the rest, the last half of
/// the limit is kept in memory and written at the end.
pub struct BoundedLog {
    file: File,
    head_left: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    dropped: u64,
    recent: VecDeque<u8>,
    error: Option<io::Error>,
}

impl BoundedLog {
    /// Into an empty file.
    pub fn new(file: File, limit: u64) -> BoundedLog {
        let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        BoundedLog {
            file,
            head_left: half,
            tail: VecDeque::new(),
            tail_limit: half,
            dropped: 0,
            recent: VecDeque::new(),
            error: None,
        }
    }

    /// Takes more output. Never fails: a job must not end because its log cannot be written.
    pub fn push(&mut self, bytes: &[u8]) {
        keep_last(&mut self.recent, bytes, RECENT);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_left));
        self.write(head);
        self.head_left -= head.len();
        self.dropped += keep_last(&mut self.tail, rest, self.tail_limit) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.error.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.error = Some(error);
        }
    }

    /// Writes the end, and returns the last lines.
    pub fn finish(mut self) -> String {
        if self.dropped > 0 {
            let line = format!("\n[… {} bytes left out …]\n", self.dropped);
            self.write(line.as_bytes());
        }
        let tail = std::mem::take(&mut self.tail);
        let (front, back) = tail.as_slices();
        self.write(front);
        self.write(back);
        let mut text = String::from_utf8_lossy(self.recent.make_contiguous()).into_owned();
        if let Some(error) = self.error {
            text.push_str(&format!("\n[the log could not be written: {error}]"));
        }
        text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(limit: u64, chunks: &[&[u8]]) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = BoundedLog::new(File::create(&path).unwrap(), limit);
        for chunk in chunks {
            log.push(chunk);
        }
        let recent = log.finish();
        (std::fs::read_to_string(&path).unwrap(), recent)
    }

    #[test]
    fn short_output_is_kept_whole() {
        let (file, recent) = logged(100, &[b"one\n", b"two\n"]);
        assert_eq!(file, "one\ntwo\n");
        assert_eq!(recent, "one\ntwo\n");
        let exactly = [b"a".repeat(50), b"b".repeat(50)].concat();
        assert_eq!(
            logged(100, &[&exactly]).0.as_bytes(),
            exactly,
            "the limit itself fits"
        );
    }

    #[test]
    fn long_output_keeps_both_ends() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| b'a' + (i % 26) as u8).collect();
        for chunk in [1, 7, 4096, 100_000] {
            let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
            let (file, recent) = logged(1000, &chunks);
            let file = file.as_bytes();
            assert!(file.starts_with(&bytes[..500]) && file.ends_with(&bytes[99_500..]));
            assert!(String::from_utf8_lossy(file).contains("99000 bytes left out"));
            assert!(file.len() < 1100);
            assert_eq!(recent.as_bytes(), &bytes[100_000 - RECENT..]);
        }
    }
}
