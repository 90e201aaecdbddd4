//! Server-sent events (WHATWG HTML, "Server-sent events"), as far as `/run` sends them: a name and one line of data each.

use anyhow::{Result, ensure};
use serde_json::Value;

/// The longest line, in bytes: a piece of a log is much shorter.
const MAX_LINE: usize = 16 << 20;

#[derive(Debug, PartialEq)]
pub struct Event {
    pub name: String,
    /// JSON.
    pub data: Value,
}

/// Puts events together from pieces of an answer.
#[derive(Default)]
pub struct Events {
    rest: Vec<u8>,
    name: String,
    data: Option<Value>,
}

impl Events {
    /// The events that are whole now.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>> {
        let mut whole = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend(part);
            ensure!(
                self.rest.len() <= MAX_LINE,
                "an event of more than {MAX_LINE} bytes"
            );
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                whole.extend(self.line(line.trim_ascii_end())?);
            }
        }
        Ok(whole)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Event>> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take();
            return Ok(data.map(|data| Event { name, data }));
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            self.name = String::from_utf8_lossy(name.trim_ascii()).into_owned();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.data = Some(serde_json::from_slice(data)?);
        }
        // All else is a comment, or for browsers.
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_the_same_in_whatever_pieces_they_come() {
        let text = "event: job\ndata: {\"id\":\"j\"}\n\n:\n\nevent: log\r\ndata: \"a\\nb\"\r\n\r\nevent: half\ndata: 1\n";
        for size in [1, 2, 7, text.len()] {
            let mut events = Events::default();
            let mut all = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                all.extend(events.push(piece).unwrap());
            }
            let event = |name: &str, data: Value| Event {
                name: name.into(),
                data,
            };
            let expected = [
                event("job", json!({"id": "j"})),
                event("log", json!("a\nb")),
            ];
            assert_eq!(all, expected, "{size}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(Events::default().push(b"data: {\n").is_err());
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..17).any(|_| events.push(&piece).is_err()));
    }
}
