//! Moves bytes between a socket and a wire, on the thread that calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use crate::link::{Broken, Link};
use crate::note::Note;
use crate::wire::{Event, Wire};

/// How long the device is asked again and again before the thread sleeps: a wake-up costs more than that.
const SPIN: Duration = Duration::from_micros(20);
/// A peer that has nothing to say must confirm so often that it is there.
const PROBE: Duration = Duration::from_secs(5);

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{0}; the connection is given up")]
    Broken(#[from] Broken),
    #[error("{0}")]
    Wire(String),
    #[error("waiting failed: {0}")]
    Wait(#[from] io::Error),
}

/// What one call to the socket did.
enum Moved {
    Bytes(u32),
    Nothing,
    End,
    Failed,
}

fn moved(result: isize) -> Moved {
    match result {
        0 => Moved::End,
        count if count > 0 => Moved::Bytes(count as u32),
        _ => match io::Error::last_os_error().kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Moved::Nothing,
            _ => Moved::Failed,
        },
    }
}

/// Carries until both directions have ended. The socket is still open when the connection is lost, so that its owner can say why before it closes.
pub fn carry(socket: &OwnedFd, wire: &mut impl Wire, mut link: Link) -> Result<(), Lost> {
    let mut ends = Ends::default();
    let mut last_work = Instant::now();
    let mut is_armed = false;
    let mut has_left = false;
    loop {
        let mut is_busy = false;
        while !has_left {
            match wire.poll() {
                Ok(Some(Event::Done(length))) => link.done(length),
                Ok(Some(Event::Note(note))) => link.hear(note, wire.word())?,
                Ok(None) => break,
                // What it wrote last is here, and is still the socket's.
                Err(_) if link.is_over_but_for_reading() => has_left = true,
                Err(lost) => return Err(lost),
            }
            is_busy = true;
        }
        is_busy |= to_socket(socket, wire, &mut link);
        is_busy |= ends.pass_on(socket, &link);
        if has_left {
            if link.filled().is_none() {
                return Ok(());
            }
        } else {
            is_busy |= from_socket(socket, wire, &mut link)?;
            while let Some(post) = link.next_post() {
                wire.post(post)?;
                is_busy = true;
            }
            if link.is_over() {
                return Ok(());
            }
        }
        if is_busy {
            last_work = Instant::now();
            is_armed = false;
        } else if last_work.elapsed() < SPIN {
            std::thread::yield_now();
        } else if !is_armed && !has_left {
            wire.arm()?;
            // Once more round: what came before is not told of.
            is_armed = true;
        } else {
            let woken = wait(socket, wire, &link, has_left)?;
            is_armed = false;
            match woken {
                // Nobody is there to read, though nothing need be under way that would show it.
                Woken::Gone => link.stop(),
                // Leaving is judged where the rest of what came is seen, by the poll.
                Woken::Ready => {
                    wire.awake()
                        .or_else(|lost| match link.is_over_but_for_reading() {
                            true => Ok(()),
                            false => Err(lost),
                        })?
                }
                Woken::Late => {
                    if let Some(probe) = link.probe().filter(|_| !has_left) {
                        wire.post(probe)?;
                    }
                }
            }
        }
    }
}

/// From the ring to the socket.
fn to_socket(socket: &OwnedFd, wire: &impl Wire, link: &mut Link) -> bool {
    let mut is_busy = false;
    while let Some(span) = link.filled() {
        // SAFETY: the span is within the ring, which lives as long as the wire. The system copies; a peer that writes at the same time spoils
        // its own bytes alone.
        let result = unsafe {
            let from = wire.ring().add(span.offset as usize);
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            libc::send(socket.as_raw_fd(), from.cast(), span.length as usize, flags)
        };
        match moved(result) {
            Moved::Bytes(count) => link.read(count),
            Moved::Nothing => break,
            Moved::End | Moved::Failed => link.stop(),
        }
        is_busy = true;
    }
    is_busy
}

/// From the socket to the peer's ring. One write at a time, so that the other direction is not kept waiting.
fn from_socket(socket: &OwnedFd, wire: &mut impl Wire, link: &mut Link) -> Result<bool, Lost> {
    let Some(room) = link.room() else {
        return Ok(false);
    };
    // SAFETY: the span is within the staging memory, and no post of it is under way.
    let result = unsafe {
        let to = wire.staging().add(room.offset as usize);
        libc::recv(
            socket.as_raw_fd(),
            to.cast(),
            room.length as usize,
            libc::MSG_DONTWAIT,
        )
    };
    match moved(result) {
        Moved::Bytes(count) => {
            if let Some(post) = link.write(count) {
                wire.post(post)?;
            }
        }
        Moved::Nothing => return Ok(false),
        Moved::End => link.end(Note::End),
        Moved::Failed => link.end(Note::Reset),
    }
    Ok(true)
}

/// Which ends the socket has been told of.
#[derive(Default)]
struct Ends {
    read: bool,
    write: bool,
}

impl Ends {
    fn pass_on(&mut self, socket: &OwnedFd, link: &Link) -> bool {
        let before = (self.read, self.write);
        if !self.write && (link.is_read_out() || link.is_cut()) {
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
            self.write = true;
        }
        if !self.read && (link.is_told_to_stop() || link.is_cut()) {
            let _ = rustix::net::shutdown(socket, Shutdown::Read);
            self.read = true;
        }
        before != (self.read, self.write)
    }
}

/// What has ended a wait.
enum Woken {
    /// The socket or the wire has something.
    Ready,
    /// Nothing came for too long.
    Late,
    /// The socket's other end is closed.
    Gone,
}

/// Sleeps until there is something to do.
fn wait(socket: &OwnedFd, wire: &impl Wire, link: &Link, has_left: bool) -> io::Result<Woken> {
    let mut interest = PollFlags::empty();
    if !has_left && link.room().is_some() {
        interest |= PollFlags::IN;
    }
    if link.filled().is_some() {
        interest |= PollFlags::OUT;
    }
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
    // Once its other end is known to be gone, it would wake the thread for ever.
    if !interest.is_empty() || !link.is_stopped() {
        fds.push(PollFd::from_borrowed_fd(socket.as_fd(), interest));
    }
    if !has_left {
        for fd in wire.descriptors() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
    }
    let limit = Timespec {
        tv_sec: PROBE.as_secs() as i64,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(0) => return Ok(Woken::Late),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_gone = fds[0].revents().contains(PollFlags::HUP) && !link.is_stopped();
    Ok(if is_gone { Woken::Gone } else { Woken::Ready })
}
