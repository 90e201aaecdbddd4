//! What graphs and nodes are called in pictures of them, and what a node of any kind does.

unsafe extern "C" {
    #[op(0x0900, waits = "the number is the server's")]
    fn cuGraphGetId(graph: Graph, #[out] id: u32);
    #[op(0x0901, waits = "the number is the server's")]
    fn cuGraphExecGetId(exec: GraphExec, #[out] id: u32);
    #[op(0x0902, waits = "the number is the server's")]
    fn cuGraphNodeGetLocalId(node: GraphNode, #[out] id: u32);
    #[op(0x0903, waits = "the number is the server's")]
    fn cuGraphNodeGetToolsId(node: GraphNode, #[out] id: u64);
    #[local]
    fn cuGraphNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphAddNode_v3(node: *mut u64, graph: u64, dependencies: *const u64, edges: *const c_void, count: usize, params: *mut c_void);
    #[local]
    fn cuGraphNodeSetParams_v2(node: u64, params: *const c_void);
    #[driver]
    fn cuGraphNodeGetParams(node: *mut c_void, params: *mut c_void);
}
