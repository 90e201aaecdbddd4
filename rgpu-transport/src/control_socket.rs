//! The worker's end of its socket to the broker: whole messages of `rgpu_proto::control`, with descriptors beside them.

use crate::pass::{receive_with_fd, send_with_fd};
use rgpu_proto::codec::CodecError;
use rgpu_proto::control::{self, Carries, Decoder};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Why a message did not go or come.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed; `BrokenPipe` if the peer is gone.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// The peer's bytes are no message, or ours is too large.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer went away within a message.
    #[error("control socket: the peer closed it within a message")]
    Truncated,
}

/// A blocking message socket: sends `S`, receives `R`. Sending and receiving may happen in different threads at once.
#[derive(Debug)]
pub struct ControlSocket<S, R> {
    fd: OwnedFd,
    sending: Mutex<()>,
    receiving: Mutex<(Decoder<R>, VecDeque<OwnedFd>)>,
    sent: PhantomData<fn(S)>,
}

/// Most descriptors that have come ahead of their messages: a read brings one, and with it few messages that are not yet asked for.
const MAX_AHEAD: usize = 16;

impl<S: Serialize, R: DeserializeOwned + Carries> ControlSocket<S, R> {
    /// Takes a connected unix stream socket and makes it blocking and CLOEXEC.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&fd, false)?;
        Ok(ControlSocket {
            fd,
            sending: Mutex::new(()),
            receiving: Mutex::default(),
            sent: PhantomData,
        })
    }

    /// The socket, for messages of another kind. What has been read ahead is lost.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends a message, and `fd` with it.
    pub fn send(&self, message: &S, fd: Option<BorrowedFd<'_>>) -> Result<(), ControlError> {
        let bytes = control::encode(message)?;
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        while sent < bytes.len() {
            sent += send_with_fd(self.fd.as_fd(), &bytes[sent..], fd.filter(|_| sent == 0))?;
        }
        Ok(())
    }

    /// Waits for a message; `None` when the peer is gone. A message that carries a descriptor has it, if its sender kept to that.
    pub fn receive(&self) -> Result<Option<(R, Option<OwnedFd>)>, ControlError> {
        let mut turn = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (decoder, ahead) = &mut *turn;
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(message) = decoder.pull()? {
                // One read may bring the messages before, too: what belongs to which shows in the order alone.
                let fd = message.carries_descriptor().then(|| ahead.pop_front());
                return Ok(Some((message, fd.flatten())));
            }
            let (count, fd) = receive_with_fd(self.fd.as_fd(), &mut buffer)?;
            ahead.extend(fd);
            if ahead.len() > MAX_AHEAD {
                let what = "descriptors that no message carries";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
            }
            match count {
                0 if decoder.is_empty() => return Ok(None),
                0 => return Err(ControlError::Truncated),
                count => decoder.push(&buffer[..count]),
            }
        }
    }
}

impl<S, R> AsFd for ControlSocket<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
