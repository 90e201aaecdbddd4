//! Texture and surface objects. Kernels get them as numbers, so they are the driver's own, and making one waits for it. What was described is
//! remembered.

unsafe extern "C" {
    #[local]
    fn cuTexObjectCreate(object: *mut u64, resource: *const c_void, sampling: *const c_void, view: *const c_void);
    #[local]
    fn cuTexObjectDestroy(object: u64);
    #[local]
    fn cuTexObjectGetResourceDesc(resource: *mut c_void, object: u64);
    #[local]
    fn cuTexObjectGetTextureDesc(sampling: *mut c_void, object: u64);
    #[local]
    fn cuTexObjectGetResourceViewDesc(view: *mut c_void, object: u64);
    #[local]
    fn cuSurfObjectCreate(object: *mut u64, resource: *const c_void);
    #[local]
    fn cuSurfObjectDestroy(object: u64);
    #[local]
    fn cuSurfObjectGetResourceDesc(resource: *mut c_void, object: u64);

    /// `resource`: CUDA_RESOURCE_DESC, an array in it by its id; `sampling`: CUDA_TEXTURE_DESC; `view`: CUDA_RESOURCE_VIEW_DESC, or nothing.
    #[op(0x0820, waits = "kernels get the driver's own value", server, makes)]
    fn rgpuTextureCreate(#[bytes] resource: HostPtr, #[bytes] sampling: HostPtr, #[bytes] view: HostPtr, #[out] object: u64);
    #[op(0x0821, one_way, server)]
    fn rgpuTextureDestroy(object: u64);
    #[op(0x0822, waits = "kernels get the driver's own value", server, makes)]
    fn rgpuSurfaceCreate(#[bytes] resource: HostPtr, #[out] object: u64);
    #[op(0x0823, one_way, server)]
    fn rgpuSurfaceDestroy(object: u64);
    #[driver]
    fn cuTexObjectCreate(object: *mut u64, resource: *const c_void, sampling: *const c_void, view: *const c_void);
    #[driver]
    fn cuTexObjectDestroy(object: u64);
    #[driver]
    fn cuSurfObjectCreate(object: *mut u64, resource: *const c_void);
    #[driver]
    fn cuSurfObjectDestroy(object: u64);
}
