//! Copies that come as lists, or with hints. All are judged before the first is made.

unsafe extern "C" {
    #[local]
    fn cuMemcpyBatchAsync(dsts: *const u64, srcs: *const u64, sizes: *const usize, count: usize, attributes: *const c_void, places: *const usize, kinds: usize, failed: *mut usize, stream: u64);
    #[local]
    fn cuMemcpyBatchAsync_v2(dsts: *const u64, srcs: *const u64, sizes: *const usize, count: usize, attributes: *const c_void, places: *const usize, kinds: usize, stream: u64);
    #[local]
    fn cuMemcpy3DBatchAsync(count: usize, operations: *const c_void, failed: *mut usize, flags: u64, stream: u64);
    #[local]
    fn cuMemcpy3DBatchAsync_v2(count: usize, operations: *const c_void, flags: u64, stream: u64);
    #[local]
    fn cuMemcpyWithAttributesAsync(dst: u64, src: u64, bytes: usize, attributes: *const c_void, stream: u64);
    #[local]
    fn cuMemcpy3DWithAttributesAsync(operation: *const c_void, flags: u64, stream: u64);
}
