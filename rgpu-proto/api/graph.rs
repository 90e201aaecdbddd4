//! Graphs, as built by hand (no capture yet).

unsafe extern "C" {
    #[op(0x0701, one_way, no_context)]
    fn cuGraphCreate(#[makes] graph: Graph, #[flags(0x0)] flags: u32);
    #[op(0x0702, one_way, no_context)]
    fn cuGraphDestroy(#[consumes] graph: Graph);
    #[local]
    fn cuGraphAddKernelNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphAddKernelNode_v2(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphAddMemcpyNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void, context: u64);
    #[local]
    fn cuGraphAddEmptyNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize);
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
    #[op(0x0703, one_way)]
    fn cuGraphLaunch(exec: GraphExec, stream: Stream);
    #[op(0x0704, one_way)]
    fn cuGraphUpload(exec: GraphExec, stream: Stream);
    #[op(0x0705, one_way, no_context)]
    fn cuGraphExecDestroy(#[consumes] exec: GraphExec);

    /// `dependencies`: ids of nodes, 8 bytes each, little-endian.
    #[op(0x0710, one_way, server)]
    fn rgpuGraphAddKernelNode(id: u64, graph: Graph, function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, #[bytes] dependencies: HostPtr, #[bytes] params: HostPtr);
    /// `copy`: a CUDA_MEMCPY3D whose two ends are device memory.
    #[op(0x0711, one_way, server)]
    fn rgpuGraphAddMemcpyNode(id: u64, graph: Graph, context: Context, #[bytes] dependencies: HostPtr, #[bytes] copy: HostPtr);
    #[op(0x0712, one_way, server)]
    fn rgpuGraphAddEmptyNode(id: u64, graph: Graph, #[bytes] dependencies: HostPtr);
    #[op(0x0713, one_way, server)]
    fn rgpuGraphInstantiate(id: u64, graph: Graph, flags: u64);
    #[op(0x0714, one_way, server)]
    fn rgpuGraphExecKernelNodeSetParams(exec: GraphExec, node: GraphNode, function: Function, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, #[bytes] params: HostPtr);
    #[op(0x0715, one_way, server)]
    fn rgpuGraphExecMemcpyNodeSetParams(exec: GraphExec, node: GraphNode, context: Context, #[bytes] copy: HostPtr);
}
