//! Copies and fills.

use super::memory::named;
use super::{Handle, call};
use crate::abi::{In, Memcpy2d, Memcpy3d, MemsetNode};
use crate::copy::{self, Copy, Fill, Place};
use crate::error::Result;
use crate::runtime::Runtime;
use crate::stream::Stream;

fn now(runtime: &Runtime, to: u64, from: u64, bytes: usize, places: (Place, Place)) -> Result {
    let stream = Stream::find(runtime, 0)?;
    copy::now(
        runtime,
        &stream,
        Copy::line(to, from, bytes as u64),
        places.0,
        places.1,
    )
}

fn enqueue(
    runtime: &Runtime,
    to: u64,
    from: u64,
    bytes: usize,
    places: (Place, Place),
    stream: Handle,
) -> Result {
    let stream = Stream::find(runtime, stream)?;
    copy::enqueue(
        runtime,
        &stream,
        Copy::line(to, from, bytes as u64),
        places.0,
        places.1,
    )
}

const HOST_TO_DEVICE: (Place, Place) = (Place::Host, Place::Device);
const DEVICE_TO_HOST: (Place, Place) = (Place::Device, Place::Host);
const DEVICE_TO_DEVICE: (Place, Place) = (Place::Device, Place::Device);
const ANY: (Place, Place) = (Place::Any, Place::Any);

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) -> u32 {
    call(|runtime| now(runtime, to, from, bytes, HOST_TO_DEVICE))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) -> u32 {
    call(|runtime| now(runtime, to, from, bytes, DEVICE_TO_HOST))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> u32 {
    call(|runtime| now(runtime, to, from, bytes, DEVICE_TO_DEVICE))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy(to: u64, from: u64, bytes: usize) -> u32 {
    call(|runtime| now(runtime, to, from, bytes, ANY))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> u32 {
    call(|runtime| enqueue(runtime, to, from, bytes, HOST_TO_DEVICE, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> u32 {
    call(|runtime| enqueue(runtime, to, from, bytes, DEVICE_TO_HOST, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> u32 {
    call(|runtime| enqueue(runtime, to, from, bytes, DEVICE_TO_DEVICE, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) -> u32 {
    call(|runtime| enqueue(runtime, to, from, bytes, ANY, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeer(
    to: u64,
    to_context: Handle,
    from: u64,
    from_context: Handle,
    bytes: usize,
) -> u32 {
    call(|runtime| {
        named(runtime, to_context)?.check()?;
        named(runtime, from_context)?.check()?;
        now(runtime, to, from, bytes, DEVICE_TO_DEVICE)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_context: Handle,
    from: u64,
    from_context: Handle,
    bytes: usize,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        named(runtime, to_context)?.check()?;
        named(runtime, from_context)?.check()?;
        enqueue(runtime, to, from, bytes, DEVICE_TO_DEVICE, stream)
    })
}

/// A box; in stream order where a stream is given.
fn boxed(runtime: &Runtime, params: &Memcpy3d, stream: Option<Handle>) -> Result {
    let found = Stream::find(runtime, stream.unwrap_or(0))?;
    let (copy, from, to) = Copy::between(runtime, params)?;
    match stream {
        // Of an array, a capture remembers the handle.
        Some(_) if from == Place::Array || to == Place::Array => {
            copy::enqueue_as(runtime, &found, copy, from, to, || *params)
        }
        Some(_) => copy::enqueue(runtime, &found, copy, from, to),
        None => copy::now(runtime, &found, copy, from, to),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2D_v2(params: In<Memcpy2d>) -> u32 {
    call(|runtime| boxed(runtime, &params.get()?.into(), None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DUnaligned_v2(params: In<Memcpy2d>) -> u32 {
    cuMemcpy2D_v2(params)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DAsync_v2(params: In<Memcpy2d>, stream: Handle) -> u32 {
    call(|runtime| boxed(runtime, &params.get()?.into(), Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3D_v2(params: In<Memcpy3d>) -> u32 {
    call(|runtime| boxed(runtime, &params.get()?, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DAsync_v2(params: In<Memcpy3d>, stream: Handle) -> u32 {
    call(|runtime| boxed(runtime, &params.get()?, Some(stream)))
}

/// Between contexts; their places in the parameters are those that are reserved where no context is named.
fn boxed_peer(runtime: &Runtime, params: &Memcpy3d, stream: Option<Handle>) -> Result {
    named(runtime, params.reserved1)?.check()?;
    named(runtime, params.reserved0)?.check()?;
    boxed(runtime, params, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DPeer(params: In<Memcpy3d>) -> u32 {
    call(|runtime| boxed_peer(runtime, &params.get()?, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DPeerAsync(params: In<Memcpy3d>, stream: Handle) -> u32 {
    call(|runtime| boxed_peer(runtime, &params.get()?, Some(stream)))
}

fn fill(runtime: &Runtime, node: MemsetNode, stream: Option<Handle>) -> Result {
    let found = Stream::find(runtime, stream.unwrap_or(0))?;
    let fill = Fill::new(runtime, &node)?;
    match stream {
        Some(_) => copy::fill_enqueue(runtime, &found, fill),
        None => copy::fill_now(runtime, &found, fill),
    }
}

fn row(dst: u64, value: u32, element_size: u32, width: usize) -> MemsetNode {
    MemsetNode {
        dst,
        pitch: 0,
        value,
        element_size,
        width,
        height: 1,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(dst: u64, value: u8, count: usize) -> u32 {
    call(|runtime| fill(runtime, row(dst, value.into(), 1, count), None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16_v2(dst: u64, value: u16, count: usize) -> u32 {
    call(|runtime| fill(runtime, row(dst, value.into(), 2, count), None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(dst: u64, value: u32, count: usize) -> u32 {
    call(|runtime| fill(runtime, row(dst, value, 4, count), None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: Handle) -> u32 {
    call(|runtime| fill(runtime, row(dst, value.into(), 1, count), Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16Async(dst: u64, value: u16, count: usize, stream: Handle) -> u32 {
    call(|runtime| fill(runtime, row(dst, value.into(), 2, count), Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: Handle) -> u32 {
    call(|runtime| fill(runtime, row(dst, value, 4, count), Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8_v2(
    dst: u64,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value: value.into(),
        element_size: 1,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8Async(
    dst: u64,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
    stream: Handle,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value: value.into(),
        element_size: 1,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D16_v2(
    dst: u64,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value: value.into(),
        element_size: 2,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D16Async(
    dst: u64,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
    stream: Handle,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value: value.into(),
        element_size: 2,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32_v2(
    dst: u64,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value,
        element_size: 4,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32Async(
    dst: u64,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
    stream: Handle,
) -> u32 {
    let node = MemsetNode {
        dst,
        pitch,
        value,
        element_size: 4,
        width,
        height,
    };
    call(|runtime| fill(runtime, node, Some(stream)))
}
