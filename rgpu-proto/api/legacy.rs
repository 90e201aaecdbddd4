//! Spellings and calls of CUDA's first versions, on those that took their places.

unsafe extern "C" {
    #[local]
    fn cuCtxCreate(context: *mut u64, flags: u32, device: i32);
    #[local]
    fn cuCtxDestroy(context: u64);
    #[local]
    fn cuCtxPushCurrent(context: u64);
    #[local]
    fn cuCtxPopCurrent(context: *mut u64);
    #[local]
    fn cuCtxAttach(context: *mut u64, flags: u32);
    #[local]
    fn cuCtxDetach(context: u64);
    #[local]
    fn cuDeviceTotalMem(bytes: *mut u32, device: i32);
    #[local]
    fn cuFuncSetBlockShape(function: u64, x: i32, y: i32, z: i32);
    #[local]
    fn cuFuncSetSharedSize(function: u64, bytes: u32);
    #[local]
    fn cuParamSetSize(function: u64, bytes: u32);
    #[local]
    fn cuParamSeti(function: u64, offset: i32, value: u32);
    #[local]
    fn cuParamSetf(function: u64, offset: i32, value: f32);
    #[local]
    fn cuParamSetv(function: u64, offset: i32, data: *const c_void, bytes: u32);
    #[local]
    fn cuLaunch(function: u64);
    #[local]
    fn cuLaunchGrid(function: u64, width: i32, height: i32);
    #[local]
    fn cuLaunchGridAsync(function: u64, width: i32, height: i32, stream: u64);
}
