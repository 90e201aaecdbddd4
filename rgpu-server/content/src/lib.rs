//! What is kept of sessions, so that a later one need not send it again: files of content (`segment`), which of them are kept and where
//! (`store`, pure), and those on disk (`disk`).
//!
//! Invariants: a segment never changes; nothing in it is used before it has been checked against its hash; everything is bounded by
//! what one tenant may have.

pub mod disk;
pub mod segment;
pub mod store;

pub use segment::{Entry, Segment, What, Writer};
pub use store::{Limits, Store};
