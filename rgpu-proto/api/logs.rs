//! What the client has said on stderr. What the server's driver says of itself stays on the server.

unsafe extern "C" {
    #[local]
    fn cuLogsRegisterCallback(function: *const c_void, data: u64, callback: *mut u64);
    #[local]
    fn cuLogsUnregisterCallback(callback: u64);
    #[local]
    fn cuLogsCurrent(iterator: *mut u32, flags: u32);
    #[local]
    fn cuLogsDumpToFile(iterator: *mut u32, path: *const c_char, flags: u32);
    #[local]
    fn cuLogsDumpToMemory(iterator: *mut u32, buffer: *mut c_char, size: *mut usize, flags: u32);
}
