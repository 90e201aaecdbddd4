//! Both directions of a connection, and how they end.

use crate::note::Note;
use crate::ring::{Incoming, Outgoing, Shape, Span};

/// A peer that does what it must not, or cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the peer says {0:#010x}, which means nothing")]
    Nonsense(u32),
    #[error(
        "the peer writes {length} bytes where {room} are free, as write {writes} of those not told of"
    )]
    Write { length: u32, room: u64, writes: u32 },
    #[error("the peer has read up to {position}, it says, of {written} bytes, and {read} before")]
    Position {
        position: u64,
        read: u64,
        written: u64,
    },
    #[error("the peer goes on after its end ({0:?})")]
    AfterEnd(Note),
}

/// What is to be given to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// These bytes of the staging memory, to the same place of the peer's ring.
    Data(Span),
    /// The position into the peer's word, with a note.
    Position(u64),
    /// A note alone.
    Note(Note),
    /// The same position again, without a note: only a live peer's device confirms it.
    Probe(u64),
}

/// How the other side's bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Flows,
    /// Nothing follows what is in the ring.
    Ended,
    /// What is in the ring is not all, or is not wanted.
    Cut,
}

#[derive(Debug)]
pub struct Link {
    outgoing: Outgoing,
    incoming: Incoming,
    /// How this side's socket has ended, told or to be told; the peer's [`Note::Stop`] ends it, too.
    own_end: Option<Note>,
    source: Source,
    /// The socket takes no more: what comes is dropped.
    is_stopped: bool,
    end_to_tell: Option<Note>,
    stop_to_tell: bool,
    is_told_to_stop: bool,
    /// Posts that the device has not done.
    under_way: u32,
    most_under_way: u32,
}

impl Link {
    pub fn new(shape: Shape) -> Link {
        Link {
            most_under_way: shape.posts() - 1,
            outgoing: Outgoing::new(shape),
            incoming: Incoming::new(shape),
            own_end: None,
            source: Source::Flows,
            is_stopped: false,
            end_to_tell: None,
            stop_to_tell: false,
            is_told_to_stop: false,
            under_way: 0,
        }
    }

    /// Where the socket's next bytes may go; `None` also when no more are wanted.
    pub fn room(&self) -> Option<Span> {
        let is_free = self.own_end.is_none() && self.under_way < self.most_under_way;
        self.outgoing.room().filter(|_| is_free)
    }

    /// The socket has given so many bytes, which lie at the place that [`Self::room`] named.
    pub fn write(&mut self, length: u32) -> Option<Post> {
        let span = self.outgoing.write(length)?;
        self.under_way += 1;
        Some(Post::Data(span))
    }

    /// The socket has ended ([`Note::End`]) or broken ([`Note::Reset`]).
    pub fn end(&mut self, how: Note) {
        if self.own_end.is_none() {
            self.own_end = Some(how);
            self.end_to_tell = Some(how);
        }
    }

    /// What the socket may take.
    pub fn filled(&self) -> Option<Span> {
        self.incoming.filled()
    }

    pub fn read(&mut self, length: u32) {
        self.incoming.read(length);
    }

    /// The socket takes no more.
    pub fn stop(&mut self) {
        if self.is_stopped {
            return;
        }
        self.is_stopped = true;
        self.stop_to_tell = self.source == Source::Flows;
        self.drop_filled();
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What else is to be posted.
    pub fn next_post(&mut self) -> Option<Post> {
        if self.under_way >= self.most_under_way {
            return None;
        }
        let post = if let Some(position) = self.incoming.tell() {
            Post::Position(position)
        } else if let Some(end) = self.end_to_tell.take() {
            Post::Note(end)
        } else if std::mem::take(&mut self.stop_to_tell) {
            Post::Note(Note::Stop)
        } else {
            return None;
        };
        self.under_way += 1;
        Some(post)
    }

    /// A sign of life to ask for, unless one is waited for already.
    pub fn probe(&mut self) -> Option<Post> {
        if self.under_way > 0 {
            return None;
        }
        self.under_way += 1;
        Some(Post::Probe(self.incoming.last_told()))
    }

    /// The device has done a post, which had so many bytes of staging memory.
    pub fn done(&mut self, length: u32) {
        self.under_way = self.under_way.saturating_sub(1);
        self.outgoing.done(length);
    }

    /// The peer has said something; `word` is what stands in the word now.
    pub fn hear(&mut self, immediate: u32, word: u64) -> Result<(), Broken> {
        let note = Note::parse(immediate).ok_or(Broken::Nonsense(immediate))?;
        match note {
            Note::Position => return self.outgoing.told(word),
            Note::Stop => {
                if self.is_told_to_stop {
                    return Err(Broken::AfterEnd(note));
                }
                self.is_told_to_stop = true;
                self.own_end.get_or_insert(Note::Stop);
                return Ok(());
            }
            _ if self.source != Source::Flows => return Err(Broken::AfterEnd(note)),
            Note::Data(length) => {
                self.incoming.arrived(length)?;
                if self.is_stopped {
                    self.drop_filled();
                }
            }
            Note::End => self.source = Source::Ended,
            Note::Reset => {
                self.source = Source::Cut;
                self.drop_filled();
            }
        }
        Ok(())
    }

    fn drop_filled(&mut self) {
        while let Some(span) = self.incoming.filled() {
            self.incoming.read(span.length);
        }
    }

    /// The socket is to be told of the end of what it reads.
    pub fn is_read_out(&self) -> bool {
        self.source == Source::Ended && self.filled().is_none()
    }

    /// The socket is to break.
    pub fn is_cut(&self) -> bool {
        self.source == Source::Cut
    }

    /// Writes to the socket are to fail.
    pub fn is_told_to_stop(&self) -> bool {
        self.is_told_to_stop
    }

    /// Both directions have ended and the peer's device has all.
    pub fn is_over(&self) -> bool {
        self.is_over_but_for_reading() && self.under_way == 0 && self.filled().is_none()
    }

    /// The peer may leave: it has said all, and has been told all.
    pub fn is_over_but_for_reading(&self) -> bool {
        let is_told = self.own_end.is_some() && self.end_to_tell.is_none() && !self.stop_to_tell;
        is_told && (self.source != Source::Flows || self.is_stopped)
    }
}
