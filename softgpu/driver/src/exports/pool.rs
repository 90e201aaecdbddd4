//! Stream-ordered memory and its pools.

use std::ffi::c_void;
use std::sync::Arc;

use super::{Handle, call};
use crate::abi::{In, MemAccessDesc, MemLocation, MemPoolProps, Out};
use crate::capture;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{GRAPH_OWNED, GraphMemory, Operation};
use crate::memory::MODULE_OWNED;
use crate::pool::{ACCESS_READ_WRITE, MemPool, Value};
use crate::runtime::Runtime;
use crate::stream::Stream;
use crate::task::Work;

const TYPE_PINNED: u32 = 1;
const LOCATION_DEVICE: u32 = 1;
const ACCESS_NONE: u32 = 0;
const ACCESS_READ: u32 = 1;
const MAX_DESCRIPTORS: usize = 1024;

fn allocate(runtime: &Runtime, pool: &MemPool, stream: &Stream, bytes: usize) -> Result<u64> {
    match pool.allocate(runtime, bytes as u64) {
        // Frees that are enqueued may be all that is missing.
        Err(Error::ERROR_OUT_OF_MEMORY) => {
            stream.context.drain();
            pool.allocate(runtime, bytes as u64)
        }
        other => other,
    }
}

/// Memory of the graph that the stream captures.
fn capture_alloc(
    runtime: &Runtime,
    stream: &Stream,
    device: &Arc<Device>,
    bytes: usize,
) -> Result<Option<u64>> {
    let mut address = 0;
    let captured = capture::takes(runtime, stream, || {
        let memory = GraphMemory::allocate(runtime, device, bytes as u64)?;
        address = memory.address;
        Ok(Operation::Alloc(memory))
    })?;
    Ok(captured.then_some(address))
}

/// Memory that is there at once is there in stream order, too.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: Handle) -> u32 {
    call(|runtime| {
        address.check()?;
        let stream = Stream::find(runtime, stream)?;
        if let Some(captured) = capture_alloc(runtime, &stream, &stream.context.device, bytes)? {
            return address.put(captured);
        }
        let device = runtime.visible_ordinal(&stream.context.device) as usize;
        let pool = runtime.pools.current_of(device);
        address.put(allocate(runtime, &pool, &stream, bytes)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocFromPoolAsync(
    address: Out<u64>,
    bytes: usize,
    pool: Handle,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        address.check()?;
        let stream = Stream::find(runtime, stream)?;
        let pool = runtime.pools.get(pool)?;
        if let Some(captured) = capture_alloc(runtime, &stream, &pool.device, bytes)? {
            return address.put(captured);
        }
        address.put(allocate(runtime, &pool, &stream, bytes)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, stream: Handle) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        let found = runtime
            .memory
            .starts_at(address)
            .filter(|found| found.pool != MODULE_OWNED)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let of_graph = found.pool == GRAPH_OWNED;
        let captured = capture::takes(runtime, &stream, || {
            if of_graph {
                Ok(Operation::Free(address))
            } else {
                Err(Error::ERROR_INVALID_VALUE)
            }
        })?;
        if captured || of_graph {
            return Ok(());
        }
        let block = runtime.memory.retire(address)?;
        let pool = runtime.pools.of_allocation(found.pool);
        if stream.before().is_empty() {
            crate::copy::release(runtime, pool, block);
        } else {
            stream.enqueue(Work::Release(pool, block), &[]);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolCreate(pool: Out<Handle>, props: In<MemPoolProps>) -> u32 {
    call(|runtime| {
        pool.check()?;
        let props = props.get()?;
        if props.kind != TYPE_PINNED {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // Pools of the host, and such as other processes open.
        if props.location.kind != LOCATION_DEVICE || props.handle_types != 0 {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
        let device = runtime.device(props.location.id)?;
        pool.put(runtime.pools.create(device, props.max_size as u64))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolDestroy(pool: Handle) -> u32 {
    call(|runtime| runtime.pools.destroy(runtime, pool))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(pool: Handle, keep: usize) -> u32 {
    call(|runtime| {
        runtime.pools.get(pool)?.trim(runtime, keep as u64);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: Out<c_void>) -> u32 {
    call(|runtime| {
        value.check()?;
        match runtime.pools.get(pool)?.attribute(attribute)? {
            Value::Word(word) => value.cast::<u32>().put(word),
            Value::Long(long) => value.cast::<u64>().put(long),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: In<c_void>) -> u32 {
    call(|runtime| {
        let pool = runtime.pools.get(pool)?;
        pool.set_attribute(
            attribute,
            || value.cast::<u32>().get(),
            || value.cast::<u64>().get(),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolSetAccess(pool: Handle, access: In<MemAccessDesc>, count: usize) -> u32 {
    call(|runtime| {
        let pool = runtime.pools.get(pool)?;
        if count > MAX_DESCRIPTORS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        for description in access.list(count)? {
            if description.location.kind != LOCATION_DEVICE {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            let device = runtime.device(description.location.id)?;
            match description.flags {
                ACCESS_NONE | ACCESS_READ_WRITE => {
                    pool.set_access(device.ordinal, description.flags)?
                }
                ACCESS_READ => return Err(Error::ERROR_NOT_SUPPORTED),
                _ => return Err(Error::ERROR_INVALID_VALUE),
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolGetAccess(
    flags: Out<u32>,
    pool: Handle,
    location: In<MemLocation>,
) -> u32 {
    call(|runtime| {
        let (pool, location) = (runtime.pools.get(pool)?, location.get()?);
        if location.kind != LOCATION_DEVICE {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        flags.put(pool.access(runtime.device(location.id)?.ordinal))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) -> u32 {
    call(|runtime| {
        runtime.device(device)?;
        pool.put(runtime.pools.default_of(device as usize).handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) -> u32 {
    call(|runtime| {
        runtime.device(device)?;
        pool.put(runtime.pools.current_of(device as usize).handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetMemPool(device: i32, pool: Handle) -> u32 {
    call(|runtime| {
        let owner = runtime.device(device)?;
        let pool = runtime.pools.get(pool)?;
        if !Arc::ptr_eq(&pool.device, owner) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.pools.set_current(device as usize, &pool);
        Ok(())
    })
}

/// Pools are of devices' memory.
fn device_of(location: In<MemLocation>, kind: u32) -> Result<i32> {
    const MANAGED: u32 = 2;
    const HOST: u32 = 2;
    const HOST_NUMA: u32 = 3;
    let location = location.get()?;
    match (location.kind, kind) {
        (LOCATION_DEVICE, TYPE_PINNED) => Ok(location.id),
        (LOCATION_DEVICE | HOST | HOST_NUMA, TYPE_PINNED | MANAGED) | (0, MANAGED) => {
            Err(Error::ERROR_NOT_SUPPORTED)
        }
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetDefaultMemPool(
    pool: Out<Handle>,
    location: In<MemLocation>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        pool.check()?;
        let device = device_of(location, kind)?;
        runtime.device(device)?;
        pool.put(runtime.pools.default_of(device as usize).handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetMemPool(pool: Out<Handle>, location: In<MemLocation>, kind: u32) -> u32 {
    call(|runtime| {
        pool.check()?;
        let device = device_of(location, kind)?;
        runtime.device(device)?;
        pool.put(runtime.pools.current_of(device as usize).handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemSetMemPool(location: In<MemLocation>, kind: u32, pool: Handle) -> u32 {
    let mut device = 0;
    let known = call(|_| {
        device = device_of(location, kind)?;
        Ok(())
    });
    match known {
        0 => cuDeviceSetMemPool(device, pool),
        error => error,
    }
}
