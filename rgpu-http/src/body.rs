//! What a request carries: bytes, or what a reader gives, as it is or in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes read at once: a multiple of three, so that pieces of base64 need no padding.
const PIECE: usize = 48 << 10;

pub enum Body {
    Bytes(Bytes),
    /// Read as it is sent, and encoded: servers decode it, and take nothing in it for something else.
    Base64(Box<dyn Read + Send>),
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::Bytes(text.into())
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::Bytes(Bytes::new())
    }
}

/// A body on its way.
pub(crate) struct Sending {
    body: Body,
    is_over: bool,
}

impl From<Body> for Sending {
    fn from(body: Body) -> Sending {
        Sending {
            body,
            is_over: false,
        }
    }
}

impl Sending {
    /// How long it takes is not known.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self.body, Body::Base64(_))
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        match &mut self.body {
            Body::Bytes(bytes) => {
                self.is_over = true;
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Body::Base64(reader) => {
                let mut piece = Vec::with_capacity(PIECE);
                reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
                self.is_over = piece.len() < PIECE;
                Ok((!piece.is_empty()).then(|| STANDARD.encode(piece).into()))
            }
        }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    /// Blocks while it reads: whoever sends has nothing else to do.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.next().transpose().map(|it| it.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || matches!(&self.body, Body::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Base64(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow(io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn pieces_of_base64_make_one() {
        for length in [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let reader = Slow(io::Cursor::new(bytes.clone()));
            let mut sending = Sending::from(Body::Base64(Box::new(reader)));
            let mut text = Vec::new();
            while let Some(piece) = sending.next().unwrap() {
                text.extend(piece);
            }
            assert_eq!(STANDARD.decode(text).unwrap(), bytes, "{length}");
        }
    }
}
