//! One direction's bytes: which of a ring are the writer's, and which the reader's. Positions count all bytes ever carried.

use std::collections::VecDeque;

use crate::link::Broken;

/// Sizes on which both sides agree.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a ring, a power of two.
    pub ring: u32,
    /// Most bytes of one write.
    pub write: u32,
    /// Most writes that the reader has not told of having read: each takes one of its receives.
    pub writes: u32,
}

impl Shape {
    /// Most posts that the device may have at once: writes, and the notes beside them.
    pub const fn posts(&self) -> u32 {
        2 * self.writes
    }

    /// Most notes that a peer sends before it must be heard: its writes, and fewer others. Positions are told for a quarter of the ring or
    /// of the writes, and ends once.
    pub const fn notes(&self) -> u32 {
        2 * self.writes
    }
}

/// What relays use: 100 Gbit/s over 50 us are 625 KB under way, and a write of 128 KiB costs the same as a small one, all but its bytes.
pub const SHAPE: Shape = Shape {
    ring: 1 << 20,
    write: 128 << 10,
    writes: 64,
};

/// A part of a ring, never around its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub offset: u32,
    pub length: u32,
}

fn span(shape: &Shape, position: u64, length: u64) -> Option<Span> {
    let offset = (position % u64::from(shape.ring)) as u32;
    let length = length.min(u64::from(shape.ring - offset)) as u32;
    (length > 0).then_some(Span { offset, length })
}

/// This side's view of the ring that it writes to.
#[derive(Debug)]
pub struct Outgoing {
    shape: Shape,
    /// Written so far.
    tail: u64,
    /// The device is done with the staging memory up to here.
    done: u64,
    /// The peer has told of having read up to here.
    read: u64,
    /// Where each write ends of which the peer has not told.
    ends: VecDeque<u64>,
}

impl Outgoing {
    pub fn new(shape: Shape) -> Outgoing {
        Outgoing {
            shape,
            tail: 0,
            done: 0,
            read: 0,
            ends: VecDeque::new(),
        }
    }

    /// Where the next bytes may go.
    pub fn room(&self) -> Option<Span> {
        if self.ends.len() >= self.shape.writes as usize {
            return None;
        }
        // The peer may have read what the device has not called done; the staging memory is the device's until then.
        let free = self.done.min(self.read) + u64::from(self.shape.ring) - self.tail;
        span(&self.shape, self.tail, free.min(self.shape.write.into()))
    }

    /// `length` bytes, no more than [`Self::room`] has, are being written.
    pub fn write(&mut self, length: u32) -> Option<Span> {
        let room = self
            .room()
            .filter(|room| (1..=room.length).contains(&length))?;
        self.tail += u64::from(length);
        self.ends.push_back(self.tail);
        Some(Span {
            offset: room.offset,
            length,
        })
    }

    /// The device has done so many more bytes.
    pub fn done(&mut self, length: u32) {
        self.done = (self.done + u64::from(length)).min(self.tail);
    }

    /// What the peer says it has read.
    pub fn told(&mut self, position: u64) -> Result<(), Broken> {
        // It may tell of the same twice: a later word can stand there when the note of an earlier one is looked at.
        if position < self.read || position > self.tail {
            return Err(Broken::Position {
                position,
                read: self.read,
                written: self.tail,
            });
        }
        self.read = position;
        while self.ends.front().is_some_and(|end| *end <= position) {
            self.ends.pop_front();
        }
        Ok(())
    }
}

/// This side's view of the ring that the peer writes to.
#[derive(Debug)]
pub struct Incoming {
    shape: Shape,
    tail: u64,
    /// Read so far.
    head: u64,
    /// The peer has been told of this.
    told: u64,
    /// Where each write ends that is not all read.
    ends: VecDeque<u64>,
    /// Writes that have been read since the peer was told.
    untold: u32,
}

impl Incoming {
    pub fn new(shape: Shape) -> Incoming {
        Incoming {
            shape,
            tail: 0,
            head: 0,
            told: 0,
            ends: VecDeque::new(),
            untold: 0,
        }
    }

    /// The peer says that it has written.
    pub fn arrived(&mut self, length: u32) -> Result<(), Broken> {
        let room = u64::from(self.shape.ring) - (self.tail - self.told);
        let allowed = span(&self.shape, self.tail, room.min(self.shape.write.into()));
        let writes = self.ends.len() as u32 + self.untold;
        if length == 0
            || allowed.is_none_or(|span| length > span.length)
            || writes >= self.shape.writes
        {
            return Err(Broken::Write {
                length,
                room,
                writes,
            });
        }
        self.tail += u64::from(length);
        self.ends.push_back(self.tail);
        Ok(())
    }

    /// What can be read.
    pub fn filled(&self) -> Option<Span> {
        span(&self.shape, self.head, self.tail - self.head)
    }

    /// So many bytes have been read.
    pub fn read(&mut self, length: u32) {
        self.head = (self.head + u64::from(length)).min(self.tail);
        while self.ends.front().is_some_and(|end| *end <= self.head) {
            self.ends.pop_front();
            self.untold += 1;
        }
    }

    /// The position to tell the peer of, when enough has been read. A quarter: the peer never waits for more than it has written, and most reads
    /// need no telling.
    pub fn tell(&mut self) -> Option<u64> {
        let bytes = self.head - self.told;
        if bytes < u64::from(self.shape.ring / 4) && self.untold < self.shape.writes / 4 {
            return None;
        }
        self.told = self.head;
        self.untold = 0;
        Some(self.told)
    }

    /// What the peer has been told last.
    pub fn last_told(&self) -> u64 {
        self.told
    }
}
