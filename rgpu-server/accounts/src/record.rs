//! What is told of a session.

use crate::amounts::Amounts;

/// Longest text of a record in bytes; longer ones are cut.
const LONGEST: usize = 128;
/// Longest reason of an end in bytes.
const LONGEST_REASON: usize = 1024;

/// The device that a session uses; empty where the server does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// As `GPU-…`.
    pub uuid: String,
    /// Name of its model.
    pub model: String,
}

/// Whose session it is, and of what. Function, job, host and program are the client's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub tenant: String,
    pub function: String,
    /// Which run of the function; empty where the client does not say.
    pub job: String,
    /// The vGPU profile.
    pub profile: String,
    pub device: Device,
    pub host: String,
    pub program: String,
}

impl Who {
    /// Without what would harm a terminal, a log or a table, and not too long.
    pub fn cleaned(self) -> Who {
        let clean = |text: String| clean(&text, LONGEST);
        Who {
            tenant: clean(self.tenant),
            function: clean(self.function),
            job: clean(self.job),
            profile: clean(self.profile),
            device: Device {
                uuid: clean(self.device.uuid),
                model: clean(self.device.model),
            },
            host: clean(self.host),
            program: clean(self.program),
        }
    }
}

/// Control characters, and those that change the direction of text, become `\u{fffd}`.
pub fn clean(text: &str, longest: usize) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut cleaned = String::with_capacity(text.len().min(longest));
    for c in text.chars() {
        let c = if is_harmful(c) { '\u{fffd}' } else { c };
        if cleaned.len() + c.len_utf8() > longest {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

/// What a session has used so far, as its worker tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Without the duration, which is the accounts' own.
    pub amounts: Amounts,
    /// Bytes of device memory held now.
    pub held_bytes: u64,
    /// Most of them at once.
    pub peak_bytes: u64,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// CUresult; 0 where the client closed in good order. `None`: nobody knows.
    pub result: Option<u32>,
    pub reason: String,
}

impl Outcome {
    pub fn new(result: u32, reason: &str) -> Outcome {
        Outcome {
            result: Some(result),
            reason: clean(reason, LONGEST_REASON),
        }
    }

    /// Of a session that was running when its daemon was killed.
    pub fn unknown() -> Outcome {
        Outcome {
            result: None,
            reason: "unknown (the daemon ended)".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_harmless_and_bounded() {
        let who = Who {
            function: "a\x1b[2Jb\n\u{202e}c".into(),
            host: "ü".repeat(100),
            ..Who::default()
        };
        let who = who.cleaned();
        assert_eq!(who.function, "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(who.host.len(), LONGEST);
    }
}
