//! Initialisation, version, errors and device queries: all answered from the snapshot that came at connect.

unsafe extern "C" {
    #[local]
    fn cuInit(flags: u32);
    #[local]
    fn cuDriverGetVersion(version: *mut i32);
    #[local]
    fn cuGetErrorName(error: u32, text: *mut *const c_char);
    #[local]
    fn cuGetErrorString(error: u32, text: *mut *const c_char);
    #[shim]
    fn cuGetProcAddress(symbol: *const c_char, pfn: *mut *mut c_void, cuda_version: i32, flags: u64);
    #[shim]
    fn cuGetProcAddress_v2(symbol: *const c_char, pfn: *mut *mut c_void, cuda_version: i32, flags: u64, status: *mut u32);
    #[local]
    fn cuDeviceGet(device: *mut i32, ordinal: i32);
    #[local]
    fn cuDeviceGetCount(count: *mut i32);
    #[local]
    fn cuDeviceGetName(name: *mut c_char, len: i32, device: i32);
    #[local]
    fn cuDeviceGetUuid(uuid: *mut u8, device: i32);
    #[local]
    fn cuDeviceGetUuid_v2(uuid: *mut u8, device: i32);
    #[local]
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: i32);
    #[local]
    fn cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32);
    #[local]
    fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, device: i32);
    #[local]
    fn cuDeviceGetPCIBusId(text: *mut c_char, len: i32, device: i32);
    #[local]
    fn cuDeviceGetByPCIBusId(device: *mut i32, text: *const c_char);
    #[local]
    fn cuDeviceCanAccessPeer(can: *mut i32, device: i32, peer: i32);
    #[local]
    fn cuDeviceGetP2PAttribute(value: *mut i32, attribute: i32, src: i32, dst: i32);
    #[local]
    fn cuDeviceGetProperties(properties: *mut i32, device: i32);
    #[local]
    fn cuDeviceGetLuid(luid: *mut c_char, mask: *mut u32, device: i32);
    #[local]
    fn cuDeviceGetExecAffinitySupport(can: *mut i32, kind: u32, device: i32);
    #[local]
    fn cuDeviceGetTexture1DLinearMaxWidth(width: *mut usize, format: u32, channels: u32, device: i32);
    #[local]
    fn cuFlushGPUDirectRDMAWrites(target: u32, scope: u32);
    #[local]
    fn cuProfilerInitialize(config: *const c_char, output: *const c_char, mode: u32);
    #[local]
    fn cuProfilerStart();
    #[local]
    fn cuProfilerStop();

    #[op(0x0361, waits = "the answer is the server's", server, no_context)]
    fn rgpuTexture1DWidth(format: u32, channels: u32, device: i32, #[out] width: u64);
}
