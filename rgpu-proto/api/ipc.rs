//! Memory and events for other processes of the tenant's. The program's handle is a token; what it stands for goes from worker to worker, over
//! a socket that the broker makes for them. Whose token it is, the broker checks, and what it stands for, the worker that made it.

unsafe extern "C" {
    #[local]
    fn cuIpcGetMemHandle(handle: *mut rgpu_client::IpcHandle, address: u64);
    #[local]
    fn cuIpcOpenMemHandle(address: *mut u64, handle: rgpu_client::IpcHandle, flags: u32);
    #[local]
    fn cuIpcOpenMemHandle_v2(address: *mut u64, handle: rgpu_client::IpcHandle, flags: u32);
    #[local]
    fn cuIpcCloseMemHandle(address: u64);
    #[local]
    fn cuIpcGetEventHandle(handle: *mut rgpu_client::IpcHandle, event: u64);
    #[local]
    fn cuIpcOpenEventHandle(event: *mut u64, handle: rgpu_client::IpcHandle);

    /// `address` and `bytes` of an allocation; `kind` as in rgpuMemoryMap.
    #[op(0x0b00, waits = "the secret is the server's", server, makes)]
    fn rgpuIpcMemoryExport(device: i32, kind: u32, address: u64, bytes: u64, #[out] high: u64, #[out] low: u64);
    #[op(0x0b01, one_way, server, no_context)]
    fn rgpuIpcForget(high: u64, low: u64);
    /// `span`: bytes of addresses that it takes, of which the allocation has `bytes` from `offset` on; or `placed`, where the driver has placed it.
    #[op(0x0b02, waits = "another session has the memory", server, blocks, makes)]
    fn rgpuIpcMemoryOpen(id: u64, lender: u64, high: u64, low: u64, #[out] device: i32, #[out] span: u64, #[out] offset: u64, #[out] bytes: u64, #[out] placed: u64);
    #[op(0x0b03, waits = "the driver has the last word on addresses", server, blocks, makes)]
    fn rgpuIpcMemoryPlace(id: u64, hint: u64, #[out] placed: u64);
    #[op(0x0b04, waits = "work may still use the memory", server, blocks)]
    fn rgpuIpcMemoryClose(id: u64);
    #[op(0x0b05, waits = "the secret is the server's", server, makes)]
    fn rgpuIpcEventExport(id: u64, event: Event, #[out] high: u64, #[out] low: u64);
    #[op(0x0b06, waits = "another session has the event", server, blocks, makes)]
    fn rgpuIpcEventOpen(#[makes] event: Event, lender: u64, high: u64, low: u64);

    #[driver]
    fn cuIpcGetMemHandle(handle: *mut rgpu_proto::ipc::IpcHandle, address: u64);
    #[driver]
    fn cuIpcOpenMemHandle_v2(address: *mut u64, handle: rgpu_proto::ipc::IpcHandle, flags: u32);
    #[driver]
    fn cuIpcCloseMemHandle(address: u64);
    #[driver]
    fn cuIpcGetEventHandle(handle: *mut rgpu_proto::ipc::IpcHandle, event: *mut c_void);
    #[driver]
    fn cuIpcOpenEventHandle(event: *mut *mut c_void, handle: rgpu_proto::ipc::IpcHandle);
    #[driver]
    fn cuMemRetainAllocationHandle(handle: *mut u64, address: *mut c_void);
    #[driver]
    fn cuMemExportToShareableHandle(descriptor: *mut c_void, handle: u64, kind: u32, flags: u64);
    #[driver]
    fn cuMemImportFromShareableHandle(handle: *mut u64, descriptor: *mut c_void, kind: u32);
}
