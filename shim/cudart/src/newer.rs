//! Calls that came with CUDA 13: the driver's where it has them, and otherwise by those that older drivers have.

use std::ffi::c_void;

use crate::abi::{Handle, Location};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, context, memory};

/// Ranges of managed memory, and to where each of them goes.
struct Ranges {
    addresses: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
}

impl Ranges {
    /// Address and size of each, which must be of managed memory.
    unsafe fn list(&self, cu: &Driver, flags: u64) -> Result<Vec<(u64, usize)>> {
        const READ_MOSTLY: u32 = 1;
        let missing = self.addresses.is_null() || self.sizes.is_null();
        if missing || self.count == 0 || flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let range = |at| {
            let (address, size) = (*self.addresses.add(at) as u64, *self.sizes.add(at));
            let mut value = 0i32;
            let place = (&raw mut value).cast();
            cu.cuMemRangeGetAttribute(place, size_of::<i32>(), READ_MOSTLY, address, size)?;
            Ok((address, size))
        };
        (0..self.count).map(range).collect()
    }
}

/// Places `first[k]` to `first[k + 1]` go to `locations[k]`.
unsafe fn location_of(
    locations: *const Location,
    first: *const usize,
    kinds: usize,
    count: usize,
) -> Result<impl Fn(usize) -> Location> {
    if locations.is_null() || first.is_null() || kinds == 0 || kinds > count {
        return Err(Error::INVALID_VALUE);
    }
    let firsts = std::slice::from_raw_parts(first, kinds).to_vec();
    let rising = firsts.windows(2).all(|pair| pair[0] < pair[1]);
    if firsts[0] != 0 || !rising || firsts[kinds - 1] >= count {
        return Err(Error::INVALID_VALUE);
    }
    let locations = std::slice::from_raw_parts(locations, kinds).to_vec();
    Ok(move |at| locations[firsts.partition_point(|first| *first <= at) - 1])
}

pub unsafe fn cudaMemPrefetchBatchAsync(
    runtime: &Runtime,
    addresses: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    locations: *mut Location,
    first: *mut usize,
    kinds: usize,
    flags: u64,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let (places, at) = (addresses.cast(), locations.cast());
    match cu.cuMemPrefetchBatchAsync(places, sizes, count, at, first, kinds, flags, stream) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    let ranges = Ranges {
        addresses,
        sizes,
        count,
    }
    .list(cu, flags)?;
    let location = location_of(locations, first, kinds, count)?;
    for (at, (address, size)) in ranges.into_iter().enumerate() {
        let address = address as *const c_void;
        memory::cudaMemPrefetchAsync_v2(runtime, address, size, location(at), 0, stream)?;
    }
    Ok(())
}

/// What is discarded may have any contents, also those that it had.
pub unsafe fn cudaMemDiscardBatchAsync(
    runtime: &Runtime,
    addresses: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    flags: u64,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuMemDiscardBatchAsync(addresses.cast(), sizes, count, flags, stream) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    Ranges {
        addresses,
        sizes,
        count,
    }
    .list(cu, flags)
    .map(drop)
}

pub unsafe fn cudaMemDiscardAndPrefetchBatchAsync(
    runtime: &Runtime,
    addresses: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    locations: *mut Location,
    first: *mut usize,
    kinds: usize,
    flags: u64,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let (places, at) = (addresses.cast(), locations.cast());
    match cu
        .cuMemDiscardAndPrefetchBatchAsync(places, sizes, count, at, first, kinds, flags, stream)
    {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    cudaMemPrefetchBatchAsync(
        runtime, addresses, sizes, count, locations, first, kinds, flags, stream,
    )
}

/// The device of a location that has pools of its memory: older drivers have no others.
unsafe fn device_of(cu: &Driver, location: *const Location, kind: u32) -> Result<i32> {
    const DEVICE: u32 = 1;
    /// cudaMemAllocationTypePinned.
    const PINNED: u32 = 1;
    let location = location.as_ref().ok_or(Error::INVALID_VALUE)?;
    match (location.kind, kind) {
        (DEVICE, PINNED) => context::handle(cu, location.id),
        _ => Err(Error::NOT_SUPPORTED),
    }
}

pub unsafe fn cudaMemGetDefaultMemPool(
    runtime: &Runtime,
    pool: *mut Handle,
    location: *mut Location,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuMemGetDefaultMemPool(pool.cast(), location.cast(), kind) {
        Err(Error::NOT_SUPPORTED) => {
            cu.cuDeviceGetDefaultMemPool(pool.cast(), device_of(cu, location, kind)?)
        }
        result => result,
    }
}

pub unsafe fn cudaMemGetMemPool(
    runtime: &Runtime,
    pool: *mut Handle,
    location: *mut Location,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuMemGetMemPool(pool.cast(), location.cast(), kind) {
        Err(Error::NOT_SUPPORTED) => {
            cu.cuDeviceGetMemPool(pool.cast(), device_of(cu, location, kind)?)
        }
        result => result,
    }
}

pub unsafe fn cudaMemSetMemPool(
    runtime: &Runtime,
    location: *mut Location,
    kind: u32,
    pool: Handle,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuMemSetMemPool(location.cast(), kind, pool) {
        Err(Error::NOT_SUPPORTED) => cu.cuDeviceSetMemPool(device_of(cu, location, kind)?, pool),
        result => result,
    }
}

/// A link without native atomics is capable of none of them; what one with them is capable of, only its driver can tell.
unsafe fn none_of(
    native: i32,
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
) -> Result {
    /// cudaAtomicOperation's last.
    const LAST: u32 = 12;
    if capabilities.is_null() || operations.is_null() || count == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let operations = std::slice::from_raw_parts(operations, count as usize);
    if operations.iter().any(|operation| *operation > LAST) {
        return Err(Error::INVALID_VALUE);
    }
    if native != 0 {
        return Err(Error::NOT_SUPPORTED);
    }
    std::slice::from_raw_parts_mut(capabilities, count as usize).fill(0);
    Ok(())
}

pub unsafe fn cudaDeviceGetHostAtomicCapabilities(
    runtime: &Runtime,
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
    device: i32,
) -> Result {
    const HOST_NATIVE_ATOMIC_SUPPORTED: u32 = 86;
    let cu = runtime.driver()?;
    let device = context::handle(cu, device)?;
    match cu.cuDeviceGetHostAtomicCapabilities(capabilities, operations.cast(), count, device) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    let mut native = 0;
    cu.cuDeviceGetAttribute(&mut native, HOST_NATIVE_ATOMIC_SUPPORTED, device)?;
    none_of(native, capabilities, operations, count)
}

pub unsafe fn cudaDeviceGetP2PAtomicCapabilities(
    runtime: &Runtime,
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
    from: i32,
    to: i32,
) -> Result {
    const NATIVE_ATOMIC_SUPPORTED: u32 = 3;
    let cu = runtime.driver()?;
    let (from, to) = (context::handle(cu, from)?, context::handle(cu, to)?);
    match cu.cuDeviceGetP2PAtomicCapabilities(capabilities, operations.cast(), count, from, to) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    let mut native = 0;
    cu.cuDeviceGetP2PAttribute(&mut native, NATIVE_ATOMIC_SUPPORTED, from, to)?;
    none_of(native, capabilities, operations, count)
}
