//! What the daemon tells, and what callers get: the same plain data. A value that is not known is absent, and never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Role;

/// One thing that must be so for the daemon to take sessions in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// Why it is not so, or what there is to know.
    pub detail: String,
}

/// A session that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub session: u64,
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What the client calls its function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The lease whose token has let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    pub program: String,
    /// The client's machine, as the client names it.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// Address of the connection.
    pub peer: String,
    pub state: SessionState,
    /// Seconds since it was let in.
    pub age_seconds: f64,
    /// Ordinals of the devices on which it holds memory, or where it was placed.
    pub devices: Vec<u32>,
    /// Bytes of device memory that its program has, over all devices, as its cuMemGetInfo says.
    pub memory_bytes: u64,
    /// What its client keeps besides for the program's next allocations.
    pub memory_unused_bytes: u64,
    pub memory_peak_bytes: u64,
    /// Bytes that it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Percent of a device that it may compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<u32>,
    /// Device time that it has used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_seconds: Option<f64>,
    pub calls: u64,
    /// Calls that the client has waited for.
    pub waits: u64,
    /// Kernel launches.
    pub launches: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    #[default]
    Running,
    /// Its client is gone.
    Ending,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    pub sessions: Vec<Session>,
    /// Sessions beyond the limit of the answer.
    pub left_out: usize,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Of this tenant only.
    pub tenant: Option<String>,
    /// Most sessions of the answer: 1000, unless told otherwise; at most 10000.
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EndQuery {
    /// What the session's client is told, up to 200 characters.
    pub reason: Option<String>,
}

/// A session that has been asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    pub session: u64,
    pub tenant: String,
    pub reason: String,
}

/// A tenant, and what its sessions have together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    pub tenant: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    pub sessions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_limit: Option<u32>,
    /// Clients that wait for a place.
    pub waiting: u32,
    pub leases: u32,
    /// Bytes of device memory that its sessions hold.
    pub memory_bytes: u64,
    /// Bytes that one of its sessions (or vGPUs) may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Device time since the daemon's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_seconds: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantList {
    pub tenants: Vec<Tenant>,
}

/// A GPU, or a software device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub ordinal: u32,
    pub name: String,
    /// `GPU-…`, as nvidia-smi writes it.
    pub uuid: String,
    pub pci_bus_id: String,
    pub memory_total_bytes: u64,
    /// Bytes that nobody holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// Bytes that this daemon's sessions hold.
    pub memory_held_bytes: u64,
    /// Sessions that hold memory there, or were placed there.
    pub sessions: u32,
    /// Percent of the time in which a kernel ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readings: Option<Readings>,
}

/// What NVML reads off the hardware; absent where it has no answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Readings {
    /// Percent of the time in which memory was read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_utilization_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
    /// Since the driver was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_millijoules: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_clock_mhz: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_percent: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    pub devices: Vec<Device>,
}

/// Clients that wait for a place, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// How many wait, of all tenants.
    pub length: u32,
    /// Those that the caller may see.
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// From 1 on.
    pub position: u32,
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    pub waited_seconds: f64,
    /// What there is none of for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// What a vGPU of this name has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    pub profile: String,
    /// Device memory; absent: as much as the device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Against other vGPUs of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Percent of the device that it never goes beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Names of the tenants that have it.
    pub tenants: Vec<String>,
    /// How many more of it there is room for now, and no more than the caller may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u32>,
    /// How many of it there could be at once, if nothing else ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProfileList {
    pub profiles: Vec<Profile>,
}

/// The configuration has been read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// What is different from now on, a line each.
    pub changed: Vec<String>,
    /// What is different in the file, but only counts after a restart.
    pub after_restart: Vec<String>,
}

/// A vGPU that is wanted ahead of its sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseWish {
    /// A profile of the caller's; its own, unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Who holds it, in the caller's words: 1 to 256 characters. By it a lease is found again.
    pub holder: String,
    /// After so many seconds without [`RenewLease`] it ends: 1 to 86400.
    pub ttl_seconds: u64,
}

/// A lease that has just been made: the only time that its token is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantedLease {
    pub id: String,
    /// What sessions of the vGPU show, as `RGPU_TOKEN`.
    pub token: String,
    /// Where they find the server, as `RGPU_SERVERS`.
    pub server: String,
    /// Seconds since 1970 at which the lease ends, unless it is renewed.
    pub expires: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewLease {
    /// From now on; as it was asked for, unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    pub id: String,
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    pub holder: String,
    pub ttl_seconds: u64,
    /// Seconds since 1970 at which it ends, unless it is renewed.
    pub expires: u64,
    /// Sessions that its token has let in and that still run.
    pub sessions: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LeaseList {
    pub leases: Vec<Lease>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// Those of this holder only.
    pub holder: Option<String>,
    /// Those of this tenant only.
    pub tenant: Option<String>,
}

/// What metrics are made of. Everything that is called a total has only grown since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Of this machine.
    pub hostname: String,
    /// Of the host's GPU driver, as 580.159.04; empty where there is none.
    pub host_driver: String,
    pub uptime_seconds: f64,
    pub tenants: Vec<TenantFacts>,
    /// Clients turned away, by the name of the refusal's code.
    pub refused_total: BTreeMap<&'static str, u64>,
    /// Sessions that are over, by the name of how they ended.
    pub ended_total: BTreeMap<&'static str, u64>,
    /// How long clients waited that were let in.
    pub admission: Waits,
    /// Clients that wait for a place.
    pub queue: u32,
    pub sessions_limit: u32,
    /// Connections that have not been let in.
    pub greeting: u32,
    pub monitors: u32,
    /// Workers that wait for a session.
    pub workers_ready: u32,
    pub workers_started_total: u64,
    /// Workers that died without a word, or had to be killed.
    pub workers_lost_total: u64,
    /// Relay processes that run, and those that have died since the start.
    pub relays: u32,
    pub relays_lost_total: u64,
    /// The device went from one session to another.
    pub lease_switches_total: Option<u64>,
    pub leases: BTreeMap<String, u32>,
    pub devices: Vec<Device>,
    /// Times that the devices could not be asked.
    pub device_errors_total: u64,
    /// Where accounts are kept.
    pub accounts: Option<AccountsFacts>,
}

/// How the accounts are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountsFacts {
    /// Nothing can be written at present.
    pub failing: bool,
    /// Sessions that have ended and wait to be written.
    pub waiting: u64,
    /// Sessions whose end was never written.
    pub lost_total: u64,
    /// Alerts that hold now, by kind.
    pub alerts: BTreeMap<&'static str, usize>,
}

/// Of one tenant and profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantFacts {
    pub tenant: String,
    pub profile: String,
    pub sessions: u32,
    pub admitted_total: u64,
    pub memory_bytes: u64,
    /// All that its sessions may hold together; `None`: no bound but the device's.
    pub memory_limit_bytes: Option<u64>,
    pub gpu_seconds_total: Option<f64>,
    pub session_seconds_total: f64,
    pub calls_total: u64,
    pub launches_total: u64,
    pub bytes_in_total: u64,
    pub bytes_out_total: u64,
}

/// A histogram of seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waits {
    pub sum: f64,
    pub count: u64,
    /// How many were in each of [`Waits::BOUNDS`] and not in the one before, and how many beyond.
    pub buckets: [u64; 9],
}

impl Waits {
    /// Upper ends in seconds.
    pub const BOUNDS: [f64; 8] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

    pub fn add(&mut self, seconds: f64) {
        let at = Waits::BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[at.unwrap_or(Waits::BOUNDS.len())] += 1;
        self.sum += seconds;
        self.count += 1;
    }
}
