//! What makes two deliveries the same event.

use std::fmt;

/// 128 bits over what identifies an event, as 32 hexadecimal digits: equal for two deliveries of one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(String);

impl Identity {
    /// Of parts that together identify the event; the first one says of which kind.
    pub(crate) fn of(parts: &[&[u8]]) -> Identity {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            // The length in front keeps parts from running into each other.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Identity(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// For an event that has none of its own, but whose sender names the request (an `Idempotency-Key`).
    pub fn of_request(sender: &str, key: &str) -> Identity {
        Identity::of(&[b"request", sender.as_bytes(), key.as_bytes()])
    }

    /// The event as one function's: an event is worked on once by each function that it triggers.
    pub fn for_function(&self, function: &str) -> Identity {
        Identity::of(&[b"function", function.as_bytes(), self.0.as_bytes()])
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Identity::of_request("ab", "c");
        assert_eq!(one, Identity::of_request("ab", "c"));
        assert_ne!(one, Identity::of_request("a", "bc"));
        assert_ne!(one.for_function("f"), one.for_function("g"));
        assert_eq!(one.as_str().len(), 32);
    }
}
