//! The log.

use std::time::{Duration, Instant};

/// Events go to the log, which is stderr as this process found it; RGPUD_LOG filters them (`info` unless told otherwise).
pub fn init(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RGPUD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| rgpu_worker::Log);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
}

/// Lets a bounded number of lines a second through, so that whoever knocks often cannot fill the disk. Pure.
#[derive(Debug)]
pub struct LineLimit {
    window: Instant,
    lines: u32,
    suppressed: u64,
}

/// Lines a second about peers that were not let in.
const LINES: u32 = 20;

impl LineLimit {
    pub fn new(now: Instant) -> LineLimit {
        LineLimit {
            window: now,
            lines: 0,
            suppressed: 0,
        }
    }

    /// `Some(n)`: write the line; `n` lines before it were left out.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.lines = 0;
        }
        if self.lines >= LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_counted() {
        let start = Instant::now();
        let mut limit = LineLimit::new(start);
        let written = (0..100).filter(|_| limit.allow(start).is_some()).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(limit.allow(start + Duration::from_secs(1)), Some(80));
    }
}
