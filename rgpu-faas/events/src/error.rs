//! What was wrong with an event, where in it, and what to do about that.

use std::fmt;

/// Which kind of answer an error deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not what its format says (HTTP 400).
    Malformed,
    /// More than is taken (HTTP 413).
    TooLarge,
    /// Right perhaps, but of a version or format that is not understood (HTTP 415).
    Unsupported,
}

/// An event, or one of several in a message, that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    pub reason: Reason,
    /// The field, as in `Records[3].s3.object.key`; empty for the message as a whole.
    pub path: String,
    /// What was wrong with it, as in `is no JSON`, and what would be right.
    pub what: String,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the message {}", self.what),
            path => write!(f, "{path}: {}", self.what),
        }
    }
}

impl std::error::Error for EventError {}

/// A place in a message. It lives on the stack of whoever reads there, and becomes text only when something is wrong.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Root,
    Field(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At::Field(self, name)
    }

    pub fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    pub fn malformed(&self, what: impl Into<String>) -> EventError {
        self.error(Reason::Malformed, what)
    }

    pub fn too_large(&self, what: impl Into<String>) -> EventError {
        self.error(Reason::TooLarge, what)
    }

    pub fn unsupported(&self, what: impl Into<String>) -> EventError {
        self.error(Reason::Unsupported, what)
    }

    fn error(&self, reason: Reason, what: impl Into<String>) -> EventError {
        EventError {
            reason,
            path: self.to_string(),
            what: what.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Field(At::Root, name) => f.write_str(name),
            At::Field(above, name) => write!(f, "{above}.{name}"),
            At::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// A piece of somebody's text for a message of ours: short, on one line, nothing in it that a terminal obeys.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
