//! NVML's life: a count of inits, one connection, and the last sample.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::*;
use rgpu_client::monitor::Monitor;
use rgpu_client::{Config, log};
use rgpu_proto::monitor::{DeviceSample, Readings, Sample};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};

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

pub struct Open {
    inits: u32,
    /// A forked child has to begin anew.
    pid: u32,
    monitor: Monitor,
    /// NVML's order is that of the bus: ordinals of CUDA.
    order: Vec<usize>,
    sample: Option<(Instant, Sample)>,
    /// The connection has been lost.
    lost: bool,
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
            if open.lost {
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
    let monitor = Monitor::connect(&config).map_err(|error| say(error.to_string()))?;
    let devices = &monitor.welcome.snapshot.devices;
    let mut order: Vec<usize> = (0..devices.len()).collect();
    order.sort_by(|&a, &b| devices[a].pci_bus_id.cmp(&devices[b].pci_bus_id));
    Ok(Open {
        inits,
        pid: std::process::id(),
        monitor,
        order,
        sample: None,
        lost: false,
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

impl Open {
    pub fn snapshot(&self) -> &Snapshot {
        &self.monitor.welcome.snapshot
    }

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

    /// CUDA's ordinal of a device, before CUDA_VISIBLE_DEVICES.
    pub fn ordinal(&self, device: Device) -> usize {
        self.order[device.0]
    }

    pub fn about(&self, device: Device) -> &DeviceSnapshot {
        &self.snapshot().devices[self.ordinal(device)]
    }

    pub fn attribute(&self, device: Device, attribute: i32) -> Answer<i32> {
        self.about(device).attribute(attribute).ok_or(NOT_SUPPORTED)
    }

    /// Bytes that a session of this tenant's may hold.
    pub fn limit(&self) -> Option<u64> {
        self.monitor.welcome.limits.memory
    }

    /// The state of now.
    pub fn now(&mut self) -> Answer<&Sample> {
        self.not_older_than(Duration::ZERO)
    }

    fn not_older_than(&mut self, age: Duration) -> Answer<&Sample> {
        if self.lost {
            return Err(GPU_IS_LOST);
        }
        let fresh = matches!(&self.sample, Some((at, _)) if at.elapsed() < age);
        if !fresh {
            let sample = self.monitor.sample().map_err(|error| {
                log::error(&format!("NVML: {error}"));
                self.lost = true;
                GPU_IS_LOST
            })?;
            self.sample = Some((Instant::now(), sample));
        }
        self.sample
            .as_ref()
            .map(|(_, sample)| sample)
            .ok_or(GPU_IS_LOST)
    }

    pub fn lately(&mut self) -> Answer<&Sample> {
        self.not_older_than(FRESH)
    }

    pub fn device_now(&mut self, device: Device) -> Answer<DeviceSample> {
        let ordinal = self.ordinal(device);
        let sample = self.now()?;
        Ok(sample.devices.get(ordinal).cloned().unwrap_or_default())
    }

    /// What the hardware reads, if the server can tell.
    pub fn readings(&mut self, device: Device) -> Answer<Readings> {
        let ordinal = self.ordinal(device);
        let sample = self.lately()?;
        let device = sample.devices.get(ordinal);
        device
            .and_then(|device| device.readings.clone())
            .ok_or(NOT_SUPPORTED)
    }
}
