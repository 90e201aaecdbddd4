use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::ptr;

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::frame::MAX_DEPENDENCIES;

use crate::calls::launch::{check_params, with_extra};
use crate::handles::Kind;
use crate::state::State;

fn nodes(state: &State, ids: &[u8]) -> Result<Vec<*mut c_void>, CudaError> {
    let (ids, rest) = ids.as_chunks::<8>();
    if !rest.is_empty() || ids.len() > MAX_DEPENDENCIES {
        return Err(CudaError::INVALID_VALUE);
    }
    ids.iter()
        .map(|id| state.handles.get(Kind::GraphNode, u64::from_le_bytes(*id)))
        .collect()
}

/// Adds a node with `add`, and remembers it under its id, or the error under that id.
fn remember(
    state: &State,
    id: u64,
    graph: *mut c_void,
    node: Result<*mut c_void, CudaError>,
) -> Result<(), CudaError> {
    match node {
        Ok(node) => state.handles.insert_owned(Kind::GraphNode, id, node, graph),
        Err(error) => {
            state.handles.poison(Kind::GraphNode, id, error);
            Err(error)
        }
    }
}

/// cuda.h's first version of the struct: the one that the functions without a suffix take.
fn kernel(
    function: *mut c_void,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    extra: *mut *mut c_void,
) -> sys::CUDA_KERNEL_NODE_PARAMS_v1 {
    sys::CUDA_KERNEL_NODE_PARAMS_v1 {
        func: function.cast(),
        gridDimX: grid[0],
        gridDimY: grid[1],
        gridDimZ: grid[2],
        blockDimX: block[0],
        blockDimY: block[1],
        blockDimZ: block[2],
        sharedMemBytes: shared_bytes,
        kernelParams: ptr::null_mut(),
        extra,
    }
}

/// The client's copy between two ranges of device memory, without any pointer to host memory or arrays.
fn device_copy(bytes: &[u8]) -> Result<sys::CUDA_MEMCPY3D, CudaError> {
    use sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
    type Copy = sys::CUDA_MEMCPY3D;
    if bytes.len() != size_of::<Copy>() {
        return Err(CudaError::INVALID_VALUE);
    }
    // Field by field: the client's bytes need not be values of cuda.h's enums.
    let word = |offset: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[offset..offset + 8]);
        u64::from_le_bytes(word)
    };
    let size = |offset: usize| word(offset) as usize;
    let kind = |offset: usize| word(offset) as u32;
    let device = CU_MEMORYTYPE_DEVICE as u32;
    if kind(offset_of!(Copy, srcMemoryType)) != device
        || kind(offset_of!(Copy, dstMemoryType)) != device
    {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(Copy {
        srcXInBytes: size(offset_of!(Copy, srcXInBytes)),
        srcY: size(offset_of!(Copy, srcY)),
        srcZ: size(offset_of!(Copy, srcZ)),
        srcLOD: size(offset_of!(Copy, srcLOD)),
        srcMemoryType: CU_MEMORYTYPE_DEVICE,
        srcHost: ptr::null(),
        srcDevice: word(offset_of!(Copy, srcDevice)),
        srcArray: ptr::null_mut(),
        reserved0: ptr::null_mut(),
        srcPitch: size(offset_of!(Copy, srcPitch)),
        srcHeight: size(offset_of!(Copy, srcHeight)),
        dstXInBytes: size(offset_of!(Copy, dstXInBytes)),
        dstY: size(offset_of!(Copy, dstY)),
        dstZ: size(offset_of!(Copy, dstZ)),
        dstLOD: size(offset_of!(Copy, dstLOD)),
        dstMemoryType: CU_MEMORYTYPE_DEVICE,
        dstHost: ptr::null_mut(),
        dstDevice: word(offset_of!(Copy, dstDevice)),
        dstArray: ptr::null_mut(),
        reserved1: ptr::null_mut(),
        dstPitch: size(offset_of!(Copy, dstPitch)),
        dstHeight: size(offset_of!(Copy, dstHeight)),
        WidthInBytes: size(offset_of!(Copy, WidthInBytes)),
        Height: size(offset_of!(Copy, Height)),
        Depth: size(offset_of!(Copy, Depth)),
    })
}

#[expect(clippy::too_many_arguments, reason = "a kernel node's own")]
pub fn rgpuGraphAddKernelNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    dependencies: &[u8],
    params: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let dependencies = nodes(state, dependencies)?;
        check_params(state, function, params)?;
        let mut node = ptr::null_mut();
        with_extra(params, |extra| {
            let kernel = kernel(
                function,
                [grid_x, grid_y, grid_z],
                [block_x, block_y, block_z],
                shared_bytes,
                extra,
            );
            // SAFETY: handles are the driver's own; `extra` describes a buffer of the length that the function takes.
            unsafe {
                driver_call!(state.driver.cuGraphAddKernelNode(
                    &mut node,
                    graph,
                    dependencies.as_ptr(),
                    dependencies.len(),
                    (&raw const kernel).cast()
                ))
            }
        })?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

pub fn rgpuGraphAddMemcpyNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    context: *mut c_void,
    dependencies: &[u8],
    copy: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let dependencies = nodes(state, dependencies)?;
        let copy = device_copy(copy)?;
        let mut node = ptr::null_mut();
        // SAFETY: handles are the driver's own; the copy is between device addresses, which the driver checks.
        unsafe {
            driver_call!(state.driver.cuGraphAddMemcpyNode(
                &mut node,
                graph,
                dependencies.as_ptr(),
                dependencies.len(),
                (&raw const copy).cast(),
                context
            ))
        }?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

pub fn rgpuGraphAddEmptyNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    dependencies: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let dependencies = nodes(state, dependencies)?;
        let mut node = ptr::null_mut();
        // SAFETY: handles are the driver's own.
        unsafe {
            driver_call!(state.driver.cuGraphAddEmptyNode(
                &mut node,
                graph,
                dependencies.as_ptr(),
                dependencies.len()
            ))
        }?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

pub fn rgpuGraphInstantiate(
    state: &State,
    id: u64,
    graph: *mut c_void,
    flags: u64,
) -> Result<(), CudaError> {
    let mut exec = ptr::null_mut();
    // SAFETY: the graph is the driver's own, `exec` a place for the handle.
    match unsafe {
        driver_call!(
            state
                .driver
                .cuGraphInstantiateWithFlags(&mut exec, graph, flags)
        )
    } {
        Ok(()) => state
            .handles
            .insert(Kind::GraphExec, id, exec)
            .inspect_err(|_| {
                // SAFETY: it was made above, and nobody knows it.
                let _ = unsafe { driver_call!(state.driver.cuGraphExecDestroy(exec)) };
            }),
        Err(error) => {
            state.handles.poison(Kind::GraphExec, id, error);
            Err(error)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a kernel node's own")]
pub fn rgpuGraphExecKernelNodeSetParams(
    state: &State,
    exec: *mut c_void,
    node: *mut c_void,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    params: &[u8],
) -> Result<(), CudaError> {
    check_params(state, function, params)?;
    with_extra(params, |extra| {
        let kernel = kernel(
            function,
            [grid_x, grid_y, grid_z],
            [block_x, block_y, block_z],
            shared_bytes,
            extra,
        );
        // SAFETY: handles are the driver's own; `extra` describes a buffer of the length that the function takes.
        unsafe {
            driver_call!(state.driver.cuGraphExecKernelNodeSetParams(
                exec,
                node,
                (&raw const kernel).cast()
            ))
        }
    })
}

pub fn rgpuGraphExecMemcpyNodeSetParams(
    state: &State,
    exec: *mut c_void,
    node: *mut c_void,
    context: *mut c_void,
    copy: &[u8],
) -> Result<(), CudaError> {
    let copy = device_copy(copy)?;
    // SAFETY: handles are the driver's own; the copy is between device addresses, which the driver checks.
    unsafe {
        driver_call!(state.driver.cuGraphExecMemcpyNodeSetParams(
            exec,
            node,
            (&raw const copy).cast(),
            context
        ))
    }
}
