//! What carries writes and notes: devices, or a test.

use std::io;
use std::os::fd::BorrowedFd;

use crate::carry::Lost;
use crate::link::Post;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A post is done, which had so many bytes of staging memory.
    Done(u32),
    /// A note has come; its bytes stand in the ring.
    Note(u32),
}

/// A connection to a peer. Its memory is reached by pointers alone: the peer and the device change it at any time.
pub trait Wire {
    /// What is to be sent is put here, `Shape::ring` bytes.
    fn staging(&self) -> *mut u8;
    /// What the peer has written is here, as many bytes.
    fn ring(&self) -> *const u8;
    /// The word that the peer writes.
    fn word(&self) -> u64;
    fn post(&mut self, post: Post) -> Result<(), Lost>;
    /// The next event, if there is one.
    fn poll(&mut self) -> Result<Option<Event>, Lost>;
    /// From here on an event that has not been polled makes the descriptor readable.
    fn arm(&mut self) -> io::Result<()>;
    /// What a waiting thread waits on, beside its socket.
    fn descriptors(&self) -> [BorrowedFd<'_>; 2];
    /// One of them was readable; a connection that is gone says so here or at the next poll.
    fn awake(&mut self) -> Result<(), Lost>;
}
