//! Pointers and structures as C programs pass them.
//!
//! A value of [`Out`], [`In`] or [`Array`] comes from a C caller, who vouches for what it points to, as cuda.h demands
//! of it; Rust code makes one with `of`. Enumerations are plain integers: C callers may pass any number.

mod batch;
mod first;
mod texture;

use std::ffi::{CStr, c_char, c_void};

use crate::error::{Error, Result};

pub use batch::*;
pub use first::*;
pub use texture::*;

/// Where a result goes; null is CUDA_ERROR_INVALID_VALUE.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    pub fn of(place: &mut T) -> Out<T> {
        Out(place)
    }

    pub const fn null() -> Out<T> {
        Out(std::ptr::null_mut())
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn address(self) -> u64 {
        self.0 as u64
    }

    pub fn check(self) -> Result {
        if self.0.is_null() {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    }

    pub fn put(self, value: T) -> Result {
        self.put_at(0, value)
    }

    /// For results that the caller may leave out.
    pub fn put_if(self, value: T) {
        let _ = self.put(value);
    }

    /// Element of an array that the caller said is long enough.
    pub fn put_at(self, index: usize, value: T) -> Result {
        self.check()?;
        // SAFETY: the C caller vouches for the place (see the module's head); C may not have aligned it.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    pub fn read_at(self, index: usize) -> Result<T>
    where
        T: Copy,
    {
        self.check()?;
        // SAFETY: as above.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// The same address, for another type of what goes there.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// # Safety
    /// Whoever passed the address vouches for it as a C caller does.
    pub unsafe fn at(address: u64) -> Out<T> {
        Out(address as *mut T)
    }
}

/// A value or array to read; null is CUDA_ERROR_INVALID_VALUE.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T> In<T> {
    pub fn of(place: &T) -> In<T> {
        In(place)
    }

    pub fn of_slice(place: &[T]) -> In<T> {
        In(place.as_ptr())
    }

    pub const fn null() -> In<T> {
        In(std::ptr::null())
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// The same address, for another type of what is there.
    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }

    /// # Safety
    /// Whoever passed the address vouches for it as a C caller does.
    pub unsafe fn at(address: u64) -> In<T> {
        In(address as *const T)
    }
}

impl<T: Copy> In<T> {
    pub fn get(self) -> Result<T> {
        self.get_at(0)
    }

    pub fn get_at(self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: the C caller vouches for the place (see the module's head).
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// The first `count` elements.
    pub fn list(self, count: usize) -> Result<Vec<T>> {
        (0..count).map(|index| self.get_at(index)).collect()
    }
}

impl In<c_char> {
    pub fn text<'a>(self) -> Result<&'a CStr> {
        if self.0.is_null() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: the C caller vouches for a terminated string that lives for the call.
        Ok(unsafe { CStr::from_ptr(self.0) })
    }
}

impl In<c_void> {
    /// The first `count` bytes.
    pub fn bytes<'a>(self, count: usize) -> Result<&'a [u8]> {
        if count == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: the C caller vouches for the bytes for the time of the call.
        Ok(unsafe { std::slice::from_raw_parts(self.0.cast(), count) })
    }
}

impl Out<c_char> {
    /// Writes as much of the text as fits, always terminated.
    pub fn text(self, len: usize, text: &str) -> Result {
        self.check()?;
        let room = len.checked_sub(1).ok_or(Error::ERROR_INVALID_VALUE)?;
        let fits = &text.as_bytes()[..text.len().min(room)];
        for (index, &byte) in fits.iter().chain(&[0]).enumerate() {
            self.put_at(index, byte as c_char)?;
        }
        Ok(())
    }
}

/// CUDA_MEMCPY3D.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy3d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: u64,
    pub src_device: u64,
    pub src_array: u64,
    pub reserved0: u64,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: u64,
    pub dst_device: u64,
    pub dst_array: u64,
    pub reserved1: u64,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// CUDA_MEMCPY2D.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: u64,
    pub src_device: u64,
    pub src_array: u64,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: u64,
    pub dst_device: u64,
    pub dst_array: u64,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

impl From<Memcpy2d> for Memcpy3d {
    fn from(flat: Memcpy2d) -> Memcpy3d {
        Memcpy3d {
            src_x: flat.src_x,
            src_y: flat.src_y,
            src_type: flat.src_type,
            src_host: flat.src_host,
            src_device: flat.src_device,
            src_array: flat.src_array,
            src_pitch: flat.src_pitch,
            dst_x: flat.dst_x,
            dst_y: flat.dst_y,
            dst_type: flat.dst_type,
            dst_host: flat.dst_host,
            dst_device: flat.dst_device,
            dst_array: flat.dst_array,
            dst_pitch: flat.dst_pitch,
            width: flat.width,
            height: flat.height,
            depth: 1,
            ..Memcpy3d::default()
        }
    }
}

/// CUDA_MEMSET_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemsetNode {
    pub dst: u64,
    pub pitch: usize,
    pub value: u32,
    pub element_size: u32,
    pub width: usize,
    pub height: usize,
}

/// CUDA_KERNEL_NODE_PARAMS_v1, and what _v2 begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelNode {
    pub function: u64,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub params: u64,
    pub extra: u64,
}

/// CUDA_KERNEL_NODE_PARAMS_v2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelNodeV2 {
    pub node: KernelNode,
    pub kernel: u64,
    pub context: u64,
}

/// CUDA_MEMSET_NODE_PARAMS_v2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemsetNodeV2 {
    pub node: MemsetNode,
    pub context: u64,
}

/// CUDA_MEMCPY_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemcpyNode {
    pub flags: u32,
    pub reserved: u32,
    pub context: u64,
    pub copy: Memcpy3d,
}

/// CUDA_HOST_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostNode {
    pub function: Option<extern "C" fn(u64)>,
    pub data: u64,
}

/// CUDA_MEM_ALLOC_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemAllocNode {
    pub props: MemPoolProps,
    pub access: u64,
    pub access_count: usize,
    pub bytes: usize,
    pub address: u64,
}

impl MemAllocNode {
    /// Of memory on a device.
    pub fn of(device: i32, bytes: u64, address: u64) -> MemAllocNode {
        let location = MemLocation {
            kind: 1,
            id: device,
        };
        MemAllocNode {
            props: MemPoolProps {
                kind: 1,
                handle_types: 0,
                location,
                win32: 0,
                max_size: 0,
                rest: [0; 56],
            },
            access: 0,
            access_count: 0,
            bytes: bytes as usize,
            address,
        }
    }
}

/// CUgraphNodeParams: a union of the parameters of all kinds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NodeParams {
    pub kind: u32,
    pub reserved0: [u32; 3],
    pub params: [u64; 29],
    pub reserved2: u64,
}

impl NodeParams {
    /// Where the union is.
    pub fn body(params: Out<NodeParams>) -> u64 {
        params.address() + std::mem::offset_of!(NodeParams, params) as u64
    }
}

/// CUstreamBatchMemOpParams: waits and writes have the same fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemOp {
    pub operation: u32,
    pub pad: u32,
    pub address: u64,
    pub value: u64,
    pub flags: u32,
    pub pad2: u32,
    pub alias: u64,
    pub rest: u64,
}

/// CUDA_BATCH_MEM_OP_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemOpsNodeParams {
    pub context: u64,
    pub count: u32,
    /// Of CUstreamBatchMemOpParams.
    pub operations: u64,
    pub flags: u32,
}

/// CUDA_CONDITIONAL_NODE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConditionalNodeParams {
    pub handle: u64,
    pub kind: u32,
    pub size: u32,
    /// Of handles of graphs.
    pub graphs: u64,
    pub context: u64,
}

/// CUdevResource: of multiprocessors count, least count of a part, of what it is a multiple, flags, locality.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DevResource {
    pub kind: u32,
    /// The driver's own.
    pub inside: [u32; 23],
    pub sm: [u32; 5],
    pub rest: [u32; 5],
    pub next: u64,
}

/// CU_DEV_SM_RESOURCE_GROUP_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SmGroup {
    pub count: u32,
    pub coscheduled: u32,
    pub preferred: u32,
    pub flags: u32,
    pub locality: u32,
    pub reserved: [u32; 11],
}

/// CUgraphEdgeData.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeData {
    pub from_port: u8,
    pub to_port: u8,
    pub kind: u8,
    pub reserved: [u8; 5],
}

/// CUgraphExecUpdateResultInfo.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecUpdateInfo {
    pub result: u32,
    pub pad: u32,
    pub error_node: u64,
    pub error_from_node: u64,
}

/// CUDA_GRAPH_INSTANTIATE_PARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct InstantiateParams {
    pub flags: u64,
    pub upload_stream: u64,
    pub error_node: u64,
    pub result: u32,
    pub pad: u32,
}

/// CUlaunchConfig.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub stream: u64,
    pub attributes: u64,
    pub attribute_count: u32,
}

/// CUlaunchAttribute.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchAttribute {
    pub id: u32,
    pub pad: u32,
    pub value: [u64; 8],
}

/// CUmemLocation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemLocation {
    pub kind: u32,
    pub id: i32,
}

/// CUmemAllocationProp.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemAllocationProp {
    pub kind: u32,
    pub handle_types: u32,
    pub location: MemLocation,
    pub win32: u64,
    pub flags: [u8; 8],
}

/// CUmemPoolProps.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemPoolProps {
    pub kind: u32,
    pub handle_types: u32,
    pub location: MemLocation,
    pub win32: u64,
    pub max_size: usize,
    pub rest: [u8; 56],
}

/// CUmemAccessDesc.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemAccessDesc {
    pub location: MemLocation,
    pub flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys;

    #[test]
    fn structures_are_as_large_as_in_cuda_h() {
        assert_eq!(size_of::<Memcpy3d>(), size_of::<sys::CUDA_MEMCPY3D>());
        assert_eq!(
            size_of::<MemsetNode>(),
            size_of::<sys::CUDA_MEMSET_NODE_PARAMS>()
        );
        assert_eq!(
            size_of::<KernelNode>(),
            size_of::<sys::CUDA_KERNEL_NODE_PARAMS_st>()
        );
        assert_eq!(
            size_of::<KernelNodeV2>(),
            size_of::<sys::CUDA_KERNEL_NODE_PARAMS_v2_st>()
        );
        macro_rules! same {
            ($($ours:ty, $theirs:ty;)*) => {
                $(assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));)*
            };
        }
        same! {
            MemsetNodeV2, sys::CUDA_MEMSET_NODE_PARAMS_v2_st;
            MemcpyNode, sys::CUDA_MEMCPY_NODE_PARAMS_st;
            HostNode, sys::CUDA_HOST_NODE_PARAMS_v2_st;
            MemAllocNode, sys::CUDA_MEM_ALLOC_NODE_PARAMS_v2_st;
            NodeParams, sys::CUgraphNodeParams_st;
            EdgeData, sys::CUgraphEdgeData_st;
            MemOp, sys::CUstreamBatchMemOpParams_union;
            MemOpsNodeParams, sys::CUDA_BATCH_MEM_OP_NODE_PARAMS_v2_st;
            ConditionalNodeParams, sys::CUDA_CONDITIONAL_NODE_PARAMS;
            ExecUpdateInfo, sys::CUgraphExecUpdateResultInfo_st;
            InstantiateParams, sys::CUDA_GRAPH_INSTANTIATE_PARAMS_st;
        }
        assert_eq!(size_of::<LaunchConfig>(), size_of::<sys::CUlaunchConfig>());
        assert_eq!(
            size_of::<LaunchAttribute>(),
            size_of::<sys::CUlaunchAttribute>()
        );
        assert_eq!(
            size_of::<MemAllocationProp>(),
            size_of::<sys::CUmemAllocationProp>()
        );
        assert_eq!(size_of::<MemPoolProps>(), size_of::<sys::CUmemPoolProps>());
        assert_eq!(
            size_of::<MemAccessDesc>(),
            size_of::<sys::CUmemAccessDesc>()
        );
        assert_eq!(
            std::mem::offset_of!(Memcpy3d, width),
            std::mem::offset_of!(sys::CUDA_MEMCPY3D, WidthInBytes)
        );
    }
}
