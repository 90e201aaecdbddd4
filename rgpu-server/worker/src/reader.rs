//! Takes the client's bytes apart into frames. One buffer, reused: it grows only as bytes arrive, and shrinks when the client pauses.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rgpu_proto::frame::{
    FLAG_BULK_IN, FLAG_BULK_OUT, FLAG_COMPRESSED, FLAG_MAY_COMPRESS, FLAG_WANTS_REPLY, FrameError,
    HEADER_LEN, Header,
};
use rgpu_transport::{Interest, Pipe, Progress, TransportKind};

use crate::zero_copy::Descriptors;

/// Length of the buffer of an idle session.
const IDLE: usize = 64 << 10;
/// Room made for the first part of a long body; after that as much again as has arrived.
const STEP: usize = 1 << 20;
/// How long the client must be silent before a long buffer is given up.
const PAUSE: Duration = Duration::from_millis(200);

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the client broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the connection to the client failed: {0}")]
    Io(#[from] io::Error),
    #[error("the client closed the connection within a frame")]
    Truncated,
}

/// Bytes in, frames out; no I/O.
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// What has arrived and is not used up.
    filled: Range<usize>,
    last: u64,
}

impl FrameBuffer {
    /// Begins with bytes that arrived earlier.
    pub fn new(leftover: &[u8]) -> FrameBuffer {
        let mut bytes = vec![0; leftover.len().max(IDLE)];
        bytes[..leftover.len()].copy_from_slice(leftover);
        FrameBuffer {
            bytes,
            filled: 0..leftover.len(),
            last: 0,
        }
    }

    /// The next whole frame: its header, and where its body lies ([`Self::body`]). It is used up with this call, and its body stays in place
    /// until the next call of [`Self::space`].
    pub fn next(&mut self) -> Result<Option<(Header, Range<usize>)>, FrameError> {
        let arrived = &self.bytes[self.filled.clone()];
        let Some(header) = arrived.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        const KNOWN: u16 =
            FLAG_WANTS_REPLY | FLAG_BULK_IN | FLAG_BULK_OUT | FLAG_COMPRESSED | FLAG_MAY_COMPRESS;
        if header.flags.get() & !KNOWN != 0 {
            return Err(FrameError::Flags(header.flags.get()));
        }
        if header.seq.get() <= self.last {
            return Err(FrameError::Sequence {
                last: self.last,
                got: header.seq.get(),
            });
        }
        let len = HEADER_LEN + header.len.get() as usize;
        if arrived.len() < len {
            return Ok(None);
        }
        self.last = header.seq.get();
        let start = self.filled.start;
        self.filled.start += len;
        Ok(Some((header, start + HEADER_LEN..start + len)))
    }

    pub fn body(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Room for the next bytes, at least one byte.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.wanted();
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        if self.filled.start > 0 && self.bytes.len() - self.filled.end < IDLE / 4 {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.filled.end == self.bytes.len() {
            // A claim alone makes no room: at most as much again as has really arrived.
            let room = self.filled.len().max(STEP).min(wanted);
            self.bytes.reserve_exact(room);
            self.bytes.resize(self.bytes.len() + room, 0);
        }
        &mut self.bytes[self.filled.end..]
    }

    /// Bytes that the frame at the front still lacks; what a header takes if there is none yet.
    fn wanted(&self) -> usize {
        let arrived = &self.bytes[self.filled.clone()];
        let whole = arrived
            .first_chunk::<HEADER_LEN>()
            .and_then(|header| Header::parse(header).ok())
            .map_or(HEADER_LEN, |header| HEADER_LEN + header.len.get() as usize);
        whole.saturating_sub(arrived.len()).max(1)
    }

    /// Says that so many bytes were written to [`Self::space`].
    pub fn arrived(&mut self, count: usize) {
        self.filled.end += count;
        debug_assert!(self.filled.end <= self.bytes.len());
    }

    /// True between frames: the end of the stream is a clean one here.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    fn is_long(&self) -> bool {
        self.bytes.len() > STEP && self.filled.len() < IDLE
    }

    /// Gives up the memory of a long buffer.
    pub fn shrink(&mut self) {
        if self.is_long() {
            let mut short = vec![0; IDLE];
            short[..self.filled.len()].copy_from_slice(&self.bytes[self.filled.clone()]);
            self.bytes = short;
            self.filled = 0..self.filled.len();
        }
    }
}

/// The right to read the client's frames, and the frame read last. There is one in a session; the threads pass it on.
pub struct Reader {
    pipe: Arc<Pipe>,
    descriptors: Arc<Descriptors>,
    buffer: FrameBuffer,
    frame: (Header, Range<usize>),
}

impl Reader {
    pub fn new(pipe: Arc<Pipe>, leftover: &[u8], descriptors: Arc<Descriptors>) -> Reader {
        Reader {
            pipe,
            descriptors,
            buffer: FrameBuffer::new(leftover),
            frame: (Header::command(0, 0, 0, 0, 0, false), 0..0),
        }
    }

    /// Waits for the next frame; false when the client has closed the connection in good order.
    pub fn next(&mut self) -> Result<bool, ReadError> {
        loop {
            if let Some(frame) = self.buffer.next()? {
                self.frame = frame;
                return Ok(true);
            }
            match self.receive()? {
                Progress::Bytes(count) => self.buffer.arrived(count),
                Progress::Closed if self.buffer.is_empty() => return Ok(false),
                Progress::Closed => return Err(ReadError::Truncated),
                Progress::WouldBlock => self.wait()?,
            }
        }
    }

    fn receive(&mut self) -> io::Result<Progress> {
        let by_socket = self.pipe.capabilities().kind == TransportKind::Unix;
        if by_socket && !self.descriptors.are_expected() {
            return self.pipe.try_read(self.buffer.space());
        }
        let (progress, descriptors) = self.pipe.try_read_with_fds(self.buffer.space())?;
        for descriptor in descriptors {
            self.descriptors.arrived(descriptor);
        }
        Ok(progress)
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.buffer.is_long() {
            let pause = Instant::now() + PAUSE;
            if !self.pipe.wait(Interest::Read, Some(pause))?.timed_out() {
                return Ok(());
            }
            self.buffer.shrink();
        }
        self.pipe.wait(Interest::Read, None)?;
        Ok(())
    }

    pub fn header(&self) -> Header {
        self.frame.0
    }

    pub fn body(&self) -> &[u8] {
        self.buffer.body(self.frame.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn frame(seq: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = Header::command(0x0601, 1, 16, seq, body.len(), false)
            .as_bytes()
            .to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn push(buffer: &mut FrameBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = buffer.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            buffer.arrived(count);
            bytes = &bytes[count..];
        }
    }

    fn all(buffer: &mut FrameBuffer) -> Vec<(u64, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, place)) = buffer.next().unwrap() {
            frames.push((header.seq.get(), buffer.body(place).to_vec()));
        }
        frames
    }

    #[test]
    fn frames_may_be_split_at_each_byte() {
        let bytes = [frame(1, b"first"), frame(2, b""), frame(5, &[7; 300])].concat();
        let expected = vec![(1, b"first".to_vec()), (2, Vec::new()), (5, vec![7; 300])];
        for at in 0..=bytes.len() {
            for leftover in [0, at] {
                let mut buffer = FrameBuffer::new(&bytes[..leftover]);
                let mut frames = Vec::new();
                push(&mut buffer, &bytes[leftover..at]);
                frames.extend(all(&mut buffer));
                push(&mut buffer, &bytes[at..]);
                frames.extend(all(&mut buffer));
                assert_eq!(frames, expected, "split at {at}");
                assert!(buffer.is_empty());
            }
        }
    }

    #[test]
    fn frames_may_come_byte_by_byte_for_longer_than_the_buffer() {
        let mut buffer = FrameBuffer::new(&[]);
        let mut seen = 0;
        for seq in 1..2000 {
            let body = vec![seq as u8; (seq % 97) as usize];
            for byte in frame(seq, &body) {
                assert!(buffer.next().unwrap().is_none());
                push(&mut buffer, &[byte]);
            }
            assert_eq!(all(&mut buffer), vec![(seq, body)]);
            seen += 1;
        }
        assert_eq!(seen, 1999);
        assert_eq!(buffer.bytes.len(), IDLE);
    }

    #[test]
    fn a_long_body_makes_room_only_as_it_arrives_and_is_given_up() {
        let body = vec![9; 20 << 20];
        let bytes = frame(1, &body);
        let mut buffer = FrameBuffer::new(&[]);
        push(&mut buffer, &bytes[..HEADER_LEN]);
        buffer.space();
        assert!(
            buffer.bytes.len() <= IDLE + STEP,
            "a claim alone takes {} bytes",
            buffer.bytes.len()
        );
        push(&mut buffer, &bytes[HEADER_LEN..]);
        assert_eq!(all(&mut buffer), vec![(1, body)]);
        push(&mut buffer, b"partial");
        buffer.shrink();
        assert_eq!(buffer.bytes.len(), IDLE);
        assert_eq!(&buffer.bytes[buffer.filled.clone()], b"partial");
    }

    #[test]
    fn what_breaks_the_protocol_is_told() {
        let mut long = frame(1, b"");
        long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let cases: [(Vec<u8>, FrameError); 4] = [
            (long, FrameError::TooLong(u32::MAX)),
            (
                [frame(7, b""), frame(7, b"")].concat(),
                FrameError::Sequence { last: 7, got: 7 },
            ),
            (frame(0, b""), FrameError::Sequence { last: 0, got: 0 }),
            (
                Header::reply(1, 1, 1, 0, 0, 0).as_bytes().to_vec(),
                FrameError::Flags(2),
            ),
        ];
        for (bytes, expected) in cases {
            let mut buffer = FrameBuffer::new(&bytes);
            let error = loop {
                match buffer.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{expected} was not told"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, expected);
        }
    }
}
