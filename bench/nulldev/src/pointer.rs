//! What is known of a pointer.

use std::ffi::c_void;

use crate::abi::{In, Out, answer};
use crate::errors::{Error, Result};
use crate::memory::{Block, Kind, blocks};

const TYPE_HOST: u32 = 1;
const TYPE_DEVICE: u32 = 2;
/// No device, as cuPointerGetAttributes says it.
const NO_DEVICE: u32 = -2_i32 as u32;

fn attribute(data: Out<c_void>, which: u32, address: u64, found: Option<(u64, Block)>) -> Result {
    let (word, long) = (data.cast::<u32>(), data.cast::<u64>());
    let (base, block) = match found {
        Some(found) => found,
        None => {
            return match which {
                9 => word.put(NO_DEVICE),
                2 | 6 | 8 | 10 | 13 | 15 | 16 => word.put(0),
                _ => long.put(0),
            };
        }
    };
    let on_device = matches!(block.kind, Kind::Device | Kind::Mapped(_));
    match which {
        1 => long.put(block.context), // CONTEXT
        2 => word.put(if on_device { TYPE_DEVICE } else { TYPE_HOST }), // MEMORY_TYPE
        3 => long.put(address),       // DEVICE_POINTER
        4 if on_device => Err(Error::INVALID_VALUE), // HOST_POINTER
        4 => long.put(address),
        7 => long.put(base),                // BUFFER_ID
        6 | 8 | 9 | 10 | 15 => word.put(0), // SYNC_MEMOPS, IS_MANAGED, DEVICE_ORDINAL, IPC, RDMA
        11 | 19 => long.put(base),          // RANGE_START_ADDR, MAPPING_BASE_ADDR
        12 | 18 => long.put(block.bytes),   // RANGE_SIZE, MAPPING_SIZE
        13 => word.put(1),                  // MAPPED
        16 => word.put(3),                  // ACCESS_FLAGS
        14 | 17 => long.put(0),             // ALLOWED_HANDLE_TYPES, MEMPOOL_HANDLE
        _ => Err(Error::INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(data: Out<c_void>, which: u32, address: u64) -> u32 {
    answer(|| {
        let found = blocks().find(address).ok_or(Error::INVALID_VALUE)?;
        attribute(data, which, address, Some(found))
    })
}

/// Unlike the singular, this has an answer for every pointer.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttributes(
    count: u32,
    attributes: In<u32>,
    places: In<u64>,
    address: u64,
) -> u32 {
    answer(|| {
        let found = blocks().find(address);
        for index in 0..count as usize {
            let (which, place) = (attributes.at(index)?, Out::from(places.at(index)?));
            if attribute(place, which, address, found).is_err() {
                attribute(place, which, address, None)?;
            }
        }
        Ok(())
    })
}
