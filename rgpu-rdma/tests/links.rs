//! Two links with the wire between them as a list: every order in which posts, notes and completions can come.

use std::collections::VecDeque;

use proptest::prelude::*;
use rgpu_rdma::{Broken, Link, Note, Post, Shape, Span};

const SMALL: Shape = Shape {
    ring: 64,
    write: 24,
    writes: 8,
};

/// One side: its link, its memory, and what the device has of it.
struct Side {
    link: Link,
    staging: [u8; 64],
    ring: [u8; 64],
    word: u64,
    /// Not executed yet.
    posts: VecDeque<Post>,
    /// Executed, and not known to be.
    undone: VecDeque<u32>,
    /// Come, and not heard.
    notes: VecDeque<u32>,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Side {
    fn new() -> Side {
        Side {
            link: Link::new(SMALL),
            staging: [0; 64],
            ring: [0; 64],
            word: 0,
            posts: VecDeque::new(),
            undone: VecDeque::new(),
            notes: VecDeque::new(),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    /// The socket has up to so many bytes; whether any were taken.
    fn write(&mut self, most: u32) -> bool {
        let Some(room) = self.link.room() else {
            return false;
        };
        let length = most.clamp(1, room.length);
        for at in 0..length {
            let byte = (self.sent.len() % 251) as u8;
            self.staging[(room.offset + at) as usize] = byte;
            self.sent.push(byte);
        }
        self.posts.push_back(self.link.write(length).unwrap());
        true
    }

    /// The socket takes up to so many.
    fn read(&mut self, most: u32) -> bool {
        let Some(span) = self.link.filled() else {
            return false;
        };
        let length = most.clamp(1, span.length);
        let place = span.offset as usize..(span.offset + length) as usize;
        self.received.extend_from_slice(&self.ring[place]);
        self.link.read(length);
        true
    }

    fn post(&mut self) -> bool {
        match self.link.next_post() {
            Some(post) => {
                self.posts.push_back(post);
                true
            }
            None => false,
        }
    }

    fn done(&mut self) -> bool {
        match self.undone.pop_front() {
            Some(length) => {
                self.link.done(length);
                true
            }
            None => false,
        }
    }

    fn hear(&mut self) -> Result<bool, Broken> {
        match self.notes.pop_front() {
            Some(note) => self.link.hear(note, self.word).map(|()| true),
            None => Ok(false),
        }
    }
}

/// The device does the next post of one side.
fn execute(from: &mut Side, to: &mut Side) -> bool {
    let Some(post) = from.posts.pop_front() else {
        return false;
    };
    let (note, length) = match post {
        Post::Data(Span { offset, length }) => {
            let place = offset as usize..(offset + length) as usize;
            to.ring[place.clone()].copy_from_slice(&from.staging[place]);
            (Some(Note::Data(length)), length)
        }
        Post::Position(position) => {
            to.word = position;
            (Some(Note::Position), 0)
        }
        Post::Probe(position) => {
            assert_eq!(to.word, position, "a probe changes something");
            (None, 0)
        }
        Post::Note(note) => (Some(note), 0),
    };
    from.undone.push_back(length);
    to.notes.extend(note.map(Note::encode));
    true
}

/// What happens next, on which side.
fn step(sides: &mut [Side; 2], side: usize, what: u8, amount: u32) -> bool {
    let (first, second) = sides.split_at_mut(1);
    let (own, other) = match side {
        0 => (&mut first[0], &mut second[0]),
        _ => (&mut second[0], &mut first[0]),
    };
    let moved = match what {
        0 => own.write(amount),
        1 => own.read(amount),
        2 => own.post(),
        3 => execute(own, other),
        4 => own.done(),
        5 => own.hear().unwrap(),
        _ => match own.link.probe() {
            Some(probe) => {
                own.posts.push_back(probe);
                true
            }
            None => false,
        },
    };
    for side in sides {
        let under_way = side.posts.len() + side.undone.len();
        assert!(under_way <= SMALL.posts() as usize, "{under_way} posts");
        assert!(
            side.notes.len() <= SMALL.notes() as usize,
            "notes without receives"
        );
    }
    moved
}

fn settle(sides: &mut [Side; 2]) {
    let mut is_moving = true;
    while is_moving {
        is_moving = false;
        for (side, what) in (0..2).flat_map(|side| (1..6).map(move |what| (side, what))) {
            is_moving |= step(sides, side, what, 64);
        }
    }
}

proptest! {
    #[test]
    fn bytes_come_as_they_were_sent_in_any_order_of_events(
        steps in prop::collection::vec((0..2usize, 0..7u8, 1..40u32), 0..600)
    ) {
        let mut sides = [Side::new(), Side::new()];
        for (side, what, amount) in steps {
            step(&mut sides, side, what, amount);
        }
        settle(&mut sides);
        for side in &mut sides {
            prop_assert!(side.link.room().is_some(), "the link stands still");
            prop_assert!(!side.link.is_over());
            side.link.end(Note::End);
        }
        settle(&mut sides);
        let [a, b] = &sides;
        prop_assert_eq!(&a.sent, &b.received);
        prop_assert_eq!(&b.sent, &a.received);
        for side in &sides {
            prop_assert!(side.link.is_over() && side.link.is_read_out());
        }
    }

    #[test]
    fn a_peer_may_say_anything(says in prop::collection::vec((any::<u32>(), any::<u64>(), 0..9u8), 0..200)) {
        let mut link = Link::new(SMALL);
        let (mut written, mut told) = (0, 0);
        for (number, word, how) in says {
            // Mostly what could be right.
            let (note, word) = match how {
                0 => (number, word),
                1..=4 => (Note::Data(number % 32).encode(), word),
                5 | 6 => (Note::Position.encode(), word % 128),
                7 => (Note::End.encode(), 0),
                _ => (Note::Stop.encode(), 0),
            };
            if let Some(Post::Data(span)) = link.room().and_then(|room| link.write(1 + number % room.length)) {
                written += u64::from(span.length);
                link.done(span.length);
            }
            if link.hear(note, word).is_ok() && Note::parse(note) == Some(Note::Position) {
                prop_assert!((told..=written).contains(&word), "{} of {}, {} before", word, written, told);
                told = word;
            }
            if let Some(span) = link.filled() {
                prop_assert!(span.offset + span.length <= SMALL.ring);
                if number % 3 == 0 {
                    link.read(1 + number % span.length);
                }
            }
            prop_assert!(written - told <= SMALL.ring.into());
            while link.next_post().is_some() {
                link.done(0);
            }
        }
    }
}

#[test]
fn what_is_written_over_is_noticed() {
    let full = |writes: u32, length: u32| {
        let mut link = Link::new(SMALL);
        for _ in 0..writes {
            link.hear(Note::Data(length).encode(), 0)?;
        }
        Ok::<_, Broken>(())
    };
    assert_eq!(full(4, 16), Ok(()));
    assert!(matches!(
        full(5, 16),
        Err(Broken::Write {
            length: 16,
            room: 0,
            ..
        })
    ));
    assert!(matches!(
        full(1, 25),
        Err(Broken::Write {
            length: 25,
            room: 64,
            ..
        })
    ));
    assert!(matches!(full(1, 0), Err(Broken::Write { .. })));
    // Around the ring's end: 20, 20, 20 leave 4 before it.
    assert!(matches!(full(4, 20), Err(Broken::Write { .. })));
    assert_eq!(full(8, 1), Ok(()));
    assert!(matches!(full(9, 1), Err(Broken::Write { writes: 8, .. })));
}

#[test]
fn ends_come_once() {
    for (first, second) in [
        (Note::End, Note::Data(1)),
        (Note::End, Note::End),
        (Note::Reset, Note::End),
        (Note::Stop, Note::Stop),
    ] {
        let mut link = Link::new(SMALL);
        link.hear(first.encode(), 0).unwrap();
        assert_eq!(link.hear(second.encode(), 0), Err(Broken::AfterEnd(second)));
    }
    assert_eq!(
        Link::new(SMALL).hear(7 << 29, 0),
        Err(Broken::Nonsense(7 << 29))
    );
}

#[test]
fn a_reader_that_stops_is_told_of_no_more() {
    let mut link = Link::new(SMALL);
    link.hear(Note::Data(8).encode(), 0).unwrap();
    link.stop();
    assert_eq!(link.filled(), None);
    assert_eq!(link.next_post(), Some(Post::Note(Note::Stop)));
    // What was under way is dropped, and room is given for more of it.
    link.hear(Note::Data(8).encode(), 0).unwrap();
    assert_eq!(link.next_post(), Some(Post::Position(16)));
    assert_eq!(link.filled(), None);
    link.hear(Note::End.encode(), 0).unwrap();
    assert!(!link.is_over());
    link.end(Note::End);
    assert_eq!(link.next_post(), Some(Post::Note(Note::End)));
    for _ in 0..3 {
        assert!(!link.is_over());
        link.done(0);
    }
    assert!(link.is_over());
}
