//! The linker. Inputs go to the driver's own as they come, and what its log says comes back with every step. The client keeps the
//! linked image.

unsafe extern "C" {
    #[local]
    fn cuLinkCreate(count: u32, options: *mut u32, values: *mut *mut c_void, state: *mut u64);
    #[local]
    fn cuLinkCreate_v2(count: u32, options: *mut u32, values: *mut *mut c_void, state: *mut u64);
    #[local]
    fn cuLinkAddData(state: u64, kind: u32, data: *mut c_void, size: usize, name: *const c_char, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[local]
    fn cuLinkAddData_v2(state: u64, kind: u32, data: *mut c_void, size: usize, name: *const c_char, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[local]
    fn cuLinkAddFile(state: u64, kind: u32, path: *const c_char, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[local]
    fn cuLinkAddFile_v2(state: u64, kind: u32, path: *const c_char, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[local]
    fn cuLinkComplete(state: u64, image: *mut *mut c_void, size: *mut usize);
    #[local]
    fn cuLinkDestroy(state: u64);

    /// `options`: as rgpu-proto's `jit` encodes them, here and below.
    #[op(0x0320, one_way, server)]
    fn rgpuLinkCreate(id: u64, info_bytes: u32, error_bytes: u32, #[bytes] options: HostPtr);
    /// Body of the reply: `info_len` and `error_len` bytes of the two logs.
    #[op(0x0321, waits = "an input can be refused, and the log is read at once", server)]
    fn rgpuLinkAdd(id: u64, kind: u32, #[bytes] name: HostPtr, #[bytes] data: HostPtr, #[bytes] options: HostPtr, #[out] info_len: u32, #[out] error_len: u32, #[reply_bytes] logs: HostPtr);
    /// Body of the reply: the logs, then the image.
    #[op(0x0322, waits = "for the linked image", server)]
    fn rgpuLinkComplete(id: u64, #[out] info_len: u32, #[out] error_len: u32, #[reply_bytes] image: HostPtr);
    #[op(0x0323, one_way, server)]
    fn rgpuLinkDestroy(id: u64);
}
