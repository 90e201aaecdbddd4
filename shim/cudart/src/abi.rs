//! Structures of cuda_runtime_api.h and cuda.h as they lie in memory. Sizes were taken from the headers of CUDA 12.9 and 13.5 by a C
//! compiler; where the two differ, there are two forms.

use std::ffi::c_void;

/// Streams, events, graphs, arrays, …: the runtime's handles are the driver's.
pub type Handle = *mut c_void;

macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident: $size:literal { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
        impl Default for $name {
            fn default() -> $name {
                // SAFETY: integers, floats and pointers.
                unsafe { std::mem::zeroed() }
            }
        }
    )*};
}

structures! {
    Dim3: 12 { x: u32, y: u32, z: u32 }
    Extent: 24 { width: usize, height: usize, depth: usize }
    Position: 24 { x: usize, y: usize, z: usize }
    PitchedPtr: 32 { ptr: *mut c_void, pitch: usize, xsize: usize, ysize: usize }
    ChannelDesc: 20 { x: i32, y: i32, z: i32, w: i32, kind: u32 }
    /// cudaIpcMemHandle_t and cudaIpcEventHandle_t.
    IpcHandle: 64 { bytes: [u8; 64] }
    /// cudaMemLocation.
    Location: 8 { kind: u32, id: i32 }
    /// cudaPointerAttributes of 12; that of 13 goes on with [`PointerAttributes13`].
    PointerAttributes: 24 { kind: u32, device: i32, device_pointer: *mut c_void, host_pointer: *mut c_void }
    PointerAttributes13: 88 { common: PointerAttributes, reserved: [u64; 8] }
    FuncAttributes: 144 {
        shared_size: usize, const_size: usize, local_size: usize, max_threads: i32, registers: i32, ptx_version: i32,
        binary_version: i32, cache_mode_ca: i32, max_dynamic_shared: i32, carveout: i32, cluster_must_be_set: i32,
        cluster_width: i32, cluster_height: i32, cluster_depth: i32, cluster_scheduling: i32, non_portable_cluster: i32,
        reserved: [i32; 16],
    }
    LaunchConfig: 56 {
        grid: Dim3, block: Dim3, shared: usize, stream: Handle, attributes: *mut c_void, count: u32,
    }
    LaunchParams: 56 {
        function: *mut c_void, grid: Dim3, block: Dim3, args: *mut *mut c_void, shared: usize, stream: Handle,
    }
    /// CUlaunchConfig.
    DriverLaunchConfig: 56 {
        grid: Dim3, block: Dim3, shared: u32, stream: Handle, attributes: *mut c_void, count: u32,
    }
    /// cudaMemcpy3DParms.
    Copy3D: 160 {
        src_array: Handle, src_pos: Position, src: PitchedPtr, dst_array: Handle, dst_pos: Position, dst: PitchedPtr,
        extent: Extent, kind: u32,
    }
    PeerCopy3D: 168 {
        src_array: Handle, src_pos: Position, src: PitchedPtr, src_device: i32, dst_array: Handle, dst_pos: Position,
        dst: PitchedPtr, dst_device: i32, extent: Extent,
    }
    /// A side of CUDA_MEMCPY2D.
    Side2D: 56 {
        x: usize, y: usize, memory: u32, host: *mut c_void, device: u64, array: Handle, pitch: usize,
    }
    /// CUDA_MEMCPY2D.
    DriverCopy2D: 128 { src: Side2D, dst: Side2D, width: usize, height: usize }
    /// A side of CUDA_MEMCPY3D; `context` is that of CUDA_MEMCPY3D_PEER, and reserved otherwise.
    Side3D: 88 {
        x: usize, y: usize, z: usize, level: usize, memory: u32, host: *mut c_void, device: u64, array: Handle,
        context: Handle, pitch: usize, height: usize,
    }
    /// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER.
    DriverCopy3D: 200 { src: Side3D, dst: Side3D, width: usize, height: usize, depth: usize }
    CopyAttributes: 24 { order: u32, src_hint: Location, dst_hint: Location, flags: u32 }
    /// cudaMemcpy3DOperand with a pointer; of an array, the first word is the array and the rest its offset.
    Operand3D: 40 { kind: u32, ptr: *mut c_void, row_length: usize, layer_height: usize, hint: Location }
    BatchCopy3D: 112 { src: Operand3D, dst: Operand3D, extent: Extent, order: u32, flags: u32 }
    MemsetParams: 40 {
        dst: *mut c_void, pitch: usize, value: u32, element_size: u32, width: usize, height: usize,
    }
    /// cudaKernelNodeParams, and how CUDA_KERNEL_NODE_PARAMS_v2 begins.
    KernelNodeParams: 56 {
        function: *mut c_void, grid: Dim3, block: Dim3, shared: u32, params: *mut *mut c_void, extra: *mut *mut c_void,
    }
    DriverKernelNodeParams: 72 { common: KernelNodeParams, kernel: Handle, context: Handle }
    /// CUDA_ARRAY3D_DESCRIPTOR.
    ArrayDescriptor: 40 {
        width: usize, height: usize, depth: usize, format: u32, channels: u32, flags: u32,
    }
    TextureDesc: 72 {
        address_mode: [u32; 3], filter: u32, read_mode: u32, srgb: i32, border: [f32; 4], normalized: i32,
        anisotropy: u32, mip_filter: u32, mip_bias: f32, mip_min: f32, mip_max: f32, no_trilinear: i32, seamless: i32,
    }
    /// CUDA_TEXTURE_DESC.
    DriverTextureDesc: 104 {
        address_mode: [u32; 3], filter: u32, flags: u32, anisotropy: u32, mip_filter: u32, mip_bias: f32,
        mip_min: f32, mip_max: f32, border: [f32; 4], reserved: [i32; 12],
    }
    /// cudaResourceDesc of 12; that of 13 is longer by reserved words, and by flags at its end.
    ResourceDesc: 64 { kind: u32, resource: [u64; 7] }
    ResourceDesc13: 144 { kind: u32, resource: [u64; 16], flags: u32 }
    /// cudaResourceViewDesc of 12, and all of CUDA_RESOURCE_VIEW_DESC that is used.
    ResourceViewDesc: 48 {
        format: u32, width: usize, height: usize, depth: usize, first_level: u32, last_level: u32, first_layer: u32,
        last_layer: u32,
    }
    /// CUDA_RESOURCE_VIEW_DESC, and cudaResourceViewDesc of 13.
    DriverResourceViewDesc: 112 { common: ResourceViewDesc, reserved: [u32; 16] }
    /// cudaGraphNodeParams and CUgraphNodeParams.
    NodeParams: 256 { kind: u32, reserved: [i32; 3], body: [u64; 29], reserved2: u64 }
}
