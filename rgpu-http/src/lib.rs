//! How the project's commands ask its servers: a request, and an answer in one piece or as it comes, over TCP, TLS or a unix socket.
//!
//! Blocking, with a bound on every wait and on every answer. It goes straight to the address it is given: no proxy, no redirection,
//! no cookies, so that a token gets nowhere else. Tokens and passwords are in no message and no `Debug`.
#![forbid(unsafe_code)]

mod address;
mod body;
mod connect;
mod credential;
mod server;

pub use address::Address;
pub use body::Body;
pub use credential::Credential;
pub use http::{Method, StatusCode};
pub use server::{Answer, Request, Server, Stream};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong with an address, a token, a file of authorities, a path, and what to write instead.
    #[error("{0}")]
    Input(String),
    /// Nobody is there, or not in time.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The answer did not come, ended early, or was no HTTP.
    #[error("no proper answer from {0}: {1}")]
    Broken(String, String),
    /// In bytes.
    #[error("the answer of {0} has more than {1} bytes, which are not read")]
    TooLong(String, u64),
}

/// What to put into a path or a query: what is no letter, digit or one of `- . _ ~ , :` is escaped.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_path_is_escaped() {
        assert_eq!(
            encoded("a b/../c?d#e%ü\n"),
            "a%20b%2F..%2Fc%3Fd%23e%25%C3%BC%0A"
        );
        assert_eq!(encoded("tenant,hour-1.5~_"), "tenant,hour-1.5~_");
    }
}
