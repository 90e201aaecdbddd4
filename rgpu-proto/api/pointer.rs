//! What is known of an address.

unsafe extern "C" {
    #[local]
    fn cuPointerGetAttribute(data: *mut c_void, attribute: u32, pointer: u64);
    #[local]
    fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64);
    #[local]
    fn cuPointerGetAttributes(count: u32, attributes: *const u32, data: *const *mut c_void, pointer: u64);
    #[local]
    fn cuPointerSetAttribute(value: *const c_void, attribute: u32, pointer: u64);
}
