//! Tensor maps: 128 bytes whose form the driver alone knows. It makes and changes them; the client's half only checks and carries.

unsafe extern "C" {
    #[local]
    fn cuTensorMapEncodeTiled(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, tile: *const u32, element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32);
    #[local]
    fn cuTensorMapEncodeIm2col(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, lower: *const i32, upper: *const i32, channels: u32, pixels: u32, element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32);
    #[local]
    fn cuTensorMapEncodeIm2colWide(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, lower: i32, upper: i32, channels: u32, pixels: u32, element_strides: *const u32, interleave: u32, mode: u32, swizzle: u32, promotion: u32, fill: u32);
    #[local]
    fn cuTensorMapReplaceAddress(map: *mut c_void, address: u64);

    /// `kind` 0: tiled, 1: im2col, 2: im2col wide. `lists`: dimensions, and from their second on strides, as 64-bit numbers; then, as 32-bit
    /// numbers, the tile or the two corners, and the elements' strides.
    #[op(0x0909, waits = "the map is the server's", server)]
    fn rgpuTensorMap(kind: u32, data_type: u32, rank: u32, address: u64, channels: u32, pixels: u32, interleave: u32, mode: u32, swizzle: u32, promotion: u32, fill: u32, #[bytes] lists: HostPtr, #[reply_bytes] map: HostPtr);
    #[op(0x090a, waits = "the map is the server's", server)]
    fn rgpuTensorMapAddress(address: u64, #[bytes] before: HostPtr, #[reply_bytes] map: HostPtr);
    #[driver]
    fn cuTensorMapEncodeTiled(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, tile: *const u32, element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32);
    #[driver]
    fn cuTensorMapEncodeIm2col(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, lower: *const i32, upper: *const i32, channels: u32, pixels: u32, element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32);
    #[driver]
    fn cuTensorMapEncodeIm2colWide(map: *mut c_void, data_type: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, lower: i32, upper: i32, channels: u32, pixels: u32, element_strides: *const u32, interleave: u32, mode: u32, swizzle: u32, promotion: u32, fill: u32);
    #[driver]
    fn cuTensorMapReplaceAddress(map: *mut c_void, address: u64);
}
