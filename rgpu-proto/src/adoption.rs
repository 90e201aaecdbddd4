//! How a worker that has outlived its broker comes to the next one. The next one connects to the socket on which the worker has listened since it got
//! its session, and both show that they know the session's key, each for a number of the other's choice:
//!
//! | | |
//! |---|---|
//! | worker | [`FromOrphan::Orphan`]: whose worker it is, and of which layout its messages are |
//! | broker | [`ToOrphan::Claim`]: its proof |
//! | worker | [`FromOrphan::Here`]: its proof, and the ticket that the earlier broker has left with it |
//! | broker | [`ToOrphan::Verdict`] |
//! | worker | if it has been adopted, [`crate::control::FromWorker::Usage`]; from then on they talk as broker and worker do |
//!
//! These messages never change, since they are between programs of different releases: what is new is behind a new [`crate::control::LAYOUT`].

use crate::control::Carries;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest ticket in bytes.
pub const MAX_TICKET: usize = 128 * 1024;

/// What tells a session's worker from others, and its brokers from others. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key([u8; 32]);

/// Of one side's choice, for one exchange.
pub type Nonce = [u8; 32];

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Who proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that adopts.
    Broker,
    /// The one that is adopted.
    Worker,
}

/// That its maker knows the key. Compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof([u8; 32]);

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        // The comparison of hashes takes the same time whatever is in them.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for Proof {}

impl Key {
    /// Of a session's, from the one that a state folder has.
    pub fn of_session(folder: &[u8; 32], session: u64) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(folder);
        hasher
            .update(b"rgpu session ")
            .update(&session.to_le_bytes());
        Key(hasher.finalize().into())
    }

    /// That this side knows the key, for both sides' numbers.
    pub fn prove(&self, side: Side, broker: &Nonce, worker: &Nonce) -> Proof {
        let side: &[u8] = match side {
            Side::Broker => b"broker",
            Side::Worker => b"worker",
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(broker).update(worker).update(side);
        Proof(hasher.finalize().into())
    }
}

/// Worker to a broker that has come to its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromOrphan {
    /// First of all.
    Orphan {
        /// Whose worker it is.
        session: u64,
        /// [`crate::control::LAYOUT`] of the worker's release.
        layout: u32,
        /// For the broker's proof.
        nonce: Nonce,
    },
    /// Once the broker has proved that it is one.
    Here {
        /// The worker's.
        proof: Proof,
        /// As the earlier broker has given it.
        ticket: Vec<u8>,
        /// Whether a descriptor comes with this: of the memory in which the session's vGPU is counted.
        cell: bool,
    },
}

/// Broker to a worker at whose socket it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToOrphan {
    /// The answer to [`FromOrphan::Orphan`].
    Claim {
        /// [`crate::control::LAYOUT`] of the broker's release.
        layout: u32,
        /// For the worker's proof.
        nonce: Nonce,
        /// The broker's.
        proof: Proof,
    },
    /// The answer to [`FromOrphan::Here`].
    Verdict {
        /// Whether messages are understood from here on. If not, the worker goes on for as long as it was to anyway.
        adopted: bool,
        /// Why not, in words.
        reason: String,
    },
}

impl Carries for FromOrphan {
    fn carries_descriptor(&self) -> bool {
        matches!(self, FromOrphan::Here { cell: true, .. })
    }
}

impl Carries for ToOrphan {
    fn carries_descriptor(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::encode;

    #[test]
    fn a_proof_is_of_one_side_for_one_exchange_of_one_session() {
        let key = Key::of_session(&[1; 32], 7);
        let (broker, worker) = ([2; 32], [3; 32]);
        let proof = key.prove(Side::Broker, &broker, &worker);
        assert_eq!(proof, key.prove(Side::Broker, &broker, &worker));
        for other in [
            key.prove(Side::Worker, &broker, &worker),
            key.prove(Side::Broker, &worker, &broker),
            key.prove(Side::Broker, &broker, &[4; 32]),
            Key::of_session(&[1; 32], 8).prove(Side::Broker, &broker, &worker),
            Key::of_session(&[2; 32], 7).prove(Side::Broker, &broker, &worker),
        ] {
            assert_ne!(proof, other);
        }
        assert_eq!(format!("{key:?} {proof:?}"), "Key(…) Proof(…)");
    }

    /// Brokers and workers of different releases exchange these.
    #[test]
    fn the_bytes_stay_as_they_are() {
        let proof = Proof([5; 32]);
        let orphan = FromOrphan::Orphan {
            session: 300,
            layout: 2,
            nonce: [9; 32],
        };
        let bytes = encode(&orphan).unwrap();
        assert_eq!(bytes[..9], [37, 0, 0, 0, 0, 251, 44, 1, 2]);
        assert_eq!(bytes[9..], [9; 32]);
        let here = FromOrphan::Here {
            proof,
            ticket: vec![7; 3],
            cell: true,
        };
        let bytes = encode(&here).unwrap();
        assert_eq!(bytes[..5], [38, 0, 0, 0, 1]);
        assert_eq!(bytes[37..], [3, 7, 7, 7, 1]);
        let claim = ToOrphan::Claim {
            layout: 1,
            nonce: [8; 32],
            proof,
        };
        let bytes = encode(&claim).unwrap();
        assert_eq!(bytes[..6], [66, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[6..38], [8; 32]);
        let verdict = ToOrphan::Verdict {
            adopted: false,
            reason: "no".into(),
        };
        assert_eq!(encode(&verdict).unwrap(), [5, 0, 0, 0, 1, 0, 2, b'n', b'o']);
    }
}
