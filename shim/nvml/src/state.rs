//! NVML's life: a count of inits, one connection to each server, and its last sample.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::*;
use rgpu_client::monitor::{Monitor, MonitorError};
use rgpu_client::{Config, log};
use rgpu_proto::monitor::{Board, Boards, DeviceSample, Readings, Sample, Sharing};
use rgpu_proto::snapshot::{DeviceSnapshot, PeerSnapshot};

pub const SUCCESS: nvmlReturn_t = nvmlReturn_enum_NVML_SUCCESS;
pub const UNINITIALIZED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_UNINITIALIZED;
pub const INVALID_ARGUMENT: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
pub const NOT_SUPPORTED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
pub const NOT_FOUND: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
pub const INSUFFICIENT_SIZE: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
pub const DRIVER_NOT_LOADED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED;
pub const GPU_IS_LOST: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;
pub const VERSION_MISMATCH: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
pub const UNKNOWN: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_UNKNOWN;

/// How long what the hardware reads is good for. Memory and processes are asked for each time.
const FRESH: Duration = Duration::from_millis(100);

/// A result by NVML's codes.
pub type Answer<T> = Result<T, nvmlReturn_t>;

/// A server, and what it has said last.
struct Watched {
    monitor: Monitor,
    sample: Option<(Instant, Sample)>,
    sharing: Option<(Instant, Sharing)>,
    boards: Option<(Instant, Boards)>,
    /// The connection has been lost.
    lost: bool,
}

pub struct Open {
    inits: u32,
    /// A forked child has to begin anew.
    pid: u32,
    servers: Vec<Watched>,
    /// The listed devices in NVML's order, which is that of the bus: places in `servers`, and CUDA's ordinals there.
    order: Vec<(usize, usize)>,
}

static STATE: Mutex<Option<Open>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Open>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a call, whatever state NVML is in.
pub fn anywhere(body: impl FnOnce() -> Answer<()>) -> nvmlReturn_t {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

/// Runs a call between nvmlInit and nvmlShutdown.
pub fn enter(body: impl FnOnce(&mut Open) -> Answer<()>) -> nvmlReturn_t {
    anywhere(|| match &mut *lock() {
        Some(open) if open.pid == std::process::id() => body(open),
        _ => Err(UNINITIALIZED),
    })
}

pub fn init() -> Answer<()> {
    let mut state = lock();
    match &mut *state {
        Some(open) if open.pid == std::process::id() => {
            open.inits += 1;
            if open.servers.iter().any(|server| server.lost) {
                *open = connect(open.inits)?;
            }
        }
        // Nothing was ever said on a connection that a parent process had.
        other => *other = Some(connect(1)?),
    }
    Ok(())
}

pub fn shutdown() -> Answer<()> {
    let mut state = lock();
    let Some(open) = state.as_mut().filter(|it| it.pid == std::process::id()) else {
        return Err(UNINITIALIZED);
    };
    open.inits -= 1;
    if open.inits == 0 {
        *state = None;
    }
    Ok(())
}

fn connect(inits: u32) -> Answer<Open> {
    let say = |error: String| {
        log::error(&format!("no NVML: {error}"));
        DRIVER_NOT_LOADED
    };
    let config = Config::from_environment().map_err(|error| say(error.to_string()))?;
    let list = &config.servers;
    let mut servers = Vec::new();
    for server in &list.servers {
        let monitor =
            Monitor::connect(&config, server).map_err(|error| say(format!("{server}: {error}")))?;
        servers.push(Watched {
            monitor,
            sample: None,
            sharing: None,
            boards: None,
            lost: false,
        });
    }
    let counts: Vec<usize> = servers.iter().map(|it| it.devices().len()).collect();
    let mut order = list
        .devices(&counts)
        .map_err(|error| say(format!("RGPU_SERVERS: {error}")))?;
    let bus = |&(server, ordinal): &(usize, usize)| &servers[server].devices()[ordinal].pci_bus_id;
    order.sort_by(|a, b| bus(a).cmp(bus(b)));
    Ok(Open {
        inits,
        pid: std::process::id(),
        servers,
        order,
    })
}

/// A device, by its place in NVML's order.
#[derive(Clone, Copy)]
pub struct Device(usize);

impl Device {
    pub fn index(self) -> usize {
        self.0
    }

    /// Handles are places, counted from 1 so that none is NULL.
    pub fn handle(self) -> nvmlDevice_t {
        std::ptr::without_provenance_mut(self.0 + 1)
    }
}

impl Watched {
    fn devices(&self) -> &[DeviceSnapshot] {
        &self.monitor.welcome.snapshot.devices
    }

    /// What the server says, or has said no longer ago than that.
    fn not_older_than(&mut self, age: Duration) -> Answer<&Sample> {
        let Watched { monitor, lost, .. } = self;
        lately(&mut self.sample, lost, age, || monitor.sample())
    }

    fn sharing(&mut self) -> Answer<&Sharing> {
        let Watched { monitor, lost, .. } = self;
        lately(&mut self.sharing, lost, FRESH, || monitor.sharing())
    }

    fn boards(&mut self) -> Answer<&Boards> {
        let Watched { monitor, lost, .. } = self;
        lately(&mut self.boards, lost, FRESH, || monitor.boards())
    }
}

/// What was said no longer ago than that, or is said now.
fn lately<'a, T>(
    said: &'a mut Option<(Instant, T)>,
    lost: &mut bool,
    age: Duration,
    ask: impl FnOnce() -> Result<T, MonitorError>,
) -> Answer<&'a T> {
    if *lost {
        return Err(GPU_IS_LOST);
    }
    if !matches!(said, Some((at, _)) if at.elapsed() < age) {
        let answer = ask().map_err(|error| {
            log::error(&format!("NVML: {error}"));
            *lost = true;
            GPU_IS_LOST
        })?;
        *said = Some((Instant::now(), answer));
    }
    said.as_ref().map(|(_, said)| said).ok_or(GPU_IS_LOST)
}

impl Open {
    pub fn devices(&self) -> impl Iterator<Item = Device> {
        (0..self.order.len()).map(Device)
    }

    pub fn device(&self, handle: nvmlDevice_t) -> Answer<Device> {
        let place = handle.addr().checked_sub(1);
        self.at(place.ok_or(INVALID_ARGUMENT)?)
    }

    pub fn at(&self, index: usize) -> Answer<Device> {
        match index < self.order.len() {
            true => Ok(Device(index)),
            false => Err(INVALID_ARGUMENT),
        }
    }

    /// CUDA's ordinal of a device on its server, before CUDA_VISIBLE_DEVICES.
    pub fn ordinal(&self, device: Device) -> usize {
        self.order[device.0].1
    }

    fn server(&self, device: Device) -> &Watched {
        &self.servers[self.order[device.0].0]
    }

    pub fn about(&self, device: Device) -> &DeviceSnapshot {
        &self.server(device).devices()[self.ordinal(device)]
    }

    pub fn attribute(&self, device: Device, attribute: i32) -> Answer<i32> {
        self.about(device).attribute(attribute).ok_or(NOT_SUPPORTED)
    }

    /// Of two devices; `None` for one and itself, or if they are of different servers.
    pub fn peer(&self, one: Device, other: Device) -> Option<&PeerSnapshot> {
        let [(server, from), (of, to)] = [one, other].map(|device| self.order[device.0]);
        let peers = &self.servers[server].monitor.welcome.snapshot.p2p;
        peers
            .iter()
            .find(|pair| server == of && (pair.from, pair.to) == (from as u32, to as u32))
    }

    pub fn are_apart(&self, one: Device, other: Device) -> bool {
        self.order[one.0].0 != self.order[other.0].0
    }

    /// Bytes that a session of this tenant's may hold on the device's server.
    pub fn limit(&self, device: Device) -> Option<u64> {
        self.server(device).monitor.welcome.limits.memory
    }

    /// What all servers serve: the oldest of their drivers' versions of CUDA.
    pub fn driver_version(&self) -> i32 {
        let servers = self.servers.iter();
        let versions = servers.map(|it| it.monitor.welcome.snapshot.driver_version);
        versions.min().unwrap_or(0)
    }

    /// The first server's.
    pub fn host_driver(&mut self) -> Answer<String> {
        let first = self.servers.first_mut().ok_or(UNKNOWN)?;
        Ok(first.not_older_than(FRESH)?.host_driver.clone())
    }

    fn sample(&mut self, device: Device, age: Duration) -> Answer<&Sample> {
        self.servers[self.order[device.0].0].not_older_than(age)
    }

    /// Which sessions have a vGPU together on the device's server.
    pub fn sharing(&mut self, device: Device) -> Answer<&Sharing> {
        self.servers[self.order[device.0].0].sharing()
    }

    /// The state of now of the device's server.
    pub fn now(&mut self, device: Device) -> Answer<&Sample> {
        self.sample(device, Duration::ZERO)
    }

    pub fn lately(&mut self, device: Device) -> Answer<&Sample> {
        self.sample(device, FRESH)
    }

    pub fn device_now(&mut self, device: Device) -> Answer<DeviceSample> {
        let ordinal = self.ordinal(device);
        let sample = self.now(device)?;
        Ok(sample.devices.get(ordinal).cloned().unwrap_or_default())
    }

    /// What the hardware reads, if the server can tell.
    pub fn readings(&mut self, device: Device) -> Answer<Readings> {
        let ordinal = self.ordinal(device);
        let sample = self.lately(device)?;
        let device = sample.devices.get(ordinal);
        device
            .and_then(|device| device.readings.clone())
            .ok_or(NOT_SUPPORTED)
    }

    /// What the server's host says of the board, if it can tell.
    pub fn board(&mut self, device: Device) -> Answer<Board> {
        let (server, ordinal) = self.order[device.0];
        let boards = self.servers[server].boards()?;
        boards
            .0
            .get(ordinal)
            .cloned()
            .flatten()
            .ok_or(NOT_SUPPORTED)
    }
}
