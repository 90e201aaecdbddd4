//! Memory that host and device share. It moves where work begins and where the program hears of its end.

unsafe extern "C" {
    #[local]
    fn cuMemAllocManaged(address: *mut u64, bytes: usize, flags: u32);
    #[local]
    fn cuMemHostGetDevicePointer_v2(device: *mut u64, host: *mut c_void, flags: u32);
    #[local]
    fn cuStreamAttachMemAsync(stream: u64, address: u64, bytes: usize, flags: u32);
}
