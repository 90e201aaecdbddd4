//! What the immediate value of a write says.

/// A kind in the upper three bits; below it the number of bytes that the write has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many bytes stand in the ring, behind those before.
    Data(u32),
    /// The word holds how far the peer has read.
    Position,
    /// The peer's socket has come to its end.
    End,
    /// The peer's socket takes no more.
    Stop,
    /// The peer's socket has broken.
    Reset,
}

const LENGTH_BITS: u32 = 29;

impl Note {
    pub fn encode(self) -> u32 {
        let (kind, length) = match self {
            Note::Data(length) => (0, length),
            Note::Position => (1, 0),
            Note::End => (2, 0),
            Note::Stop => (3, 0),
            Note::Reset => (4, 0),
        };
        kind << LENGTH_BITS | length
    }

    pub fn parse(immediate: u32) -> Option<Note> {
        let length = immediate & ((1 << LENGTH_BITS) - 1);
        match (immediate >> LENGTH_BITS, length) {
            (0, length) => Some(Note::Data(length)),
            (1, 0) => Some(Note::Position),
            (2, 0) => Some(Note::End),
            (3, 0) => Some(Note::Stop),
            (4, 0) => Some(Note::Reset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written_and_nothing_else_is() {
        for note in [
            Note::Data(1),
            Note::Data((1 << LENGTH_BITS) - 1),
            Note::Position,
            Note::End,
            Note::Stop,
            Note::Reset,
        ] {
            assert_eq!(Note::parse(note.encode()), Some(note));
        }
        for nonsense in [1 << 29 | 1, 4 << 29 | 7, 5 << 29, u32::MAX] {
            assert_eq!(Note::parse(nonsense), None);
        }
    }
}
