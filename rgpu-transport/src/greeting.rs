//! The client's side of the first exchange on a connection.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use rgpu_proto::codec::CodecError;
use rgpu_proto::handshake::{Answer, ClientHandshake, HandshakeError, Hello, Refused};

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

/// Connects and exchanges greetings, each within `patience`.
pub fn greet(
    endpoint: &Endpoint,
    hello: &Hello,
    patience: Duration,
) -> Result<Greeted, GreetError> {
    let deadline = Instant::now() + patience;
    let mut pipe = Pipe::connect(endpoint, patience)?;
    let broken = |source| GreetError::Broken {
        endpoint: endpoint.clone(),
        source,
    };
    let wait = |interest| match pipe.wait(interest, Some(deadline)) {
        Ok(ready) if ready.timed_out() => Err(GreetError::TimedOut {
            endpoint: endpoint.clone(),
            waited: patience,
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
                match answer {
                    Some((_, Answer::Refused(refused))) => {
                        return Err(GreetError::Refused {
                            endpoint: endpoint.clone(),
                            refused,
                        });
                    }
                    Some((version, answer)) => {
                        if matches!(&answer, Answer::Welcome(welcome) if welcome.rings) {
                            pipe.accept(invitation, deadline).map_err(broken)?;
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
