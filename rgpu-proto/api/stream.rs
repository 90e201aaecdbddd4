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
    #[op(0x0506, one_way)]
    fn cuStreamWaitEvent(stream: Stream, event: Event, #[flags(0x1)] flags: u32);
    #[op(0x0507, waits = "the answer is the server's")]
    fn cuStreamGetFlags(stream: Stream, #[out] flags: u32);
    #[op(0x0508, waits = "the answer is the server's")]
    fn cuStreamGetPriority(stream: Stream, #[out] priority: i32);
    #[local]
    fn cuStreamGetCtx(stream: u64, context: *mut u64);

    #[op(0x0520, one_way)]
    fn cuEventCreate(#[makes] event: Event, #[flags(0x7)] flags: u32);
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
}
