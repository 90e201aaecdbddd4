//! Prefetches and discards of many ranges at once: remembered, as single ones are.

unsafe extern "C" {
    #[local]
    fn cuMemPrefetchBatchAsync(addresses: *const u64, sizes: *const usize, count: usize, locations: *const u64, firsts: *const usize, location_count: usize, flags: u64, stream: u64);
    #[local]
    fn cuMemDiscardBatchAsync(addresses: *const u64, sizes: *const usize, count: usize, flags: u64, stream: u64);
    #[local]
    fn cuMemDiscardAndPrefetchBatchAsync(addresses: *const u64, sizes: *const usize, count: usize, locations: *const u64, firsts: *const usize, location_count: usize, flags: u64, stream: u64);
    #[local]
    fn cuMemGetLocationInfo(address: u64, bytes: usize, summary: usize, sampling: usize, locations: *mut u64);
}
