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
    let mut pageable = noise(most);
    // SAFETY: memory of that length, which nobody uses yet.
    unsafe { std::ptr::copy_nonoverlapping(pageable.as_ptr(), pinned, most) };
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

/// Bytes that nothing makes smaller (splitmix64).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    let mut noise: Vec<u8> = words.take(bytes.div_ceil(8)).flatten().collect();
    noise.truncate(bytes);
    noise
}
