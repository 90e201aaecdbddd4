//! Modules. A load brings back the table of functions, with parameter layouts and attributes.

unsafe extern "C" {
    #[local]
    fn cuModuleLoad(module: *mut u64, file: *const c_char);
    #[local]
    fn cuModuleLoadData(module: *mut u64, image: *const c_void);
    #[local]
    fn cuModuleLoadDataEx(module: *mut u64, image: *const c_void, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[local]
    fn cuModuleLoadFatBinary(module: *mut u64, image: *const c_void);
    #[local]
    fn cuModuleUnload(module: u64);
    #[local]
    fn cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char);
    #[local]
    fn cuModuleGetFunctionCount(count: *mut u32, module: u64);
    #[local]
    fn cuModuleEnumerateFunctions(functions: *mut u64, count: u32, module: u64);
    #[local]
    fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: u64, name: *const c_char);
    #[op(0x0350, waits = "the answer is the server's", no_context)]
    fn cuModuleGetLoadingMode(#[out] mode: u32);

    /// Body of the reply: `info_len` and `error_len` bytes of the JIT logs, then the encoded module table.
    #[op(0x0301, waits = "a load can fail, and its log is read at once", server, makes)]
    fn rgpuModuleLoad(id: u64, #[bytes] image: HostPtr, #[out] info_len: u32, #[out] error_len: u32, log_bytes: u32, max_registers: u32, #[reply_bytes] table: HostPtr);
    #[op(0x0302, one_way, server, reaped)]
    fn rgpuModuleUnload(id: u64);
    /// `managed`: whether host and device share it; `device`: whose memory it is then.
    #[op(0x0304, waits = "a variable is looked up once, then remembered", server)]
    fn rgpuModuleGlobal(module: Module, #[bytes] name: HostPtr, #[out] address: u64, #[out] size: u64, #[out] managed: u32, #[out] device: i32);
}
