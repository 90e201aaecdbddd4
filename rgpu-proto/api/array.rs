//! CUDA arrays. Their layout and their memory are the driver's; sizes and formats are known here, so that copies are judged and pieces cut
//! without asking. (There are no sparse arrays, as the attribute says, so nobody has the properties of one.)

unsafe extern "C" {
    #[local]
    fn cuArrayCreate(array: *mut u64, descriptor: *const c_void);
    #[local]
    fn cuArrayCreate_v2(array: *mut u64, descriptor: *const c_void);
    #[local]
    fn cuArray3DCreate(array: *mut u64, descriptor: *const c_void);
    #[local]
    fn cuArray3DCreate_v2(array: *mut u64, descriptor: *const c_void);
    #[local]
    fn cuArrayGetDescriptor(descriptor: *mut c_void, array: u64);
    #[local]
    fn cuArrayGetDescriptor_v2(descriptor: *mut c_void, array: u64);
    #[local]
    fn cuArray3DGetDescriptor(descriptor: *mut c_void, array: u64);
    #[local]
    fn cuArray3DGetDescriptor_v2(descriptor: *mut c_void, array: u64);
    #[local]
    fn cuArrayDestroy(array: u64);
    #[local]
    fn cuArrayGetPlane(plane: *mut u64, array: u64, index: u32);
    #[local]
    fn cuArrayGetSparseProperties(properties: *mut c_void, array: u64);
    #[local]
    fn cuArrayGetMemoryRequirements(requirements: *mut c_void, array: u64, device: i32);
    #[local]
    fn cuMipmappedArrayCreate(array: *mut u64, descriptor: *const c_void, levels: u32);
    #[local]
    fn cuMipmappedArrayDestroy(array: u64);
    #[local]
    fn cuMipmappedArrayGetLevel(level: *mut u64, array: u64, index: u32);
    #[local]
    fn cuMipmappedArrayGetSparseProperties(properties: *mut c_void, array: u64);
    #[local]
    fn cuMipmappedArrayGetMemoryRequirements(requirements: *mut c_void, array: u64, device: i32);

    /// `descriptor`, and the body of the reply, which the driver tells: a CUDA_ARRAY3D_DESCRIPTOR.
    #[op(0x0801, waits = "the driver judges the descriptor, and out of memory is told at the call", server, makes)]
    fn rgpuArrayCreate(id: u64, #[bytes] descriptor: HostPtr, #[reply_bytes] made: HostPtr);
    #[op(0x0802, one_way, server, reaped)]
    fn rgpuArrayDestroy(id: u64);
    #[op(0x0803, waits = "the plane is the driver's", server, makes)]
    fn rgpuArrayPlane(id: u64, array: Array, index: u32, #[reply_bytes] plane: HostPtr);
    #[op(0x0804, waits = "the driver judges the descriptor, and out of memory is told at the call", server, makes)]
    fn rgpuMipmappedCreate(id: u64, levels: u32, #[bytes] descriptor: HostPtr);
    #[op(0x0805, one_way, server, reaped)]
    fn rgpuMipmappedDestroy(id: u64);
    #[op(0x0806, waits = "the level is the driver's: asked once, then remembered", server, makes)]
    fn rgpuMipmappedLevel(id: u64, array: MipmappedArray, index: u32, #[reply_bytes] level: HostPtr);
    #[driver]
    fn cuArray3DCreate_v2(array: *mut *mut c_void, descriptor: *const c_void);
    #[driver]
    fn cuArray3DGetDescriptor_v2(descriptor: *mut c_void, array: *mut c_void);
    #[driver]
    fn cuArrayDestroy(array: *mut c_void);
    #[driver]
    fn cuArrayGetPlane(plane: *mut *mut c_void, array: *mut c_void, index: u32);
    #[driver]
    fn cuMipmappedArrayCreate(array: *mut *mut c_void, descriptor: *const c_void, levels: u32);
    #[driver]
    fn cuMipmappedArrayDestroy(array: *mut c_void);
    #[driver]
    fn cuMipmappedArrayGetLevel(level: *mut *mut c_void, array: *mut c_void, index: u32);
}
