//! Streams and events.

unsafe extern "C" {
    #[op(0x0501, one_way)]
    fn cuStreamCreate(#[makes] stream: Stream, #[flags(0x1)] flags: u32);
    #[op(0x0502, one_way)]
    fn cuStreamCreateWithPriority(#[makes] stream: Stream, #[flags(0x1)] flags: u32, priority: i32);
    #[op(0x0503, one_way)]
    fn cuStreamDestroy_v2(#[consumes] stream: Stream);
    #[op(0x0504, waits = "for the work of the stream", blocks)]
    fn cuStreamSynchronize(stream: Stream);
    #[op(0x0505, waits = "the answer is the server's")]
    fn cuStreamQuery(stream: Stream);
    #[op(0x0506, one_way, apart)]
    fn cuStreamWaitEvent(stream: Stream, event: Event, #[flags(0x1)] flags: u32);
    #[op(0x0507, waits = "the answer is the server's")]
    fn cuStreamGetFlags(stream: Stream, #[out] flags: u32);
    #[op(0x0508, waits = "the answer is the server's")]
    fn cuStreamGetPriority(stream: Stream, #[out] priority: i32);
    #[local]
    fn cuStreamDestroy(stream: u64);
    #[local]
    fn cuStreamGetCtx(stream: u64, context: *mut u64);
    #[local]
    fn cuStreamGetCtx_v2(stream: u64, context: *mut u64, green: *mut u64);
    #[local]
    fn cuStreamGetDevice(stream: u64, device: *mut i32);
    #[local]
    fn cuStreamGetId(stream: u64, id: *mut u64);
    #[local]
    fn cuStreamGetAttribute(stream: u64, attribute: u32, value: *mut c_void);
    #[local]
    fn cuStreamSetAttribute(stream: u64, attribute: u32, value: *const c_void);

    /// INTERPROCESS needs DISABLE_TIMING.
    #[op(0x0520, one_way)]
    fn cuEventCreate(#[makes] event: Event, #[flags(0x7, 0x4 = 0x2)] flags: u32);
    #[op(0x0521, one_way)]
    fn cuEventDestroy_v2(#[consumes] event: Event);
    #[op(0x0522, one_way)]
    fn cuEventRecord(event: Event, stream: Stream);
    #[op(0x0523, one_way)]
    fn cuEventRecordWithFlags(event: Event, stream: Stream, #[flags(0x1)] flags: u32);
    #[op(0x0524, waits = "the answer is the server's")]
    fn cuEventQuery(event: Event);
    #[op(0x0525, waits = "for the event", blocks)]
    fn cuEventSynchronize(event: Event);
    #[op(0x0526, waits = "the time is the server's")]
    fn cuEventElapsedTime(#[out] milliseconds: f32, start: Event, end: Event);
    #[local]
    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: u64, end: u64);
    #[local]
    fn cuEventDestroy(event: u64);

    #[op(0x0530, waits = "the driver judges the pair")]
    fn cuStreamCopyAttributes(to: Stream, from: Stream);
    #[op(0x0531, waits = "the value is the server's", server)]
    fn rgpuStreamGetAttribute(stream: Stream, attribute: u32, #[out_bytes] value: HostPtr);
    #[op(0x0532, waits = "an attribute that is refused is told at the call", server)]
    fn rgpuStreamSetAttribute(stream: Stream, attribute: u32, #[bytes] value: HostPtr);
    #[driver]
    fn cuStreamGetAttribute(stream: *mut c_void, attribute: u32, value: *mut c_void);
    #[driver]
    fn cuStreamSetAttribute(stream: *mut c_void, attribute: u32, value: *const c_void);
}
