//! What a vGPU is, what a tenant may have of them, and what a client asks for.

use rgpu_proto::control::Priority;

/// A kind of vGPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Empty where a tenant has none.
    pub name: String,
    /// Bytes of device memory; `None`: as much as the device has.
    pub memory: Option<u64>,
    /// Of device time, against other vGPUs' weights.
    pub weight: u32,
    /// Most device time, in percent of the device; `None`: as much as nobody else wants.
    pub cap_percent: Option<u32>,
    /// Device time in ms that a capped vGPU may save up.
    pub burst_ms: u32,
    /// Sessions of one vGPU at once.
    pub sessions: Option<u32>,
    /// Bytes of host memory of each session's worker.
    pub host_memory: Option<u64>,
    /// Bytes of content that is kept in memory for a tenant; `None`: the server's own setting.
    pub cache: Option<u64>,
    pub kernel_time_limit_ms: Option<u32>,
    pub priority: Priority,
    /// Its memory may be moved to the host while it is idle, so that a device may have more of such than it has memory.
    pub overcommit: bool,
    /// Each vGPU is on one device, where its memory is kept for it. Otherwise it is on all, and nothing is kept.
    pub placed: bool,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            name: String::new(),
            memory: None,
            weight: 100,
            cap_percent: None,
            burst_ms: 0,
            sessions: None,
            host_memory: None,
            cache: None,
            kernel_time_limit_ms: None,
            priority: Priority::Normal,
            overcommit: false,
            placed: false,
        }
    }
}

/// What a tenant may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlement {
    /// What its vGPUs are.
    pub profile: Profile,
    /// vGPUs at once; `None`: as many as the server takes.
    pub vgpus: Option<u32>,
    /// Sessions at once; `None`: as many as the server takes.
    pub sessions: Option<u32>,
}

/// What a client asks for; less than the entitlement, or nothing in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub memory: Option<u64>,
    pub share_percent: Option<u32>,
    /// Sessions of a tenant with the same name here have one vGPU; empty: one of its own.
    pub group: String,
    /// What the session is of; where others of it are, it may find what it needs.
    pub function: String,
}

/// What a session gets. To be handed back to [`crate::Admission::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub vgpu: u64,
    /// Its vGPU's, as it was when that began: memory and cap are what was asked for.
    pub profile: Profile,
    /// Where the vGPU is; `None`: on all devices.
    pub device: Option<u32>,
    /// Of the vGPU's sessions, each has a row of its own.
    pub row: u32,
}

/// Why a session is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the tenant has {limit} sessions, as many as it may")]
    Sessions { limit: u32 },
    #[error("the tenant has {limit} vGPUs, as many as it may")]
    Vgpus { limit: u32 },
    #[error("the vGPU has {limit} sessions, as many as it may")]
    OfVgpu { limit: u32 },
    #[error("the server has {limit} sessions, as many as it takes")]
    Full { limit: u32 },
    #[error("no device has {wanted} MiB left for another vGPU")]
    NoRoom { wanted: u64 },
    #[error("{wanted} MiB of device memory were asked for; the tenant's vGPUs get {limit} MiB")]
    Memory { wanted: u64, limit: u64 },
    #[error("a share of {wanted} % was asked for; the tenant's vGPUs get {limit} %")]
    Share { wanted: u32, limit: u32 },
    #[error("a vGPU of {wanted} MiB fits no device: the largest has {most} MiB")]
    TooLarge { wanted: u64, most: u64 },
}

/// What a denied session would have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Something of its tenant's own: others need not wait for it.
    Own,
    /// A place among the server's sessions.
    Place,
    /// Memory of a device.
    Room,
    /// Nothing that could become free.
    Sense,
}

impl Denied {
    pub fn lacks(&self) -> Lacks {
        match self {
            Denied::Sessions { .. } | Denied::Vgpus { .. } | Denied::OfVgpu { .. } => Lacks::Own,
            Denied::Full { .. } => Lacks::Place,
            Denied::NoRoom { .. } => Lacks::Room,
            Denied::Memory { .. } | Denied::Share { .. } | Denied::TooLarge { .. } => Lacks::Sense,
        }
    }
}

const MIB: u64 = 1 << 20;

pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

impl Request {
    /// What the client's vGPU is by what it asks for, within `limit`.
    pub(crate) fn within(&self, limit: &Profile) -> Result<Profile, Denied> {
        let memory = match (self.memory, limit.memory) {
            (Some(wanted), Some(limit)) if wanted > limit => {
                return Err(Denied::Memory {
                    wanted: mib(wanted),
                    limit: mib(limit),
                });
            }
            (wanted, limit) => wanted.or(limit),
        };
        let cap_percent = match (self.share_percent, limit.cap_percent) {
            (Some(wanted), Some(limit)) if wanted > limit => {
                return Err(Denied::Share { wanted, limit });
            }
            (wanted, limit) => wanted.or(limit),
        };
        Ok(Profile {
            memory,
            cap_percent,
            ..limit.clone()
        })
    }
}
