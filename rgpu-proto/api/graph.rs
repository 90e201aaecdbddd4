//! Graphs. Ids of nodes and graphs that the program adds are the client's; those that a capture or the driver makes are the server's.

unsafe extern "C" {
    #[op(0x0701, one_way, no_context)]
    fn cuGraphCreate(#[makes] graph: Graph, #[flags(0x0)] flags: u32);
    #[local]
    fn cuGraphDestroy(graph: u64);
    #[op(0x0704, one_way)]
    fn cuGraphUpload(exec: GraphExec, stream: Stream);

    #[local]
    fn cuGraphGetNodes(graph: u64, nodes: *mut u64, count: *mut usize);
    #[local]
    fn cuGraphGetRootNodes(graph: u64, nodes: *mut u64, count: *mut usize);
    #[local]
    fn cuGraphGetEdges(graph: u64, from: *mut u64, to: *mut u64, count: *mut usize);
    #[local]
    fn cuGraphGetEdges_v2(graph: u64, from: *mut u64, to: *mut u64, edges: *mut c_void, count: *mut usize);
    #[local]
    fn cuGraphNodeGetDependencies(node: u64, nodes: *mut u64, count: *mut usize);
    #[local]
    fn cuGraphNodeGetDependencies_v2(node: u64, nodes: *mut u64, edges: *mut c_void, count: *mut usize);
    #[local]
    fn cuGraphNodeGetDependentNodes(node: u64, nodes: *mut u64, count: *mut usize);
    #[local]
    fn cuGraphNodeGetDependentNodes_v2(node: u64, nodes: *mut u64, edges: *mut c_void, count: *mut usize);
    #[local]
    fn cuGraphAddDependencies(graph: u64, from: *const u64, to: *const u64, count: usize);
    #[local]
    fn cuGraphAddDependencies_v2(graph: u64, from: *const u64, to: *const u64, edges: *const c_void, count: usize);
    #[local]
    fn cuGraphRemoveDependencies(graph: u64, from: *const u64, to: *const u64, count: usize);
    #[local]
    fn cuGraphRemoveDependencies_v2(graph: u64, from: *const u64, to: *const u64, edges: *const c_void, count: usize);
    #[local]
    fn cuGraphDestroyNode(node: u64);
    #[local]
    fn cuGraphNodeGetContainingGraph(node: u64, graph: *mut u64);
    #[local]
    fn cuGraphNodeFindInClone(node: *mut u64, original: u64, clone: u64);
    #[local]
    fn cuGraphDebugDotPrint(graph: u64, path: *const c_char, flags: u32);
    #[op(0x0740, waits = "the driver judges the graph")]
    fn cuGraphClone(#[makes] clone: Graph, original: Graph);
    #[op(0x0741, waits = "the answer is the server's")]
    fn cuGraphNodeGetType(node: GraphNode, #[out] kind: u32);

    #[op(0x0742, one_way, server, no_context)]
    fn rgpuGraphDestroy(#[consumes] graph: Graph);
    /// `what` 0: all nodes, 1: roots, 2: edges as pairs. `ids`: 8 bytes each.
    #[op(0x0743, waits = "the answer is the server's", server)]
    fn rgpuGraphNodes(graph: Graph, what: u32, #[reply_bytes] ids: HostPtr);
    /// `what` 0: nodes that come before, 1: nodes that come after.
    #[op(0x0744, waits = "the answer is the server's", server)]
    fn rgpuGraphNodeLinks(node: GraphNode, what: u32, #[reply_bytes] ids: HostPtr);
    /// `pairs`: ids of who goes first and who follows, 8 bytes each.
    #[op(0x0745, waits = "the driver judges the edges", server)]
    fn rgpuGraphEdges(graph: Graph, remove: u32, #[bytes] pairs: HostPtr);
    #[op(0x0746, waits = "the driver judges the node", server, makes)]
    fn rgpuGraphDestroyNode(#[consumes] node: GraphNode);
    #[op(0x0747, waits = "the answer is the server's", server)]
    fn rgpuGraphFindInClone(original: GraphNode, clone: Graph, #[out] node: u64);
    #[op(0x0748, waits = "the text is the server's", server)]
    fn rgpuGraphDot(graph: Graph, flags: u32, #[reply_bytes] text: HostPtr);
    #[driver]
    fn cuGraphDestroy(graph: *mut c_void);
    #[driver]
    fn cuGraphGetNodes(graph: *mut c_void, nodes: *mut *mut c_void, count: *mut usize);
    #[driver]
    fn cuGraphGetRootNodes(graph: *mut c_void, nodes: *mut *mut c_void, count: *mut usize);
    #[driver]
    fn cuGraphGetEdges(graph: *mut c_void, from: *mut *mut c_void, to: *mut *mut c_void, count: *mut usize);
    #[driver]
    fn cuGraphNodeGetDependencies(node: *mut c_void, nodes: *mut *mut c_void, count: *mut usize);
    #[driver]
    fn cuGraphNodeGetDependentNodes(node: *mut c_void, nodes: *mut *mut c_void, count: *mut usize);
    #[driver]
    fn cuGraphAddDependencies(graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, count: usize);
    #[driver]
    fn cuGraphRemoveDependencies(graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, count: usize);
    #[driver]
    fn cuGraphDestroyNode(node: *mut c_void);
    #[driver]
    fn cuGraphNodeFindInClone(node: *mut *mut c_void, original: *mut c_void, clone: *mut c_void);
    #[driver]
    fn cuGraphDebugDotPrint(graph: *mut c_void, path: *const c_char, flags: u32);
}
