//! Between the threads that read and write files and the tasks that speak HTTP: bounded, in pieces.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces under way.
const DEPTH: usize = 4;
/// Bytes of a piece that is written.
const PIECE: usize = 64 << 10;

/// The end that a thread writes to.
pub struct PipeWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

/// The end that a thread reads from.
pub struct PipeReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// A thread writes, a task reads.
pub fn to_task() -> (
    PipeWriter,
    impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let writer = PipeWriter {
        sender,
        buffer: Vec::with_capacity(PIECE),
    };
    (
        writer,
        tokio_stream::wrappers::ReceiverStream::new(receiver),
    )
}

/// A task writes, a thread reads.
pub fn to_thread() -> (mpsc::Sender<io::Result<Bytes>>, PipeReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let rest = Bytes::new();
    (sender, PipeReader { receiver, rest })
}

/// Passes a body on to a thread until one of both ends; an error, or `patience` without a piece, is the thread's error too.
pub async fn forward<E: std::fmt::Display>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    sender: mpsc::Sender<io::Result<Bytes>>,
    patience: Duration,
) {
    loop {
        let piece = match tokio::time::timeout(patience, body.next()).await {
            Ok(None) => return,
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                error.to_string(),
            )),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        let is_last = piece.is_err();
        if sender.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

impl PipeWriter {
    /// Tells the reader that this is not whole. What was written last may be lost.
    pub fn fail(self, error: io::Error) {
        let _ = self.sender.blocking_send(Err(error));
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.rest.len());
        into[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
