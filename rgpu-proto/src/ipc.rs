//! Memory and events for other processes: the handle that a program gets for them, and what one session's worker lends another's.
//!
//! A handle is a token: the session that made it, and a secret of that session's worker. It says nothing to who is not of the same tenant.

use crate::control::Carries;
use serde::{Deserialize, Serialize};

/// CUipcMemHandle and CUipcEventHandle, which are passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpcHandle(pub [u8; 64]);

/// Most pieces of physical memory that one allocation may lie in, to be lent.
pub const MAX_PARTS: usize = 64;

/// What nobody can guess about one thing that is lent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoanSecret(pub [u64; 2]);

impl std::fmt::Debug for LoanSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoanSecret(…)")
    }
}

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Memory,
    Event,
}

impl Thing {
    fn word(self) -> u64 {
        u64::from_le_bytes(match self {
            Thing::Memory => *b"rgpumem1",
            Thing::Event => *b"rgpuevt1",
        })
    }
}

/// What the program's handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Whose it is.
    pub session: u64,
    pub secret: LoanSecret,
}

impl Token {
    pub fn handle(&self, thing: Thing) -> IpcHandle {
        let LoanSecret([high, low]) = self.secret;
        let mut bytes = [0; 64];
        let words = [thing.word(), self.session, high, low];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        IpcHandle(bytes)
    }

    /// `None` for what no handle of such a thing looks like.
    pub fn of(handle: &IpcHandle, thing: Thing) -> Option<Token> {
        let (words, _) = handle.0.as_chunks::<8>();
        let word = |at: usize| words.get(at).copied().map_or(0, u64::from_le_bytes);
        let token = Token {
            session: word(1),
            secret: LoanSecret([word(2), word(3)]),
        };
        (token.handle(thing) == *handle).then_some(token)
    }
}

/// From the worker that has something to the one that opens it, over a socket that the broker has made for the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loan {
    /// Device memory; each of its parts follows.
    Memory {
        /// The driver's ordinal, the same in all workers of a server.
        device: i32,
        /// How many [`Loan::Part`]s.
        parts: u32,
        /// Where the allocation begins in them, as they lie one behind the other, and its bytes.
        offset: u64,
        bytes: u64,
    },
    /// Physical memory of so many bytes, by the driver's descriptor that comes with this.
    Part { bytes: u64 },
    /// Memory that the driver has placed, by the driver's own handle.
    Placed {
        device: i32,
        handle: [u64; 8],
        /// Of the allocation.
        bytes: u64,
    },
    /// By the driver's own handle.
    Event { handle: [u64; 8] },
}

impl Carries for Loan {
    fn carries_descriptor(&self) -> bool {
        matches!(self, Loan::Part { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_for_one_thing_and_nonsense_is_none() {
        let token = Token {
            session: 7,
            secret: LoanSecret([1, u64::MAX]),
        };
        let handle = token.handle(Thing::Memory);
        assert_eq!(Token::of(&handle, Thing::Memory), Some(token));
        assert_eq!(Token::of(&handle, Thing::Event), None);
        assert_eq!(Token::of(&IpcHandle([0; 64]), Thing::Memory), None);
        let mut longer = handle;
        longer.0[63] = 1;
        assert_eq!(Token::of(&longer, Thing::Memory), None);
        assert!(!format!("{token:?}").contains("18446744073709551615"));
    }
}
