//! Which allocations of this process have handles for others: a table behind the physical memory in the same file, where whoever opens a
//! handle sees whether that allocation is still there.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// Most allocations of a process that have handles at a time.
const SLOTS: u64 = 1 << 16;
/// The table's length in the file: a word each, the allocation's id or 0.
pub const BYTES: u64 = SLOTS * 8;

/// How a handle names its allocation: 48 bits of id, never used twice, and the place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    pub fn new(word: u64) -> Ticket {
        Ticket(word)
    }

    pub fn word(self) -> u64 {
        self.0
    }

    fn slot(self) -> u64 {
        self.0 % SLOTS
    }

    /// Whether the allocation is still there, of which the file is.
    pub fn is_good(self, file: &File) -> bool {
        let length = file.metadata().map_or(0, |meta| meta.len());
        let Some(table) = length.checked_sub(BYTES) else {
            return false;
        };
        let mut word = [0; 8];
        let read = file.read_exact_at(&mut word, table + self.slot() * 8);
        read.is_ok() && self.0 != 0 && u64::from_le_bytes(word) == self.0
    }
}

/// This process's own.
#[derive(Default)]
pub struct Exports {
    /// By the allocation's id.
    tickets: BTreeMap<u64, Ticket>,
    free: Vec<u64>,
    used: u64,
}

impl Exports {
    /// Writes an allocation into the table at this place of the file, if it is not there yet.
    pub fn ticket(&mut self, id: u64, file: BorrowedFd<'_>, table: u64) -> Result<Ticket> {
        if let Some(known) = self.tickets.get(&id) {
            return Ok(*known);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.used < SLOTS => {
                self.used += 1;
                self.used - 1
            }
            None => return Err(Error::ERROR_OUT_OF_MEMORY),
        };
        let ticket = Ticket(id * SLOTS + slot);
        write(file, table + slot * 8, ticket.0).inspect_err(|_| self.free.push(slot))?;
        self.tickets.insert(id, ticket);
        Ok(ticket)
    }

    /// The allocation is no more.
    pub fn forget(&mut self, id: u64, file: BorrowedFd<'_>, table: u64) {
        if let Some(ticket) = self.tickets.remove(&id) {
            // Only a place that was taken out is used again.
            if write(file, table + ticket.slot() * 8, 0).is_ok() {
                self.free.push(ticket.slot());
            }
        }
    }
}

fn write(file: BorrowedFd<'_>, at: u64, word: u64) -> Result {
    let file = file.as_fd().try_clone_to_owned();
    let file = File::from(file.map_err(|_| Error::ERROR_OPERATING_SYSTEM)?);
    file.write_all_at(&word.to_le_bytes(), at)
        .map_err(|_| Error::ERROR_OUT_OF_MEMORY)
}
