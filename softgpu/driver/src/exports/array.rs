//! Arrays, and the copies to and from their rows.

use std::sync::Arc;

use super::memory::drained;
use super::{Handle, call};
use crate::abi::{Array3dDescriptor, ArrayDescriptor, In, Memcpy3d, Out};
use crate::array::{self, Array, Mipmapped};
use crate::capture;
use crate::context::Context;
use crate::copy::{self, Copy, Place, in_line};
use crate::error::{Error, Result};
use crate::limits;
use crate::runtime::Runtime;
use crate::stream::Stream;

fn create(runtime: &Runtime, out: Out<Handle>, descriptor: Array3dDescriptor) -> Result {
    out.check()?;
    let context = Context::current()?;
    capture::forbid_unsafe()?;
    out.put(Array::create(runtime, &context, &descriptor)?.handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayCreate_v2(array: Out<Handle>, descriptor: In<ArrayDescriptor>) -> u32 {
    call(|runtime| create(runtime, array, descriptor.get()?.into()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArray3DCreate_v2(array: Out<Handle>, descriptor: In<Array3dDescriptor>) -> u32 {
    call(|runtime| create(runtime, array, descriptor.get()?))
}

fn array_of(runtime: &Runtime, handle: Handle) -> Result<Arc<Array>> {
    Context::current()?;
    runtime.arrays.get(handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayGetDescriptor_v2(descriptor: Out<ArrayDescriptor>, array: Handle) -> u32 {
    call(|runtime| descriptor.put(array_of(runtime, array)?.flat_descriptor()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArray3DGetDescriptor_v2(
    descriptor: Out<Array3dDescriptor>,
    array: Handle,
) -> u32 {
    call(|runtime| descriptor.put(array_of(runtime, array)?.descriptor))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayDestroy(array: Handle) -> u32 {
    call(|runtime| {
        let array = runtime.arrays.get(array)?;
        capture::forbid_unsafe()?;
        drained(runtime, array.context.handle);
        array.destroy(runtime)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMipmappedArrayCreate(
    array: Out<Handle>,
    descriptor: In<Array3dDescriptor>,
    levels: u32,
) -> u32 {
    call(|runtime| {
        array.check()?;
        let context = Context::current()?;
        capture::forbid_unsafe()?;
        array.put(Mipmapped::create(runtime, &context, &descriptor.get()?, levels)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMipmappedArrayGetLevel(
    level: Out<Handle>,
    mipmapped: Handle,
    index: u32,
) -> u32 {
    call(|runtime| {
        Context::current()?;
        let mipmapped = runtime.mipmapped.get(mipmapped)?;
        let found = mipmapped.levels.get(index as usize);
        level.put(found.ok_or(Error::ERROR_INVALID_VALUE)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMipmappedArrayDestroy(mipmapped: Handle) -> u32 {
    call(|runtime| {
        let mipmapped = runtime.mipmapped.get(mipmapped)?;
        capture::forbid_unsafe()?;
        drained(runtime, mipmapped.context.handle);
        mipmapped.destroy(runtime)
    })
}

/// No format that is served has planes.
#[unsafe(no_mangle)]
pub extern "C" fn cuArrayGetPlane(plane: Out<Handle>, array: Handle, _index: u32) -> u32 {
    call(|runtime| {
        plane.check()?;
        array_of(runtime, array)?;
        Err(Error::ERROR_INVALID_VALUE)
    })
}

/// Arrays without the flags that give them such properties have none (cuda.h).
#[unsafe(no_mangle)]
pub extern "C" fn cuArrayGetSparseProperties(properties: Out<[u32; 12]>, array: Handle) -> u32 {
    call(|runtime| {
        properties.check()?;
        array_of(runtime, array)?;
        Err(Error::ERROR_INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayGetMemoryRequirements(
    requirements: Out<[u64; 4]>,
    array: Handle,
    device: i32,
) -> u32 {
    call(|runtime| {
        requirements.check()?;
        array_of(runtime, array)?;
        runtime.device(device)?;
        Err(Error::ERROR_INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMipmappedArrayGetSparseProperties(
    properties: Out<[u32; 12]>,
    mipmapped: Handle,
) -> u32 {
    call(|runtime| {
        Context::current()?;
        properties.check()?;
        runtime.mipmapped.get(mipmapped)?;
        Err(Error::ERROR_INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMipmappedArrayGetMemoryRequirements(
    requirements: Out<[u64; 4]>,
    mipmapped: Handle,
    device: i32,
) -> u32 {
    call(|runtime| {
        Context::current()?;
        requirements.check()?;
        runtime.mipmapped.get(mipmapped)?;
        runtime.device(device)?;
        Err(Error::ERROR_INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetTexture1DLinearMaxWidth(
    width: Out<usize>,
    format: u32,
    channels: u32,
    device: i32,
) -> u32 {
    call(|runtime| {
        runtime.device(device)?;
        array::format(format, channels)?;
        width.put(limits::LINEAR_1D as usize)
    })
}

/// One side of a copy of a row: memory, or a part of an array's first row.
#[derive(Clone, Copy)]
enum Row {
    Memory(Place, u64),
    Array(Handle, usize),
}

impl Row {
    fn place(self, runtime: &Runtime, bytes: usize) -> Result<(Place, u64)> {
        match self {
            Row::Memory(place, at) => Ok((place, at)),
            Row::Array(handle, offset) => {
                let array = array_of(runtime, handle)?;
                let at = in_line(&array, offset as u64, bytes as u64)?;
                Ok((Place::Array, at))
            }
        }
    }

    /// CUmemorytype, host, device, array, offset.
    fn words(self) -> (u32, u64, u64, u64, usize) {
        match self {
            Row::Memory(Place::Host, at) => (1, at, 0, 0, 0),
            Row::Memory(_, at) => (2, 0, at, 0, 0),
            Row::Array(handle, offset) => (3, 0, 0, handle, offset),
        }
    }
}

/// In stream order where a stream is given.
fn row(runtime: &Runtime, to: Row, from: Row, bytes: usize, stream: Option<Handle>) -> Result {
    let found = Stream::find(runtime, stream.unwrap_or(0))?;
    let (to_place, to_at) = to.place(runtime, bytes)?;
    let (from_place, from_at) = from.place(runtime, bytes)?;
    let copy = Copy::line(to_at, from_at, bytes as u64);
    if stream.is_none() {
        return copy::now(runtime, &found, copy, from_place, to_place);
    }
    let params = || {
        let (src_type, src_host, src_device, src_array, src_x) = from.words();
        let (dst_type, dst_host, dst_device, dst_array, dst_x) = to.words();
        Memcpy3d {
            src_type,
            src_host,
            src_device,
            src_array,
            src_x,
            dst_type,
            dst_host,
            dst_device,
            dst_array,
            dst_x,
            width: bytes,
            height: 1,
            depth: 1,
            ..Memcpy3d::default()
        }
    };
    copy::enqueue_as(runtime, &found, copy, from_place, to_place, params)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoA_v2(to: Handle, offset: usize, from: u64, bytes: usize) -> u32 {
    let from = Row::Memory(Place::Host, from);
    call(|runtime| row(runtime, Row::Array(to, offset), from, bytes, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoH_v2(to: u64, from: Handle, offset: usize, bytes: usize) -> u32 {
    let to = Row::Memory(Place::Host, to);
    call(|runtime| row(runtime, to, Row::Array(from, offset), bytes, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoA_v2(to: Handle, offset: usize, from: u64, bytes: usize) -> u32 {
    let from = Row::Memory(Place::Device, from);
    call(|runtime| row(runtime, Row::Array(to, offset), from, bytes, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoD_v2(to: u64, from: Handle, offset: usize, bytes: usize) -> u32 {
    let to = Row::Memory(Place::Device, to);
    call(|runtime| row(runtime, to, Row::Array(from, offset), bytes, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoA_v2(
    to: Handle,
    to_offset: usize,
    from: Handle,
    from_offset: usize,
    bytes: usize,
) -> u32 {
    let (to, from) = (Row::Array(to, to_offset), Row::Array(from, from_offset));
    call(|runtime| row(runtime, to, from, bytes, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoAAsync_v2(
    to: Handle,
    offset: usize,
    from: u64,
    bytes: usize,
    stream: Handle,
) -> u32 {
    let from = Row::Memory(Place::Host, from);
    call(|runtime| row(runtime, Row::Array(to, offset), from, bytes, Some(stream)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoHAsync_v2(
    to: u64,
    from: Handle,
    offset: usize,
    bytes: usize,
    stream: Handle,
) -> u32 {
    let to = Row::Memory(Place::Host, to);
    call(|runtime| row(runtime, to, Row::Array(from, offset), bytes, Some(stream)))
}
