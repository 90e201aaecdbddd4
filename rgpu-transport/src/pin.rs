//! The certificate that a server is expected to show.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "sha256:";

/// SHA-256 of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// A text that is no pin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a pin is sha256: and 64 hexadecimal digits")]
pub struct PinError;

impl Pin {
    pub fn new(hash: [u8; 32]) -> Pin {
        Pin(hash)
    }
}

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Pin, PinError> {
        let digits = text.strip_prefix(PREFIX).ok_or(PinError)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(PinError);
        }
        let value = |digit: u8| char::from(digit).to_digit(16).ok_or(PinError);
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
        }
        Ok(Pin(hash))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pin = Pin::new(std::array::from_fn(|at| at as u8 * 8));
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().to_uppercase().parse::<Pin>(), Err(PinError));
        let upper = pin.to_string().to_uppercase().replace("SHA", "sha");
        assert_eq!(upper.parse(), Ok(pin));
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        let digits = "0".repeat(63);
        for text in [
            "",
            "sha256:",
            "sha1:00",
            &format!("sha256:{digits}"),
            &format!("sha256:{digits}00"),
            &format!("sha256:{digits}g"),
            &format!("sha256:{digits}é"),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(PinError), "{text}");
        }
    }
}
