//! Memory of the host that copies may use without a stop: allocated by CUDA, or the program's own.

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
}
