//! Memory of a device may still hold what another tenant has left there, as CUDA promises nothing of it. So it is cleared before the session can
//! use it, by the device, in a stream of its own: nothing of the session's is waited for.

use std::collections::HashSet;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use crate::driver::Driver;
use crate::memory_map::Range;

const NON_BLOCKING: u32 = 1;
/// CU_STREAM_CAPTURE_MODE_RELAXED: a capture that another thread makes does not mind.
const RELAXED: u32 = 2;
/// Devices that are no accelerators.
const OTHERS: &[&str] = &[
    "console", "full", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero",
];

/// Descriptors that this process has open, and the devices' files among them.
pub fn open_devices() -> HashSet<(RawFd, PathBuf)> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let files = entries.flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let file = std::fs::read_link(entry.path()).ok()?;
        is_device(&file).then_some((number, file))
    });
    files.collect()
}

fn is_device(file: &Path) -> bool {
    let Ok(name) = file.strip_prefix("/dev") else {
        return false;
    };
    let first = name.iter().next().unwrap_or_default();
    !OTHERS.iter().any(|other| first == *other)
}

/// What has to be cleared, and by whom.
pub struct Clearing {
    wanted: bool,
    due: Mutex<Vec<(i32, Range)>>,
    is_due: AtomicBool,
}

impl Clearing {
    /// Not `wanted`: the driver gives pages of the system's, which are clear.
    pub fn new(wanted: bool) -> Clearing {
        Clearing {
            wanted,
            due: Mutex::default(),
            is_due: AtomicBool::new(false),
        }
    }

    fn due(&self) -> MutexGuard<'_, Vec<(i32, Range)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is cleared as soon as there is a context on its device.
    pub fn later(&self, device: i32, range: Range) {
        if self.wanted {
            self.due().push((device, range));
            self.is_due.store(true, Ordering::Release);
        }
    }

    /// Whether something is yet to be cleared.
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }

    /// Clears it; if no context of its device is current, as soon as one is.
    pub fn now(&self, driver: &Driver, device: i32, range: Range) -> Result<(), CudaError> {
        self.later(device, range);
        self.catch_up(driver)
    }

    /// Clears what is due on the current context's device.
    pub fn catch_up(&self, driver: &Driver) -> Result<(), CudaError> {
        if !self.is_due() {
            return Ok(());
        }
        let mut current = 0;
        // SAFETY: a place for the device.
        if unsafe { driver_call!(driver.cuCtxGetDevice(&mut current)) }.is_err() {
            // None is current.
            return Ok(());
        }
        // Held until it is done: nobody uses any of it meanwhile.
        let mut due = self.due();
        let here: Vec<Range> = due
            .iter()
            .filter(|(device, _)| *device == current)
            .map(|(_, range)| *range)
            .collect();
        if here.is_empty() {
            return Ok(());
        }
        clear(driver, &here)?;
        due.retain(|(device, _)| *device != current);
        self.is_due.store(!due.is_empty(), Ordering::Release);
        Ok(())
    }

    /// This is given back. Whether it has not been cleared.
    pub fn forget(&self, range: Range) -> bool {
        if !self.is_due() {
            return false;
        }
        let mut due = self.due();
        let before = due.len();
        due.retain(|(_, due)| *due != range);
        due.len() < before
    }
}

/// With a context current.
fn clear(driver: &Driver, ranges: &[Range]) -> Result<(), CudaError> {
    let mut mode = RELAXED;
    let exchange = |mode: &mut u32| {
        // SAFETY: the mode is read and written.
        unsafe { driver_call!(driver.cuThreadExchangeStreamCaptureMode(mode)) }
    };
    let exchanged = exchange(&mut mode);
    let cleared = in_stream(driver, ranges);
    if exchanged.is_ok() {
        // It went well a moment ago.
        let _ = exchange(&mut mode);
    }
    cleared
}

fn in_stream(driver: &Driver, ranges: &[Range]) -> Result<(), CudaError> {
    let mut stream: *mut c_void = ptr::null_mut();
    // SAFETY: a place for the stream.
    unsafe { driver_call!(driver.cuStreamCreate(&mut stream, NON_BLOCKING)) }?;
    let filled = ranges.iter().try_for_each(|range| {
        // SAFETY: whole mappings or allocations of this session's, which nothing uses yet; a stream of ours.
        unsafe {
            driver_call!(driver.cuMemsetD8Async(range.address, 0, range.bytes as usize, stream))
        }
    });
    // SAFETY: made above, ended once.
    let (done, ended) = unsafe {
        (
            driver_call!(driver.cuStreamSynchronize(stream)),
            driver_call!(driver.cuStreamDestroy_v2(stream)),
        )
    };
    filled.and(done).and(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_are_told_from_other_devices() {
        for file in [
            "/dev/nvidia0",
            "/dev/nvidia-uvm",
            "/dev/dri/renderD128",
            "/dev/dxg",
        ] {
            assert!(is_device(Path::new(file)), "{file}");
        }
        for file in [
            "/dev/null",
            "/dev/pts/0",
            "/dev/shm/cuda.shm.0",
            "/memfd:softgpu (deleted)",
            "socket:[1]",
            "/home/nvidia0",
        ] {
            assert!(!is_device(Path::new(file)), "{file}");
        }
    }
}
