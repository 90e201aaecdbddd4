//! Copies by size, direction and kind of memory.

use anyhow::Result;

use crate::driver::{Driver, call};
use crate::{Measured, median, number};

/// GB/s of each size, named `there.pinned.4096` and so on.
pub fn measure(sizes: &[usize]) -> Result<Measured> {
    let driver = Driver::ready()?;
    let most = sizes.iter().copied().max().unwrap_or(0);
    let device = driver.allocate(most)?;
    let pinned = driver.pinned(most)?;
    let mut pageable = vec![5_u8; most];
    let mut measured = Measured::new();
    for (kind, memory) in [("pageable", pageable.as_mut_ptr()), ("pinned", pinned)] {
        for &size in sizes {
            // About as many bytes for each size, and a few rounds at least.
            let rounds = ((64 << 20) / size).clamp(3, 500);
            let there = median(rounds, || {
                call!(driver.cuMemcpyHtoD_v2(device, memory.cast(), size))?;
                call!(driver.cuCtxSynchronize())
            })?;
            let back = median(rounds, || {
                call!(driver.cuMemcpyDtoH_v2(memory.cast(), device, size))
            })?;
            for (way, micros) in [("there", there), ("back", back)] {
                let speed = number(size as f64 / micros / 1000.0);
                measured.insert(format!("{way}.{kind}.{size}"), speed);
            }
        }
    }
    Ok(measured)
}
