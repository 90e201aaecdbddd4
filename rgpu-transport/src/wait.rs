//! How a thread waits for a socket. An answer often comes within the time that a sleeping thread takes to wake (45 to 65 us, measured over unix
//! and TCP), so a waiter first gives its core away a few times, looking in between, and parks in poll(2) only then.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes (or the end) to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
}

/// What there is. All false: the deadline passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A read will not say `WouldBlock`.
    pub read: bool,
    /// A write will not say `WouldBlock`.
    pub write: bool,
}

impl Ready {
    /// True if the deadline passed before anything happened.
    pub fn timed_out(self) -> bool {
        !self.read && !self.write
    }
}

/// How often to look before parking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitPolicy {
    /// Looks with `sched_yield` in between. Each costs about a microsecond and lets every other thread go first, so that a peer which shares the
    /// core is not kept from answering.
    pub yields: u32,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        WaitPolicy { yields: 20 }
    }
}

pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    interest: Interest,
    deadline: Option<Instant>,
    policy: WaitPolicy,
) -> io::Result<Ready> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    for _ in 0..policy.yields {
        if let Some(ready) = look(fd, interest, Some(&at_once))? {
            return Ok(ready);
        }
        std::thread::yield_now();
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        if let Some(ready) = look(fd, interest, timeout.as_ref())? {
            return Ok(ready);
        }
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Ready::default());
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// One poll. `None`: nothing yet, or a signal handler ran (which is the process's own business; the wait goes on).
fn look(
    fd: BorrowedFd<'_>,
    interest: Interest,
    timeout: Option<&Timespec>,
) -> io::Result<Option<Ready>> {
    let wanted = match interest {
        Interest::Read => PollFlags::IN | PollFlags::RDHUP,
        Interest::Write => PollFlags::OUT,
        Interest::Both => PollFlags::IN | PollFlags::RDHUP | PollFlags::OUT,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    match poll(&mut fds, timeout) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
        Ok(_) => {
            let got = fds[0].revents();
            if got.contains(PollFlags::NVAL) {
                return Err(rustix::io::Errno::BADF.into());
            }
            // A dead connection is ready for everything: the read or write that follows says what happened.
            let dead = got.intersects(PollFlags::ERR | PollFlags::HUP);
            let (reads, writes) = (interest != Interest::Write, interest != Interest::Read);
            Ok(Some(Ready {
                read: reads && (dead || got.intersects(PollFlags::IN | PollFlags::RDHUP)),
                write: writes && (dead || got.contains(PollFlags::OUT)),
            }))
        }
        Err(e) => Err(e.into()),
    }
}
