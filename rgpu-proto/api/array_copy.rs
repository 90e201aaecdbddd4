//! Copies from and to arrays: by the rules of all copies (`copy`), as boxes of whole texels.

unsafe extern "C" {
    #[local]
    fn cuMemcpyAtoA(dst: u64, dst_offset: u32, src: u64, src_offset: u32, bytes: u32);
    #[local]
    fn cuMemcpyAtoA_v2(dst: u64, dst_offset: usize, src: u64, src_offset: usize, bytes: usize);
    #[local]
    fn cuMemcpyAtoD(dst: u32, src: u64, src_offset: u32, bytes: u32);
    #[local]
    fn cuMemcpyAtoD_v2(dst: u64, src: u64, src_offset: usize, bytes: usize);
    #[local]
    fn cuMemcpyDtoA(dst: u64, dst_offset: u32, src: u32, bytes: u32);
    #[local]
    fn cuMemcpyDtoA_v2(dst: u64, dst_offset: usize, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyAtoH(dst: *mut c_void, src: u64, src_offset: u32, bytes: u32);
    #[local]
    fn cuMemcpyAtoH_v2(dst: *mut c_void, src: u64, src_offset: usize, bytes: usize);
    #[local]
    fn cuMemcpyHtoA(dst: u64, dst_offset: u32, src: *const c_void, bytes: u32);
    #[local]
    fn cuMemcpyHtoA_v2(dst: u64, dst_offset: usize, src: *const c_void, bytes: usize);
    #[local]
    fn cuMemcpyAtoHAsync(dst: *mut c_void, src: u64, src_offset: u32, bytes: u32, stream: u64);
    #[local]
    fn cuMemcpyAtoHAsync_v2(dst: *mut c_void, src: u64, src_offset: usize, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyHtoAAsync(dst: u64, dst_offset: u32, src: *const c_void, bytes: u32, stream: u64);
    #[local]
    fn cuMemcpyHtoAAsync_v2(dst: u64, dst_offset: usize, src: *const c_void, bytes: usize, stream: u64);

    /// A box of `depth` slices of `height` rows of `width` bytes, from `x` bytes, `y` rows and `z` slices or layers on. `sync` as in
    /// rgpuCopyIn; rows in `data` are packed.
    #[op(0x0810, one_way, server)]
    fn rgpuArrayIn(array: Array, x: u64, y: u64, z: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32, #[bytes] data: HostPtr);
    #[op(0x0811, waits = "the program reads the bytes", server, blocks)]
    fn rgpuArrayOut(array: Array, x: u64, y: u64, z: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32, #[out_bytes] data: HostPtr);
    /// As rgpuBoxLand.
    #[op(0x0812, one_way, server)]
    fn rgpuArrayLand(array: Array, x: u64, y: u64, z: u64, width: u64, height: u64, depth: u64, stream: Stream);
    /// Between an array and device memory; `to_array` is the direction.
    #[op(0x0813, one_way, server)]
    fn rgpuArrayDevice(array: Array, x: u64, y: u64, z: u64, device: DevicePtr, pitch: u64, rows: u64, width: u64, height: u64, depth: u64, to_array: u32, stream: Stream, sync: u32);
    #[op(0x0814, one_way, server)]
    fn rgpuArrayArray(dst: Array, dst_x: u64, dst_y: u64, dst_z: u64, src: Array, src_x: u64, src_y: u64, src_z: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32);
    /// A copy with an end in the program's memory, as a node of a graph has it (`node_params`). `captured` 0: the stream does not capture,
    /// and nothing has happened.
    #[op(0x0815, waits = "the driver judges the call", server, makes)]
    fn rgpuCaptureBox(stream: Stream, #[bytes] params: HostPtr, #[out] captured: u32);
}
