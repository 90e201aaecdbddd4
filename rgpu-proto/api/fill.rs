//! Fills.

unsafe extern "C" {
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
    #[local]
    fn cuMemsetD2D8_v2(dst: u64, pitch: usize, value: u8, width: usize, height: usize);
    #[local]
    fn cuMemsetD2D8Async(dst: u64, pitch: usize, value: u8, width: usize, height: usize, stream: u64);
    #[local]
    fn cuMemsetD2D16_v2(dst: u64, pitch: usize, value: u16, width: usize, height: usize);
    #[local]
    fn cuMemsetD2D16Async(dst: u64, pitch: usize, value: u16, width: usize, height: usize, stream: u64);
    #[local]
    fn cuMemsetD2D32_v2(dst: u64, pitch: usize, value: u32, width: usize, height: usize);
    #[local]
    fn cuMemsetD2D32Async(dst: u64, pitch: usize, value: u32, width: usize, height: usize, stream: u64);

    /// `width` is the element size in bytes: 1, 2 or 4.
    #[op(0x0413, one_way, server)]
    fn rgpuMemset(dst: DevicePtr, width: u32, value: u32, count: u64, stream: Stream, sync: u32);
    /// `element` is 1, 2 or 4 bytes, `width` counts elements.
    #[op(0x0423, one_way, server)]
    fn rgpuMemset2D(dst: DevicePtr, pitch: u64, element: u32, value: u32, width: u64, height: u64, stream: Stream, sync: u32);
}
