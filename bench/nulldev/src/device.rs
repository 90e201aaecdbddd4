//! The one device.

use std::ffi::c_char;

use crate::abi::{In, Out, answer, put_text};
use crate::config;
use crate::errors::{Error, Result};

pub const MEMORY: u64 = 16 << 30;
pub const CAPABILITY: u32 = 86;
pub const MULTIPROCESSORS: i32 = 84;
pub const THREADS_PER_BLOCK: i32 = 1024;
pub const THREADS_PER_MULTIPROCESSOR: i32 = 1536;
pub const BLOCKS_PER_MULTIPROCESSOR: i32 = 16;
/// Shared memory of a block that does not ask for more, and of one that does.
pub const SHARED: i32 = 48 << 10;
pub const SHARED_OPTIN: i32 = 99 << 10;
const PCI: &str = "0000:E0:00.0";
/// The last of CUdevice_attribute.
const LAST_ATTRIBUTE: i32 = 161;

pub fn check(device: i32) -> Result {
    config::paced()?;
    match device {
        0 => Ok(()),
        _ => Err(Error::INVALID_DEVICE),
    }
}

/// What is not listed is not supported, so 0.
fn attribute(attribute: i32) -> Result<i32> {
    Ok(match attribute {
        1 => THREADS_PER_BLOCK,           // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,                    // MAX_BLOCK_DIM_X, Y
        4 => 64,                          // MAX_BLOCK_DIM_Z
        5 => i32::MAX,                    // MAX_GRID_DIM_X
        6 | 7 => 65_535,                  // MAX_GRID_DIM_Y, Z
        8 => SHARED,                      // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 64 << 10,                    // TOTAL_CONSTANT_MEMORY
        10 => 32,                         // WARP_SIZE
        11 => i32::MAX,                   // MAX_PITCH
        12 | 82 => 65_536,                // MAX_REGISTERS_PER_BLOCK, PER_MULTIPROCESSOR
        13 => 1_695_000,                  // CLOCK_RATE, kHz
        14 | 51 => 512,                   // TEXTURE_ALIGNMENT, TEXTURE_PITCH_ALIGNMENT
        15 => 1,                          // GPU_OVERLAP
        16 => MULTIPROCESSORS,            // MULTIPROCESSOR_COUNT
        19 => 1,                          // CAN_MAP_HOST_MEMORY
        31 => 1,                          // CONCURRENT_KERNELS
        33 => 0xe0,                       // PCI_BUS_ID
        36 => 9_751_000,                  // MEMORY_CLOCK_RATE, kHz
        37 => 384,                        // GLOBAL_MEMORY_BUS_WIDTH
        38 => 6 << 20,                    // L2_CACHE_SIZE
        39 => THREADS_PER_MULTIPROCESSOR, // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 2,                          // ASYNC_ENGINE_COUNT
        41 => 1,                          // UNIFIED_ADDRESSING
        75 => CAPABILITY as i32 / 10,     // COMPUTE_CAPABILITY_MAJOR
        76 => CAPABILITY as i32 % 10,     // COMPUTE_CAPABILITY_MINOR
        78 => 1,                          // STREAM_PRIORITIES_SUPPORTED
        79 | 80 => 1,                     // GLOBAL_L1_CACHE_SUPPORTED, LOCAL_L1_CACHE_SUPPORTED
        81 => SHARED_OPTIN + 1024,        // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        87 => 32,                         // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        90 => 1,                          // COMPUTE_PREEMPTION_SUPPORTED
        91 => 1,                          // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        95 => 1,                          // COOPERATIVE_LAUNCH
        97 => SHARED_OPTIN,               // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        99 => 1,                          // HOST_REGISTER_SUPPORTED
        102 => 1,                         // VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        106 => BLOCKS_PER_MULTIPROCESSOR, // MAX_BLOCKS_PER_MULTIPROCESSOR
        111 => 1024,                      // RESERVED_SHARED_MEMORY_PER_BLOCK
        131 | 134 => -1,                  // NUMA_ID, HOST_NUMA_ID
        _ if (1..=LAST_ATTRIBUTE).contains(&attribute) => 0,
        _ => return Err(Error::INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: Out<i32>) -> u32 {
    answer(|| config::paced().and_then(|_| count.put(1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: Out<i32>, ordinal: i32) -> u32 {
    answer(|| check(ordinal).and_then(|()| device.put(ordinal)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: Out<i32>, which: i32, device: i32) -> u32 {
    answer(|| check(device).and_then(|()| value.put(attribute(which)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) -> u32 {
    answer(|| {
        check(device)?;
        major.put(CAPABILITY as i32 / 10)?;
        minor.put(CAPABILITY as i32 % 10)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: Out<c_char>, length: i32, device: i32) -> u32 {
    answer(|| check(device).and_then(|()| put_text(name, length, "Null device")))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) -> u32 {
    answer(|| check(device).and_then(|()| uuid.put(*b"null device\0\0\0\0\0")))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) -> u32 {
    cuDeviceGetUuid(uuid, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) -> u32 {
    answer(|| check(device).and_then(|()| bytes.put(MEMORY as usize)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(id: Out<c_char>, length: i32, device: i32) -> u32 {
    answer(|| check(device).and_then(|()| put_text(id, length, PCI)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetByPCIBusId(device: Out<i32>, id: In<c_char>) -> u32 {
    answer(|| {
        config::paced()?;
        match id.text()?.to_bytes().eq_ignore_ascii_case(PCI.as_bytes()) {
            true => device.put(0),
            false => Err(Error::INVALID_DEVICE),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) -> u32 {
    answer(|| {
        check(device)?;
        check(peer)?;
        can.put(0)
    })
}

/// Between two different devices, of which there are none.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetP2PAttribute(_: Out<i32>, _: i32, _device: i32, _peer: i32) -> u32 {
    Error::INVALID_DEVICE.0
}
