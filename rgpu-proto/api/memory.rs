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

    /// `kind` 0: at `address`, inside the granted window; 1: where the driver likes, for a driver that refuses windows.
    #[op(0x0401, waits = "out of memory is told at the call; only when the mapped slabs do not suffice", server, makes)]
    fn rgpuMemoryMap(device: i32, kind: u32, address: u64, bytes: u64, #[out] placed: u64);
    #[op(0x0402, one_way, server, reaped)]
    fn rgpuMemoryUnmap(device: i32, kind: u32, address: u64, bytes: u64);
    #[op(0x0403, waits = "other sessions share the device", server, blocks)]
    fn rgpuMemoryInfo(device: i32, #[out] free: u64, #[out] total: u64, #[out] limit: u64, #[out] mapped: u64);
    /// How much of what is mapped on a device the program does not use, for who watches from outside. It goes ahead of a call that waits.
    #[op(0x0404, one_way, server, no_context)]
    fn rgpuMemoryUnused(device: i32, bytes: u64);
}
