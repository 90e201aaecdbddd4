//! Copies. The client knows which side of a copy is whose memory; rows that lie apart in host memory travel packed.

unsafe extern "C" {
    #[local]
    fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize);
    #[local]
    fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpy(dst: u64, src: u64, bytes: usize);
    #[local]
    fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpyPeer(dst: u64, dst_context: u64, src: u64, src_context: u64, bytes: usize);
    #[local]
    fn cuMemcpyPeerAsync(dst: u64, dst_context: u64, src: u64, src_context: u64, bytes: usize, stream: u64);
    #[local]
    fn cuMemcpy2D_v2(params: *const c_void);
    #[local]
    fn cuMemcpy2DUnaligned_v2(params: *const c_void);
    #[local]
    fn cuMemcpy2DAsync_v2(params: *const c_void, stream: u64);
    #[local]
    fn cuMemcpy3D_v2(params: *const c_void);
    #[local]
    fn cuMemcpy3DAsync_v2(params: *const c_void, stream: u64);
    #[local]
    fn cuMemcpy3DPeer(params: *const c_void);
    #[local]
    fn cuMemcpy3DPeerAsync(params: *const c_void, stream: u64);

    /// `sync` 1 stands for the synchronous form (default stream, waits for the stream), 0 for the asynchronous one; of what changes device
    /// memory, 2 (`frame::LANDED`) for the synchronous form whose bytes are there before the next command is played.
    #[op(0x0410, one_way, server)]
    fn rgpuCopyIn(dst: DevicePtr, stream: Stream, sync: u32, #[bytes] data: HostPtr);
    #[op(0x0411, waits = "the program reads the bytes", server, blocks)]
    fn rgpuCopyOut(src: DevicePtr, bytes: u64, stream: Stream, sync: u32, #[out_bytes] data: HostPtr);
    #[op(0x0412, one_way, server)]
    fn rgpuCopyDevice(dst: DevicePtr, src: DevicePtr, bytes: u64, stream: Stream, sync: u32);

    /// A box of `depth` slices of `height` rows of `width` bytes. On the device, rows are `pitch` bytes apart and slices `rows` rows;
    /// in `data` they are packed.
    #[op(0x0420, one_way, server)]
    fn rgpuBoxIn(dst: DevicePtr, pitch: u64, rows: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32, #[bytes] data: HostPtr);
    #[op(0x0421, waits = "the program reads the bytes", server, blocks)]
    fn rgpuBoxOut(src: DevicePtr, pitch: u64, rows: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32, #[out_bytes] data: HostPtr);
    #[op(0x0422, one_way, server)]
    fn rgpuBoxDevice(dst: DevicePtr, dst_pitch: u64, dst_rows: u64, src: DevicePtr, src_pitch: u64, src_rows: u64, width: u64, height: u64, depth: u64, stream: Stream, sync: u32);
    /// To the program's pinned memory, in stream order. The bytes come as a reply that nobody waits for, ahead of the reply to any command
    /// that is answered when they are there.
    #[op(0x0424, one_way, server)]
    fn rgpuBoxLand(src: DevicePtr, pitch: u64, rows: u64, width: u64, height: u64, depth: u64, stream: Stream);
}
