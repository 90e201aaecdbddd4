//! What each side tells the other of its memory, as the private data of the connection's set-up.

use crate::ring::SHAPE;

const MAGIC: [u8; 4] = *b"rGPR";
const VERSION: u16 = 1;
/// Before the ring: the word for the position, on a page of its own.
pub const RING_OFFSET: u64 = 4096;

/// Where the peer may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub key: u32,
    /// Of the word; the ring is [`RING_OFFSET`] behind it.
    pub address: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHello {
    #[error("the peer's greeting is none of rgpu's")]
    Foreign,
    #[error("the peer speaks version {0} of the RDMA relays' protocol, and this side {VERSION}")]
    Version(u16),
    #[error("the peer's ring has {0} bytes, and this side's {ring}", ring = SHAPE.ring)]
    Size(u32),
    #[error("the peer's ring is at an impossible address")]
    Address,
}

impl Hello {
    pub const LENGTH: usize = 24;

    pub fn encode(&self) -> [u8; Hello::LENGTH] {
        let mut bytes = [0; Hello::LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key.to_le_bytes());
        bytes[12..16].copy_from_slice(&SHAPE.ring.to_le_bytes());
        bytes[16..].copy_from_slice(&self.address.to_le_bytes());
        bytes
    }

    /// The set-up pads private data, so more may follow.
    pub fn parse(bytes: &[u8]) -> Result<Hello, NoHello> {
        let bytes = bytes
            .first_chunk::<{ Hello::LENGTH }>()
            .ok_or(NoHello::Foreign)?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[..4] != MAGIC {
            return Err(NoHello::Foreign);
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(NoHello::Version(version));
        }
        if word(12) != SHAPE.ring {
            return Err(NoHello::Size(word(12)));
        }
        let address = u64::from(word(20)) << 32 | u64::from(word(16));
        let end = address.checked_add(RING_OFFSET + u64::from(SHAPE.ring));
        if address % RING_OFFSET != 0 || end.is_none() {
            return Err(NoHello::Address);
        }
        Ok(Hello {
            key: word(8),
            address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_as_it_is_written_and_others_are_refused() {
        let hello = Hello {
            key: 0x1234_5678,
            address: 0x7fff_1234_5000,
        };
        let mut bytes = hello.encode().to_vec();
        assert_eq!(Hello::parse(&bytes), Ok(hello));
        assert_eq!(Hello::parse(&bytes[..23]), Err(NoHello::Foreign));
        bytes.extend([0; 32]);
        assert_eq!(Hello::parse(&bytes), Ok(hello));
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Hello::parse(&bytes)
        };
        assert_eq!(with(0, b'x'), Err(NoHello::Foreign));
        assert_eq!(with(4, 9), Err(NoHello::Version(9)));
        assert!(matches!(with(12, 1), Err(NoHello::Size(_))));
        assert_eq!(with(16, 1), Err(NoHello::Address));
        let last = Hello {
            key: 0,
            address: u64::MAX - 4095,
        };
        assert_eq!(Hello::parse(&last.encode()), Err(NoHello::Address));
    }
}
