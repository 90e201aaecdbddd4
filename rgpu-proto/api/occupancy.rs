//! Occupancy: asked once for each function and set of arguments, then remembered. A program's function for the size of shared memory
//! runs in the client.

unsafe extern "C" {
    #[local]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut i32, function: u64, block_size: i32, shared_bytes: usize);
    #[local]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks: *mut i32, function: u64, block_size: i32, shared_bytes: usize, flags: u32);
    #[local]
    fn cuOccupancyMaxPotentialBlockSize(min_grid: *mut i32, block_size: *mut i32, function: u64, shared_for: *const c_void, shared_bytes: usize, limit: i32);
    #[local]
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(min_grid: *mut i32, block_size: *mut i32, function: u64, shared_for: *const c_void, shared_bytes: usize, limit: i32, flags: u32);
    #[local]
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: *mut usize, function: u64, blocks: i32, block_size: i32);
    #[local]
    fn cuOccupancyMaxPotentialClusterSize(size: *mut i32, function: u64, config: *const c_void);
    #[local]
    fn cuOccupancyMaxActiveClusters(count: *mut i32, function: u64, config: *const c_void);

    /// `sizes`: threads of a block (4 bytes) and its dynamic shared memory (8 bytes), for each. Body of the reply: how many such blocks
    /// fit a multiprocessor, 4 bytes each.
    #[op(0x0340, waits = "asked once for each function and size", server)]
    fn rgpuOccupancyBlocks(function: Function, flags: u32, #[bytes] sizes: HostPtr, #[reply_bytes] blocks: HostPtr);
    #[op(0x0341, waits = "asked once for each function and size", server)]
    fn rgpuOccupancyShared(function: Function, blocks: i32, block_size: i32, #[out] bytes: u64);
    /// `what`: 0 the largest cluster, 1 how many clusters fit. `attributes`: as in rgpuLaunchEx.
    #[op(0x0342, waits = "asked once for each function and shape", server)]
    fn rgpuOccupancyClusters(function: Function, what: u32, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, #[bytes] attributes: HostPtr, #[out] value: i32);
}
