//! The last lines of a log, in as many bytes as cuda.h promises at most: what cuLogs* answer from.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Of all lines with their ends.
pub const MOST: usize = 25_600;
const CUT: &str = "older messages are missing\n";

#[derive(Default)]
pub struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    /// Number of the first line that is still here. Numbers are CUlogIterator's, and wrap as that does.
    first: u32,
}

impl Ring {
    pub const fn new() -> Ring {
        Ring {
            lines: VecDeque::new(),
            bytes: 0,
            first: 0,
        }
    }

    /// The number of the line that comes next.
    pub fn end(&self) -> u32 {
        self.first.wrapping_add(self.lines.len() as u32)
    }

    pub fn push(&mut self, line: &str) {
        let mut line = line.replace('\n', " ");
        let fits = (0..=line.len().min(MOST / 4)).rev();
        line.truncate(
            fits.into_iter()
                .find(|at| line.is_char_boundary(*at))
                .unwrap_or(0),
        );
        line.push('\n');
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MOST
            && let Some(gone) = self.lines.pop_front()
        {
            self.bytes -= gone.len();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The lines from `from` on (all, if that is none), the newest that fit `room` bytes; a first one says that others are missing. None:
    /// there are lines, and no room for the newest.
    pub fn text(&self, from: Option<u32>, room: usize) -> Option<String> {
        let skip = match from {
            Some(from) => from.wrapping_sub(self.first) as usize,
            None => 0,
        };
        // An iterator of before the first line wraps to a large number.
        let (skip, mut cut) = match skip {
            skip if skip <= self.lines.len() => (skip, from.is_none() && self.first > 0),
            _ => (0, true),
        };
        let lines: Vec<&String> = self.lines.iter().skip(skip).collect();
        let total = |lines: &[&String], cut: bool| {
            lines.iter().map(|line| line.len()).sum::<usize>() + if cut { CUT.len() } else { 0 }
        };
        let mut begin = 0;
        while total(&lines[begin..], cut) > room {
            cut = true;
            begin += 1;
            if begin >= lines.len() {
                return None;
            }
        }
        if lines.is_empty() {
            return Some(String::new());
        }
        let mut text = String::from(if cut { CUT } else { "" });
        text.extend(lines[begin..].iter().map(|line| line.as_str()));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_is_told_and_what_is_missing_is_said() {
        let mut ring = Ring::new();
        ring.push("one");
        let at = ring.end();
        assert_eq!(ring.text(Some(at), 0).as_deref(), Some(""));
        ring.push("two");
        ring.push("three\nthree");
        assert_eq!(
            ring.text(Some(at), 100).as_deref(),
            Some("two\nthree three\n")
        );
        assert_eq!(
            ring.text(None, 100).as_deref(),
            Some("one\ntwo\nthree three\n")
        );
        // Room for the mark and the newest alone.
        ring.push(&"four ".repeat(12));
        ring.push("five");
        let room = CUT.len() + 5;
        assert_eq!(ring.text(None, room), Some(format!("{CUT}five\n")));
        assert_eq!(ring.text(None, room - 1), None);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut ring = Ring::new();
        let begin = ring.end();
        for number in 0..2000 {
            ring.push(&format!("line {number:010}"));
        }
        assert!(ring.bytes <= MOST);
        let text = ring.text(Some(begin), usize::MAX).unwrap();
        assert!(text.starts_with(CUT) && text.ends_with("line 0000001999\n"));
        ring.push(&"x".repeat(1 << 20));
        assert!(ring.bytes <= MOST);
    }
}
