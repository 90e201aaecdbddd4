//! The one place that names bincode: bounded encoding and decoding of everything that is not on the hot path (handshake, snapshot, control
//! messages). Frames of calls do not come here.

use serde::{Serialize, de::DeserializeOwned};

/// Why a value could not be written or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The value does not fit the bound of its kind of message.
    #[error("{what} takes {len} bytes, the bound is {bound}")]
    TooLarge {
        /// Which message.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The bound in bytes.
        bound: usize,
    },
    /// The bytes are no such value.
    #[error("{what} cannot be decoded: {why}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
    /// The value was followed by bytes that do not belong to it.
    #[error("{what} is followed by {extra} bytes that do not belong to it")]
    Trailing {
        /// Which message.
        what: &'static str,
        /// How many.
        extra: usize,
    },
}

/// Encodes `value`; fails if it takes more than `BOUND` bytes.
pub fn encode<const BOUND: usize, T: Serialize>(
    what: &'static str,
    value: &T,
) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|e| {
        CodecError::Malformed {
            what,
            why: e.to_string(),
        }
    })?;
    if bytes.len() > BOUND {
        return Err(CodecError::TooLarge {
            what,
            len: bytes.len(),
            bound: BOUND,
        });
    }
    Ok(bytes)
}

/// Decodes a value from the front of `bytes`; returns it with the number of bytes it took. `BOUND` limits both the input and what the decoder
/// may claim for containers before their content has arrived.
pub fn decode_prefix<const BOUND: usize, T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<(T, usize), CodecError> {
    if bytes.len() > BOUND {
        return Err(CodecError::TooLarge {
            what,
            len: bytes.len(),
            bound: BOUND,
        });
    }
    bincode::serde::decode_from_slice(bytes, bincode::config::standard().with_limit::<BOUND>())
        .map_err(|e| CodecError::Malformed {
            what,
            why: e.to_string(),
        })
}

/// Decodes a value that must take all of `bytes`.
pub fn decode<const BOUND: usize, T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (value, used) = decode_prefix::<BOUND, T>(what, bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(CodecError::Trailing { what, extra }),
    }
}
