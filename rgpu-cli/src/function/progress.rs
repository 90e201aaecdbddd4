//! What is going on, in the last line of a terminal; nothing where there is none.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::words::plain;

#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
    is_shown: bool,
    /// The beginning of a line, which the last line of the terminal would be written over.
    begun: Arc<Mutex<String>>,
}

impl Progress {
    pub fn new(message: impl Into<String>) -> Progress {
        // Hides itself where stderr is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        let progress = Progress {
            is_shown: !bar.is_hidden(),
            bar,
            begun: Arc::default(),
        };
        progress.say(message);
        progress.bar.enable_steady_tick(Duration::from_millis(100));
        progress
    }

    pub fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// A line that stays, on stderr.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// What a job prints, on stderr: as it is, but for what would do something to a terminal.
    pub fn log(&self, text: &str) {
        if !self.is_shown {
            return write(text);
        }
        let Ok(mut begun) = self.begun.lock() else {
            return;
        };
        begun.push_str(&plain(text));
        let whole = begun.rfind('\n').map_or(0, |at| at + 1);
        if whole > 0 {
            let rest = begun.split_off(whole);
            self.bar.suspend(|| write(&begun));
            *begun = rest;
        }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
        if let Ok(mut begun) = self.begun.lock()
            && !begun.is_empty()
        {
            write(&format!("{begun}\n"));
            begun.clear();
        }
    }
}

/// The log is at the server, whoever does not read it here.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Tells how much has been read.
pub struct Counted<R> {
    pub reader: R,
    pub progress: Progress,
    pub read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read += count as u64;
        let read = indicatif::HumanBytes(self.read);
        self.progress.say(format!("sent {read}"));
        Ok(count)
    }
}
