//! Functions that only hand-written server halves call.

unsafe extern "C" {
    #[driver]
    fn cuInit(flags: u32);
    #[driver]
    fn cuDriverGetVersion(version: *mut i32);
    #[driver]
    fn cuDeviceGet(device: *mut i32, ordinal: i32);
    #[driver]
    fn cuDeviceGetCount(count: *mut i32);
    #[driver]
    fn cuDeviceGetName(name: *mut c_char, len: i32, device: i32);
    #[driver]
    fn cuDeviceGetUuid(uuid: *mut u8, device: i32);
    #[driver]
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: i32);
    #[driver]
    fn cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32);
    #[driver]
    fn cuDeviceGetPCIBusId(text: *mut c_char, len: i32, device: i32);
    #[driver]
    fn cuDeviceGetP2PAttribute(value: *mut i32, attribute: i32, src: i32, dst: i32);
    #[driver]
    fn cuCtxCreate_v2(context: *mut *mut c_void, flags: u32, device: i32);
    #[driver]
    fn cuCtxDestroy_v2(context: *mut c_void);
    #[driver]
    fn cuCtxSetCurrent(context: *mut c_void);
    #[driver]
    fn cuCtxGetDevice(device: *mut i32);
    #[driver]
    fn cuCtxSynchronize();
    #[driver]
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: i32);
    #[driver]
    fn cuDevicePrimaryCtxRelease_v2(device: i32);
    #[driver]
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32);
    #[driver]
    fn cuModuleLoadDataEx(module: *mut *mut c_void, image: *const c_void, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[driver]
    fn cuModuleUnload(module: *mut c_void);
    #[driver]
    fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char);
    #[driver]
    fn cuModuleGetFunctionCount(count: *mut u32, module: *mut c_void);
    #[driver]
    fn cuModuleEnumerateFunctions(functions: *mut *mut c_void, count: u32, module: *mut c_void);
    #[driver]
    fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: *mut c_void, name: *const c_char);
    #[driver]
    fn cuPointerGetAttribute(data: *mut c_void, attribute: u32, pointer: u64);
    #[driver]
    fn cuFuncGetAttribute(value: *mut i32, attribute: u32, function: *mut c_void);
    #[driver]
    fn cuFuncSetAttribute(function: *mut c_void, attribute: u32, value: i32);
    #[driver]
    fn cuFuncSetCacheConfig(function: *mut c_void, config: u32);
    #[driver]
    fn cuFuncGetName(name: *mut *const c_char, function: *mut c_void);
    #[driver]
    fn cuFuncGetParamInfo(function: *mut c_void, index: usize, offset: *mut usize, size: *mut usize);
    #[driver]
    fn cuLinkCreate_v2(count: u32, options: *mut u32, values: *mut *mut c_void, state: *mut *mut c_void);
    #[driver]
    fn cuLinkAddData_v2(state: *mut c_void, kind: u32, data: *mut c_void, size: usize, name: *const c_char, count: u32, options: *mut u32, values: *mut *mut c_void);
    #[driver]
    fn cuLinkComplete(state: *mut c_void, image: *mut *mut c_void, size: *mut usize);
    #[driver]
    fn cuLinkDestroy(state: *mut c_void);
    #[driver]
    fn cuLibraryLoadData(library: *mut *mut c_void, code: *const c_void, jit_options: *mut u32, jit_values: *mut *mut c_void, jit_count: u32, options: *mut u32, values: *mut *mut c_void, count: u32);
    #[driver]
    fn cuLibraryUnload(library: *mut c_void);
    #[driver]
    fn cuLibraryGetKernel(kernel: *mut *mut c_void, library: *mut c_void, name: *const c_char);
    #[driver]
    fn cuLibraryGetKernelCount(count: *mut u32, library: *mut c_void);
    #[driver]
    fn cuLibraryEnumerateKernels(kernels: *mut *mut c_void, count: u32, library: *mut c_void);
    #[driver]
    fn cuLibraryGetModule(module: *mut *mut c_void, library: *mut c_void);
    #[driver]
    fn cuLibraryGetManaged(address: *mut u64, bytes: *mut usize, library: *mut c_void, name: *const c_char);
    #[driver]
    fn cuLibraryGetUnifiedFunction(function: *mut *mut c_void, library: *mut c_void, symbol: *const c_char);
    #[driver]
    fn cuKernelGetName(name: *mut *const c_char, kernel: *mut c_void);
    #[driver]
    fn cuKernelGetAttribute(value: *mut i32, attribute: u32, kernel: *mut c_void, device: i32);
    #[driver]
    fn cuKernelSetAttribute(attribute: u32, value: i32, kernel: *mut c_void, device: i32);
    #[driver]
    fn cuKernelSetCacheConfig(kernel: *mut c_void, config: u32, device: i32);
    #[driver]
    fn cuKernelGetParamInfo(kernel: *mut c_void, index: usize, offset: *mut usize, size: *mut usize);
    #[driver]
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize);
    #[driver]
    fn cuMemFree_v2(address: u64);
    #[driver]
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    #[driver]
    fn cuMemAddressReserve(address: *mut u64, bytes: usize, alignment: usize, hint: u64, flags: u64);
    #[driver]
    fn cuMemAddressFree(address: u64, bytes: usize);
    #[driver]
    fn cuMemGetAllocationGranularity(granularity: *mut usize, prop: *const c_void, option: u32);
    #[driver]
    fn cuMemCreate(handle: *mut u64, bytes: usize, prop: *const c_void, flags: u64);
    #[driver]
    fn cuMemRelease(handle: u64);
    #[driver]
    fn cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, flags: u64);
    #[driver]
    fn cuMemUnmap(address: u64, bytes: usize);
    #[driver]
    fn cuMemSetAccess(address: u64, bytes: usize, access: *const c_void, count: usize);
    #[driver]
    fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize);
    #[driver]
    fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: *mut c_void);
    #[driver]
    fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize);
    #[driver]
    fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: *mut c_void);
    #[driver]
    fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize);
    #[driver]
    fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: *mut c_void);
    #[driver]
    fn cuMemsetD8_v2(dst: u64, value: u8, count: usize);
    #[driver]
    fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: *mut c_void);
    #[driver]
    fn cuMemsetD16_v2(dst: u64, value: u16, count: usize);
    #[driver]
    fn cuMemsetD16Async(dst: u64, value: u16, count: usize, stream: *mut c_void);
    #[driver]
    fn cuMemsetD32_v2(dst: u64, value: u32, count: usize);
    #[driver]
    fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: *mut c_void);
    #[driver]
    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: u32);
    #[driver]
    fn cuMemHostGetDevicePointer_v2(device: *mut u64, host: *mut c_void, flags: u32);
    #[driver]
    fn cuMemHostUnregister(pointer: *mut c_void);
    #[driver]
    fn cuLaunchHostFunc(stream: *mut c_void, function: *mut c_void, data: *mut c_void);
    #[driver]
    fn cuMemcpy3D_v2(params: *const c_void);
    #[driver]
    fn cuMemcpy3DAsync_v2(params: *const c_void, stream: *mut c_void);
    #[driver]
    fn cuMemsetD2D8_v2(dst: u64, pitch: usize, value: u8, width: usize, height: usize);
    #[driver]
    fn cuMemsetD2D8Async(dst: u64, pitch: usize, value: u8, width: usize, height: usize, stream: *mut c_void);
    #[driver]
    fn cuMemsetD2D16_v2(dst: u64, pitch: usize, value: u16, width: usize, height: usize);
    #[driver]
    fn cuMemsetD2D16Async(dst: u64, pitch: usize, value: u16, width: usize, height: usize, stream: *mut c_void);
    #[driver]
    fn cuMemsetD2D32_v2(dst: u64, pitch: usize, value: u32, width: usize, height: usize);
    #[driver]
    fn cuMemsetD2D32Async(dst: u64, pitch: usize, value: u32, width: usize, height: usize, stream: *mut c_void);
    #[driver]
    fn cuFuncLoad(function: *mut c_void);
    #[driver]
    fn cuDeviceGetTexture1DLinearMaxWidth(width: *mut usize, format: u32, channels: u32, device: i32);
    #[driver]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks: *mut i32, function: *mut c_void, block_size: i32, shared_bytes: usize, flags: u32);
    #[driver]
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: *mut usize, function: *mut c_void, blocks: i32, block_size: i32);
    #[driver]
    fn cuOccupancyMaxPotentialClusterSize(size: *mut i32, function: *mut c_void, config: *const c_void);
    #[driver]
    fn cuOccupancyMaxActiveClusters(clusters: *mut i32, function: *mut c_void, config: *const c_void);
    #[driver]
    fn cuLaunchKernelEx(config: *const c_void, function: *mut c_void, params: *mut *mut c_void, extra: *mut *mut c_void);
    #[driver]
    fn cuLaunchKernel(function: *mut c_void, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: *mut c_void, params: *mut *mut c_void, extra: *mut *mut c_void);
    #[driver]
    fn cuGraphAddKernelNode(node: *mut *mut c_void, graph: *mut c_void, dependencies: *const *mut c_void, count: usize, params: *const c_void);
    #[driver]
    fn cuGraphAddEmptyNode(node: *mut *mut c_void, graph: *mut c_void, dependencies: *const *mut c_void, count: usize);
    #[driver]
    fn cuGraphInstantiateWithFlags(exec: *mut *mut c_void, graph: *mut c_void, flags: u64);
    #[driver]
    fn cuGraphExecKernelNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const c_void);
    #[driver]
    fn cuGraphExecMemcpyNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const c_void, context: *mut c_void);
}
