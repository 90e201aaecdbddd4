//! Fills. Like copies, they take no time of the device's.

use crate::abi::answer;
use crate::errors::{Error, Result};
use crate::memory::{Blocks, blocks};
use crate::stream;

/// Rows of `width` values, `pitch` bytes from one to the next.
#[derive(Clone, Copy)]
struct Fill<T> {
    at: u64,
    pitch: u64,
    value: T,
    width: usize,
    rows: usize,
}

impl<T: Copy + Send + 'static> Fill<T> {
    fn check(&self, memory: &Blocks) -> Result {
        let size = size_of::<T>() as u64;
        let extent = || {
            let row = (self.width as u64).checked_mul(size)?;
            let rows = self.pitch.checked_mul(self.rows as u64 - 1)?;
            rows.checked_add(row)
        };
        if self.width == 0 || self.rows == 0 {
            return Ok(());
        }
        let aligned = self.at.is_multiple_of(size) && self.pitch.is_multiple_of(size);
        match extent() {
            Some(extent) if aligned && memory.cover(self.at, extent) => Ok(()),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn perform(&self) -> Result {
        // No block goes while this is held.
        let memory = blocks();
        self.check(&memory)?;
        let rows = if self.width == 0 { 0 } else { self.rows as u64 };
        for row in 0..rows {
            let start = (self.at + row * self.pitch) as *mut T;
            // SAFETY: aligned, and within blocks of this library's or memory that the program has registered.
            unsafe { std::slice::from_raw_parts_mut(start, self.width) }.fill(self.value);
        }
        Ok(())
    }

    fn enqueue(self, stream: u64) -> Result {
        let stream = stream::find(stream)?;
        if !stream.is_standing() {
            return self.perform();
        }
        self.check(&blocks())?;
        stream.perform(move || {
            // Memory that is gone by then is not touched.
            let _ = self.perform();
        });
        Ok(())
    }
}

fn line<T: Copy + Send + 'static>(at: u64, value: T, width: usize, stream: u64) -> u32 {
    block(at, 0, value, width, 1, stream)
}

fn block<T: Copy + Send + 'static>(
    at: u64,
    pitch: usize,
    value: T,
    width: usize,
    rows: usize,
    stream: u64,
) -> u32 {
    let pitch = pitch as u64;
    let fill = Fill {
        at,
        pitch,
        value,
        width,
        rows,
    };
    answer(|| fill.enqueue(stream))
}

// Nobody waits for a fill of device memory.

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(at: u64, value: u8, count: usize) -> u32 {
    line(at, value, count, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16_v2(at: u64, value: u16, count: usize) -> u32 {
    line(at, value, count, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(at: u64, value: u32, count: usize) -> u32 {
    line(at, value, count, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(at: u64, value: u8, count: usize, stream: u64) -> u32 {
    line(at, value, count, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16Async(at: u64, value: u16, count: usize, stream: u64) -> u32 {
    line(at, value, count, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(at: u64, value: u32, count: usize, stream: u64) -> u32 {
    line(at, value, count, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8_v2(
    at: u64,
    pitch: usize,
    value: u8,
    width: usize,
    rows: usize,
) -> u32 {
    block(at, pitch, value, width, rows, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D16_v2(
    at: u64,
    pitch: usize,
    value: u16,
    width: usize,
    rows: usize,
) -> u32 {
    block(at, pitch, value, width, rows, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32_v2(
    at: u64,
    pitch: usize,
    value: u32,
    width: usize,
    rows: usize,
) -> u32 {
    block(at, pitch, value, width, rows, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8Async(
    at: u64,
    pitch: usize,
    value: u8,
    width: usize,
    rows: usize,
    stream: u64,
) -> u32 {
    block(at, pitch, value, width, rows, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D16Async(
    at: u64,
    pitch: usize,
    value: u16,
    width: usize,
    rows: usize,
    stream: u64,
) -> u32 {
    block(at, pitch, value, width, rows, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32Async(
    at: u64,
    pitch: usize,
    value: u32,
    width: usize,
    rows: usize,
    stream: u64,
) -> u32 {
    block(at, pitch, value, width, rows, stream)
}
