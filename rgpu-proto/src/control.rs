//! Messages beside the data path: broker and worker over their socket pair, and the broker's events to a client over its control connection.
//! Each is `{len: u32 little-endian, bincode}`; [`Decoder`] takes bytes as they come.

use crate::adoption;
use crate::codec::{self, CodecError};
use crate::handshake::{Hello, Purpose, SessionSecret};
use crate::ipc::LoanSecret;
use crate::monitor::{SessionSample, Sharing};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Bound of a message's body: a `Hello`, the bytes a client pipelined behind it, and a little.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// Of the messages between a broker and a worker that has a session. To be raised with every change of [`ToWorker`], [`FromWorker`] and what is in them: a worker
/// that outlives its broker talks to the next one, which may be of another release, only where both have the same.
pub const LAYOUT: u32 = 3;
/// Bytes a client may have pipelined behind its `Hello` before the broker passes the connection on.
pub const MAX_LEFTOVER: usize = 64 * 1024;
/// Longest reason text; longer ones are cut.
pub const MAX_REASON: usize = 1024;

/// A connection handed to a worker; the data socket travels with it (SCM_RIGHTS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The session, unique while the broker lives.
    pub session: u64,
    /// What the client shows on its control connection.
    pub secret: SessionSecret,
    /// Whose session it is.
    pub tenant: String,
    /// Bytes of device memory that the vGPU may hold, over all devices; `None`: the device's own limit.
    pub memory_limit: Option<u64>,
    /// Compute share in percent; `None`: no cap.
    pub share_percent: Option<u32>,
    /// The vGPU that the session has, alone or with others of its tenant; unique like `session`.
    pub vgpu: u64,
    /// The devices of the host that the session sees, by the driver's ordinals; empty: all. The worker's driver has been told so already.
    pub devices: Vec<u32>,
    /// Of device time, against other vGPUs' weights; at least 1.
    pub weight: u32,
    /// Most device time in percent of the device; `None`: as much as nobody else wants.
    pub cap_percent: Option<u32>,
    /// Device time in ms that a capped vGPU may save up.
    pub burst_ms: u32,
    /// Which vGPUs go first.
    pub priority: Priority,
    /// Longest that a kernel may take.
    pub kernel_time_limit_ms: Option<u32>,
    /// Bytes of host memory that the worker may hold.
    pub host_memory_limit: Option<u64>,
    /// The vGPU's memory may be moved to the host while it is idle.
    pub overcommit: bool,
    /// The protocol version that was agreed on.
    pub version: u16,
    /// The client's greeting, without its token.
    pub hello: Hello,
    /// Bytes that followed the greeting.
    pub leftover: Vec<u8>,
    /// The socket is a relay's: the client is elsewhere, and descriptors do not reach it.
    pub relayed: bool,
    /// Bytes of content that the session may leave for later ones.
    pub keep: u64,
    /// The session asks for leases of devices ([`FromWorker::Want`]); otherwise it uses them as it likes.
    pub time_sharing: bool,
    /// Which user's the worker becomes; `None`: it stays what it is.
    pub user: Option<u32>,
}

impl Assign {
    /// Whether the session's memory takes part in being moved away: it counts what it has on its one device in room that the broker gives.
    pub fn may_move(&self) -> bool {
        let is_session = self.hello.purpose == Purpose::Data;
        is_session && self.overcommit && self.time_sharing && self.devices.len() == 1
    }
}

/// Who goes first for device time. In the order of the list the last goes first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// When nobody else wants the device.
    Batch,
    /// As a rule.
    #[default]
    Normal,
    /// Short jobs that somebody waits for.
    Latency,
}

/// A device as a worker's driver describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// As the driver calls it.
    pub name: String,
    /// The driver's, which stays the same.
    pub uuid: [u8; 16],
    /// As `0000:00:00.0`.
    pub pci_bus_id: String,
    /// Bytes of its memory.
    pub memory: u64,
}

impl HostDevice {
    /// As CUDA_VISIBLE_DEVICES takes it.
    pub fn uuid_text(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        format!("GPU-{a}-{b}-{c}-{d}-{e}")
    }
}

/// Broker to worker. The socket's end means that the broker is gone: the worker ends, unless it has been told to [outlive](ToWorker::Outlive) it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Serve this connection.
    Assign(Box<Assign>),
    /// End the session with this result (CUresult) and reason.
    End {
        /// CUresult for the client.
        result: u32,
        /// In words.
        reason: String,
    },
    /// Send [`FromWorker::Usage`] now.
    Report,
    /// The answer to [`FromWorker::Neighbours`].
    Neighbours(Vec<SessionSample>),
    /// A session of the same tenant wants what this secret stands for: a [`crate::ipc::Loan`] over the socket that comes with this, or its end, where
    /// there is nothing of the kind.
    Lend {
        /// Of the handle.
        secret: LoanSecret,
    },
    /// The session's bulk connection comes with this.
    Bulk,
    /// The answer to [`FromWorker::Borrow`], with a socket to the session's worker if there is such a session.
    Lender {
        /// Of the question.
        number: u64,
        /// Whether a socket comes with this.
        found: bool,
    },
    /// Before [`ToWorker::Assign`]: content that earlier sessions have left, in a sealed file that comes with this.
    Content {
        /// As the broker counts them.
        number: u64,
    },
    /// Before [`ToWorker::Assign`]: the page in which the sessions of the vGPU count what they hold, in a sealed file that comes with this.
    Ledger {
        /// Which of its rows is the session's own.
        row: u32,
    },
    /// The answer to [`FromWorker::Sharing`].
    Sharing(Sharing),
    /// The session has the device's lease from now on: it may put work there.
    Lease {
        /// Ordinal.
        device: u32,
        /// For so many µs, and no longer than it has work; `None`: until [`ToWorker::Yield`].
        slice_us: Option<u64>,
        /// Others use the device too: little may be under way at once.
        shared: bool,
    },
    /// The lease is to end when the session has no work for the device, or so many µs have passed; [`FromWorker::Yielded`] tells that it has.
    Yield {
        /// Ordinal.
        device: u32,
        /// 0: when what is under way is done.
        within_us: u64,
    },
    /// Before [`ToWorker::Assign`]: the session is to go on when the broker is gone, until the next one comes to the socket that the worker has with
    /// this, on which it need only accept.
    Outlive(Box<Outlive>),
    /// The session's memory is to leave its device for the file that comes with this, which has room for all of it, if the session has done nothing for so
    /// long. [`FromWorker::Away`] or [`FromWorker::Stays`] answers.
    PutAway {
        /// 0: whatever it does.
        idle_us: u64,
        /// Whether the file is on disk.
        on_disk: bool,
    },
    /// The answer to [`FromWorker::NeedRoom`]: the session may have so much more on its device; 0: there will never be so much.
    Room {
        /// More than before.
        bytes: u64,
    },
}

/// How a session goes on without its broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlive {
    /// Its number.
    pub session: u64,
    /// By which its worker and a broker know each other.
    pub key: adoption::Key,
    /// For the next broker; nothing for the worker to read.
    pub ticket: Vec<u8>,
    /// How long that one is waited for.
    pub seconds: u32,
}

/// Messages with some of which a descriptor travels.
pub trait Carries {
    /// Whether one travels with this message.
    fn carries_descriptor(&self) -> bool;
}

impl Carries for ToWorker {
    fn carries_descriptor(&self) -> bool {
        match self {
            ToWorker::Assign(_)
            | ToWorker::Lend { .. }
            | ToWorker::Bulk
            | ToWorker::Content { .. }
            | ToWorker::Ledger { .. }
            | ToWorker::PutAway { .. }
            | ToWorker::Outlive(_) => true,
            ToWorker::Lender { found, .. } => *found,
            ToWorker::End { .. }
            | ToWorker::Report
            | ToWorker::Neighbours(_)
            | ToWorker::Sharing(_)
            | ToWorker::Lease { .. }
            | ToWorker::Yield { .. }
            | ToWorker::Room { .. } => false,
        }
    }
}

impl Carries for FromWorker {
    fn carries_descriptor(&self) -> bool {
        matches!(self, FromWorker::Left { kept: true, .. })
    }
}

/// What a session has used so far. All counters only grow, except `memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Commands served.
    pub calls: u64,
    /// Commands that the client waited for.
    pub waits: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Kernel launches.
    pub launches: u64,
    /// Bytes of device memory held now, by device.
    pub memory: Vec<u64>,
    /// How much of that the client keeps for its program's next allocations.
    pub unused: Vec<u64>,
    /// Most bytes held at once.
    pub memory_peak: u64,
    /// Device time in µs, over all devices.
    pub gpu_us: u64,
    /// MiB of device memory held, times the microseconds for which they were.
    pub memory_mib_us: u64,
}

impl Usage {
    /// Bytes of device memory that the program has, as its cuMemGetInfo says, over all devices.
    pub fn allocated(&self) -> u64 {
        let unused = self.unused.iter().chain(std::iter::repeat(&0));
        let own = self.memory.iter().zip(unused);
        let own = own.map(|(held, unused)| held.saturating_sub(*unused));
        own.fold(0, u64::saturating_add)
    }
}

/// Worker to broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The driver is loaded; an `Assign` may come.
    Ready,
    /// The client has its `Welcome`.
    Started,
    /// Sent now and then, when asked for, and before `Ended`.
    Usage(Usage),
    /// A monitor's worker wants to know its tenant's sessions.
    Neighbours,
    /// The client opens a handle of another session's; [`ToWorker::Lender`] answers.
    Borrow {
        /// Returned with the answer.
        number: u64,
        /// Whose handle it is, by what it says.
        session: u64,
        /// Of the handle, for that session's worker.
        secret: LoanSecret,
    },
    /// What the session leaves for later ones, before its end.
    Left {
        /// Numbers of what it was given and has used.
        used: Vec<u64>,
        /// Whether a sealed file of content comes with this.
        kept: bool,
    },
    /// The session is over; the worker exits after this.
    Ended {
        /// CUresult; 0 when the client closed in good order.
        result: u32,
        /// In words.
        reason: String,
    },
    /// Before [`FromWorker::Ready`]: what the driver has, of which the worker may see a part only.
    Devices(Vec<HostDevice>),
    /// A monitor's worker wants to know which of its tenant's sessions have a vGPU together.
    Sharing,
    /// The session has work for the device, and no lease. Said once until one comes.
    Want {
        /// Ordinal.
        device: u32,
    },
    /// The session's lease is over, and the device has done what it was given.
    Yielded {
        /// Ordinal.
        device: u32,
        /// How long the device was at work for it.
        used_us: u64,
        /// As [`FromWorker::Want`] says.
        wants: bool,
    },
    /// The session needs so much more room on its device. A later one takes the place of one that has not been answered.
    NeedRoom {
        /// 0: not any more.
        bytes: u64,
        /// The driver has refused what there was room for.
        refused: bool,
    },
    /// The session has given so much room back.
    GaveRoom {
        /// Less than before.
        bytes: u64,
    },
    /// What the session holds of its device beyond what it has asked room for: that does not move.
    Beside {
        /// In all.
        bytes: u64,
    },
    /// The session's memory has left the device, and its room is given back. What it has asked for, if it has, it needs on top of that.
    Away {
        /// That is in the file now.
        moved: u64,
        /// Room that it had and did not use.
        spare: u64,
    },
    /// It has not: the session is at work, or there was nothing to be moved.
    Stays {
        /// It will be the same for a while.
        stuck: bool,
    },
    /// The session's memory is on the device again, and the file is gone.
    Back,
    /// To a broker that has taken the session over, first of all: how things are.
    Holds {
        /// That it has on the device.
        room: u64,
        /// As [`FromWorker::Beside`] says.
        beside: u64,
        /// In a file.
        away: u64,
        /// Whether the file is on disk.
        on_disk: bool,
        /// As [`FromWorker::NeedRoom`] says.
        needs: u64,
    },
}

/// Broker to client, over the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlEvent {
    /// The session's worker is gone. The broker closes the connection after it.
    Ended {
        /// The CUresult that calls return from now on; 0 when the client closed in good order.
        result: u32,
        /// In words.
        reason: String,
    },
}

/// Encodes a message with its length in front. Fails only if it breaks [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let body = codec::encode::<MAX_MESSAGE, T>("control message", message)?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Cuts a reason to [`MAX_REASON`] bytes at a character boundary, so that every message fits its bound.
pub fn reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_REASON {
        let mut end = MAX_REASON;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Puts messages together from bytes as they arrive. After an error the stream is useless.
#[derive(Debug)]
pub struct Decoder<T> {
    buffer: Vec<u8>,
    message: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Decoder {
            buffer: Vec::new(),
            message: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes. The caller drains [`Self::pull`] after each push, so the buffer holds at most one message and what was pushed last.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` if more bytes are needed.
    pub fn pull(&mut self) -> Result<Option<T>, CodecError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > MAX_MESSAGE {
            return Err(CodecError::TooLarge {
                what: "control message",
                len,
                bound: MAX_MESSAGE,
            });
        }
        let Some(body) = self.buffer.get(4..4 + len) else {
            return Ok(None);
        };
        let message = codec::decode::<MAX_MESSAGE, T>("control message", body)?;
        self.buffer.drain(..4 + len);
        Ok(Some(message))
    }

    /// True if no part of a message is waiting for the rest: the end of the stream is a clean one here.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_ready_is_not_the_programs() {
        let usage = Usage {
            memory: vec![100, 50, 7],
            unused: vec![30, 60],
            ..Usage::default()
        };
        assert_eq!(usage.allocated(), 77);
    }
}
