//! Libraries and their kernels. A load brings back the table of kernels; in each context that uses it a library has a module, and its
//! kernels are that module's functions.

unsafe extern "C" {
    #[local]
    fn cuLibraryLoadData(library: *mut u64, code: *const c_void, jit_options: *mut u32, jit_values: *mut *mut c_void, jit_count: u32, options: *mut u32, values: *mut *mut c_void, count: u32);
    #[local]
    fn cuLibraryLoadFromFile(library: *mut u64, file: *const c_char, jit_options: *mut u32, jit_values: *mut *mut c_void, jit_count: u32, options: *mut u32, values: *mut *mut c_void, count: u32);
    #[local]
    fn cuLibraryUnload(library: u64);
    #[local]
    fn cuLibraryGetKernel(kernel: *mut u64, library: u64, name: *const c_char);
    #[local]
    fn cuLibraryGetKernelCount(count: *mut u32, library: u64);
    #[local]
    fn cuLibraryEnumerateKernels(kernels: *mut u64, count: u32, library: u64);
    #[local]
    fn cuLibraryGetModule(module: *mut u64, library: u64);
    #[local]
    fn cuLibraryGetGlobal(address: *mut u64, bytes: *mut usize, library: u64, name: *const c_char);
    #[local]
    fn cuLibraryGetManaged(address: *mut u64, bytes: *mut usize, library: u64, name: *const c_char);
    #[local]
    fn cuLibraryGetUnifiedFunction(function: *mut *mut c_void, library: u64, symbol: *const c_char);
    #[local]
    fn cuKernelGetFunction(function: *mut u64, kernel: u64);
    #[local]
    fn cuKernelGetLibrary(library: *mut u64, kernel: u64);
    #[local]
    fn cuKernelGetName(name: *mut *const c_char, kernel: u64);
    #[local]
    fn cuKernelGetAttribute(value: *mut i32, attribute: u32, kernel: u64, device: i32);
    #[local]
    fn cuKernelSetAttribute(attribute: u32, value: i32, kernel: u64, device: i32);
    #[local]
    fn cuKernelSetCacheConfig(kernel: u64, config: u32, device: i32);
    #[local]
    fn cuKernelGetParamInfo(kernel: u64, index: usize, offset: *mut usize, size: *mut usize);
    #[local]
    fn cuKernelGetParamCount(kernel: u64, count: *mut usize);

    /// Body of the reply: `info_len` and `error_len` bytes of the JIT logs, then the encoded table, with attributes as on `device`.
    #[op(0x0330, waits = "a load can fail, and its log is read at once", server, no_context, makes)]
    fn rgpuLibraryLoad(id: u64, device: i32, #[bytes] image: HostPtr, #[bytes] options: HostPtr, info_bytes: u32, error_bytes: u32, #[out] info_len: u32, #[out] error_len: u32, #[reply_bytes] table: HostPtr);
    #[op(0x0331, one_way, server, reaped, no_context)]
    fn rgpuLibraryUnload(id: u64);
    /// The library's module in the current context.
    #[op(0x0332, one_way, server)]
    fn rgpuLibraryModule(id: u64, library: u64);
    /// Body of the reply: an encoded table with that one kernel.
    #[op(0x0333, waits = "only where the driver cannot list a library's kernels", server, no_context)]
    fn rgpuKernelFind(library: u64, device: i32, #[bytes] name: HostPtr, #[reply_bytes] table: HostPtr);
    #[op(0x0334, one_way, server, no_context)]
    fn rgpuKernelSetAttribute(library: u64, device: i32, attribute: u32, value: i32, #[bytes] name: HostPtr);
    #[op(0x0335, one_way, server, no_context)]
    fn rgpuKernelSetCacheConfig(library: u64, device: i32, config: u32, #[bytes] name: HostPtr);
    /// Whether there is such a function with one address for host and device.
    #[op(0x0336, waits = "the answer is the server's", server)]
    fn rgpuLibraryShares(library: u64, #[bytes] name: HostPtr);
    /// A managed variable, once the library has a module in any context; `device`: whose memory it is.
    #[op(0x0b20, waits = "a variable is looked up once, then remembered", server)]
    fn rgpuLibraryManaged(library: u64, #[bytes] name: HostPtr, #[out] address: u64, #[out] size: u64, #[out] device: i32);
    /// Body of the reply: the encoded table, with attributes as on `device`.
    #[op(0x0337, waits = "asked once for each further device", server, no_context)]
    fn rgpuLibraryTable(library: u64, device: i32, #[reply_bytes] table: HostPtr);
}
