//! Copies in one and two dimensions.

use std::ffi::c_void;

use crate::abi::{DriverCopy2D, Handle, Side2D};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, context};

/// cudaMemcpyKind.
pub mod kind {
    pub const HOST_TO_HOST: u32 = 0;
    pub const HOST_TO_DEVICE: u32 = 1;
    pub const DEVICE_TO_HOST: u32 = 2;
    pub const DEVICE_TO_DEVICE: u32 = 3;
    pub const DEFAULT: u32 = 4;
}

/// CUmemorytype.
pub mod memory {
    pub const HOST: u32 = 1;
    pub const DEVICE: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const UNIFIED: u32 = 4;
}

/// The driver's words for where a copy of this kind begins and ends.
pub fn sides(kind: u32) -> Result<(u32, u32)> {
    match kind {
        kind::HOST_TO_HOST => Ok((memory::HOST, memory::HOST)),
        kind::HOST_TO_DEVICE => Ok((memory::HOST, memory::DEVICE)),
        kind::DEVICE_TO_HOST => Ok((memory::DEVICE, memory::HOST)),
        kind::DEVICE_TO_DEVICE => Ok((memory::DEVICE, memory::DEVICE)),
        kind::DEFAULT => Ok((memory::UNIFIED, memory::UNIFIED)),
        _ => Err(Error::INVALID_MEMCPY_DIRECTION),
    }
}

pub unsafe fn cudaMemcpy(
    runtime: &Runtime,
    dst: *mut c_void,
    src: *const c_void,
    count: usize,
    kind: u32,
) -> Result {
    sides(kind)?;
    let cu = runtime.context()?;
    if count == 0 {
        return Ok(());
    }
    match kind {
        kind::HOST_TO_DEVICE => cu.cuMemcpyHtoD_v2(dst as u64, src, count),
        kind::DEVICE_TO_HOST => cu.cuMemcpyDtoH_v2(dst, src as u64, count),
        kind::DEVICE_TO_DEVICE => cu.cuMemcpyDtoD_v2(dst as u64, src as u64, count),
        _ => cu.cuMemcpy(dst as u64, src as u64, count),
    }
}

pub unsafe fn cudaMemcpyAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    src: *const c_void,
    count: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    sides(kind)?;
    let cu = runtime.context()?;
    if count == 0 {
        return Ok(());
    }
    match kind {
        kind::HOST_TO_DEVICE => cu.cuMemcpyHtoDAsync_v2(dst as u64, src, count, stream),
        kind::DEVICE_TO_HOST => cu.cuMemcpyDtoHAsync_v2(dst, src as u64, count, stream),
        kind::DEVICE_TO_DEVICE => cu.cuMemcpyDtoDAsync_v2(dst as u64, src as u64, count, stream),
        _ => cu.cuMemcpyAsync(dst as u64, src as u64, count, stream),
    }
}

pub unsafe fn cudaMemcpyPeer(
    runtime: &Runtime,
    dst: *mut c_void,
    dst_device: i32,
    src: *const c_void,
    src_device: i32,
    count: usize,
) -> Result {
    let cu = runtime.context()?;
    let (to, from) = (
        context::primary(cu, dst_device)?,
        context::primary(cu, src_device)?,
    );
    if count == 0 {
        return Ok(());
    }
    cu.cuMemcpyPeer(dst as u64, to, src as u64, from, count)
}

pub unsafe fn cudaMemcpyPeerAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    dst_device: i32,
    src: *const c_void,
    src_device: i32,
    count: usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let (to, from) = (
        context::primary(cu, dst_device)?,
        context::primary(cu, src_device)?,
    );
    if count == 0 {
        return Ok(());
    }
    cu.cuMemcpyPeerAsync(dst as u64, to, src as u64, from, count, stream)
}

/// Memory with rows of `pitch` bytes.
pub fn linear(address: *const c_void, pitch: usize, memory: u32) -> Side2D {
    Side2D {
        memory,
        host: address.cast_mut(),
        device: address as u64,
        pitch,
        ..Side2D::default()
    }
}

/// A place in an array, in bytes of a row and rows.
pub fn within_array(array: Handle, x: usize, y: usize) -> Side2D {
    Side2D {
        x,
        y,
        memory: memory::ARRAY,
        array,
        ..Side2D::default()
    }
}

/// `Some(stream)`, or at once.
pub unsafe fn rectangle(
    cu: &Driver,
    dst: Side2D,
    src: Side2D,
    width: usize,
    height: usize,
    stream: Option<Handle>,
) -> Result {
    if width == 0 || height == 0 {
        return Ok(());
    }
    let pitched = |side: &Side2D| side.memory != memory::ARRAY && height > 1 && side.pitch < width;
    if pitched(&dst) || pitched(&src) {
        return Err(Error::INVALID_PITCH_VALUE);
    }
    let copy = DriverCopy2D {
        src,
        dst,
        width,
        height,
    };
    let copy = (&raw const copy).cast();
    match stream {
        None => cu.cuMemcpy2DUnaligned_v2(copy),
        Some(stream) => cu.cuMemcpy2DAsync_v2(copy, stream),
    }
}

pub unsafe fn cudaMemcpy2D(
    runtime: &Runtime,
    dst: *mut c_void,
    dst_pitch: usize,
    src: *const c_void,
    src_pitch: usize,
    width: usize,
    height: usize,
    kind: u32,
) -> Result {
    let (from, to) = sides(kind)?;
    let (to, from) = (linear(dst, dst_pitch, to), linear(src, src_pitch, from));
    rectangle(runtime.context()?, to, from, width, height, None)
}

pub unsafe fn cudaMemcpy2DAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    dst_pitch: usize,
    src: *const c_void,
    src_pitch: usize,
    width: usize,
    height: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    let (from, to) = sides(kind)?;
    let (to, from) = (linear(dst, dst_pitch, to), linear(src, src_pitch, from));
    rectangle(runtime.context()?, to, from, width, height, Some(stream))
}

pub unsafe fn cudaMemcpy2DToArray(
    runtime: &Runtime,
    dst: Handle,
    x: usize,
    y: usize,
    src: *const c_void,
    pitch: usize,
    width: usize,
    height: usize,
    kind: u32,
) -> Result {
    let (to, from) = (within_array(dst, x, y), linear(src, pitch, sides(kind)?.0));
    rectangle(runtime.context()?, to, from, width, height, None)
}

pub unsafe fn cudaMemcpy2DToArrayAsync(
    runtime: &Runtime,
    dst: Handle,
    x: usize,
    y: usize,
    src: *const c_void,
    pitch: usize,
    width: usize,
    height: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    let (to, from) = (within_array(dst, x, y), linear(src, pitch, sides(kind)?.0));
    rectangle(runtime.context()?, to, from, width, height, Some(stream))
}

pub unsafe fn cudaMemcpy2DFromArray(
    runtime: &Runtime,
    dst: *mut c_void,
    pitch: usize,
    src: Handle,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    kind: u32,
) -> Result {
    let (to, from) = (linear(dst, pitch, sides(kind)?.1), within_array(src, x, y));
    rectangle(runtime.context()?, to, from, width, height, None)
}

pub unsafe fn cudaMemcpy2DFromArrayAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    pitch: usize,
    src: Handle,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    let (to, from) = (linear(dst, pitch, sides(kind)?.1), within_array(src, x, y));
    rectangle(runtime.context()?, to, from, width, height, Some(stream))
}

pub unsafe fn cudaMemcpy2DArrayToArray(
    runtime: &Runtime,
    dst: Handle,
    dst_x: usize,
    dst_y: usize,
    src: Handle,
    src_x: usize,
    src_y: usize,
    width: usize,
    height: usize,
    kind: u32,
) -> Result {
    sides(kind)?;
    let (to, from) = (
        within_array(dst, dst_x, dst_y),
        within_array(src, src_x, src_y),
    );
    rectangle(runtime.context()?, to, from, width, height, None)
}
