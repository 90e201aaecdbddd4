//! Which atomic operations devices can do in the host's memory, and in each other's.

unsafe extern "C" {
    #[local]
    fn cuDeviceGetHostAtomicCapabilities(capabilities: *mut u32, operations: *const u32, count: u32, device: i32);
    #[local]
    fn cuDeviceGetP2PAtomicCapabilities(capabilities: *mut u32, operations: *const u32, count: u32, src: i32, dst: i32);

    /// `operations` and `capabilities`: 4 bytes each.
    #[op(0x0908, waits = "the answer is the server's", server, no_context)]
    fn rgpuPeerAtomics(src: i32, dst: i32, #[bytes] operations: HostPtr, #[reply_bytes] capabilities: HostPtr);
    #[driver]
    fn cuDeviceGetP2PAtomicCapabilities(capabilities: *mut u32, operations: *const u32, count: u32, src: i32, dst: i32);
}
