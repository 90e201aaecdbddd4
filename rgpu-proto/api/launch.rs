//! Kernel launches. Parameters are gathered by the client from the layout that came with the module.

unsafe extern "C" {
    #[local]
    fn cuLaunchKernel(function: u64, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: u64, params: *mut *mut c_void, extra: *mut *mut c_void);
    #[local]
    fn cuLaunchKernelEx(config: *const c_void, function: u64, params: *mut *mut c_void, extra: *mut *mut c_void);
    #[local]
    fn cuLaunchKernelEx_ptsz(config: *const c_void, function: u64, params: *mut *mut c_void, extra: *mut *mut c_void);
    #[local]
    fn cuLaunchCooperativeKernel(function: u64, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: u64, params: *mut *mut c_void);
    #[op(0x0601, one_way, server)]
    fn rgpuLaunch(function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: Stream, #[bytes] params: HostPtr);
    /// `attributes`: rgpu-proto's `launch` encodes them.
    #[op(0x0610, one_way, server)]
    fn rgpuLaunchEx(function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: Stream, #[bytes] attributes: HostPtr, #[bytes] params: HostPtr);
}
