//! The client's side of the first exchange on a connection.

use std::cell::Cell;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use rgpu_proto::codec::CodecError;
use rgpu_proto::handshake::{Answer, ClientHandshake, HandshakeError, Hello, Refused, Waiting};

use crate::pipe::{ConnectError, Pipe, Progress};
use crate::{Endpoint, Interest};

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{endpoint} refuses the session: {refused}")]
    Refused {
        endpoint: Endpoint,
        refused: Refused,
    },
    #[error("{endpoint}: {source}")]
    Greeting {
        endpoint: Endpoint,
        source: CodecError,
    },
    #[error("{endpoint}: {source}")]
    Answer {
        endpoint: Endpoint,
        source: HandshakeError,
    },
    #[error("{0}: the server closed the connection during the greeting; its log says why")]
    Closed(Endpoint),
    #[error("{endpoint}: no answer to the greeting within {} s", waited.as_secs())]
    TimedOut {
        endpoint: Endpoint,
        waited: Duration,
    },
    #[error("{endpoint}: {source} during the greeting")]
    Broken {
        endpoint: Endpoint,
        source: std::io::Error,
    },
}

/// A server that has let the connection in.
pub struct Greeted {
    pub pipe: Pipe,
    /// The protocol version that was agreed on.
    pub version: u16,
    /// A welcome, or that the control connection is attached.
    pub answer: Answer,
    /// Bytes that came behind the answer.
    pub leftover: Vec<u8>,
    /// Bytes of greeting and answer.
    pub moved: (usize, usize),
}

/// Longest that a server's word is taken for how long it lets this side wait.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Connects and exchanges greetings, each within `patience`; longer where the server says that a place is waited for.
pub fn greet(
    endpoint: &Endpoint,
    hello: &Hello,
    patience: Duration,
) -> Result<Greeted, GreetError> {
    greet_and_wait(endpoint, hello, patience, |_| {})
}

/// The same; `waits` is told each time that the server tells of the place in its queue.
pub fn greet_and_wait(
    endpoint: &Endpoint,
    hello: &Hello,
    patience: Duration,
    mut waits: impl FnMut(Waiting),
) -> Result<Greeted, GreetError> {
    let begun = Instant::now();
    let until = Cell::new(begun + patience);
    let mut pipe = Pipe::connect(endpoint, patience)?;
    let broken = |source| GreetError::Broken {
        endpoint: endpoint.clone(),
        source,
    };
    let wait = |interest| match pipe.wait(interest, Some(until.get())) {
        Ok(ready) if ready.timed_out() => Err(GreetError::TimedOut {
            endpoint: endpoint.clone(),
            waited: until.get() - begun,
        }),
        Ok(_) => Ok(()),
        Err(source) => Err(broken(source)),
    };
    let mut handshake = ClientHandshake::new(hello).map_err(|source| GreetError::Greeting {
        endpoint: endpoint.clone(),
        source,
    })?;
    let mut sent = 0;
    while sent < handshake.output().len() {
        let rest = IoSlice::new(&handshake.output()[sent..]);
        match pipe.try_write_vectored(&[rest]) {
            Ok(Progress::Bytes(count)) => sent += count,
            Ok(_) => wait(Interest::Write)?,
            // A server that refuses may close before it has read all.
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; 16 << 10];
    let mut invitation = Vec::new();
    let mut received = 0;
    loop {
        let (progress, mut fds) = pipe.try_read_with_fds(&mut buffer).map_err(broken)?;
        if hello.rings && invitation.is_empty() {
            invitation.append(&mut fds);
        }
        match progress {
            Progress::Bytes(count) => {
                received += count;
                let pushed = handshake.push(&buffer[..count]);
                let answer = pushed.map_err(|source| GreetError::Answer {
                    endpoint: endpoint.clone(),
                    source,
                })?;
                if let Some(waiting) = handshake.take_waiting() {
                    let allowed = Duration::from_secs(waiting.seconds.into()).min(LONGEST_WAIT);
                    until.set(Instant::now() + allowed + patience);
                    waits(waiting);
                }
                match answer {
                    Some((_, Answer::Refused(refused))) => {
                        return Err(GreetError::Refused {
                            endpoint: endpoint.clone(),
                            refused,
                        });
                    }
                    Some((version, answer)) => {
                        if matches!(&answer, Answer::Welcome(welcome) if welcome.rings) {
                            pipe.accept(invitation, until.get()).map_err(broken)?;
                        }
                        let leftover = handshake.into_leftover();
                        return Ok(Greeted {
                            pipe,
                            version,
                            answer,
                            moved: (sent, received - leftover.len()),
                            leftover,
                        });
                    }
                    None => {}
                }
            }
            Progress::WouldBlock => wait(Interest::Read)?,
            Progress::Closed => return Err(GreetError::Closed(endpoint.clone())),
        }
    }
}
