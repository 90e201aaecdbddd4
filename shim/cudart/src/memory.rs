//! Memory: allocation, advice, what is pinned.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{Extent, Location, PitchedPtr};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, context};

/// Nothing is NULL, and no error.
unsafe fn allocate(
    place: *mut *mut c_void,
    size: usize,
    make: impl FnOnce(*mut u64) -> Result,
) -> Result {
    if place.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut address = 0u64;
    if size > 0 {
        make(&mut address)?;
    }
    place.write(address as *mut c_void);
    Ok(())
}

pub unsafe fn cudaMalloc(runtime: &Runtime, place: *mut *mut c_void, size: usize) -> Result {
    let cu = runtime.context()?;
    allocate(place, size, |address| cu.cuMemAlloc_v2(address, size))
}

pub unsafe fn cudaFree(runtime: &Runtime, memory: *mut c_void) -> Result {
    let cu = runtime.context()?;
    if memory.is_null() {
        return Ok(());
    }
    cu.cuMemFree_v2(memory as u64)
}

pub unsafe fn cudaMallocHost(runtime: &Runtime, place: *mut *mut c_void, size: usize) -> Result {
    cudaHostAlloc(runtime, place, size, 0)
}

pub unsafe fn cudaHostAlloc(
    runtime: &Runtime,
    place: *mut *mut c_void,
    size: usize,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    allocate(place, size, |address| {
        cu.cuMemHostAlloc(address.cast(), size, flags)
    })
}

pub unsafe fn cudaFreeHost(runtime: &Runtime, memory: *mut c_void) -> Result {
    let cu = runtime.context()?;
    if memory.is_null() {
        return Ok(());
    }
    cu.cuMemFreeHost(memory)
}

/// Of 0 bytes this is an error, other than for the memory of one device.
pub unsafe fn cudaMallocManaged(
    runtime: &Runtime,
    place: *mut *mut c_void,
    size: usize,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    if place.is_null() || size == 0 {
        return Err(Error::INVALID_VALUE);
    }
    cu.cuMemAllocManaged(place.cast(), size, flags)
}

/// Rows of `width` bytes.
unsafe fn pitched(
    cu: &Driver,
    place: *mut *mut c_void,
    pitch: *mut usize,
    width: usize,
    rows: usize,
) -> Result {
    const ELEMENT: u32 = 4;
    if pitch.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    if width == 0 || rows == 0 {
        pitch.write(0);
    }
    allocate(place, width.min(rows), |address| {
        cu.cuMemAllocPitch_v2(address, pitch, width, rows, ELEMENT)
    })
}

pub unsafe fn cudaMallocPitch(
    runtime: &Runtime,
    place: *mut *mut c_void,
    pitch: *mut usize,
    width: usize,
    height: usize,
) -> Result {
    pitched(runtime.context()?, place, pitch, width, height)
}

pub unsafe fn cudaMalloc3D(runtime: &Runtime, place: *mut PitchedPtr, extent: Extent) -> Result {
    if place.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let rows = extent.height.checked_mul(extent.depth);
    let rows = rows.ok_or(Error::INVALID_VALUE)?;
    let mut made = PitchedPtr {
        ptr: null_mut(),
        pitch: 0,
        xsize: extent.width,
        ysize: extent.height,
    };
    pitched(cu, &mut made.ptr, &mut made.pitch, extent.width, rows)?;
    place.write(made);
    Ok(())
}

const DEVICE: u32 = 1;
const HOST: u32 = 2;
/// cudaCpuDeviceId.
const CPU: i32 = -1;

/// What drivers older than locations take for one.
fn ordinal(location: Location) -> Result<i32> {
    match location.kind {
        DEVICE => Ok(location.id),
        HOST => Ok(CPU),
        _ => Err(Error::INVALID_VALUE),
    }
}

pub unsafe fn cudaMemAdvise(
    runtime: &Runtime,
    memory: *const c_void,
    count: usize,
    advice: u32,
    device: i32,
) -> Result {
    let cu = runtime.context()?;
    cu.cuMemAdvise(memory as u64, count, advice, device)
}

pub unsafe fn cudaMemAdvise_v2(
    runtime: &Runtime,
    memory: *const c_void,
    count: usize,
    advice: u32,
    location: Location,
) -> Result {
    /// Advice that has no place.
    const READ_MOSTLY: [u32; 2] = [1, 2];
    let cu = runtime.context()?;
    match cu.cuMemAdvise_v2(memory as u64, count, advice, location) {
        Err(Error::NOT_SUPPORTED) => {
            let device = match ordinal(location) {
                Err(_) if READ_MOSTLY.contains(&advice) => context::device(cu)?,
                device => device?,
            };
            cu.cuMemAdvise(memory as u64, count, advice, device)
        }
        result => result,
    }
}

pub unsafe fn cudaMemPrefetchAsync(
    runtime: &Runtime,
    memory: *const c_void,
    count: usize,
    device: i32,
    stream: *mut c_void,
) -> Result {
    let cu = runtime.context()?;
    cu.cuMemPrefetchAsync(memory as u64, count, device, stream)
}

pub unsafe fn cudaMemPrefetchAsync_v2(
    runtime: &Runtime,
    memory: *const c_void,
    count: usize,
    location: Location,
    flags: u32,
    stream: *mut c_void,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuMemPrefetchAsync_v2(memory as u64, count, location, flags, stream) {
        Err(Error::NOT_SUPPORTED) if flags == 0 => {
            cu.cuMemPrefetchAsync(memory as u64, count, ordinal(location)?, stream)
        }
        result => result,
    }
}
