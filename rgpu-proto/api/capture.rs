//! Stream capture. While a capture is under way each command is answered at once, so that the driver's verdict comes at the call.

unsafe extern "C" {
    #[local]
    fn cuStreamBeginCapture(stream: u64);
    #[local]
    fn cuStreamBeginCapture_v2(stream: u64, mode: u32);
    #[local]
    fn cuStreamBeginCaptureToGraph(stream: u64, graph: u64, dependencies: *const u64, edges: *const c_void, count: usize, mode: u32);
    #[local]
    fn cuStreamEndCapture(stream: u64, graph: *mut u64);
    #[local]
    fn cuStreamIsCapturing(stream: u64, status: *mut u32);
    #[local]
    fn cuStreamGetCaptureInfo(stream: u64, status: *mut u32, id: *mut u64);
    #[local]
    fn cuStreamGetCaptureInfo_v2(stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64, dependencies: *mut *const u64, count: *mut usize);
    #[local]
    fn cuStreamGetCaptureInfo_v3(stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64, dependencies: *mut *const u64, edges: *mut *const c_void, count: *mut usize);
    #[local]
    fn cuStreamUpdateCaptureDependencies(stream: u64, dependencies: *const u64, count: usize, flags: u32);
    #[local]
    fn cuStreamUpdateCaptureDependencies_v2(stream: u64, dependencies: *const u64, edges: *const c_void, count: usize, flags: u32);
    #[local]
    fn cuThreadExchangeStreamCaptureMode(mode: *mut u32);

    #[op(0x0720, waits = "the driver judges whether the stream may capture", server, makes, blocks)]
    fn rgpuStreamBeginCapture(stream: Stream, mode: u32);
    #[op(0x0721, waits = "the driver judges whether the stream may capture", server, makes, blocks)]
    fn rgpuStreamBeginCaptureToGraph(stream: Stream, graph: Graph, mode: u32, #[bytes] dependencies: HostPtr);
    /// `graph`: an id of the server's half, or the one that the graph has.
    #[op(0x0722, waits = "the graph is the server's", server, makes)]
    fn rgpuStreamEndCapture(stream: Stream, #[out] graph: u64);
    #[op(0x0723, waits = "the answer is the server's", server)]
    fn rgpuStreamIsCapturing(stream: Stream, #[out] status: u32);
    /// `nodes`: ids, 8 bytes each.
    #[op(0x0724, waits = "the answer is the server's", server)]
    fn rgpuStreamCaptureInfo(stream: Stream, #[out] status: u32, #[out] id: u64, #[out] graph: u64, #[reply_bytes] nodes: HostPtr);
    #[op(0x0725, waits = "the driver judges the nodes", server)]
    fn rgpuStreamUpdateCapture(stream: Stream, flags: u32, #[bytes] dependencies: HostPtr);
    #[op(0x0726, one_way, server, no_context)]
    fn rgpuThreadCaptureMode(mode: u32);
    /// Whether a call that a capture would not see, such as an allocation, may be made now.
    #[op(0x0727, waits = "the driver judges the call", server)]
    fn rgpuCaptureProbe();
    /// A copy between device memory and `host`, an address of the client's; `to_device` is its direction. `captured` 0: the stream does not
    /// capture, and nothing has happened.
    #[op(0x0728, waits = "the driver judges the call", server, makes)]
    fn rgpuCaptureCopy(stream: Stream, to_device: u32, device: DevicePtr, host: u64, bytes: u64, #[out] captured: u32);
    #[driver]
    fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: u32);
    #[driver]
    fn cuStreamBeginCaptureToGraph(stream: *mut c_void, graph: *mut c_void, dependencies: *const *mut c_void, edges: *const c_void, count: usize, mode: u32);
    #[driver]
    fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void);
    #[driver]
    fn cuStreamIsCapturing(stream: *mut c_void, status: *mut u32);
    #[driver]
    fn cuStreamGetCaptureInfo_v2(stream: *mut c_void, status: *mut u32, id: *mut u64, graph: *mut *mut c_void, dependencies: *mut *const *mut c_void, count: *mut usize);
    #[driver]
    fn cuStreamUpdateCaptureDependencies(stream: *mut c_void, dependencies: *mut *mut c_void, count: usize, flags: u32);
    #[driver]
    fn cuThreadExchangeStreamCaptureMode(mode: *mut u32);
}
