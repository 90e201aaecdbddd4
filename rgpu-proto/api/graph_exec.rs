//! Executable graphs: what nodes they run, and with which memory of the host's.

unsafe extern "C" {
    #[local]
    fn cuGraphInstantiate_v2(exec: *mut u64, graph: u64, error_node: *mut u64, log: *mut c_char, log_bytes: usize);
    #[local]
    fn cuGraphInstantiateWithFlags(exec: *mut u64, graph: u64, flags: u64);
    #[local]
    fn cuGraphExecKernelNodeSetParams(exec: u64, node: u64, params: *const c_void);
    #[local]
    fn cuGraphExecKernelNodeSetParams_v2(exec: u64, node: u64, params: *const c_void);
    #[local]
    fn cuGraphExecMemcpyNodeSetParams(exec: u64, node: u64, params: *const c_void, context: u64);
    #[local]
    fn cuGraphExecDestroy(exec: u64);
    #[local]
    fn cuGraphInstantiate(exec: *mut u64, graph: u64, error_node: *mut u64, log: *mut c_char, log_bytes: usize);
    #[local]
    fn cuGraphInstantiateWithParams(exec: *mut u64, graph: u64, params: *mut c_void);
    #[local]
    fn cuGraphInstantiateWithParams_ptsz(exec: *mut u64, graph: u64, params: *mut c_void);
    #[local]
    fn cuGraphExecMemsetNodeSetParams(exec: u64, node: u64, params: *const c_void, context: u64);
    #[local]
    fn cuGraphExecHostNodeSetParams(exec: u64, node: u64, params: *const c_void);
    #[local]
    fn cuGraphExecEventRecordNodeSetEvent(exec: u64, node: u64, event: u64);
    #[local]
    fn cuGraphExecEventWaitNodeSetEvent(exec: u64, node: u64, event: u64);
    #[local]
    fn cuGraphExecChildGraphNodeSetParams(exec: u64, node: u64, child: u64);
    #[local]
    fn cuGraphExecNodeSetParams(exec: u64, node: u64, params: *const c_void);
    #[local]
    fn cuGraphExecUpdate(exec: u64, graph: u64, error_node: *mut u64, result: *mut u32);
    #[local]
    fn cuGraphExecUpdate_v2(exec: u64, graph: u64, info: *mut c_void);
    #[local]
    fn cuDeviceGetGraphMemAttribute(device: i32, attribute: u32, value: *mut c_void);
    #[local]
    fn cuDeviceSetGraphMemAttribute(device: i32, attribute: u32, value: *const c_void);
    #[local]
    fn cuDeviceGraphMemTrim(device: i32);
    #[op(0x0713, one_way, server)]
    fn rgpuGraphInstantiate(id: u64, graph: Graph, flags: u64);
    #[op(0x0714, one_way, server)]
    fn rgpuGraphExecKernelNodeSetParams(exec: GraphExec, node: GraphNode, function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, #[bytes] params: HostPtr);
    /// `copy`: a CUDA_MEMCPY3D whose two ends are device memory.
    #[op(0x0715, one_way, server)]
    fn rgpuGraphExecMemcpyNodeSetParams(exec: GraphExec, node: GraphNode, context: Context, #[bytes] copy: HostPtr);
    #[op(0x0750, waits = "the value is the server's")]
    fn cuGraphExecGetFlags(exec: GraphExec, #[out] flags: u64);
    #[op(0x0751, waits = "the driver judges the node")]
    fn cuGraphNodeSetEnabled(exec: GraphExec, node: GraphNode, enabled: u32);
    #[op(0x0752, waits = "the value is the server's")]
    fn cuGraphNodeGetEnabled(exec: GraphExec, node: GraphNode, #[out] enabled: u32);

    #[op(0x0753, waits = "the driver judges the graphs", server)]
    fn rgpuGraphExecChild(exec: GraphExec, node: GraphNode, child: Graph);
    /// `code`: the driver's; with CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE the other answers say why.
    #[op(0x0754, waits = "the driver judges the graphs", server)]
    fn rgpuGraphExecUpdate(exec: GraphExec, graph: Graph, #[out] code: u32, #[out] result: u32, #[out] error_node: u64, #[out] error_from: u64);
    #[op(0x0755, one_way, server, no_context)]
    fn rgpuGraphExecDestroy(#[consumes] exec: GraphExec);
    #[op(0x075a, waits = "the value is the server's", server)]
    fn rgpuGraphMemory(device: i32, attribute: u32, #[out] value: u64);
    #[op(0x075b, waits = "the driver judges the call", server)]
    fn rgpuGraphMemorySet(device: i32, attribute: u32, value: u64);
    #[op(0x075c, one_way, server)]
    fn rgpuGraphMemoryTrim(device: i32);
    #[driver]
    fn cuGraphExecDestroy(exec: *mut c_void);
    #[driver]
    fn cuGraphExecChildGraphNodeSetParams(exec: *mut c_void, node: *mut c_void, child: *mut c_void);
    #[driver]
    fn cuGraphExecUpdate_v2(exec: *mut c_void, graph: *mut c_void, info: *mut c_void);
    #[driver]
    fn cuDeviceGetGraphMemAttribute(device: i32, attribute: u32, value: *mut c_void);
    #[driver]
    fn cuDeviceSetGraphMemAttribute(device: i32, attribute: u32, value: *mut c_void);
    #[driver]
    fn cuDeviceGraphMemTrim(device: i32);
}
