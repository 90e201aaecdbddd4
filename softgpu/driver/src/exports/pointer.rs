//! What is known of a pointer.

use std::ffi::c_void;

use super::call;
use crate::abi::{In, Out};
use crate::error::{Error, Result};
use crate::graph::GRAPH_OWNED;
use crate::memory::{Allocation, Kind, MODULE_OWNED};
use crate::runtime::Runtime;

const TYPE_HOST: u32 = 1;
const TYPE_DEVICE: u32 = 2;
const MAX_ATTRIBUTES: u32 = 64;
const ACCESS_READ_WRITE: u32 = 3;

/// One attribute; `data` is where its value goes, of a type that depends on it.
fn attribute(
    runtime: &Runtime,
    found: &Allocation,
    attribute: u32,
    data: u64,
    pointer: u64,
) -> Result {
    // SAFETY: the C caller's place has the attribute's type. NVIDIA's driver writes booleans as four bytes too.
    let (word, long) = unsafe { (Out::<u32>::at(data), Out::<u64>::at(data)) };
    let on_device = found.kind.on_device();
    match attribute {
        1 => long.put(found.context), // CONTEXT
        2 => word.put(if on_device { TYPE_DEVICE } else { TYPE_HOST }),
        3 => long.put(pointer), // DEVICE_POINTER
        4 => match found.kind {
            Kind::Host(_) | Kind::Registered(_) | Kind::Managed => long.put(pointer),
            Kind::Device | Kind::Array | Kind::Mapped | Kind::Imported { .. } => {
                Err(Error::ERROR_INVALID_VALUE)
            }
        },
        5 => Err(Error::ERROR_NOT_SUPPORTED), // P2P_TOKENS
        6 => word.put(u32::from(found.sync_memops)),
        7 => long.put(found.id),
        8 => word.put(u32::from(found.kind == Kind::Managed)),
        9 => {
            let device = runtime
                .devices
                .iter()
                .position(|d| d.ordinal == found.device);
            word.put(device.unwrap_or(0) as u32)
        }
        // IS_LEGACY_CUDA_IPC_CAPABLE
        10 => word.put(u32::from(found.kind == Kind::Device && found.pool == 0)),
        11 => long.put(found.base),
        12 => long.put(found.size),
        13 => word.put(u32::from(runtime.memory.space.check(pointer, 1))),
        14 => long.put(u64::from(found.is_shareable())), // ALLOWED_HANDLE_TYPES
        15 => word.put(0),                               // IS_GPU_DIRECT_RDMA_CAPABLE
        16 => word.put(ACCESS_READ_WRITE),
        // MEMPOOL_HANDLE
        17 => long.put(match found.pool {
            GRAPH_OWNED | MODULE_OWNED => 0,
            pool => pool,
        }),
        18 => long.put(found.size), // MAPPING_SIZE
        19 => long.put(found.base), // MAPPING_BASE_ADDR
        20 => long.put(found.id),   // MEMORY_BLOCK_ID
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(data: Out<c_void>, which: u32, pointer: u64) -> u32 {
    call(|runtime| {
        data.check()?;
        let found = runtime
            .memory
            .find(pointer)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        attribute(runtime, &found, which, data.address(), pointer)
    })
}

/// Unlike the singular, this has an answer for every pointer: zeroes for what CUDA does not know.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttributes(
    count: u32,
    attributes: In<u32>,
    data: In<u64>,
    pointer: u64,
) -> u32 {
    call(|runtime| {
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let found = runtime.memory.find(pointer);
        for (which, place) in attributes
            .list(count as usize)?
            .into_iter()
            .zip(data.list(count as usize)?)
        {
            if !(1..=20).contains(&which) || which == 5 {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            let known = found
                .as_ref()
                .map(|found| attribute(runtime, found, which, place, pointer));
            if !matches!(known, Some(Ok(()))) {
                zero(which, place)?;
            }
        }
        Ok(())
    })
}

/// Only one can be set: memory operations on this memory always end before they return.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerSetAttribute(value: In<c_void>, attribute: u32, pointer: u64) -> u32 {
    const SYNC_MEMOPS: u32 = 6;
    call(|runtime| {
        if attribute != SYNC_MEMOPS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let sync = value.cast::<u32>().get()? & 1 != 0;
        runtime.memory.set_sync_memops(pointer, sync)
    })
}

fn zero(which: u32, place: u64) -> Result {
    // SAFETY: as in `attribute`.
    unsafe {
        match which {
            // "No device" is an ordinal of its own.
            9 => Out::<i32>::at(place).put(-2),
            2 | 6 | 8 | 10 | 13 | 15 | 16 => Out::<u32>::at(place).put(0),
            _ => Out::<u64>::at(place).put(0),
        }
    }
}
