//! Memory of the host that copies may use without a stop: allocated by CUDA, or the program's own. On one host client and worker share the
//! pages of what is allocated.

unsafe extern "C" {
    #[local]
    fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize);
    #[local]
    fn cuMemAllocHost(pointer: *mut *mut c_void, bytes: u32);
    #[local]
    fn cuMemHostRegister(pointer: *mut c_void, bytes: usize, flags: u32);
    #[local]
    fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32);
    #[local]
    fn cuMemFreeHost(pointer: *mut c_void);
    #[local]
    fn cuMemHostGetFlags(flags: *mut u32, pointer: *mut c_void);
    #[local]
    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: u32);
    #[local]
    fn cuMemHostUnregister(pointer: *mut c_void);

    /// Pages that both sides have at this address from now on; the descriptor of their file comes with the command's bytes.
    #[op(0x0440, waits = "the device can have the pages, or a copy", server, blocks, makes)]
    fn rgpuHostShare(base: u64, bytes: u64, inode: u64);
    /// Pages that no work uses any more.
    #[op(0x0441, waits = "the addresses are free again on both sides", server, blocks, makes)]
    fn rgpuHostUnshare(base: u64);
}
