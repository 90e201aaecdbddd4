//! Core dumps of kernels: what is set for them is kept, and none is made, since the device's memory is not here.

unsafe extern "C" {
    #[local]
    fn cuCoredumpGetAttribute(attribute: u32, value: *mut c_void, size: *mut usize);
    #[local]
    fn cuCoredumpGetAttributeGlobal(attribute: u32, value: *mut c_void, size: *mut usize);
    #[local]
    fn cuCoredumpSetAttribute(attribute: u32, value: *const c_void, size: *mut usize);
    #[local]
    fn cuCoredumpSetAttributeGlobal(attribute: u32, value: *const c_void, size: *mut usize);
    #[local]
    fn cuCoredumpRegisterStartCallback(function: *const c_void, data: u64, callback: *mut u64);
    #[local]
    fn cuCoredumpRegisterCompleteCallback(function: *const c_void, data: u64, callback: *mut u64);
    #[local]
    fn cuCoredumpDeregisterStartCallback(callback: u64);
    #[local]
    fn cuCoredumpDeregisterCompleteCallback(callback: u64);
}
