//! Memory of devices and of the host.

use super::{Handle, call};
use crate::abi::Out;
use crate::capture;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::graph::GRAPH_OWNED;
use crate::memory::{Kind, MODULE_OWNED};
use crate::runtime::Runtime;

/// CU_MEMHOSTALLOC_PORTABLE, DEVICEMAP, WRITECOMBINED.
const HOST_FLAGS: u32 = 7;
const HOST_MAPPED: u32 = 2;
/// CU_MEMHOSTREGISTER_PORTABLE, DEVICEMAP, IOMEMORY, READ_ONLY.
const REGISTER_FLAGS: u32 = 15;
const REGISTER_IOMEMORY: u32 = 4;
const PITCH: usize = 512;

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) -> u32 {
    call(|runtime| {
        address.check()?;
        let context = Context::current()?;
        capture::forbid_unsafe()?;
        let device = context.device.ordinal;
        address.put(
            runtime
                .memory
                .allocate(device, context.handle, bytes as u64, Kind::Device)?,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocPitch_v2(
    address: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: u32,
) -> u32 {
    call(|runtime| {
        address.check().and(pitch.check())?;
        let context = Context::current()?;
        capture::forbid_unsafe()?;
        if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(PITCH);
        let bytes = row
            .and_then(|row| row.checked_mul(height))
            .ok_or(Error::ERROR_OUT_OF_MEMORY)?;
        let device = context.device.ordinal;
        address.put(runtime.memory.allocate(
            device,
            context.handle,
            bytes as u64,
            Kind::Device,
        )?)?;
        pitch.put(row.unwrap_or_default())
    })
}

/// Waits until nothing that was enqueued can use the memory. A failed context still gives its memory back.
pub fn drained(runtime: &Runtime, owner: u64) {
    let own = runtime.contexts.find(owner);
    for context in own.iter().chain(&Context::try_current()) {
        context.drain();
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    call(|runtime| {
        let context = Context::try_current().ok_or(Error::ERROR_INVALID_CONTEXT)?;
        if address == 0 {
            return context.check();
        }
        let allocation = runtime
            .memory
            .starts_at(address)
            .filter(|allocation| allocation.pool != MODULE_OWNED)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        capture::forbid_unsafe()?;
        drained(runtime, allocation.context);
        if allocation.pool == GRAPH_OWNED {
            // Its graph frees it.
            return context.check();
        }
        match runtime.pools.of_allocation(allocation.pool) {
            Some(pool) => pool.give(runtime, runtime.memory.retire(address)?),
            None => runtime.still(|| runtime.memory.free(address))?,
        }
        context.check()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> u32 {
    call(|runtime| {
        let info = runtime.memory.info(Context::current()?.device.ordinal);
        free.put_if(info.0 as usize);
        total.put_if(info.1 as usize);
        Ok(())
    })
}

/// Of pinned memory, too: it has an address for devices.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64) -> u32 {
    call(|runtime| {
        Context::current()?;
        let found = runtime.memory.find(address);
        let found = found.ok_or(Error::ERROR_NOT_FOUND)?;
        base.put_if(found.base);
        bytes.put_if(found.size as usize);
        Ok(())
    })
}

fn allocate_host(runtime: &Runtime, address: Out<u64>, bytes: usize, flags: u32) -> Result {
    address.check()?;
    let context = Context::current()?;
    capture::forbid_unsafe()?;
    let device = context.device.ordinal;
    address.put(
        runtime
            .memory
            .allocate_host(device, context.handle, bytes as u64, flags)?,
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(address: Out<u64>, bytes: usize) -> u32 {
    call(|runtime| allocate_host(runtime, address, bytes, 0))
}

/// The oldest form, with a size of 32 bits.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost(address: Out<u64>, bytes: u32) -> u32 {
    cuMemAllocHost_v2(address, bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: u32) -> u32 {
    call(|runtime| {
        if flags & !HOST_FLAGS != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        allocate_host(runtime, address, bytes, flags)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: u64) -> u32 {
    call(|runtime| {
        let allocation = runtime
            .memory
            .starts_at(address)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        capture::forbid_unsafe()?;
        drained(runtime, allocation.context);
        runtime.still(|| runtime.memory.free_host(address))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetFlags(flags: Out<u32>, address: u64) -> u32 {
    call(
        |runtime| match runtime.memory.find(address).map(|a| a.kind) {
            // With unified addresses all of it is mapped.
            Some(Kind::Host(found)) => flags.put(found | HOST_MAPPED),
            _ => Err(Error::ERROR_INVALID_VALUE),
        },
    )
}

/// Host memory has one address for all.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetDevicePointer_v2(device: Out<u64>, host: u64, flags: u32) -> u32 {
    call(|runtime| {
        Context::current()?;
        match runtime.memory.find(host).map(|a| a.kind) {
            Some(Kind::Host(_) | Kind::Registered(_)) if flags == 0 => device.put(host),
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    })
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister(address: u64, bytes: usize, flags: u32) -> u32 {
    cuMemHostRegister_v2(address, bytes, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(address: u64, bytes: usize, flags: u32) -> u32 {
    call(|runtime| {
        let context = Context::current()?;
        capture::forbid_unsafe()?;
        if flags & !REGISTER_FLAGS != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if flags & REGISTER_IOMEMORY != 0 {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
        runtime.memory.register(
            context.device.ordinal,
            context.handle,
            address,
            bytes as u64,
            flags,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(address: u64) -> u32 {
    call(|runtime| {
        Context::try_current().ok_or(Error::ERROR_INVALID_CONTEXT)?;
        let allocation = runtime.memory.starts_at(address);
        let owner = allocation
            .ok_or(Error::ERROR_HOST_MEMORY_NOT_REGISTERED)?
            .context;
        capture::forbid_unsafe()?;
        drained(runtime, owner);
        runtime.still(|| runtime.memory.unregister(address))
    })
}

/// A context as a call names it; null is the current one.
pub fn named(runtime: &Runtime, context: Handle) -> Result<std::sync::Arc<Context>> {
    if context == 0 {
        Context::current()
    } else {
        runtime.context(context)
    }
}
