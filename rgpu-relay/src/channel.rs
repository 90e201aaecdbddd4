//! A packet socket with descriptors beside the packets, in the runtime's hands.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rgpu_transport::{receive_with_fd, send_with_fd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct Channel(AsyncFd<OwnedFd>);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl Channel {
    pub fn new(fd: OwnedFd) -> io::Result<Channel> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: an OwnedFd names the same open descriptor as long as it lives.
        Ok(Channel(unsafe { AsyncFd::register(fd) }?))
    }

    /// The peer reads the end; what it says still comes.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.0.get_ref(), Shutdown::Write)?)
    }

    /// Whether the peer has closed its end, rather than shut it down.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.0.get_ref(), PollFlags::empty())];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
            && fds[0].revents().contains(PollFlags::HUP)
    }

    /// The next packet and its descriptor; an empty one is the end.
    pub async fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        self.0
            .async_io(Interest::READABLE, |fd| receive_with_fd(fd.as_fd(), packet))
            .await
    }

    pub async fn send(&self, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.0
            .async_io(Interest::WRITABLE, |socket| {
                send_with_fd(socket.as_fd(), packet, fd)
            })
            .await?;
        Ok(())
    }
}
