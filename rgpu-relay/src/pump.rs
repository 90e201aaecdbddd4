//! One unix socket, carried as one stream: bytes, the end of each direction, and the end of all.

use std::io::{self, IoSlice};
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use rustix::net::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};

/// Bytes of one read from the socket.
const READ: usize = 256 << 10;
/// Parts of one write to it: what packets have brought.
const PARTS: usize = 64;
/// The socket fails, or its peer reads no more.
const GONE: VarInt = VarInt::from_u32(1);

/// How one direction has ended.
enum End {
    /// As its source did.
    Done,
    /// The connection is gone. Its owner says why before the socket closes, so nothing is closed here.
    ConnectionLost,
}

/// Carries until both directions have ended; for ever where the connection is lost, until the future is dropped. `arrived` is told the number of
/// bytes that the socket has taken so far.
pub async fn carry(
    mut socket: UnixStream,
    send: SendStream,
    recv: RecvStream,
    arrived: impl FnMut(u64),
) {
    let (reader, writer) = socket.split();
    let (out, back) = tokio::join!(outward(reader, send), inward(recv, writer, arrived));
    if matches!(out, End::ConnectionLost) || matches!(back, End::ConnectionLost) {
        std::future::pending::<()>().await;
    }
}

/// From the socket to the stream.
async fn outward(mut reader: ReadHalf<'_>, mut send: SendStream) -> End {
    let mut stopped = pin!(send.stopped());
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let read = tokio::select! {
            read = reader.read_buf(&mut buffer) => read,
            stopped = &mut stopped => {
                return match stopped {
                    Ok(_) => refuse_more(&reader),
                    Err(_) => End::ConnectionLost,
                };
            }
        };
        // A peer that goes with bytes unread has an end after what it wrote, as any other.
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            read => read,
        };
        match read {
            Ok(1..) => {}
            Ok(0) => {
                let _ = send.finish();
                // What was sent must have come before the connection may be closed.
                return match stopped.await {
                    Ok(_) => End::Done,
                    Err(_) => End::ConnectionLost,
                };
            }
            Err(_) => {
                let _ = send.reset(GONE);
                return End::Done;
            }
        }
        match send.write_chunk(buffer.split().freeze()).await {
            Ok(()) => {}
            Err(WriteError::ConnectionLost(_)) => return End::ConnectionLost,
            Err(_) => return refuse_more(&reader),
        }
    }
}

/// Makes writes to the socket fail, as they do when a peer is gone.
fn refuse_more(reader: &ReadHalf<'_>) -> End {
    let _ = rustix::net::shutdown(reader.as_ref(), Shutdown::Read);
    End::Done
}

/// From the stream to the socket.
async fn inward(
    mut recv: RecvStream,
    mut writer: WriteHalf<'_>,
    mut arrived: impl FnMut(u64),
) -> End {
    let mut parts: [Bytes; PARTS] = std::array::from_fn(|_| Bytes::new());
    let mut total = 0;
    loop {
        match recv.read_chunks(&mut parts).await {
            Ok(Some(count)) => {
                let parts = &mut parts[..count];
                if write_all(&mut writer, parts).await.is_err() {
                    let _ = recv.stop(GONE);
                    return End::Done;
                }
                total += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                // The memory goes now, not when others come in its place.
                parts.fill(Bytes::new());
                arrived(total);
            }
            Ok(None) => {
                let _ = writer.shutdown().await;
                return End::Done;
            }
            Err(ReadError::ConnectionLost(_)) => return End::ConnectionLost,
            Err(_) => {
                let _ = rustix::net::shutdown(writer.as_ref(), Shutdown::Both);
                return End::Done;
            }
        }
    }
}

async fn write_all(writer: &mut WriteHalf<'_>, parts: &[Bytes]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); PARTS];
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let mut left = &mut slices[..parts.len()];
    while !left.is_empty() {
        let count = writer.write_vectored(left).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, count);
    }
    Ok(())
}
