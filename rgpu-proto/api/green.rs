//! Green contexts: parts of a device's multiprocessors. What a resource is made of only the driver knows: the client gets a number in its
//! place, within a CUdevResource whose public fields are the driver's.

unsafe extern "C" {
    #[local]
    fn cuDeviceGetDevResource(device: i32, resource: *mut c_void, kind: u32);
    #[local]
    fn cuCtxGetDevResource(context: u64, resource: *mut c_void, kind: u32);
    #[local]
    fn cuGreenCtxGetDevResource(green: u64, resource: *mut c_void, kind: u32);
    #[local]
    fn cuStreamGetDevResource(stream: u64, resource: *mut c_void, kind: u32);
    #[local]
    fn cuDevSmResourceSplitByCount(result: *mut c_void, count: *mut u32, input: *const c_void, rest: *mut c_void, flags: u32, least: u32);
    #[local]
    fn cuDevSmResourceSplit(result: *mut c_void, count: u32, input: *const c_void, rest: *mut c_void, flags: u32, groups: *mut c_void);
    #[local]
    fn cuDevResourceGenerateDesc(description: *mut u64, resources: *const c_void, count: u32);
    #[local]
    fn cuGreenCtxCreate(green: *mut u64, description: u64, device: i32, flags: u32);
    #[local]
    fn cuGreenCtxDestroy(green: u64);
    #[local]
    fn cuCtxFromGreenCtx(context: *mut u64, green: u64);
    #[local]
    fn cuGreenCtxGetId(green: u64, id: *mut u64);
    #[local]
    fn cuGreenCtxStreamCreate(stream: *mut u64, green: u64, flags: u32, priority: i32);
    #[local]
    fn cuStreamGetGreenCtx(stream: u64, green: *mut u64);
    #[local]
    fn cuGreenCtxRecordEvent(green: u64, event: u64);
    #[local]
    fn cuGreenCtxWaitEvent(green: u64, event: u64);

    /// `of` 0: the device `id`, 1: a context, 2: a green context, 3: a stream. `resource`: a CUdevResource.
    #[op(0x0910, waits = "the answer is the server's", server)]
    fn rgpuDevResource(of: u32, id: u64, kind: u32, #[reply_bytes] resource: HostPtr);
    /// `resources`: the parts, `most` at most, and behind them what is left. `count`: how many parts there are to be had.
    #[op(0x0911, waits = "the parts are the server's", server, no_context)]
    fn rgpuSmSplitByCount(input: u64, flags: u32, least: u32, most: u32, #[out] count: u32, #[reply_bytes] resources: HostPtr);
    /// `groups`: CU_DEV_SM_RESOURCE_GROUP_PARAMS. `resources`: the groups as the driver has filled them in, the parts if they are `wanted`, and
    /// what is left.
    #[op(0x0912, waits = "the parts are the server's", server, no_context)]
    fn rgpuSmSplit(input: u64, flags: u32, wanted: u32, #[bytes] groups: HostPtr, #[reply_bytes] resources: HostPtr);
    /// `resources`: numbers, 8 bytes each.
    #[op(0x0913, waits = "the driver judges the resources", server, no_context)]
    fn rgpuDevResourceDesc(#[bytes] resources: HostPtr, #[out] description: u64);
    /// `context`: the id of the context that stands for it.
    #[op(0x0914, waits = "a context can fail to be made", server, no_context, makes)]
    fn rgpuGreenCreate(id: u64, context: u64, primary: Context, description: u64, device: i32, flags: u32);
    #[op(0x0915, waits = "the driver may refuse it", server, no_context, blocks)]
    fn rgpuGreenDestroy(id: u64);
    #[op(0x0916, one_way, server, no_context)]
    fn rgpuGreenStreamCreate(id: u64, green: u64, flags: u32, priority: i32);
    #[op(0x0917, one_way, server, no_context)]
    fn rgpuGreenEvent(green: u64, event: Event, wait: u32);
    #[driver]
    fn cuDeviceGetDevResource(device: i32, resource: *mut c_void, kind: u32);
    #[driver]
    fn cuCtxGetDevResource(context: *mut c_void, resource: *mut c_void, kind: u32);
    #[driver]
    fn cuGreenCtxGetDevResource(green: *mut c_void, resource: *mut c_void, kind: u32);
    #[driver]
    fn cuStreamGetDevResource(stream: *mut c_void, resource: *mut c_void, kind: u32);
    #[driver]
    fn cuDevSmResourceSplitByCount(result: *mut c_void, count: *mut u32, input: *const c_void, rest: *mut c_void, flags: u32, least: u32);
    #[driver]
    fn cuDevSmResourceSplit(result: *mut c_void, count: u32, input: *const c_void, rest: *mut c_void, flags: u32, groups: *mut c_void);
    #[driver]
    fn cuDevResourceGenerateDesc(description: *mut *mut c_void, resources: *mut c_void, count: u32);
    #[driver]
    fn cuGreenCtxCreate(green: *mut *mut c_void, description: *mut c_void, device: i32, flags: u32);
    #[driver]
    fn cuGreenCtxDestroy(green: *mut c_void);
    #[driver]
    fn cuCtxFromGreenCtx(context: *mut *mut c_void, green: *mut c_void);
    #[driver]
    fn cuGreenCtxStreamCreate(stream: *mut *mut c_void, green: *mut c_void, flags: u32, priority: i32);
    #[driver]
    fn cuGreenCtxRecordEvent(green: *mut c_void, event: *mut c_void);
    #[driver]
    fn cuGreenCtxWaitEvent(green: *mut c_void, event: *mut c_void);
}
