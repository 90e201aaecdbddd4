//! CUdevice_attribute: a small device of its compute capability.

use crate::config::Config;
use crate::device::{self, Device};
use crate::limits;

/// The value, or None past the known attributes.
pub fn get(device: &Device, config: &Config, visible: i32, attribute: u32) -> Option<i32> {
    let (major, minor) = device.capability;
    let (domain, bus, slot) = device::pci(device.ordinal);
    let value: u32 = match attribute {
        1 => 1024,             // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,         // MAX_BLOCK_DIM_X, Y
        4 => 64,               // MAX_BLOCK_DIM_Z
        5 => i32::MAX as u32,  // MAX_GRID_DIM_X
        6 | 7 => 65_535,       // MAX_GRID_DIM_Y, Z
        8 => 48 << 10,         // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 64 << 10,         // TOTAL_CONSTANT_MEMORY
        10 => 32,              // WARP_SIZE
        11 => i32::MAX as u32, // MAX_PITCH
        12 | 82 => 65_536,     // MAX_REGISTERS_PER_BLOCK, PER_MULTIPROCESSOR
        13 => 1_500_000,       // CLOCK_RATE, kHz
        15 => 1,               // GPU_OVERLAP
        16 => device.multiprocessors(),
        17 => u32::from(config.kernel_timeout.is_some()), // KERNEL_EXEC_TIMEOUT
        18 => 0,                                          // INTEGRATED
        19 => 1,                                          // CAN_MAP_HOST_MEMORY
        20 => 0,                                          // COMPUTE_MODE
        31 => 1,                                          // CONCURRENT_KERNELS
        32 => 0,                                          // ECC_ENABLED
        33 => bus,
        34 => slot,
        50 => domain,
        35 => 0,         // TCC_DRIVER
        36 => 7_000_000, // MEMORY_CLOCK_RATE, kHz
        37 => 256,       // GLOBAL_MEMORY_BUS_WIDTH
        38 => 4 << 20,   // L2_CACHE_SIZE
        39 => device.threads_per_multiprocessor(),
        40 => 2, // ASYNC_ENGINE_COUNT
        41 => 1, // UNIFIED_ADDRESSING
        75 => major,
        76 => minor,
        78 => 1,      // STREAM_PRIORITIES_SUPPORTED
        79 | 80 => 1, // GLOBAL_L1_CACHE_SUPPORTED, LOCAL_L1_CACHE_SUPPORTED
        81 => device.max_shared_per_multiprocessor(),
        83 => 1, // MANAGED_MEMORY
        84 => 0, // MULTI_GPU_BOARD
        85 => visible as u32,
        86 => 0,                  // HOST_NATIVE_ATOMIC_SUPPORTED
        87 => 32,                 // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        88 => 0,                  // PAGEABLE_MEMORY_ACCESS
        89 => 1,                  // CONCURRENT_MANAGED_ACCESS
        90 => 1,                  // COMPUTE_PREEMPTION_SUPPORTED
        91 => 1,                  // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        92..=94 | 122 | 123 => 1, // stream memory operations
        95 => 1,                  // COOPERATIVE_LAUNCH
        96 => 0,                  // COOPERATIVE_MULTI_DEVICE_LAUNCH
        97 => device.max_shared_optin(),
        98 => 0,  // CAN_FLUSH_REMOTE_WRITES
        99 => 1,  // HOST_REGISTER_SUPPORTED
        100 => 0, // PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES
        101 => 1, // DIRECT_MANAGED_MEM_ACCESS_FROM_HOST
        102 => 1, // VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        103 => 1, // HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
        106 => device.blocks_per_multiprocessor(),
        115 => 1, // MEMORY_POOLS_SUPPORTED
        125 => 1, // IPC_EVENT_SUPPORTED
        // Compression, persisting L2, RDMA, other handle types, tensor maps, NUMA, multicast.
        104 | 105 | 107..=110 | 112..=114 | 116..=121 | 124 | 126..=130 | 132 | 133 | 135 => 0,
        111 => 1 << 10,               // RESERVED_SHARED_MEMORY_PER_BLOCK
        131 | 134 => return Some(-1), // NUMA_ID, HOST_NUMA_ID: none
        _ => return limits::attribute(attribute).map(|value| value as i32),
    };
    Some(value as i32)
}
