//! Fills.

use std::ffi::c_void;

use crate::Runtime;
use crate::abi::{Extent, Handle, PitchedPtr};
use crate::error::{Error, Result};

pub unsafe fn cudaMemset(
    runtime: &Runtime,
    memory: *mut c_void,
    value: i32,
    count: usize,
) -> Result {
    let cu = runtime.context()?;
    if count == 0 {
        return Ok(());
    }
    cu.cuMemsetD8_v2(memory as u64, value as u8, count)
}

pub unsafe fn cudaMemsetAsync(
    runtime: &Runtime,
    memory: *mut c_void,
    value: i32,
    count: usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    if count == 0 {
        return Ok(());
    }
    cu.cuMemsetD8Async(memory as u64, value as u8, count, stream)
}

/// Rows of bytes, `Some(stream)` or at once.
unsafe fn rows(
    runtime: &Runtime,
    memory: u64,
    pitch: usize,
    value: i32,
    width: usize,
    height: usize,
    stream: Option<Handle>,
) -> Result {
    let cu = runtime.context()?;
    if width == 0 || height == 0 {
        return Ok(());
    }
    match stream {
        None => cu.cuMemsetD2D8_v2(memory, pitch, value as u8, width, height),
        Some(stream) => cu.cuMemsetD2D8Async(memory, pitch, value as u8, width, height, stream),
    }
}

pub unsafe fn cudaMemset2D(
    runtime: &Runtime,
    memory: *mut c_void,
    pitch: usize,
    value: i32,
    width: usize,
    height: usize,
) -> Result {
    rows(runtime, memory as u64, pitch, value, width, height, None)
}

pub unsafe fn cudaMemset2DAsync(
    runtime: &Runtime,
    memory: *mut c_void,
    pitch: usize,
    value: i32,
    width: usize,
    height: usize,
    stream: Handle,
) -> Result {
    let stream = Some(stream);
    rows(runtime, memory as u64, pitch, value, width, height, stream)
}

/// Slices whose rows follow each other without a gap are filled as one.
unsafe fn slices(
    runtime: &Runtime,
    memory: PitchedPtr,
    value: i32,
    extent: Extent,
    stream: Option<Handle>,
) -> Result {
    let (first, pitch) = (memory.ptr as u64, memory.pitch);
    if extent.depth <= 1 || extent.height == memory.ysize {
        let height = extent.height.checked_mul(extent.depth);
        let height = height.ok_or(Error::INVALID_VALUE)?;
        return rows(runtime, first, pitch, value, extent.width, height, stream);
    }
    let slice = pitch
        .checked_mul(memory.ysize)
        .ok_or(Error::INVALID_VALUE)?;
    for at in 0..extent.depth {
        let begin = first.wrapping_add((at as u64).wrapping_mul(slice as u64));
        rows(
            runtime,
            begin,
            pitch,
            value,
            extent.width,
            extent.height,
            stream,
        )?;
    }
    Ok(())
}

pub unsafe fn cudaMemset3D(
    runtime: &Runtime,
    memory: PitchedPtr,
    value: i32,
    extent: Extent,
) -> Result {
    slices(runtime, memory, value, extent, None)
}

pub unsafe fn cudaMemset3DAsync(
    runtime: &Runtime,
    memory: PitchedPtr,
    value: i32,
    extent: Extent,
    stream: Handle,
) -> Result {
    slices(runtime, memory, value, extent, Some(stream))
}
