//! Stream-ordered memory and its pools: all of it over the memory that the client places itself.

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
}
