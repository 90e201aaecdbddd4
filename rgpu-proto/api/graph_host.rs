//! Launches of graphs, and what of the program's they need.

unsafe extern "C" {
    #[local]
    fn cuGraphLaunch(exec: u64, stream: u64);

    #[op(0x0756, one_way, server)]
    fn rgpuGraphLaunch(exec: GraphExec, stream: Stream);
    /// What of the program's a launch needs: the number of its functions, then of each copy (32 bytes) direction, number, address and length.
    #[op(0x0757, waits = "the answer is the server's", server)]
    fn rgpuGraphHosts(exec: GraphExec, #[reply_bytes] hosts: HostPtr);
    /// Bytes for a copy's buffer: in the stream's order, or (`now` 1) at once.
    #[op(0x0758, one_way, server)]
    fn rgpuGraphFill(copy: u64, stream: Stream, now: u32, offset: u64, #[bytes] data: HostPtr);
    /// Bytes of a copy's buffer. `ready` 0: launches that use it are under way, and there are none, unless `now` is 1.
    #[op(0x0759, waits = "the program reads the bytes", server)]
    fn rgpuGraphFetch(copy: u64, now: u32, offset: u64, bytes: u64, #[out] ready: u32, #[reply_bytes] data: HostPtr);
    #[driver]
    fn cuGraphLaunch(exec: *mut c_void, stream: *mut c_void);
    #[driver]
    fn cuEventCreate(event: *mut *mut c_void, flags: u32);
    #[driver]
    fn cuEventDestroy_v2(event: *mut c_void);
    #[driver]
    fn cuEventRecord(event: *mut c_void, stream: *mut c_void);
    #[driver]
    fn cuEventQuery(event: *mut c_void);
    #[driver]
    fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: u32);
}
