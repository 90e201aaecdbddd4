//! Functions of the program that its streams call. They run in the client, on a thread of its own that starts with the first of them.

unsafe extern "C" {
    #[local]
    fn cuLaunchHostFunc(stream: u64, function: u64, data: u64);
    #[local]
    fn cuLaunchHostFunc_v2(stream: u64, function: u64, data: u64, sync_mode: u32);
    #[local]
    fn cuStreamAddCallback(stream: u64, function: u64, data: u64, flags: u32);

    /// `kind` 0: a function of cuLaunchHostFunc's kind, 1: one of cuStreamAddCallback's, which is told `name` as its stream. `captured` 1: it
    /// has become a node of a graph.
    #[op(0x0540, waits = "a stream stands still from here on: see ARCHITECTURE.md, host functions", server, makes)]
    fn rgpuLaunchHost(stream: Stream, kind: u32, name: u64, function: u64, data: u64, #[out] captured: u32);
    /// Says that function number `done` has returned (0: none), and waits for the next one. `kind` as above; 2: a function that no stream
    /// waits for; 3: one of a graph's node.
    #[op(0x0541, waits = "for a stream to come to a function of the program", server, blocks, no_context)]
    fn rgpuHostNext(done: u64, #[out] number: u64, #[out] kind: u32, #[out] stream: u64, #[out] status: u32, #[out] function: u64, #[out] data: u64);
    #[driver]
    fn cuLaunchHostFunc(stream: *mut c_void, function: *mut c_void, data: *mut c_void);
    #[driver]
    fn cuStreamAddCallback(stream: *mut c_void, function: *mut c_void, data: *mut c_void, flags: u32);
}
