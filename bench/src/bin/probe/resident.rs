//! What the library in the program's place adds to its resident memory.

use std::fs;

use anyhow::{Context, Result};

use crate::driver::{Driver, call};
use crate::{Measured, number};

fn status(name: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.context("no such line")?.parse::<f64>()? / 1024.0)
}

/// From here on the peak is what comes.
fn forget_peak() -> Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")
}

/// The most MiB that was resident beyond the program's own during copies of each size in and out, named by size and kind of memory.
/// The program's own is what it had before it loaded the library, and the buffer.
pub fn measure(sizes: &[usize]) -> Result<Measured> {
    let own = status("VmRSS:")?;
    let driver = Driver::ready()?;
    let mut measured = Measured::new();
    for &size in sizes {
        let mib = size as f64 / f64::from(1 << 20);
        let device = driver.allocate(size)?;
        let copy = |memory: *mut u8| -> Result<f64> {
            forget_peak()?;
            for _ in 0..2 {
                call!(driver.cuMemcpyHtoD_v2(device, memory.cast(), size))?;
                call!(driver.cuMemcpyDtoH_v2(memory.cast(), device, size))?;
            }
            Ok((status("VmHWM:")? - own - mib).max(0.0))
        };
        let mut buffer = vec![7_u8; size];
        let pageable = copy(buffer.as_mut_ptr())?;
        drop(buffer);
        let memory = driver.pinned(size)?;
        let pinned = copy(memory)?;
        call!(driver.cuMemFreeHost(memory.cast()))?;
        call!(driver.cuMemFree_v2(device))?;
        measured.insert(format!("pageable.{size}"), number(pageable));
        measured.insert(format!("pinned.{size}"), number(pinned));
    }
    Ok(measured)
}
