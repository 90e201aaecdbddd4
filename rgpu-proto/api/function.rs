//! Functions: answered from the table that came back with their module.

unsafe extern "C" {
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
    #[local]
    fn cuFuncGetParamCount(function: u64, count: *mut usize);
    #[local]
    fn cuFuncSetSharedMemConfig(function: u64, config: u32);
    #[local]
    fn cuFuncIsLoaded(state: *mut u32, function: u64);
    #[local]
    fn cuFuncLoad(function: u64);

    #[op(0x0303, one_way, server)]
    fn rgpuFunctionBind(id: u64, module: Module, #[bytes] name: HostPtr);
    #[op(0x0305, one_way, server)]
    fn rgpuFunctionSetAttribute(function: Function, attribute: u32, value: i32);
    #[op(0x0306, one_way, server)]
    fn rgpuFunctionSetCacheConfig(function: Function, config: u32);
    /// Body of the reply: an encoded module table with that one function.
    #[op(0x0307, waits = "only where the driver cannot list a module's functions", server)]
    fn rgpuFunctionFind(module: Module, #[bytes] name: HostPtr, #[reply_bytes] table: HostPtr);
    #[op(0x0351, waits = "loading can fail", server, no_context)]
    fn rgpuFunctionLoad(function: Function);
}
