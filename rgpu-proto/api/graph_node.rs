//! What nodes do: adding them, asking and changing.

unsafe extern "C" {
    #[local]
    fn cuGraphAddKernelNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphAddKernelNode_v2(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphAddMemcpyNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void, context: u64);
    #[local]
    fn cuGraphAddEmptyNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize);
    #[local]
    fn cuGraphAddMemsetNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void, context: u64);
    #[local]
    fn cuGraphAddHostNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphAddChildGraphNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, child: u64);
    #[local]
    fn cuGraphAddEventRecordNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, event: u64);
    #[local]
    fn cuGraphAddEventWaitNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, event: u64);
    #[local]
    fn cuGraphAddMemAllocNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *mut c_void);
    #[local]
    fn cuGraphAddMemFreeNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, address: u64);
    #[local]
    fn cuGraphAddNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *mut c_void);
    #[local]
    fn cuGraphAddNode_v2(node: *mut u64, graph: u64, dependencies: *const u64, edges: *const c_void, count: usize, params: *mut c_void);
    #[local]
    fn cuGraphKernelNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphKernelNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphMemcpyNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphMemcpyNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphMemsetNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphMemsetNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphHostNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphHostNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphKernelNodeGetParams_v2(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphKernelNodeSetParams_v2(node: u64, params: *const c_void);
    #[local]
    fn cuGraphNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphChildGraphNodeGetGraph(node: u64, graph: *mut u64);
    #[local]
    fn cuGraphEventRecordNodeGetEvent(node: u64, event: *mut u64);
    #[local]
    fn cuGraphEventRecordNodeSetEvent(node: u64, event: u64);
    #[local]
    fn cuGraphEventWaitNodeGetEvent(node: u64, event: *mut u64);
    #[local]
    fn cuGraphEventWaitNodeSetEvent(node: u64, event: u64);
    #[local]
    fn cuGraphMemAllocNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphMemFreeNodeGetParams(node: u64, address: *mut u64);
    #[local]
    fn cuGraphKernelNodeGetAttribute(node: u64, attribute: u32, value: *mut c_void);
    #[local]
    fn cuGraphKernelNodeSetAttribute(node: u64, attribute: u32, value: *const c_void);

    /// `dependencies`: ids of nodes, 8 bytes each, little-endian.
    #[op(0x0710, one_way, server)]
    fn rgpuGraphAddKernelNode(id: u64, graph: Graph, function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, #[bytes] dependencies: HostPtr, #[bytes] params: HostPtr);
    #[op(0x0712, one_way, server)]
    fn rgpuGraphAddEmptyNode(id: u64, graph: Graph, #[bytes] dependencies: HostPtr);
    #[op(0x0730, waits = "the driver judges the pair")]
    fn cuGraphKernelNodeCopyAttributes(to: GraphNode, from: GraphNode);
    #[op(0x0731, waits = "the value is the server's", server)]
    fn rgpuGraphKernelNodeGetAttribute(node: GraphNode, attribute: u32, #[out_bytes] value: HostPtr);
    #[op(0x0732, waits = "an attribute that is refused is told at the call", server)]
    fn rgpuGraphKernelNodeSetAttribute(node: GraphNode, attribute: u32, #[bytes] value: HostPtr);
    /// `params`: a CUgraphNodeParams in which handles are ids and host memory is the client's (`rgpu_proto::node_params`); `arguments`: a
    /// kernel's parameter buffer.
    #[op(0x0733, one_way, server)]
    fn rgpuGraphAddNode(id: u64, graph: Graph, #[bytes] dependencies: HostPtr, #[bytes] params: HostPtr, #[bytes] arguments: HostPtr);
    #[op(0x0734, waits = "out of memory is told at the call, and the address is the server's", server, makes)]
    fn rgpuGraphAddMemAlloc(id: u64, graph: Graph, device: i32, bytes: u64, #[out] address: u64, #[bytes] dependencies: HostPtr);
    #[op(0x0735, waits = "the driver judges the change", server)]
    fn rgpuGraphNodeSetParams(node: GraphNode, #[bytes] params: HostPtr, #[bytes] arguments: HostPtr);
    #[op(0x0736, waits = "the driver judges the change", server)]
    fn rgpuGraphExecNodeSetParams(exec: GraphExec, node: GraphNode, #[bytes] params: HostPtr, #[bytes] arguments: HostPtr);
    /// `reply`: a CUgraphNodeParams as above, and what follows it is a kernel's parameter buffer.
    #[op(0x0737, waits = "the answer is the server's", server)]
    fn rgpuGraphNodeParams(node: GraphNode, #[reply_bytes] params: HostPtr);
    #[driver]
    fn cuGraphAddNode(node: *mut *mut c_void, graph: *mut c_void, dependencies: *const *mut c_void, count: usize, params: *mut c_void);
    #[driver]
    fn cuGraphNodeSetParams(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphExecNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphNodeGetType(node: *mut c_void, kind: *mut u32);
    #[driver]
    fn cuGraphKernelNodeGetParams_v2(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphMemcpyNodeGetParams(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphMemsetNodeGetParams(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphHostNodeGetParams(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphEventRecordNodeGetEvent(node: *mut c_void, event: *mut *mut c_void);
    #[driver]
    fn cuGraphEventWaitNodeGetEvent(node: *mut c_void, event: *mut *mut c_void);
    #[driver]
    fn cuGraphChildGraphNodeGetGraph(node: *mut c_void, graph: *mut *mut c_void);
    #[driver]
    fn cuGraphMemAllocNodeGetParams(node: *mut c_void, params: *mut c_void);
    #[driver]
    fn cuGraphMemFreeNodeGetParams(node: *mut c_void, address: *mut u64);
    #[driver]
    fn cuGraphAddMemAllocNode(node: *mut *mut c_void, graph: *mut c_void, dependencies: *const *mut c_void, count: usize, params: *mut c_void);
    #[driver]
    fn cuGraphKernelNodeGetAttribute(node: *mut c_void, attribute: u32, value: *mut c_void);
    #[driver]
    fn cuGraphKernelNodeSetAttribute(node: *mut c_void, attribute: u32, value: *const c_void);
}
