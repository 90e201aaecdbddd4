//! A control connection that is attached again: the session has gone on without its broker, and another may have taken it over. Whoever waits makes a
//! little of it at a time, and nothing here waits.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rgpu_proto::handshake::{Answer, ClientHandshake, Hello, Purpose};
use rgpu_transport::{Endpoint, Peer, Pipe, Progress};

use crate::process;

/// Between two tries: at first, and at most.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one that is not connected yet is looked at: for that there is no event here.
const LOOK: Duration = Duration::from_millis(10);
/// How many there are; and how many of them one is worth that a server refuses, which seldom thinks better of it.
const TRIES: u32 = 64;
const REFUSED: u32 = 8;

/// Where the connection leads to, and of which of the process's sessions it is.
pub struct Way {
    peer: Peer,
    purpose: Purpose,
    pub number: usize,
}

impl Way {
    /// Beside the session's data. `None` where a relay's end is the session's.
    pub fn beside(
        data: &Pipe,
        endpoint: &Endpoint,
        purpose: &Purpose,
        number: usize,
    ) -> Option<Way> {
        Some(Way {
            peer: data.peer(endpoint)?,
            purpose: purpose.clone(),
            number,
        })
    }
}

#[derive(Default)]
pub struct Again {
    left: u32,
    pause: Duration,
    next: Option<Instant>,
    attempt: Option<Attempt>,
}

struct Attempt {
    pipe: Arc<Pipe>,
    handshake: ClientHandshake,
    sent: usize,
    until: Instant,
}

enum Failed {
    Refused,
    Broken,
}

impl Again {
    /// From now on it is tried.
    pub fn begin(&mut self, now: Instant) {
        *self = Again {
            left: TRIES,
            pause: FIRST,
            next: Some(now + FIRST),
            attempt: None,
        };
    }

    /// Whether it still may come about.
    pub fn goes_on(&self) -> bool {
        self.next.is_some()
    }

    /// The next try is now.
    pub fn hurry(&mut self, now: Instant) {
        if self.attempt.is_none() {
            self.next = self.next.map(|_| now);
        }
    }

    /// What to watch meanwhile, if something is under way, and when to go on at the latest.
    pub fn events(&self) -> (Option<Arc<Pipe>>, Option<Instant>) {
        let attempt = self.attempt.as_ref();
        (attempt.map(|attempt| attempt.pipe.clone()), self.next)
    }

    /// What can be done now. The connection once it is attached, with the bytes that came behind the answer.
    pub fn go_on(&mut self, way: &Way, now: Instant) -> Option<(Arc<Pipe>, Vec<u8>)> {
        if self.attempt.is_none() {
            if self.next.is_none_or(|next| now < next) {
                return None;
            }
            self.attempt = Attempt::begin(way, now).ok();
        }
        let stepped = match &mut self.attempt {
            Some(attempt) => attempt.step(now),
            None => Err(Failed::Broken),
        };
        match stepped {
            Ok(true) => {
                self.next = None;
                let attempt = self.attempt.take()?;
                Some((attempt.pipe, attempt.handshake.into_leftover()))
            }
            Ok(false) => {
                let sent = self.attempt.as_ref().filter(|attempt| attempt.is_sent());
                self.next = Some(sent.map_or(now + LOOK, |attempt| attempt.until));
                None
            }
            Err(failed) => {
                if self.attempt.take().is_some() {
                    process::remember_control(way.number, None);
                }
                self.left = self.left.saturating_sub(match failed {
                    Failed::Refused => REFUSED,
                    Failed::Broken => 1,
                });
                self.next = (self.left > 0).then_some(now + self.pause);
                self.pause = (2 * self.pause).min(LONGEST);
                None
            }
        }
    }
}

impl Attempt {
    fn begin(way: &Way, now: Instant) -> io::Result<Attempt> {
        let handshake = ClientHandshake::new(&Hello::about(way.purpose.clone()));
        let handshake = handshake.map_err(io::Error::other)?;
        let pipe = Pipe::begin(&way.peer)?;
        process::remember_control(way.number, Some(&pipe));
        Ok(Attempt {
            pipe: Arc::new(pipe),
            handshake,
            sent: 0,
            until: now + PATIENCE,
        })
    }

    fn is_sent(&self) -> bool {
        self.sent == self.handshake.output().len()
    }

    /// Whether it is attached.
    fn step(&mut self, now: Instant) -> Result<bool, Failed> {
        let broken = |_| Failed::Broken;
        while !self.is_sent() {
            let rest = IoSlice::new(&self.handshake.output()[self.sent..]);
            match self.pipe.try_write_vectored(&[rest]) {
                Ok(Progress::Bytes(count)) => self.sent += count,
                // It is not connected yet.
                Ok(_) => return self.in_time(now),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return self.in_time(now);
                }
                Err(error) => return Err(broken(error)),
            }
        }
        let mut buffer = [0; 1024];
        loop {
            match self.pipe.try_read(&mut buffer).map_err(broken)? {
                Progress::Bytes(count) => match self.handshake.push(&buffer[..count]) {
                    Ok(Some((_, Answer::Attached))) => return Ok(true),
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => return Err(Failed::Refused),
                },
                Progress::WouldBlock => return self.in_time(now),
                Progress::Closed => return Err(Failed::Broken),
            }
        }
    }

    fn in_time(&self, now: Instant) -> Result<bool, Failed> {
        match now < self.until {
            true => Ok(false),
            false => Err(Failed::Broken),
        }
    }
}
