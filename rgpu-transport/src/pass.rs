//! Descriptors that travel with bytes over a unix socket (SCM_RIGHTS).

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Sends some of `bytes` (at least one, unless it would block), and `fd` with the first of them. Returns how many were sent.
pub fn send_with_fd(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    send_slices(socket, &[IoSlice::new(bytes)], fd.as_slice())
}

/// Most descriptors of one message.
const MOST: usize = 2;

/// Slices of so many bytes together are put behind one another for a plain send, which the system has less work with.
const SHORT: usize = 512;

/// The same of several slices, in order, with at most two descriptors.
pub(crate) fn send_slices(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    if fds.is_empty() && len <= SHORT {
        let mut bytes = [0; SHORT];
        let mut rest = &mut bytes[..];
        for slice in slices {
            let (part, behind) = rest.split_at_mut(slice.len());
            part.copy_from_slice(slice);
            rest = behind;
        }
        let send = || rustix::net::send(socket, &bytes[..len], SendFlags::NOSIGNAL);
        return Ok(rustix::io::retry_on_intr(send)?);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    Ok(rustix::io::retry_on_intr(|| {
        sendmsg(socket, slices, &mut control, SendFlags::NOSIGNAL)
    })?)
}

/// Receives some bytes and the descriptor that came with them, if any; it is CLOEXEC. More than one descriptor in a message is an error, and
/// all of them are closed.
pub fn receive_with_fd(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let (count, fds) = receive_with_fds(socket, bytes)?;
    match fds {
        Some(mut fds) if fds.len() <= 1 => Ok((count, fds.pop())),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more than one descriptor in a message",
        )),
    }
}

/// The same for messages of at most two descriptors. `None`: there were more, or this process may not have them; they are closed.
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<Vec<OwnedFd>>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let whole = !received.flags.contains(rustix::net::ReturnFlags::CTRUNC);
    Ok((received.bytes, whole.then_some(fds)))
}
