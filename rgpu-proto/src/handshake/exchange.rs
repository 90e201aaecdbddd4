//! The two state machines: what comes in, and what each side knows after it.

use super::{
    ABSENT, ABSENT_GROUP, ABSENT_REUSE, Answer, Hello, KIND_ATTACHED, KIND_REFUSED, KIND_WAITING,
    KIND_WELCOME, KIND_WELCOME_IN_RINGS, MAGIC, MAX_ANSWER, MAX_HELLO, PREAMBLE, RefusalCode,
    Refused, VERSION_3, VERSION_4, VERSION_5, VERSION_MAX, VERSION_MIN, Waiting, Welcome, refusal,
    with_preamble,
};
use crate::codec::{self, CodecError};
use crate::snapshot::SnapshotError;

/// Collects one preamble and body; bytes beyond stay apart.
#[derive(Debug, Default)]
struct Collector {
    buffer: Vec<u8>,
    leftover: Vec<u8>,
}

/// The two 16-bit fields of a preamble and the length.
struct Preamble {
    first: u16,
    second: u16,
    len: usize,
}

impl Collector {
    /// `false` as soon as a byte differs from the magic.
    fn magic_fits(&self) -> bool {
        let n = self.buffer.len().min(MAGIC.len());
        self.buffer[..n] == MAGIC[..n]
    }

    fn preamble(&self) -> Option<Preamble> {
        let bytes = self.buffer.first_chunk::<PREAMBLE>()?;
        Some(Preamble {
            first: u16::from_le_bytes([bytes[8], bytes[9]]),
            second: u16::from_le_bytes([bytes[10], bytes[11]]),
            len: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize,
        })
    }

    /// Takes bytes until the buffer holds `total`; returns the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8], total: usize) -> &'a [u8] {
        let take = total.saturating_sub(self.buffer.len()).min(bytes.len());
        let (now, rest) = bytes.split_at(take);
        self.buffer.extend_from_slice(now);
        rest
    }
}

/// What the server side knows after some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Not enough yet.
    NeedMore,
    /// A greeting that may be judged.
    Hello {
        /// The version to speak from here on: the newest that both know.
        version: u16,
        /// The greeting.
        hello: Box<Hello>,
    },
    /// Close the connection, after sending `reply` (empty where the peer does not speak the protocol).
    Refuse {
        /// Bytes for the peer.
        reply: Vec<u8>,
        /// For the log.
        reason: String,
    },
}

/// The server's half, up to the point where the broker decides.
#[derive(Debug, Default)]
pub struct ServerHandshake {
    collector: Collector,
    done: bool,
}

impl ServerHandshake {
    /// For a fresh connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the peer. After `Hello` or `Refuse` the machine is finished and further bytes only add to the leftover.
    pub fn push(&mut self, bytes: &[u8]) -> ServerEvent {
        if self.done {
            self.collector.leftover.extend_from_slice(bytes);
            return ServerEvent::NeedMore;
        }
        let event = self.step(bytes);
        self.done = event != ServerEvent::NeedMore;
        event
    }

    /// True while the first bytes could be those of a client.
    pub fn speaks_protocol(&self) -> bool {
        self.collector.magic_fits() && self.collector.buffer.len() >= MAGIC.len()
    }

    /// How many bytes have arrived of the greeting so far.
    pub fn received(&self) -> usize {
        self.collector.buffer.len()
    }

    /// Bytes that came behind the greeting: the client's first frames.
    pub fn into_leftover(self) -> Vec<u8> {
        self.collector.leftover
    }

    fn step(&mut self, bytes: &[u8]) -> ServerEvent {
        let rest = self.collector.fill(bytes, PREAMBLE);
        if !self.collector.magic_fits() {
            let reason = "the peer does not speak this protocol (wrong magic)".into();
            return ServerEvent::Refuse {
                reply: Vec::new(),
                reason,
            };
        }
        let Some(preamble) = self.collector.preamble() else {
            return ServerEvent::NeedMore;
        };
        let (min, max) = (preamble.first, preamble.second);
        if min > max {
            return refuse(
                RefusalCode::Malformed,
                format!("the client's version range {min} to {max} is empty"),
            );
        }
        let version = max.min(VERSION_MAX);
        if version < min || version < VERSION_MIN {
            return refuse(
                RefusalCode::Version,
                format!(
                    "the client speaks protocol versions {min} to {max}, the server {VERSION_MIN} to {VERSION_MAX}: install a client \
                     and a server of the same release"
                ),
            );
        }
        if preamble.len > MAX_HELLO {
            return refuse(
                RefusalCode::Malformed,
                format!(
                    "the greeting claims {} bytes, the bound is {MAX_HELLO}",
                    preamble.len
                ),
            );
        }
        let rest = self.collector.fill(rest, PREAMBLE + preamble.len);
        let Some(body) = self.collector.buffer.get(PREAMBLE..PREAMBLE + preamble.len) else {
            return ServerEvent::NeedMore;
        };
        // Only a client of a later version may have appended fields, and an earlier one has fewer.
        let decoded = if max > VERSION_MAX {
            codec::decode_prefix::<MAX_HELLO, Hello>("greeting", body).map(|(hello, _)| hello)
        } else {
            let absent = match max {
                VERSION_5.. => 0,
                VERSION_4 => ABSENT_GROUP,
                VERSION_3 => ABSENT_GROUP + ABSENT_REUSE,
                _ => ABSENT,
            };
            let whole = [body, &[0; ABSENT][..absent]].concat();
            codec::decode::<{ MAX_HELLO + ABSENT }, Hello>("greeting", &whole)
        };
        let hello = match decoded {
            Ok(hello) => hello,
            Err(e) => return refuse(RefusalCode::Malformed, e.to_string()),
        };
        if let Err(reason) = hello.check() {
            return refuse(RefusalCode::Malformed, reason);
        }
        self.collector.leftover.extend_from_slice(rest);
        ServerEvent::Hello {
            version,
            hello: Box::new(hello),
        }
    }
}

fn refuse(code: RefusalCode, reason: String) -> ServerEvent {
    ServerEvent::Refuse {
        reply: refusal(code, reason.clone()),
        reason,
    }
}

/// Why the client side gives up; what to tell the user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// The peer is something else.
    #[error("the peer is no rgpud: its answer starts with other bytes (check address and port)")]
    WrongMagic,
    /// The answer's version was not offered.
    #[error("the server answered with protocol version {0}, which was not offered")]
    WrongVersion(u16),
    /// A kind of answer that does not exist.
    #[error("the server's answer is of an unknown kind ({0})")]
    UnknownKind(u16),
    /// A value that cannot be read, or a bound that was broken.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The devices as told break a bound.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The client's half: send [`Self::output`], push what comes back until there is an answer.
#[derive(Debug)]
pub struct ClientHandshake {
    output: Vec<u8>,
    collector: Collector,
    waiting: Option<Waiting>,
    done: bool,
}

impl ClientHandshake {
    /// Fails only if the greeting breaks its bound.
    pub fn new(hello: &Hello) -> Result<Self, CodecError> {
        let body = codec::encode::<MAX_HELLO, _>("greeting", hello)?;
        let output = with_preamble(VERSION_MIN, VERSION_MAX, &body);
        Ok(ClientHandshake {
            output,
            collector: Collector::default(),
            waiting: None,
            done: false,
        })
    }

    /// What the server has said about the wait since this was last asked.
    pub fn take_waiting(&mut self) -> Option<Waiting> {
        self.waiting.take()
    }

    /// The bytes to send first. Frames may follow them at once.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Bytes that are surely still missing; reading no more than this leaves no leftover. 0 once there is an answer.
    pub fn needed(&self) -> usize {
        let total = match (self.done, self.collector.preamble()) {
            (true, _) => return 0,
            (false, None) => PREAMBLE,
            (false, Some(preamble)) => PREAMBLE.saturating_add(preamble.len.min(MAX_ANSWER)),
        };
        total.saturating_sub(self.collector.buffer.len())
    }

    /// Takes bytes from the server; gives the version and the answer once it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(u16, Answer)>, HandshakeError> {
        if self.done {
            self.collector.leftover.extend_from_slice(bytes);
            return Ok(None);
        }
        let mut bytes = bytes;
        loop {
            let (rest, whole) = self.collect(bytes)?;
            let Some(Preamble { first, second, .. }) = whole else {
                return Ok(None);
            };
            if second != KIND_WAITING {
                return self.answer(first, second, rest).map(Some);
            }
            let body = &self.collector.buffer[PREAMBLE..];
            let (waiting, _) = codec::decode_prefix::<MAX_ANSWER, Waiting>("queue position", body)?;
            self.waiting = Some(waiting);
            self.collector.buffer.clear();
            bytes = rest;
        }
    }

    /// Collects one message; its preamble once it is whole, and the bytes that are not its own.
    fn collect<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<(&'a [u8], Option<Preamble>), HandshakeError> {
        let rest = self.collector.fill(bytes, PREAMBLE);
        if !self.collector.magic_fits() {
            return Err(HandshakeError::WrongMagic);
        }
        let Some(preamble) = self.collector.preamble() else {
            return Ok((rest, None));
        };
        let (version, kind) = (preamble.first, preamble.second);
        if !matches!(
            kind,
            KIND_WELCOME | KIND_REFUSED | KIND_ATTACHED | KIND_WELCOME_IN_RINGS | KIND_WAITING
        ) {
            return Err(HandshakeError::UnknownKind(kind));
        }
        if kind != KIND_REFUSED && !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(HandshakeError::WrongVersion(version));
        }
        if preamble.len > MAX_ANSWER {
            return Err(CodecError::TooLarge {
                what: "answer",
                len: preamble.len,
                bound: MAX_ANSWER,
            }
            .into());
        }
        let total = PREAMBLE + preamble.len;
        let rest = self.collector.fill(rest, total);
        let whole = self.collector.buffer.len() == total;
        Ok((rest, whole.then_some(preamble)))
    }

    fn answer(
        &mut self,
        version: u16,
        kind: u16,
        rest: &[u8],
    ) -> Result<(u16, Answer), HandshakeError> {
        let body = &self.collector.buffer[PREAMBLE..];
        let answer = match kind {
            KIND_WELCOME | KIND_WELCOME_IN_RINGS => {
                let welcome = Welcome::decode(version, body)?;
                welcome.snapshot.check()?;
                Answer::Welcome(Box::new(Welcome {
                    rings: kind == KIND_WELCOME_IN_RINGS,
                    ..welcome
                }))
            }
            KIND_ATTACHED if body.is_empty() => Answer::Attached,
            KIND_ATTACHED => {
                return Err(CodecError::Trailing {
                    what: "answer",
                    extra: body.len(),
                }
                .into());
            }
            // A later server may have appended to its refusal.
            _ => Answer::Refused(codec::decode_prefix::<MAX_ANSWER, Refused>("refusal", body)?.0),
        };
        self.collector.leftover.extend_from_slice(rest);
        self.done = true;
        Ok((version, answer))
    }

    /// Bytes that came behind the answer.
    pub fn into_leftover(self) -> Vec<u8> {
        self.collector.leftover
    }
}
