//! Events that stand for all streams of a context.

unsafe extern "C" {
    #[local]
    fn cuCtxRecordEvent(context: u64, event: u64);
    #[local]
    fn cuCtxWaitEvent(context: u64, event: u64);

    #[op(0x0904, one_way, server)]
    fn rgpuContextRecordEvent(context: Context, event: Event);
    #[op(0x0905, one_way, server)]
    fn rgpuContextWaitEvent(context: Context, event: Event);
    #[driver]
    fn cuCtxRecordEvent(context: *mut c_void, event: *mut c_void);
    #[driver]
    fn cuCtxWaitEvent(context: *mut c_void, event: *mut c_void);
}
