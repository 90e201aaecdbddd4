//! The first bytes of a connection, as two state machines without I/O: bytes go in, bytes and events come out.
//!
//! The client speaks first: `{magic [8], min_version u16, max_version u16, len u32}` and a bincode [`Hello`]. The server answers
//! `{magic [8], version u16, kind u16, len u32}` and a body that `kind` names. Integers are little-endian.
//!
//! The preambles, [`Refused`] and the fields of [`Hello`] that exist today never change, so that any two versions can at least say why they do
//! not fit. A later version may append fields to `Hello`; a server that does not know them ignores the bytes.

mod exchange;

pub use exchange::{ClientHandshake, HandshakeError, ServerEvent, ServerHandshake};

use crate::codec::{self, CodecError};
use crate::content::{self, Known, Reuse};
use crate::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;

/// First bytes in both directions.
pub const MAGIC: [u8; 8] = *b"rGPU-rpc";
/// Oldest protocol version that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version that this build speaks.
pub const VERSION_MAX: u16 = 5;
/// From this version on the client is given what belongs on its program's stderr.
pub const VERSION_STDERR: u16 = 2;
/// From this version on the server tells monitors of [`crate::monitor::Boards`], and [`Hello::rings`] is there.
pub const VERSION_3: u16 = 3;
/// From this version on there are [`Purpose::Bulk`], [`Hello::reuse`] and [`Welcome::known`], and a client sends a descriptor again that the server
/// says NOT_READY to.
pub const VERSION_4: u16 = 4;
/// From this version on there is [`Hello::group`], a client that waits for a place hears of it ([`Waiting`]) ahead of its answer, the server takes
/// bodies that are compressed, and the credit's mappings grow ([`credit_parts`]).
pub const VERSION_5: u16 = 5;
/// Length of a preamble in bytes, either way.
pub const PREAMBLE: usize = 16;
/// Bound of an encoded [`Hello`] in bytes.
pub const MAX_HELLO: usize = 16 * 1024;
/// Bound of an answer's body in bytes.
pub const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Most address windows in a `Hello` (one per device).
pub const MAX_WINDOWS: usize = crate::snapshot::MAX_DEVICES;
/// Most environment variables in a `Hello`.
pub const MAX_ENVIRONMENT: usize = 64;
/// Most client threads of one session at the same time; their numbers go from 1 to this.
pub const MAX_THREADS: u32 = 1024;
/// Longest token in bytes.
pub const MAX_TOKEN: usize = 1024;
/// Longest name of a group in bytes.
pub const MAX_GROUP: usize = 64;

/// Fields that earlier versions do not have are zeros behind what they send: no rings, nothing wanted by a function without a name, no group,
/// and two empty lists.
const ABSENT_RINGS: usize = 1;
const ABSENT_REUSE: usize = 2;
const ABSENT_GROUP: usize = 1;
const ABSENT: usize = ABSENT_RINGS + ABSENT_REUSE + ABSENT_GROUP;
const ABSENT_KNOWN: [u8; 2] = [0; 2];

const KIND_WELCOME: u16 = 1;
const KIND_REFUSED: u16 = 2;
const KIND_ATTACHED: u16 = 3;
/// A welcome with rings. The client answers with one byte: [`JOINED`], or [`NOT_JOINED`].
const KIND_WELCOME_IN_RINGS: u16 = 4;
/// No answer yet: [`Waiting`]. Any number of these may come ahead of the answer.
const KIND_WAITING: u16 = 5;
/// What follows goes through the rings, in both directions.
pub const JOINED: u8 = 1;
/// The client cannot use them: it goes on by the socket.
pub const NOT_JOINED: u8 = 0;

/// A client's proof of who it is. Never printed; compared in constant time.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Wraps a token; surrounding white space (a file's last newline) does not belong to it.
    pub fn new(text: &str) -> Self {
        Token(text.trim().to_owned())
    }

    /// The bytes, for hashing or comparing; not for logs.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Token {
    /// Constant time for tokens of one length.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "Token(none)"
        } else {
            "Token(…)"
        })
    }
}

/// What ties a control connection to its session. Never printed; compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionSecret([u8; 16]);

impl SessionSecret {
    /// From random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        SessionSecret(random)
    }
}

impl PartialEq for SessionSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionSecret {}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A new session; frames follow.
    Data,
    /// The control connection of a session; [`crate::control::ControlEvent`]s come back.
    Control {
        /// From the session's [`Welcome`].
        session: u64,
        /// From the session's [`Welcome`].
        secret: SessionSecret,
    },
    /// What NVML shows: after a [`Welcome`], [`crate::monitor::Question`]s and their answers. No session: nothing is allocated or run.
    Monitor,
    /// The bulk connection of a session: bodies of large commands and replies, so that small ones need not wait for them. From [`VERSION_4`]
    /// on.
    Bulk {
        /// From the session's [`Welcome`].
        session: u64,
        /// From the session's [`Welcome`].
        secret: SessionSecret,
    },
}

/// For logs on the server; nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Process id on the client's machine.
    pub pid: u32,
    /// Name of the program.
    pub program: String,
    /// Name of the client's machine.
    pub host: String,
}

/// What the client asks to have less of than it is entitled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuRequest {
    /// Device memory in MiB; `None`: what the tenant's sessions get.
    pub memory_mib: Option<u64>,
    /// Compute share in percent, 1 to 100; `None`: what the tenant's sessions get.
    pub share_percent: Option<u32>,
}

/// Part of the client's address space that is free for one device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressWindow {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The client's greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// Empty if there is none.
    pub token: Token,
    /// Who calls.
    pub client: ClientInfo,
    /// What is asked for.
    pub vgpu: VgpuRequest,
    /// One per device, in ordinal order; may be empty.
    pub windows: Vec<AddressWindow>,
    /// Variables that CUDA reads at cuInit; the server takes those it knows to be harmless and ignores the rest.
    pub environment: Vec<(String, String)>,
    /// Whether the client can go on in shared memory, over a unix socket. From [`VERSION_3`] on: before, nobody could.
    pub rings: bool,
    /// What of earlier sessions the client can make use of. From [`VERSION_4`] on.
    pub reuse: Reuse,
    /// Sessions of one tenant with the same name here have one vGPU together; empty: one of its own. From [`VERSION_5`] on.
    pub group: String,
}

/// What a client hears that waits for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Among those that wait; 1: the next.
    pub position: u32,
    /// Seconds from now after which the server gives up at the latest.
    pub seconds: u32,
}

/// The bytes that tell a client that it waits; only for one that speaks [`VERSION_5`].
pub fn waiting(version: u16, waiting: &Waiting) -> Vec<u8> {
    // Two numbers cannot break the bound; no bytes would only mean that the client is not told.
    let body = codec::encode::<MAX_ANSWER, _>("queue position", waiting).unwrap_or_default();
    with_preamble(version, KIND_WAITING, &body)
}

/// Bounds that the session has on the server, told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of device memory that the session may hold; `None`: the device's own limit.
    pub memory: Option<u64>,
    /// Compute share in percent; `None`: no cap.
    pub share_percent: Option<u32>,
    /// Largest frame body in bytes that the server takes.
    pub max_body: u32,
    /// Bytes that may be allocated without waiting for an answer; 0: each allocation waits.
    pub memory_credit: u64,
}

/// What the mappings of [`Limits::memory_credit`] are multiples of.
pub const CREDIT_GRANULE: u64 = 2 << 20;

/// The mappings that [`Limits::memory_credit`] is in, from the window's start on: how many bytes each has. Few, as each takes the server's time when
/// a session begins; but the client gives back whole ones alone, and large ones as soon as nothing is in them. So each is as long as all before it, up to
/// four granules; before [`VERSION_5`] each is one granule.
pub fn credit_parts(credit: u64, version: u16) -> impl Iterator<Item = u64> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let wanted = match version {
            VERSION_5.. => done.clamp(CREDIT_GRANULE, 4 * CREDIT_GRANULE),
            _ => CREDIT_GRANULE,
        };
        let part = wanted.min((credit - done) / CREDIT_GRANULE * CREDIT_GRANULE);
        done += part;
        (part > 0).then_some(part)
    })
}

/// The worker's answer to a data connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// For the control connection.
    pub session: u64,
    /// For the control connection.
    pub secret: SessionSecret,
    /// Name and version of the server program, for logs.
    pub server: String,
    /// The devices.
    pub snapshot: Snapshot,
    /// The session's bounds.
    pub limits: Limits,
    /// Windows that the server will keep device memory in, one per device; empty: the driver chooses addresses itself.
    pub windows: Vec<AddressWindow>,
    /// Rings come with it, as descriptors, and the client says whether it has them. The kind of the answer says so.
    #[serde(skip)]
    pub rings: bool,
    /// What the client need not send again. From [`VERSION_4`] on.
    pub known: Known,
}

impl Welcome {
    fn encode(&self, version: u16) -> Result<Vec<u8>, CodecError> {
        if version >= VERSION_4 {
            return codec::encode::<MAX_ANSWER, _>("welcome", self);
        }
        let earlier = Welcome {
            known: Known::default(),
            ..self.clone()
        };
        let mut body = codec::encode::<MAX_ANSWER, _>("welcome", &earlier)?;
        body.truncate(body.len() - ABSENT_KNOWN.len());
        Ok(body)
    }

    fn decode(version: u16, body: &[u8]) -> Result<Welcome, CodecError> {
        const BOUND: usize = MAX_ANSWER + ABSENT_KNOWN.len();
        let welcome: Welcome = if version >= VERSION_4 {
            codec::decode::<MAX_ANSWER, _>("welcome", body)?
        } else {
            codec::decode::<BOUND, _>("welcome", &[body, &ABSENT_KNOWN].concat())?
        };
        let Known { code, pieces } = &welcome.known;
        let most = content::MAX_KNOWN;
        match code.len().max(pieces.len()) {
            len if len > most => Err(CodecError::TooLarge {
                what: "list of what is known",
                len,
                bound: most,
            }),
            _ => Ok(welcome),
        }
    }
}

/// Why a server does not take a connection. Codes are append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum RefusalCode {
    /// The greeting breaks the protocol.
    Malformed,
    /// No common protocol version.
    Version,
    /// Wrong or missing token.
    Unauthenticated,
    /// The server is shutting down.
    Draining,
    /// The server cannot take another session at all.
    NoCapacity,
    /// The tenant has as many sessions as it may.
    TooManySessions,
    /// More memory (or share) was asked for than the tenant may have.
    QuotaExceeded,
    /// No session of that number and secret.
    UnknownSession,
    /// The greeting did not arrive in time.
    TimedOut,
    /// The server's driver cannot be used.
    NoDriver,
    /// Something broke in the server.
    Internal,
    /// A code of a later version.
    Other(u32),
}

const CODES: [(RefusalCode, u32, u32); 11] = [
    // (code, number on the wire, CUresult)
    (RefusalCode::Malformed, 1, 999),       // CUDA_ERROR_UNKNOWN
    (RefusalCode::Version, 2, 803),         // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    (RefusalCode::Unauthenticated, 3, 800), // CUDA_ERROR_NOT_PERMITTED
    (RefusalCode::Draining, 4, 802),        // CUDA_ERROR_SYSTEM_NOT_READY
    (RefusalCode::NoCapacity, 5, 46),       // CUDA_ERROR_DEVICE_UNAVAILABLE
    (RefusalCode::TooManySessions, 6, 46),  // CUDA_ERROR_DEVICE_UNAVAILABLE
    (RefusalCode::QuotaExceeded, 7, 2),     // CUDA_ERROR_OUT_OF_MEMORY
    (RefusalCode::UnknownSession, 8, 800),  // CUDA_ERROR_NOT_PERMITTED
    (RefusalCode::TimedOut, 9, 46),         // CUDA_ERROR_DEVICE_UNAVAILABLE
    (RefusalCode::NoDriver, 10, 100),       // CUDA_ERROR_NO_DEVICE
    (RefusalCode::Internal, 11, 999),       // CUDA_ERROR_UNKNOWN
];

impl RefusalCode {
    /// The CUresult that `cuInit` returns for it.
    pub fn cu_result(self) -> u32 {
        CODES
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or(999, |(_, _, result)| *result)
    }
}

impl From<u32> for RefusalCode {
    fn from(number: u32) -> Self {
        CODES
            .iter()
            .find(|(_, n, _)| *n == number)
            .map_or(RefusalCode::Other(number), |(code, ..)| *code)
    }
}

impl From<RefusalCode> for u32 {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Other(number) => number,
            code => CODES
                .iter()
                .find(|(c, ..)| *c == code)
                .map_or(0, |(_, number, _)| *number),
        }
    }
}

/// A refusal: a code for programs and words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind.
    pub code: RefusalCode,
    /// What was wrong and what to do.
    pub message: String,
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A data connection is accepted; frames follow.
    Welcome(Box<Welcome>),
    /// A control connection is accepted; events follow.
    Attached,
    /// The connection is not accepted and will be closed.
    Refused(Refused),
}

impl Answer {
    /// The bytes to send. `version` is the agreed one; refusals carry 0.
    pub fn encode(&self, version: u16) -> Result<Vec<u8>, CodecError> {
        let (version, kind, body) = match self {
            Answer::Welcome(welcome) => (
                version,
                match welcome.rings {
                    true => KIND_WELCOME_IN_RINGS,
                    false => KIND_WELCOME,
                },
                welcome.encode(version)?,
            ),
            Answer::Attached => (version, KIND_ATTACHED, Vec::new()),
            Answer::Refused(refused) => (
                0,
                KIND_REFUSED,
                codec::encode::<MAX_ANSWER, _>("refusal", refused)?,
            ),
        };
        Ok(with_preamble(version, kind, &body))
    }
}

/// The bytes of a refusal.
pub fn refusal(code: RefusalCode, message: impl Into<String>) -> Vec<u8> {
    let refused = Refused {
        code,
        message: crate::control::reason(message),
    };
    // A code and a bounded text cannot break MAX_ANSWER; an empty answer would only mean a close without words.
    Answer::Refused(refused).encode(0).unwrap_or_default()
}

fn with_preamble(first: u16, second: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREAMBLE + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&second.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

impl Hello {
    /// One that says what the connection is for, and nothing else.
    pub fn about(purpose: Purpose) -> Hello {
        Hello {
            purpose,
            token: Token::default(),
            client: ClientInfo::default(),
            vgpu: VgpuRequest::default(),
            windows: Vec::new(),
            environment: Vec::new(),
            rings: false,
            reuse: Reuse::default(),
            group: String::new(),
        }
    }

    /// Bounds beyond the size of the whole.
    fn check(&self) -> Result<(), String> {
        if self.token.0.len() > MAX_TOKEN {
            return Err(format!(
                "the token has {} bytes, the bound is {MAX_TOKEN}",
                self.token.0.len()
            ));
        }
        if self.windows.len() > MAX_WINDOWS {
            return Err(format!(
                "{} address windows, the bound is {MAX_WINDOWS}",
                self.windows.len()
            ));
        }
        if self
            .windows
            .iter()
            .any(|window| window.base.checked_add(window.len).is_none())
        {
            return Err("an address window goes past the end of the address space".into());
        }
        if self.environment.len() > MAX_ENVIRONMENT {
            return Err(format!(
                "{} environment variables, the bound is {MAX_ENVIRONMENT}",
                self.environment.len()
            ));
        }
        if self.environment.iter().any(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        }) {
            return Err("an environment variable that no process can have".into());
        }
        if self.reuse.function.len() > content::MAX_FUNCTION {
            return Err(format!(
                "the function's name has {} bytes, the bound is {}",
                self.reuse.function.len(),
                content::MAX_FUNCTION
            ));
        }
        if self.group.len() > MAX_GROUP {
            return Err(format!(
                "the group's name has {} bytes, the bound is {MAX_GROUP}",
                self.group.len()
            ));
        }
        if self
            .vgpu
            .share_percent
            .is_some_and(|share| share == 0 || share > 100)
        {
            return Err("the compute share must be 1 to 100 percent".into());
        }
        Ok(())
    }
}
