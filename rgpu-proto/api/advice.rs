//! Hints of where managed memory should be: remembered, for who asks. A CUmemLocation by value is passed as one word.

unsafe extern "C" {
    #[local]
    fn cuMemAdvise(address: u64, bytes: usize, advice: u32, device: i32);
    #[local]
    fn cuMemAdvise_v2(address: u64, bytes: usize, advice: u32, location: u64);
    #[local]
    fn cuMemPrefetchAsync(address: u64, bytes: usize, device: i32, stream: u64);
    #[local]
    fn cuMemPrefetchAsync_v2(address: u64, bytes: usize, location: u64, flags: u32, stream: u64);
    #[local]
    fn cuMemRangeGetAttribute(data: *mut c_void, size: usize, attribute: u32, address: u64, bytes: usize);
    #[local]
    fn cuMemRangeGetAttributes(data: *const *mut c_void, sizes: *const usize, attributes: *const u32, count: usize, address: u64, bytes: usize);
}
