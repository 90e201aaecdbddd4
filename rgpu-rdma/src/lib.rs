//! Carries a unix stream socket over an RDMA connection: one queue pair for a socket.
//!
//! ```text
//!  socket ─▶ staging ══ one-sided writes, each with a note ══▶ ring ─▶ socket
//!                    ◀══ the reader's position, written back ══
//! ```
//!
//! Each side registers a ring that the other writes to, with a word before it for the position up to which the other has read *its* ring. A
//! write is told by its immediate value ([`Note`]), so the reader looks at no memory that might be half written.
//!
//! [`Link`] decides what is whose and holds the peer to it; it does no I/O. [`carry`] moves the bytes between a socket and a [`Wire`]. `verbs`
//! (a feature) is the wire of real devices.

mod carry;
mod hello;
mod link;
mod note;
mod ring;
#[cfg(feature = "verbs")]
pub mod verbs;
mod wire;

pub use carry::{Lost, carry};
pub use hello::{Hello, NoHello};
pub use link::{Broken, Link, Post};
pub use note::Note;
pub use ring::{SHAPE, Shape, Span};
pub use wire::{Event, Wire};
