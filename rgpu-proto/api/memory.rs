//! Memory. The client places allocations itself in address windows that the server has granted; the server maps memory there in slabs.

unsafe extern "C" {
    #[local]
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize);
    #[local]
    fn cuMemAllocPitch_v2(address: *mut u64, pitch: *mut usize, width: usize, height: usize, element: u32);
    #[local]
    fn cuMemFree_v2(address: u64);
    #[local]
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    #[local]
    fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64);
    #[local]
    fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize);
    #[local]
    fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32);
    #[local]
    fn cuMemFreeHost(pointer: *mut c_void);
    #[local]
    fn cuMemHostGetFlags(flags: *mut u32, pointer: *mut c_void);
    #[local]
    fn cuPointerGetAttribute(data: *mut c_void, attribute: u32, pointer: u64);
    #[local]
    fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize);
    #[local]
    fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpy(dst: u64, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemsetD8_v2(dst: u64, value: u8, count: usize);
    #[local]
    fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: u64);
    #[local]
    fn cuMemsetD16_v2(dst: u64, value: u16, count: usize);
    #[local]
    fn cuMemsetD16Async(dst: u64, value: u16, count: usize, stream: u64);
    #[local]
    fn cuMemsetD32_v2(dst: u64, value: u32, count: usize);
    #[local]
    fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: u64);

    /// `kind` 0: at `address`, inside the granted window; 1: where the driver likes, for a driver that refuses windows.
    #[op(0x0401, waits = "out of memory is told at the call; only when the mapped slabs do not suffice", server, makes)]
    fn rgpuMemoryMap(device: i32, kind: u32, address: u64, bytes: u64, #[out] placed: u64);
    #[op(0x0402, one_way, server, reaped)]
    fn rgpuMemoryUnmap(device: i32, kind: u32, address: u64, bytes: u64);
    #[op(0x0403, waits = "other sessions share the device", server)]
    fn rgpuMemoryInfo(device: i32, #[out] free: u64, #[out] total: u64, #[out] limit: u64, #[out] mapped: u64);
    /// `sync` 1 stands for the synchronous form (default stream, waits for the stream), 0 for the asynchronous one.
    #[op(0x0410, one_way, server)]
    fn rgpuCopyIn(dst: DevicePtr, stream: Stream, sync: u32, #[bytes] data: HostPtr);
    #[op(0x0411, waits = "the program reads the bytes", server, blocks)]
    fn rgpuCopyOut(src: DevicePtr, bytes: u64, stream: Stream, sync: u32, #[out_bytes] data: HostPtr);
    #[op(0x0412, one_way, server)]
    fn rgpuCopyDevice(dst: DevicePtr, src: DevicePtr, bytes: u64, stream: Stream, sync: u32);
    /// `width` is the element size in bytes: 1, 2 or 4.
    #[op(0x0413, one_way, server)]
    fn rgpuMemset(dst: DevicePtr, width: u32, value: u32, count: u64, stream: Stream, sync: u32);
}
