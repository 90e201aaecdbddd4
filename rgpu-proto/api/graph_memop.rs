//! Nodes that write values into memory and wait for them. Their operations travel where a kernel's parameters do.

unsafe extern "C" {
    #[local]
    fn cuGraphAddBatchMemOpNode(node: *mut u64, graph: u64, dependencies: *const u64, count: usize, params: *const c_void);
    #[local]
    fn cuGraphBatchMemOpNodeGetParams(node: u64, params: *mut c_void);
    #[local]
    fn cuGraphBatchMemOpNodeSetParams(node: u64, params: *const c_void);
    #[local]
    fn cuGraphExecBatchMemOpNodeSetParams(exec: u64, node: u64, params: *const c_void);
    #[driver]
    fn cuGraphBatchMemOpNodeGetParams(node: *mut c_void, params: *mut c_void);
}
