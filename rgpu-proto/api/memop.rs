//! Streams that write values into memory and wait for them. All forms become batches.

unsafe extern "C" {
    #[local]
    fn cuStreamWaitValue32(stream: u64, address: u64, value: u32, flags: u32);
    #[local]
    fn cuStreamWaitValue32_v2(stream: u64, address: u64, value: u32, flags: u32);
    #[local]
    fn cuStreamWaitValue64(stream: u64, address: u64, value: u64, flags: u32);
    #[local]
    fn cuStreamWaitValue64_v2(stream: u64, address: u64, value: u64, flags: u32);
    #[local]
    fn cuStreamWriteValue32(stream: u64, address: u64, value: u32, flags: u32);
    #[local]
    fn cuStreamWriteValue32_v2(stream: u64, address: u64, value: u32, flags: u32);
    #[local]
    fn cuStreamWriteValue64(stream: u64, address: u64, value: u64, flags: u32);
    #[local]
    fn cuStreamWriteValue64_v2(stream: u64, address: u64, value: u64, flags: u32);
    #[local]
    fn cuStreamBatchMemOp(stream: u64, count: u32, operations: *const c_void, flags: u32);
    #[local]
    fn cuStreamBatchMemOp_v2(stream: u64, count: u32, operations: *const c_void, flags: u32);

    /// `operations`: CUstreamBatchMemOpParams, 48 bytes each.
    #[op(0x0533, one_way, server)]
    fn rgpuStreamMemOps(stream: Stream, #[bytes] operations: HostPtr);
    #[driver]
    fn cuStreamBatchMemOp_v2(stream: *mut c_void, count: u32, operations: *mut c_void, flags: u32);
}
