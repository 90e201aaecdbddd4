//! Contexts. Which one is current is thread state and lives in the client; every command carries it.

unsafe extern "C" {
    #[local]
    fn cuDevicePrimaryCtxRetain(context: *mut u64, device: i32);
    #[local]
    fn cuDevicePrimaryCtxRelease(device: i32);
    #[local]
    fn cuDevicePrimaryCtxRelease_v2(device: i32);
    #[local]
    fn cuDevicePrimaryCtxReset(device: i32);
    #[local]
    fn cuDevicePrimaryCtxReset_v2(device: i32);
    #[local]
    fn cuDevicePrimaryCtxGetState(device: i32, flags: *mut u32, active: *mut i32);
    #[local]
    fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32);
    #[local]
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32);
    #[local]
    fn cuCtxCreate_v2(context: *mut u64, flags: u32, device: i32);
    #[local]
    fn cuCtxCreate_v3(context: *mut u64, affinities: *const c_void, count: i32, flags: u32, device: i32);
    #[local]
    fn cuCtxCreate_v4(context: *mut u64, params: *const c_void, flags: u32, device: i32);
    #[local]
    fn cuCtxDestroy_v2(context: u64);
    #[local]
    fn cuCtxSetCurrent(context: u64);
    #[local]
    fn cuCtxGetCurrent(context: *mut u64);
    #[local]
    fn cuCtxPushCurrent_v2(context: u64);
    #[local]
    fn cuCtxPopCurrent_v2(context: *mut u64);
    #[local]
    fn cuCtxGetDevice(device: *mut i32);
    #[local]
    fn cuCtxGetDevice_v2(device: *mut i32, context: u64);
    #[local]
    fn cuCtxGetId(context: u64, id: *mut u64);
    #[local]
    fn cuCtxSetFlags(flags: u32);
    #[local]
    fn cuCtxGetSharedMemConfig(config: *mut u32);
    #[local]
    fn cuCtxSetSharedMemConfig(config: u32);
    #[local]
    fn cuCtxGetExecAffinity(affinity: *mut c_void, kind: u32);
    #[op(0x0360, one_way)]
    fn cuCtxResetPersistingL2Cache();
    #[local]
    fn cuCtxGetFlags(flags: *mut u32);
    #[local]
    fn cuCtxGetApiVersion(context: u64, version: *mut u32);
    #[local]
    fn cuCtxSynchronize();
    #[local]
    fn cuCtxSynchronize_v2(context: u64);
    #[local]
    fn cuCtxGetCacheConfig(config: *mut u32);
    #[local]
    fn cuCtxSetCacheConfig(config: u32);
    #[op(0x0201, waits = "the value is the server's")]
    fn cuCtxGetLimit(#[out] value: usize, limit: u32);
    #[op(0x0202, waits = "an unsupported limit is told at the call")]
    fn cuCtxSetLimit(limit: u32, value: usize);
    #[op(0x0203, waits = "the range is the server's")]
    fn cuCtxGetStreamPriorityRange(#[out_opt] least: i32, #[out_opt] greatest: i32);
    #[op(0x0204, waits = "the answer is the server's", apart)]
    fn cuCtxEnablePeerAccess(peer: Context, flags: u32);
    #[op(0x0205, waits = "the answer is the server's", apart)]
    fn cuCtxDisablePeerAccess(peer: Context);

    #[op(0x0210, waits = "a context can fail to be made", server, no_context, makes)]
    fn rgpuContextCreate(id: u64, flags: u32, device: i32);
    #[op(0x0211, waits = "a context can fail to be made", server, no_context, makes)]
    fn rgpuPrimaryRetain(id: u64, flags: u32, device: i32);
    #[op(0x0212, one_way, server, reaped, no_context)]
    fn rgpuContextDestroy(id: u64);
    #[op(0x0213, waits = "for the work of the context", server, blocks)]
    fn rgpuContextSynchronize();
}
