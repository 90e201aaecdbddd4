//! What goes wrong with a store, said with what to do.

use crate::key::{Key, NameError};
use std::time::Duration;

/// An error of a store: which one, about what, and what it was. Holds no credential.
#[derive(Debug, thiserror::Error)]
#[error("{store}{}: {problem}", subject(.key))]
pub struct StoreError {
    /// The provider and the bucket, as in `minio.default (http://127.0.0.1:9000), bucket clips`.
    pub store: String,
    pub key: Option<Key>,
    #[source]
    pub problem: Problem,
}

fn subject(key: &Option<Key>) -> String {
    key.as_ref()
        .map(|key| format!(", {:?}", key.as_str()))
        .unwrap_or_default()
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no such object")]
    NotFound,
    #[error("there is no such bucket; make it, or correct the path")]
    NoBucket,
    #[error("there is an object of this name already")]
    AlreadyExists,
    #[error("the object was replaced meanwhile; the new one has its own event")]
    Changed,
    #[error("the object has {size} bytes, more than the {limit} that are allowed")]
    TooLarge { size: u64, limit: u64 },
    #[error(
        "the store said {said} bytes and sent more; it, or something on the way to it, cannot be trusted with sizes"
    )]
    SentMore { said: u64 },
    #[error(
        "the store said {said} bytes, and the answer ended after {came} each time ({why}); the object is damaged, the store lies about its size, or something on the way cuts answers off"
    )]
    Truncated { said: u64, came: u64, why: String },
    #[error(
        "the store refuses the credentials or the right to do this ({detail}); check the provider's keys, and what they may do in this bucket"
    )]
    Denied { detail: String },
    #[error(
        "the store redirects to {to}, which is not followed, since the request carries credentials; if that is right, name it as the provider's address"
    )]
    Redirected { to: String },
    #[error(
        "the store does not answer as its protocol says: {0}; check that the provider's address is the store's, and not a proxy's or a web page's"
    )]
    Nonsense(String),
    #[error("the store cannot be reached or is overloaded: {0}")]
    Unavailable(String),
    #[error("not done within {}", seconds(.0))]
    TimedOut(Duration),
    #[error("the store refuses: {status} {detail}")]
    Refused { status: u16, detail: String },
    #[error("this store cannot do it: {0}")]
    Unsupported(&'static str),
    #[error(
        "there are more than {limit} {what}, which is too many to go through; narrow the folder"
    )]
    TooMany { limit: u64, what: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the file that is published: {0}")]
    Source(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

impl Problem {
    /// Whether the same request may go well a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Problem::Unavailable(_) | Problem::Truncated { .. })
    }
}

/// What a store said, fit to be shown: one line, of printable characters, not long.
pub(crate) fn printable(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}
