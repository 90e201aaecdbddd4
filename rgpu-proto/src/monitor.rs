//! What a monitor asks and hears: the state of the devices and of its tenant's sessions, for NVML. Messages are framed as in
//! [`crate::control`].

use serde::{Deserialize, Serialize};

use crate::snapshot::MAX_DEVICES;

/// Most sessions that a sample tells of; what else there is is left out.
pub const MAX_SESSIONS: usize = 512;

/// Monitor to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// [`Sample`], please.
    Sample,
    /// [`Boards`], please. Only for servers that speak [`crate::handshake::VERSION_3`].
    Boards,
    /// [`Sharing`], please. Only for servers that speak [`crate::handshake::VERSION_5`].
    Sharing,
}

/// Which vGPU each session of the monitor's tenant has: (session, vGPU). What one vGPU's sessions hold counts against one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing(pub Vec<(u64, u64)>);

/// By device, in ordinal order; `None` where the host's own NVML does not know the device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boards(pub Vec<Option<Board>>);

/// What NVML says of a board: seldom asked for, and seldom another. `None` where it has no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// As printed on it.
    pub serial: Option<String>,
    /// As printed on it.
    pub part_number: Option<String>,
    /// Version of its firmware.
    pub vbios: Option<String>,
    /// Whether the driver stays loaded while nobody uses the device.
    pub persistence: Option<bool>,
    /// Bytes of the window through which the host reaches the device's memory: all, and what nobody holds.
    pub bar1: Option<(u64, u64)>,
    /// Corrected and uncorrected errors of its memory: since the driver was loaded, and ever.
    pub ecc_errors: [(Option<u64>, Option<u64>); 2],
    /// `nvmlClocksEventReason…`: why the clocks are as they are, and what reasons there may be.
    pub clocks_event_reasons: (Option<u64>, Option<u64>),
    /// Milliwatts.
    pub power_limit_default: Option<u32>,
    /// Milliwatts at least and at most.
    pub power_limit_constraints: Option<(u32, u32)>,
    /// Whether the device could be cut into instances.
    pub knows_mig: bool,
}

/// Everything that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Version of the host's GPU driver, such as `580.159.04`; empty where there is none.
    pub host_driver: String,
    /// In ordinal order, as many as the snapshot has.
    pub devices: Vec<DeviceSample>,
    /// Those of the monitor's tenant.
    pub sessions: Vec<SessionSample>,
}

/// One device now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSample {
    /// Bytes of the device that nobody holds; `None` if the server cannot tell.
    pub free: Option<u64>,
    /// What the host's own NVML says, if it knows the device.
    pub readings: Option<Readings>,
}

/// What NVML reads off the hardware; `None` where it has no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Percent of the last sampling period in which a kernel ran, and in which memory was read or written.
    pub utilization: Option<(u32, u32)>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Degrees Celsius at which the device slows down, and at which it shuts down.
    pub temperature_thresholds: (Option<u32>, Option<u32>),
    /// Milliwatts.
    pub power: Option<u32>,
    /// Milliwatts.
    pub power_limit: Option<u32>,
    /// Millijoules since the driver was loaded.
    pub energy: Option<u64>,
    /// Percent of the fan's full speed.
    pub fan: Option<u32>,
    /// `nvmlPstates_t`.
    pub performance_state: Option<u32>,
    /// MHz now, by `nvmlClockType_t`: graphics, SM, memory, video.
    pub clocks: [Option<u32>; 4],
    /// MHz at most.
    pub max_clocks: [Option<u32>; 4],
    /// Percent of encoder and decoder in use.
    pub codecs: (Option<u32>, Option<u32>),
    /// Link generation and width now.
    pub pcie: (Option<u32>, Option<u32>),
    /// Link generation and width at most.
    pub pcie_max: (Option<u32>, Option<u32>),
    /// KiB/s sent and received.
    pub pcie_throughput: (Option<u32>, Option<u32>),
}

/// One session of the tenant's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSample {
    /// Its number.
    pub session: u64,
    /// As the client has told.
    pub pid: u32,
    /// Name of the client's machine.
    pub host: String,
    /// Name of the program.
    pub program: String,
    /// Bytes that it may hold, over all devices; `None`: no bound but the device's.
    pub limit: Option<u64>,
    /// Bytes that it holds, by device.
    pub memory: Vec<u64>,
    /// How much of that its client keeps for the program's next allocations.
    pub unused: Vec<u64>,
}

impl Boards {
    /// Whether the bounds hold that the rest relies on.
    pub fn is_sound(&self) -> bool {
        self.0.len() <= MAX_DEVICES
    }
}

impl Sharing {
    /// Whether the bounds hold that the rest relies on.
    pub fn is_sound(&self) -> bool {
        self.0.len() <= MAX_SESSIONS
    }
}

impl Sample {
    /// Whether the bounds hold that the rest relies on.
    pub fn is_sound(&self) -> bool {
        self.devices.len() <= MAX_DEVICES
            && self.sessions.len() <= MAX_SESSIONS
            && self
                .sessions
                .iter()
                .all(|it| it.memory.len().max(it.unused.len()) <= MAX_DEVICES)
    }
}
