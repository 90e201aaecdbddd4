//! Modules and functions. A load brings back the table of functions, with parameter layouts and attributes.

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
    #[local]
    fn cuModuleGetLoadingMode(mode: *mut u32);
    #[local]
    fn cuFuncGetAttribute(value: *mut i32, attribute: u32, function: u64);
    #[local]
    fn cuFuncSetAttribute(function: u64, attribute: u32, value: i32);
    #[local]
    fn cuFuncSetCacheConfig(function: u64, config: u32);
    #[local]
    fn cuFuncGetName(name: *mut *const c_char, function: u64);
    #[local]
    fn cuFuncGetModule(module: *mut u64, function: u64);
    #[local]
    fn cuFuncGetParamInfo(function: u64, index: usize, offset: *mut usize, size: *mut usize);

    /// Body of the reply: `info_len` and `error_len` bytes of the JIT logs, then the encoded module table.
    #[op(0x0301, waits = "a load can fail, and its log is read at once", server, makes)]
    fn rgpuModuleLoad(id: u64, #[bytes] image: HostPtr, #[out] info_len: u32, #[out] error_len: u32, log_bytes: u32, max_registers: u32, #[reply_bytes] table: HostPtr);
    #[op(0x0302, one_way, server, reaped)]
    fn rgpuModuleUnload(id: u64);
    #[op(0x0303, one_way, server)]
    fn rgpuFunctionBind(id: u64, module: Module, #[bytes] name: HostPtr);
    #[op(0x0304, waits = "a variable is looked up once, then remembered", server)]
    fn rgpuModuleGlobal(module: Module, #[bytes] name: HostPtr, #[out] address: u64, #[out] size: u64);
    #[op(0x0305, one_way, server)]
    fn rgpuFunctionSetAttribute(function: Function, attribute: u32, value: i32);
    #[op(0x0306, one_way, server)]
    fn rgpuFunctionSetCacheConfig(function: Function, config: u32);
    /// Body of the reply: an encoded module table with that one function.
    #[op(0x0307, waits = "only where the driver cannot list a module's functions", server)]
    fn rgpuFunctionFind(module: Module, #[bytes] name: HostPtr, #[reply_bytes] table: HostPtr);
}
