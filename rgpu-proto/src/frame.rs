//! Frames of an established session: a fixed header, then the call's fixed arguments, then raw segments.
//!
//! Arguments are generated fixed-layout structs (`calls`); bulk bytes follow them as they are and are never serialised.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Longest body (bytes after the header) that either side accepts. A peer that announces more is malformed.
pub const MAX_BODY: u32 = 64 << 20;

/// Longest run of bulk bytes that one frame carries; a larger copy is cut into several commands of the same stream, so that neither
/// side needs a larger buffer than this.
pub const MAX_BULK: usize = 8 << 20;
/// `sync` of copies in and fills, where 0 is stream order and 1 CUDA's synchronous form: that form may return before the device's memory
/// has changed (bytes from pageable memory, fills), and other streams do not wait for it. With this one it has changed.
pub const LANDED: u32 = 2;
/// A copy to the client's pinned memory has two answers if the client waits for it: a reply that says that it is under way, and the bytes
/// when they are there. Those have the command's number with this bit.
pub const LANDS_LATER: u64 = 1 << 63;
/// Most dependencies of one graph node.
pub const MAX_DEPENDENCIES: usize = 1 << 16;

/// The sender waits for a reply with the same `seq`.
pub const FLAG_WANTS_REPLY: u16 = 1;
/// The frame answers the command with the same `seq`.
pub const FLAG_REPLY: u16 = 2;
/// The session is over: `status` holds the CUresult, the body the reason as UTF-8.
pub const FLAG_SESSION_ENDED: u16 = 4;
/// The command's body came ahead by the session's bulk connection; here is its number there, 8 bytes.
pub const FLAG_BULK_IN: u16 = 16;
/// The reply goes by the bulk connection.
pub const FLAG_BULK_OUT: u16 = 32;
/// The body is compressed ([`crate::compressed`]). From [`crate::handshake::VERSION_5`] on.
pub const FLAG_COMPRESSED: u16 = 64;
/// The body of the command's reply may be compressed, or of what lands. From [`crate::handshake::VERSION_5`] on.
pub const FLAG_MAY_COMPRESS: u16 = 128;
/// Of the server's: what kernels have printed, for the program's stdout. It answers no command.
pub const FLAG_PRINTED: u16 = 8;

/// Where printed bytes belong. Clients before `VERSION_STDERR` know stdout alone, and print all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    Stdout = 0,
    Stderr = 1,
}

impl Print {
    pub const ALL: [Print; 2] = [Print::Stdout, Print::Stderr];
}

/// The header of every frame, in either direction.
#[derive(
    Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, PartialEq, Eq,
)]
#[repr(C)]
pub struct Header {
    /// Bytes after this header.
    pub len: U32,
    /// The call (`calls::op`).
    pub op: U16,
    pub flags: U16,
    /// The client thread that made the call; a small number of the client's choosing.
    pub thread: U32,
    /// Replies: the call's CUresult.
    pub status: U32,
    /// Position in the session's one program-ordered command stream.
    pub seq: U64,
    /// Commands: the id of the context that was current in the calling thread, 0 for none.
    /// Replies: the first error of an earlier one-way command that has not been told yet (CUresult), 0 for none.
    pub aux: U64,
}

/// What stands in front of a command's body on the bulk connection.
#[derive(
    Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, PartialEq, Eq,
)]
#[repr(C)]
pub struct BulkHeader {
    /// By which the command names it; each is greater than those before.
    pub number: U64,
    /// Bytes after this header, at most [`MAX_BODY`].
    pub len: U32,
}

/// A frame that breaks the protocol; the session ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame claims a body of {0} bytes; the limit is {MAX_BODY}")]
    TooLong(u32),
    #[error("a frame has unknown flags {0:#x}")]
    Flags(u16),
    #[error("operation {op:#06x} is not in the call table")]
    UnknownOp { op: u16 },
    #[error("operation {op:#06x} carries {got} bytes where its arguments take {want}")]
    Body { op: u16, got: usize, want: usize },
    #[error("sequence number {got} follows {last}; it must grow")]
    Sequence { last: u64, got: u64 },
    #[error("a compressed body of {bytes} bytes is damaged")]
    Compressed { bytes: usize },
}

impl Header {
    /// A command frame.
    pub fn command(
        op: u16,
        thread: u32,
        context: u64,
        seq: u64,
        body_len: usize,
        wants_reply: bool,
    ) -> Header {
        Header {
            len: U32::new(u32::try_from(body_len).unwrap_or(u32::MAX)),
            op: U16::new(op),
            flags: U16::new(if wants_reply { FLAG_WANTS_REPLY } else { 0 }),
            thread: U32::new(thread),
            status: U32::new(0),
            seq: U64::new(seq),
            aux: U64::new(context),
        }
    }

    /// The reply to a command.
    pub fn reply(
        op: u16,
        thread: u32,
        seq: u64,
        status: u32,
        deferred: u32,
        body_len: usize,
    ) -> Header {
        Header {
            len: U32::new(u32::try_from(body_len).unwrap_or(u32::MAX)),
            op: U16::new(op),
            flags: U16::new(FLAG_REPLY),
            thread: U32::new(thread),
            status: U32::new(status),
            seq: U64::new(seq),
            aux: U64::new(u64::from(deferred)),
        }
    }

    /// The last frame of a session: why it ended.
    pub fn ended(status: u32, body_len: usize) -> Header {
        Header {
            len: U32::new(u32::try_from(body_len).unwrap_or(u32::MAX)),
            op: U16::new(0),
            flags: U16::new(FLAG_SESSION_ENDED),
            thread: U32::new(0),
            status: U32::new(status),
            seq: U64::new(0),
            aux: U64::new(0),
        }
    }

    /// What kernels have printed.
    pub fn printed(on: Print, body_len: usize) -> Header {
        Header {
            flags: U16::new(FLAG_PRINTED),
            aux: U64::new(on as u64),
            ..Header::ended(0, body_len)
        }
    }

    /// The same command with these flags, too.
    pub fn with(mut self, flags: u16) -> Header {
        self.flags.set(self.flags.get() | flags);
        self
    }

    /// Reads a header and checks what can be checked before its body is read.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let header = Header::read_from_bytes(bytes).map_err(|_| FrameError::Flags(0))?;
        if header.len.get() > MAX_BODY {
            return Err(FrameError::TooLong(header.len.get()));
        }
        const KNOWN: u16 = FLAG_WANTS_REPLY
            | FLAG_REPLY
            | FLAG_SESSION_ENDED
            | FLAG_PRINTED
            | FLAG_BULK_IN
            | FLAG_BULK_OUT
            | FLAG_COMPRESSED
            | FLAG_MAY_COMPRESS;
        if header.flags.get() & !KNOWN != 0 {
            return Err(FrameError::Flags(header.flags.get()));
        }
        Ok(header)
    }

    pub fn wants_reply(&self) -> bool {
        self.flags.get() & FLAG_WANTS_REPLY != 0
    }

    pub fn is_reply(&self) -> bool {
        self.flags.get() & FLAG_REPLY != 0
    }

    /// Whether its body came by the bulk connection.
    pub fn is_bulk_in(&self) -> bool {
        self.flags.get() & FLAG_BULK_IN != 0
    }

    /// Whether its reply goes by the bulk connection.
    pub fn is_bulk_out(&self) -> bool {
        self.flags.get() & FLAG_BULK_OUT != 0
    }

    /// Whether its body is compressed.
    pub fn is_compressed(&self) -> bool {
        self.flags.get() & FLAG_COMPRESSED != 0
    }

    /// Whether its reply's body may be compressed.
    pub fn may_compress(&self) -> bool {
        self.flags.get() & FLAG_MAY_COMPRESS != 0
    }

    /// Where its body is to be printed, if that is what it is for.
    pub fn prints(&self) -> Option<Print> {
        let prints = self.flags.get() & FLAG_PRINTED != 0;
        prints.then_some(match self.aux.get() {
            1 => Print::Stderr,
            _ => Print::Stdout,
        })
    }

    pub fn is_session_end(&self) -> bool {
        self.flags.get() & FLAG_SESSION_ENDED != 0
    }
}

/// Cuts `body` into the lengths that a call's arguments announce; all of it must be used.
pub fn segments<const N: usize>(
    op: u16,
    mut body: &[u8],
    lens: [u64; N],
) -> Result<[&[u8]; N], FrameError> {
    let got = body.len();
    let want = lens
        .iter()
        .try_fold(0u64, |sum, &len| sum.checked_add(len))
        .unwrap_or(u64::MAX);
    if want != got as u64 {
        return Err(FrameError::Body {
            op,
            got,
            want: usize::try_from(want).unwrap_or(usize::MAX),
        });
    }
    Ok(lens.map(|len| {
        // In range: the lengths add up to what is there.
        let (head, tail) = body.split_at(len as usize);
        body = tail;
        head
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_the_wire() {
        let header = Header::command(0x301, 7, 0x99, 12, 48, true);
        let bytes: [u8; HEADER_LEN] = header.as_bytes().try_into().unwrap();
        assert_eq!(Header::parse(&bytes).unwrap(), header);
        assert!(header.wants_reply() && !header.is_reply());
    }

    #[test]
    fn a_four_gigabyte_claim_is_refused() {
        let mut header = Header::command(1, 0, 0, 1, 0, false);
        header.len = U32::new(u32::MAX);
        let bytes: [u8; HEADER_LEN] = header.as_bytes().try_into().unwrap();
        assert_eq!(Header::parse(&bytes), Err(FrameError::TooLong(u32::MAX)));
    }

    #[test]
    fn segments_must_use_the_whole_body() {
        assert_eq!(
            segments(1, b"abcde", [2, 3]).unwrap(),
            [&b"ab"[..], &b"cde"[..]]
        );
        assert!(segments(1, b"abcde", [2, 2]).is_err());
        assert!(segments(1, b"abcde", [u64::MAX, 6]).is_err());
    }
}
