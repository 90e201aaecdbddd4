//! The calls of cuda.h that take memory of a device, and those that give it back.

use std::ffi::{c_char, c_int, c_uint, c_ushort, c_void};

use anyhow::{Context as _, Result};
use libloading::Library;

use crate::driver::{Handle, driver};

driver! {
    cuInit(c_uint);
    cuCtxCreate_v2(*mut Handle, c_uint, c_int);
    cuCtxDestroy_v2(Handle);
    cuCtxSetCurrent(Handle);
    cuCtxSynchronize();
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut u64, usize);
    cuMemAllocPitch_v2(*mut u64, *mut usize, usize, usize, c_uint);
    cuMemAllocManaged(*mut u64, usize, c_uint);
    cuMemFree_v2(u64);
    cuMemAllocAsync(*mut u64, usize, Handle);
    cuMemFreeAsync(u64, Handle);
    cuDeviceGetDefaultMemPool(*mut Handle, c_int);
    cuMemPoolTrimTo(Handle, usize);
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamSynchronize(Handle);
    cuArray3DCreate_v2(*mut Handle, *const ArrayDescriptor);
    cuArrayDestroy(Handle);
    cuMipmappedArrayCreate(*mut Handle, *const ArrayDescriptor, c_uint);
    cuMipmappedArrayDestroy(Handle);
    cuMemAddressReserve(*mut u64, usize, usize, u64, u64);
    cuMemAddressFree(u64, usize);
    cuMemCreate(*mut u64, usize, *const Properties, u64);
    cuMemRelease(u64);
    cuMemMap(u64, usize, usize, u64, u64);
    cuMemUnmap(u64, usize);
    cuMemSetAccess(u64, usize, *const Access, usize);
    cuModuleLoadData(*mut Handle, *const c_char);
    cuModuleUnload(Handle);
    cuLibraryLoadData(*mut Handle, *const c_char, *mut c_int, *mut *mut c_void, c_uint, *mut c_int, *mut *mut c_void, c_uint);
    cuLibraryGetGlobal(*mut u64, *mut usize, Handle, *const c_char);
    cuLibraryUnload(Handle);
    cuGraphCreate(*mut Handle, c_uint);
    cuGraphDestroy(Handle);
    cuGraphAddMemAllocNode(*mut Handle, Handle, *const Handle, usize, *mut AllocNode);
    cuGraphAddMemFreeNode(*mut Handle, Handle, *const Handle, usize, u64);
    cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    cuGraphExecDestroy(Handle);
    cuGraphLaunch(Handle, Handle);
}

/// CUDA_ARRAY3D_DESCRIPTOR.
#[repr(C)]
pub struct ArrayDescriptor {
    pub size: [usize; 3],
    pub format: c_uint,
    pub channels: c_uint,
    pub flags: c_uint,
}

/// CUmemLocation: a device.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Location {
    kind: c_int,
    device: c_int,
}

/// The first device.
pub const DEVICE: Location = Location { kind: 1, device: 0 };

/// CUmemAllocationProp.
#[repr(C)]
pub struct Properties {
    pub kind: c_int,
    pub handles: c_int,
    pub location: Location,
    pub security: *mut c_void,
    pub flags: u64,
}

/// CUmemAccessDesc.
#[repr(C)]
pub struct Access {
    pub location: Location,
    pub flags: c_int,
}

/// CUDA_MEM_ALLOC_NODE_PARAMS.
#[repr(C)]
pub struct AllocNode {
    pub kind: c_int,
    pub handles: c_int,
    pub location: Location,
    pub security: *mut c_void,
    pub most: usize,
    pub usage: c_ushort,
    pub reserved: [u8; 54],
    pub access: *const Access,
    pub accesses: usize,
    pub bytes: usize,
    pub address: u64,
}
