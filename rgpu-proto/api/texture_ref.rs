//! Texture and surface references, which are deprecated and still in programs. Their state is remembered; what changes it goes out one-way, so a
//! launch has it as it was when the launch was made.

unsafe extern "C" {
    #[local]
    fn cuModuleGetTexRef(reference: *mut u64, module: u64, name: *const c_char);
    #[local]
    fn cuModuleGetSurfRef(reference: *mut u64, module: u64, name: *const c_char);
    #[local]
    fn cuParamSetTexRef(function: u64, unit: i32, reference: u64);
    #[local]
    fn cuTexRefCreate(reference: *mut u64);
    #[local]
    fn cuTexRefDestroy(reference: u64);
    #[local]
    fn cuTexRefSetArray(reference: u64, array: u64, flags: u32);
    #[local]
    fn cuTexRefSetMipmappedArray(reference: u64, array: u64, flags: u32);
    #[local]
    fn cuTexRefSetAddress(offset: *mut u32, reference: u64, address: u32, bytes: u32);
    #[local]
    fn cuTexRefSetAddress_v2(offset: *mut usize, reference: u64, address: u64, bytes: usize);
    #[local]
    fn cuTexRefSetAddress2D(reference: u64, descriptor: *const c_void, address: u32, pitch: u32);
    #[local]
    fn cuTexRefSetAddress2D_v2(reference: u64, descriptor: *const c_void, address: u64, pitch: usize);
    #[local]
    fn cuTexRefSetAddress2D_v3(reference: u64, descriptor: *const c_void, address: u64, pitch: usize);
    #[local]
    fn cuTexRefSetFormat(reference: u64, format: u32, channels: i32);
    #[local]
    fn cuTexRefSetAddressMode(reference: u64, dimension: i32, mode: u32);
    #[local]
    fn cuTexRefSetFilterMode(reference: u64, mode: u32);
    #[local]
    fn cuTexRefSetMipmapFilterMode(reference: u64, mode: u32);
    #[local]
    fn cuTexRefSetMipmapLevelBias(reference: u64, bias: f32);
    #[local]
    fn cuTexRefSetMipmapLevelClamp(reference: u64, min: f32, max: f32);
    #[local]
    fn cuTexRefSetMaxAnisotropy(reference: u64, most: u32);
    #[local]
    fn cuTexRefSetBorderColor(reference: u64, color: *const f32);
    #[local]
    fn cuTexRefSetFlags(reference: u64, flags: u32);
    #[local]
    fn cuTexRefGetArray(array: *mut u64, reference: u64);
    #[local]
    fn cuTexRefGetMipmappedArray(array: *mut u64, reference: u64);
    #[local]
    fn cuTexRefGetAddress(address: *mut u32, reference: u64);
    #[local]
    fn cuTexRefGetAddress_v2(address: *mut u64, reference: u64);
    #[local]
    fn cuTexRefGetFormat(format: *mut u32, channels: *mut i32, reference: u64);
    #[local]
    fn cuTexRefGetAddressMode(mode: *mut u32, reference: u64, dimension: i32);
    #[local]
    fn cuTexRefGetFilterMode(mode: *mut u32, reference: u64);
    #[local]
    fn cuTexRefGetMipmapFilterMode(mode: *mut u32, reference: u64);
    #[local]
    fn cuTexRefGetMipmapLevelBias(bias: *mut f32, reference: u64);
    #[local]
    fn cuTexRefGetMipmapLevelClamp(min: *mut f32, max: *mut f32, reference: u64);
    #[local]
    fn cuTexRefGetMaxAnisotropy(most: *mut i32, reference: u64);
    #[local]
    fn cuTexRefGetBorderColor(color: *mut f32, reference: u64);
    #[local]
    fn cuTexRefGetFlags(flags: *mut u32, reference: u64);
    #[local]
    fn cuSurfRefSetArray(reference: u64, array: u64, flags: u32);
    #[local]
    fn cuSurfRefGetArray(array: *mut u64, reference: u64);

    /// Body of the reply: the state that the reference has (`texture::ReferenceState`).
    #[op(0x0830, waits = "its first state is the driver's", server, makes)]
    fn rgpuTextureRefCreate(id: u64, #[reply_bytes] state: HostPtr);
    #[op(0x0831, one_way, server)]
    fn rgpuTextureRefDestroy(id: u64);
    #[op(0x0832, waits = "a reference is looked up once, then remembered", server, makes)]
    fn rgpuModuleTextureRef(id: u64, module: Module, #[bytes] name: HostPtr, #[reply_bytes] state: HostPtr);
    /// `part`: which part of the state, of as many numbers as it has.
    #[op(0x0833, one_way, server)]
    fn rgpuTextureRefSet(reference: TextureRef, part: u32, a: u32, b: u32, c: u32, d: u32);
    #[op(0x0834, one_way, server)]
    fn rgpuTextureRefArray(reference: TextureRef, array: Array);
    #[op(0x0835, one_way, server)]
    fn rgpuTextureRefMipmapped(reference: TextureRef, array: MipmappedArray);
    #[op(0x0836, waits = "how far before the address a texture begins is the driver's", server)]
    fn rgpuTextureRefAddress(reference: TextureRef, address: DevicePtr, bytes: u64, #[out] offset: u64);
    /// Where textures may begin.
    #[op(0x0837, one_way, server)]
    fn rgpuTextureRefAligned(reference: TextureRef, address: DevicePtr, bytes: u64);
    #[op(0x0838, one_way, server)]
    fn rgpuTextureRefRows(reference: TextureRef, address: DevicePtr, pitch: u64, width: u64, height: u64, format: u32, channels: u32);
    #[op(0x0839, waits = "a reference is looked up once, then remembered", server, makes)]
    fn rgpuModuleSurfaceRef(id: u64, module: Module, #[bytes] name: HostPtr);
    #[op(0x083a, one_way, server)]
    fn rgpuSurfaceRefArray(reference: SurfaceRef, array: Array);
    #[driver]
    fn cuModuleGetTexRef(reference: *mut *mut c_void, module: *mut c_void, name: *const c_char);
    #[driver]
    fn cuModuleGetSurfRef(reference: *mut *mut c_void, module: *mut c_void, name: *const c_char);
    #[driver]
    fn cuTexRefCreate(reference: *mut *mut c_void);
    #[driver]
    fn cuTexRefDestroy(reference: *mut c_void);
    #[driver]
    fn cuTexRefSetArray(reference: *mut c_void, array: *mut c_void, flags: u32);
    #[driver]
    fn cuTexRefSetMipmappedArray(reference: *mut c_void, array: *mut c_void, flags: u32);
    #[driver]
    fn cuTexRefSetAddress_v2(offset: *mut usize, reference: *mut c_void, address: u64, bytes: usize);
    #[driver]
    fn cuTexRefSetAddress2D_v3(reference: *mut c_void, descriptor: *const c_void, address: u64, pitch: usize);
    #[driver]
    fn cuTexRefSetFormat(reference: *mut c_void, format: u32, channels: i32);
    #[driver]
    fn cuTexRefSetAddressMode(reference: *mut c_void, dimension: i32, mode: u32);
    #[driver]
    fn cuTexRefSetFilterMode(reference: *mut c_void, mode: u32);
    #[driver]
    fn cuTexRefSetMipmapFilterMode(reference: *mut c_void, mode: u32);
    #[driver]
    fn cuTexRefSetMipmapLevelBias(reference: *mut c_void, bias: f32);
    #[driver]
    fn cuTexRefSetMipmapLevelClamp(reference: *mut c_void, min: f32, max: f32);
    #[driver]
    fn cuTexRefSetMaxAnisotropy(reference: *mut c_void, most: u32);
    #[driver]
    fn cuTexRefSetBorderColor(reference: *mut c_void, color: *const f32);
    #[driver]
    fn cuTexRefSetFlags(reference: *mut c_void, flags: u32);
    #[driver]
    fn cuTexRefGetFormat(format: *mut u32, channels: *mut i32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetAddressMode(mode: *mut u32, reference: *mut c_void, dimension: i32);
    #[driver]
    fn cuTexRefGetFilterMode(mode: *mut u32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetMipmapFilterMode(mode: *mut u32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetMipmapLevelBias(bias: *mut f32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetMipmapLevelClamp(min: *mut f32, max: *mut f32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetMaxAnisotropy(most: *mut i32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetBorderColor(color: *mut f32, reference: *mut c_void);
    #[driver]
    fn cuTexRefGetFlags(flags: *mut u32, reference: *mut c_void);
    #[driver]
    fn cuSurfRefSetArray(reference: *mut c_void, array: *mut c_void, flags: u32);
}
