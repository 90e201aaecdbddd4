//! Nodes that run other graphs as a value says, which kernels set. The value's handle is the driver's own: kernels get it as it is.

unsafe extern "C" {
    #[local]
    fn cuGraphConditionalHandleCreate(handle: *mut u64, graph: u64, context: u64, value: u32, flags: u32);

    #[op(0x0906, waits = "the handle is the server's", server, makes)]
    fn rgpuConditionalHandle(graph: Graph, context: Context, value: u32, flags: u32, #[out] handle: u64);
    /// `handle`: one that this session was given. `graphs`: ids of the node's graphs, 8 bytes each.
    #[op(0x0907, waits = "the graphs are the server's", server, makes)]
    fn rgpuGraphAddConditional(id: u64, graph: Graph, context: Context, handle: u64, kind: u32, size: u32, #[bytes] dependencies: HostPtr, #[reply_bytes] graphs: HostPtr);
    #[driver]
    fn cuGraphConditionalHandleCreate(handle: *mut u64, graph: *mut c_void, context: *mut c_void, value: u32, flags: u32);
}
