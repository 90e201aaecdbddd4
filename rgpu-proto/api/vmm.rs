//! The program's own virtual memory management. Addresses and physical memory are the driver's; what is mapped where, and who may use it,
//! is known to the client, so that mapping need not wait.

unsafe extern "C" {
    #[local]
    fn cuMemAddressReserve(address: *mut u64, bytes: usize, alignment: usize, hint: u64, flags: u64);
    #[local]
    fn cuMemAddressFree(address: u64, bytes: usize);
    #[local]
    fn cuMemGetAllocationGranularity(granularity: *mut usize, prop: *const c_void, option: u32);
    #[local]
    fn cuMemCreate(handle: *mut u64, bytes: usize, prop: *const c_void, flags: u64);
    #[local]
    fn cuMemRelease(handle: u64);
    #[local]
    fn cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, flags: u64);
    #[local]
    fn cuMemUnmap(address: u64, bytes: usize);
    #[local]
    fn cuMemSetAccess(address: u64, bytes: usize, access: *const c_void, count: usize);
    #[local]
    fn cuMemGetAccess(flags: *mut u64, location: *const c_void, address: u64);
    #[local]
    fn cuMemRetainAllocationHandle(handle: *mut u64, address: *mut c_void);
    #[local]
    fn cuMemGetAllocationPropertiesFromHandle(prop: *mut c_void, handle: u64);

    #[op(0x0430, waits = "the driver has the last word on addresses", server, no_context, makes)]
    fn rgpuAddressReserve(bytes: u64, alignment: u64, hint: u64, #[out] placed: u64);
    #[op(0x0431, one_way, server, no_context)]
    fn rgpuAddressFree(address: u64, bytes: u64);
    #[op(0x0432, waits = "out of memory is told at the call", server, no_context, makes)]
    fn rgpuPhysicalCreate(id: u64, device: i32, bytes: u64);
    /// Mapped nowhere any more.
    #[op(0x0433, one_way, server, no_context)]
    fn rgpuPhysicalRelease(id: u64);
    #[op(0x0434, one_way, server, no_context)]
    fn rgpuPhysicalMap(id: u64, address: u64);
    #[op(0x0435, waits = "work may still use the memory", server, blocks)]
    fn rgpuPhysicalUnmap(address: u64, bytes: u64);
    #[op(0x0436, one_way, server, no_context)]
    fn rgpuPhysicalAccess(address: u64, bytes: u64, device: i32, flags: u32);
    #[op(0x0437, waits = "the granularity is the driver's", server, no_context)]
    fn rgpuGranularity(device: i32, option: u32, #[out] bytes: u64);
}
