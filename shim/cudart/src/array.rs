//! Arrays: making them, asking about them, and the old copies that take an array as a run of bytes.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{ArrayDescriptor, ChannelDesc, Extent, Handle};
use crate::copy::{linear, rectangle, sides, within_array};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, format};

pub unsafe fn descriptor(cu: &Driver, array: Handle) -> Result<ArrayDescriptor> {
    let mut found = ArrayDescriptor::default();
    cu.cuArray3DGetDescriptor_v2((&raw mut found).cast(), array)?;
    Ok(found)
}

/// Flags have the driver's bits.
fn of_channels(desc: *const ChannelDesc, extent: Extent, flags: u32) -> Result<ArrayDescriptor> {
    // SAFETY: the caller's structure, or NULL.
    let desc = unsafe { desc.as_ref() }.ok_or(Error::INVALID_VALUE)?;
    let (format, channels) = format::of_channels(desc)?;
    Ok(ArrayDescriptor {
        width: extent.width,
        height: extent.height,
        depth: extent.depth,
        format,
        channels,
        flags,
    })
}

pub unsafe fn cudaMallocArray(
    runtime: &Runtime,
    array: *mut Handle,
    desc: *const ChannelDesc,
    width: usize,
    height: usize,
    flags: u32,
) -> Result {
    let depth = 0;
    let extent = Extent {
        width,
        height,
        depth,
    };
    cudaMalloc3DArray(runtime, array, desc, extent, flags)
}

pub unsafe fn cudaMalloc3DArray(
    runtime: &Runtime,
    array: *mut Handle,
    desc: *const ChannelDesc,
    extent: Extent,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    let desc = of_channels(desc, extent, flags)?;
    cu.cuArray3DCreate_v2(array.cast(), (&raw const desc).cast())
}

pub unsafe fn cudaMallocMipmappedArray(
    runtime: &Runtime,
    array: *mut Handle,
    desc: *const ChannelDesc,
    extent: Extent,
    levels: u32,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    let desc = of_channels(desc, extent, flags)?;
    cu.cuMipmappedArrayCreate(array.cast(), (&raw const desc).cast(), levels)
}

pub unsafe fn cudaFreeArray(runtime: &Runtime, array: Handle) -> Result {
    let cu = runtime.context()?;
    if array.is_null() {
        return Ok(());
    }
    cu.cuArrayDestroy(array)
}

pub unsafe fn cudaFreeMipmappedArray(runtime: &Runtime, array: Handle) -> Result {
    let cu = runtime.context()?;
    if array.is_null() {
        return Ok(());
    }
    cu.cuMipmappedArrayDestroy(array)
}

pub unsafe fn cudaArrayGetInfo(
    runtime: &Runtime,
    desc: *mut ChannelDesc,
    extent: *mut Extent,
    flags: *mut u32,
    array: Handle,
) -> Result {
    let found = descriptor(runtime.context()?, array)?;
    if !desc.is_null() {
        desc.write(format::to_channels(found.format, found.channels));
    }
    if !extent.is_null() {
        let (width, height, depth) = (found.width, found.height, found.depth);
        extent.write(Extent {
            width,
            height,
            depth,
        });
    }
    if !flags.is_null() {
        flags.write(found.flags);
    }
    Ok(())
}

pub unsafe fn cudaGetChannelDesc(
    runtime: &Runtime,
    desc: *mut ChannelDesc,
    array: Handle,
) -> Result {
    if desc.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    cudaArrayGetInfo(runtime, desc, null_mut(), null_mut(), array)
}

pub fn cudaCreateChannelDesc(
    _: &Runtime,
    x: i32,
    y: i32,
    z: i32,
    w: i32,
    kind: u32,
) -> ChannelDesc {
    ChannelDesc { x, y, z, w, kind }
}

/// A run of bytes that begins within a row of an array, and goes on with the next rows.
struct Run {
    array: Handle,
    row: usize,
    x: usize,
    y: usize,
}

impl Run {
    unsafe fn new(cu: &Driver, array: Handle, x: usize, y: usize) -> Result<Run> {
        let found = descriptor(cu, array)?;
        let row = found.width * format::element_size(found.format, found.channels);
        if x >= row {
            return Err(Error::INVALID_VALUE);
        }
        Ok(Run { array, row, x, y })
    }

    /// What is left of its row.
    fn rest(&self) -> usize {
        self.row - self.x
    }

    fn advance(&mut self, bytes: usize) {
        self.x += bytes;
        if self.x == self.row {
            (self.x, self.y) = (0, self.y + 1);
        }
    }
}

/// Between an array and memory; `to`: whether the array is the target.
unsafe fn run(
    cu: &Driver,
    mut run: Run,
    memory: *const c_void,
    mut count: usize,
    kind: u32,
    to: bool,
    stream: Option<Handle>,
) -> Result {
    let (from_kind, to_kind) = sides(kind)?;
    let mut address = memory;
    while count > 0 {
        // Whole rows go as one rectangle.
        let (width, rows) = match run.x {
            0 if count >= run.row => (run.row, count / run.row),
            _ => (run.rest().min(count), 1),
        };
        let place = within_array(run.array, run.x, run.y);
        let (dst, src) = match to {
            true => (place, linear(address, width, from_kind)),
            false => (linear(address, width, to_kind), place),
        };
        rectangle(cu, dst, src, width, rows, stream)?;
        if rows == 1 {
            run.advance(width);
        } else {
            run.y += rows;
        }
        address = address.byte_add(width * rows);
        count -= width * rows;
    }
    Ok(())
}

pub unsafe fn cudaMemcpyToArray(
    runtime: &Runtime,
    dst: Handle,
    x: usize,
    y: usize,
    src: *const c_void,
    count: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    run(cu, Run::new(cu, dst, x, y)?, src, count, kind, true, None)
}

pub unsafe fn cudaMemcpyToArrayAsync(
    runtime: &Runtime,
    dst: Handle,
    x: usize,
    y: usize,
    src: *const c_void,
    count: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    run(
        cu,
        Run::new(cu, dst, x, y)?,
        src,
        count,
        kind,
        true,
        Some(stream),
    )
}

pub unsafe fn cudaMemcpyFromArray(
    runtime: &Runtime,
    dst: *mut c_void,
    src: Handle,
    x: usize,
    y: usize,
    count: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    run(cu, Run::new(cu, src, x, y)?, dst, count, kind, false, None)
}

pub unsafe fn cudaMemcpyFromArrayAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    src: Handle,
    x: usize,
    y: usize,
    count: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    run(
        cu,
        Run::new(cu, src, x, y)?,
        dst,
        count,
        kind,
        false,
        Some(stream),
    )
}

pub unsafe fn cudaMemcpyArrayToArray(
    runtime: &Runtime,
    dst: Handle,
    dst_x: usize,
    dst_y: usize,
    src: Handle,
    src_x: usize,
    src_y: usize,
    mut count: usize,
    kind: u32,
) -> Result {
    sides(kind)?;
    let cu = runtime.context()?;
    let mut to = Run::new(cu, dst, dst_x, dst_y)?;
    let mut from = Run::new(cu, src, src_x, src_y)?;
    while count > 0 {
        let width = to.rest().min(from.rest()).min(count);
        let (place, source) = (
            within_array(dst, to.x, to.y),
            within_array(src, from.x, from.y),
        );
        rectangle(cu, place, source, width, 1, None)?;
        to.advance(width);
        from.advance(width);
        count -= width;
    }
    Ok(())
}
