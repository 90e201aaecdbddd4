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

pub(crate) const READS: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);
/// A dead connection is ready for everything: the read or write that follows says what happened.
pub(crate) const DEAD: PollFlags = PollFlags::ERR.union(PollFlags::HUP);

/// What there is. All false: the deadline passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A read will not say `WouldBlock`.
    pub read: bool,
    /// A write will not say `WouldBlock`.
    pub write: bool,
    /// The descriptor beside it has something to read, or its end.
    pub beside: bool,
}

impl Ready {
    /// True if the deadline passed before anything happened.
    pub fn timed_out(self) -> bool {
        !self.read && !self.write && !self.beside
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
    /// On a core that nobody else wants, about as long as it takes to wake a thread that sleeps: who waits longer loses at most as much again. (With 20, a
    /// launch and a wait by TCP took 40 us on two idle cores, and 10 with others at work there.)
    fn default() -> Self {
        WaitPolicy { yields: 100 }
    }
}

/// `beside` is only looked at while parked: it is for what is rare.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    interest: Interest,
    beside: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
    policy: WaitPolicy,
) -> io::Result<Ready> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    for _ in 0..policy.yields {
        if let Some(ready) = look(fd, interest, None, Some(&at_once))? {
            return Ok(ready);
        }
        std::thread::yield_now();
    }
    loop {
        let (timeout, over) = left(deadline);
        if let Some(ready) = look(fd, interest, beside, timeout.as_ref())? {
            return Ok(ready);
        }
        if over {
            return Ok(Ready::default());
        }
    }
}

/// Before the end of a wait for a time, the thread stays awake: a sleep ends late by about so much.
const AWAKE: Duration = Duration::from_micros(80);

/// Waits until it is time to read what has come, or anything else happens. `None`: nothing has come whose time is not here.
pub(crate) fn for_time(
    fd: BorrowedFd<'_>,
    interest: Interest,
    beside: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
    until: impl Fn() -> Option<Duration>,
) -> io::Result<Option<Ready>> {
    let mut waited = false;
    while let Some(time) = until() {
        waited = true;
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let time = deadline.map_or(time, |deadline| {
            time.min(deadline.saturating_duration_since(Instant::now()))
        });
        let sleep = timespec(time.saturating_sub(AWAKE));
        // Of reading nobody needs to be told.
        let wanted = match interest {
            Interest::Both => Some(Interest::Write),
            _ => None,
        };
        if let Some(ready) = look_for(fd, wanted, beside, Some(&sleep))? {
            return Ok(Some(ready));
        }
        if over {
            return Ok(Some(Ready::default()));
        }
        std::thread::yield_now();
    }
    Ok(waited.then_some(Ready {
        read: true,
        ..Ready::default()
    }))
}

/// What is left until then, for the system, and whether it is nothing.
pub(crate) fn left(deadline: Option<Instant>) -> (Option<Timespec>, bool) {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    (left.map(timespec), left.is_some_and(|left| left.is_zero()))
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
    beside: Option<BorrowedFd<'_>>,
    timeout: Option<&Timespec>,
) -> io::Result<Option<Ready>> {
    look_for(fd, Some(interest), beside, timeout)
}

/// The same; without an interest, only for the pipe's death and what is beside it.
fn look_for(
    fd: BorrowedFd<'_>,
    interest: Option<Interest>,
    beside: Option<BorrowedFd<'_>>,
    timeout: Option<&Timespec>,
) -> io::Result<Option<Ready>> {
    let wanted = match interest {
        None => PollFlags::empty(),
        Some(Interest::Read) => READS,
        Some(Interest::Write) => PollFlags::OUT,
        Some(Interest::Both) => READS.union(PollFlags::OUT),
    };
    let interest = interest.unwrap_or(Interest::Read);
    let mut fds = [
        PollFd::from_borrowed_fd(fd, wanted),
        PollFd::from_borrowed_fd(beside.unwrap_or(fd), READS),
    ];
    let count = if beside.is_some() { 2 } else { 1 };
    match poll(&mut fds[..count], timeout) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
        Ok(_) => {
            let (got, got_beside) = (fds[0].revents(), fds[1].revents());
            if (got | got_beside).contains(PollFlags::NVAL) {
                return Err(rustix::io::Errno::BADF.into());
            }
            Ok(Some(Ready {
                read: interest != Interest::Write && got.intersects(READS | DEAD),
                write: interest != Interest::Read && got.intersects(PollFlags::OUT | DEAD),
                beside: got_beside.intersects(READS | DEAD),
            }))
        }
        Err(e) => Err(e.into()),
    }
}
