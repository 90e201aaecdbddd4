use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::ptr;

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuGraphExecUpdateReply, rgpuGraphMemoryReply};

use crate::calls::graph_host;
use crate::calls::graph_node::kernel;
use crate::calls::launch::{check_params, with_values};
use crate::handles::Kind;
use crate::state::State;

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
            .and_then(|()| graph_host::instantiated(state, exec, graph))
            .inspect_err(|_| {
                let _ = state.handles.take(Kind::GraphExec, id);
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
    with_values(state, function, params, |values, extra| {
        let kernel = kernel(
            function,
            [grid_x, grid_y, grid_z],
            [block_x, block_y, block_z],
            shared_bytes,
            values,
            extra,
        );
        // SAFETY: handles are the driver's own; the parameters are as long as the function takes.
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

pub fn rgpuGraphExecChild(
    state: &State,
    exec: *mut c_void,
    node: *mut c_void,
    child: *mut c_void,
) -> Result<(), CudaError> {
    // SAFETY: handles are the driver's own.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphExecChildGraphNodeSetParams(exec, node, child)
        )
    }?;
    let mut before = ptr::null_mut();
    // SAFETY: as above, and `before` is a place.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphChildGraphNodeGetGraph(node, &mut before)
        )
    }?;
    graph_host::child_replaced(state, exec, before, child)
}

/// CUgraphExecUpdateResultInfo.
#[repr(C)]
struct UpdateInfo {
    result: u32,
    error_node: *mut c_void,
    error_from: *mut c_void,
}

pub fn rgpuGraphExecUpdate(
    state: &State,
    exec: *mut c_void,
    graph: *mut c_void,
    out: &mut rgpuGraphExecUpdateReply,
) -> Result<(), CudaError> {
    let mut info = UpdateInfo {
        result: 0,
        error_node: ptr::null_mut(),
        error_from: ptr::null_mut(),
    };
    let place = (&raw mut info).cast();
    // SAFETY: handles are the driver's own, and the place is as large as cuda.h's struct.
    match unsafe { driver_call!(state.driver.cuGraphExecUpdate_v2(exec, graph, place)) } {
        Ok(()) => graph_host::updated(state, exec, graph)?,
        Err(error @ CudaError::GRAPH_EXEC_UPDATE_FAILURE) => out.code.set(error.0),
        Err(error) => return Err(error),
    }
    out.result.set(info.result);
    if !info.error_node.is_null() {
        let ids = state
            .handles
            .name(Kind::GraphNode, &[info.error_node], graph)?;
        out.error_node.set(ids[0]);
    }
    if !info.error_from.is_null() {
        let known = state.handles.find(Kind::GraphNode, info.error_from);
        out.error_from.set(known.unwrap_or(0));
    }
    Ok(())
}

pub fn rgpuGraphExecDestroy(state: &State, exec: *mut c_void) -> Result<(), CudaError> {
    // SAFETY: the graph is the driver's own, and its id is gone.
    let destroyed = unsafe { driver_call!(state.driver.cuGraphExecDestroy(exec)) };
    graph_host::destroyed(state, exec);
    destroyed
}

pub fn rgpuGraphMemory(
    state: &State,
    device: i32,
    attribute: u32,
    out: &mut rgpuGraphMemoryReply,
) -> Result<(), CudaError> {
    let mut value = 0_u64;
    let place = (&raw mut value).cast();
    // SAFETY: every attribute is a cuuint64_t.
    unsafe {
        driver_call!(
            state
                .driver
                .cuDeviceGetGraphMemAttribute(device, attribute, place)
        )
    }?;
    out.value.set(value);
    Ok(())
}

pub fn rgpuGraphMemorySet(
    state: &State,
    device: i32,
    attribute: u32,
    value: u64,
) -> Result<(), CudaError> {
    let mut value = value;
    let place = (&raw mut value).cast();
    // SAFETY: every attribute is a cuuint64_t.
    unsafe {
        driver_call!(
            state
                .driver
                .cuDeviceSetGraphMemAttribute(device, attribute, place)
        )
    }
}

pub fn rgpuGraphMemoryTrim(state: &State, device: i32) -> Result<(), CudaError> {
    // SAFETY: no pointers.
    unsafe { driver_call!(state.driver.cuDeviceGraphMemTrim(device)) }
}
