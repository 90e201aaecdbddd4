//! Stream-ordered memory and its pools: all of it over the memory that the client places itself, but for memory of graphs.

unsafe extern "C" {
    #[local]
    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemAllocFromPoolAsync(address: *mut u64, bytes: usize, pool: u64, stream: u64);
    #[local]
    fn cuMemFreeAsync(address: u64, stream: u64);
    #[local]
    fn cuDeviceGetDefaultMemPool(pool: *mut u64, device: i32);
    #[local]
    fn cuDeviceGetMemPool(pool: *mut u64, device: i32);
    #[local]
    fn cuDeviceSetMemPool(device: i32, pool: u64);
    #[local]
    fn cuMemGetDefaultMemPool(pool: *mut u64, location: *const c_void, kind: u32);
    #[local]
    fn cuMemGetMemPool(pool: *mut u64, location: *const c_void, kind: u32);
    #[local]
    fn cuMemSetMemPool(location: *const c_void, kind: u32, pool: u64);
    #[local]
    fn cuMemPoolCreate(pool: *mut u64, props: *const c_void);
    #[local]
    fn cuMemPoolDestroy(pool: u64);
    #[local]
    fn cuMemPoolTrimTo(pool: u64, keep: usize);
    #[local]
    fn cuMemPoolGetAttribute(pool: u64, attribute: u32, value: *mut c_void);
    #[local]
    fn cuMemPoolSetAttribute(pool: u64, attribute: u32, value: *mut c_void);
    #[local]
    fn cuMemPoolGetAccess(flags: *mut u32, pool: u64, location: *mut c_void);
    #[local]
    fn cuMemPoolSetAccess(pool: u64, access: *const c_void, count: usize);

    /// Memory of the graph that the stream captures into, whose id comes back, too.
    #[op(0x090b, waits = "the address is the server's", server, makes)]
    fn rgpuCaptureAlloc(stream: Stream, device: i32, bytes: u64, #[out] address: u64, #[out] graph: u64);
    /// `address`: memory of a graph's.
    #[op(0x090c, waits = "the driver judges the address", server)]
    fn rgpuGraphMemoryFree(stream: Stream, address: u64);
    #[driver]
    fn cuDeviceGetDefaultMemPool(pool: *mut *mut c_void, device: i32);
    #[driver]
    fn cuMemAllocFromPoolAsync(address: *mut u64, bytes: usize, pool: *mut c_void, stream: *mut c_void);
    #[driver]
    fn cuMemFreeAsync(address: u64, stream: *mut c_void);
}
