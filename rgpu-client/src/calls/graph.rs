//! Graphs that the program builds node by node.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

use cudarc::driver::sys::{CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D_v2};
use rgpu_proto::CudaError;
use rgpu_proto::frame::MAX_DEPENDENCIES;

use super::launch::{Shape, prepare};
use crate::entry::{Needs, enter, input_bytes, put, put_opt, required};
use crate::handles::Kind;
use crate::send;
use crate::session::Session;

/// The ids of a node's dependencies, as they travel.
///
/// # Safety
/// `list` is NULL or `count` handles.
unsafe fn dependencies(
    session: &Session,
    list: *const u64,
    count: usize,
) -> Result<Vec<u8>, CudaError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    required(list)?;
    if count > MAX_DEPENDENCIES {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: `count` handles.
    let ids = unsafe { std::slice::from_raw_parts(list, count) };
    for id in ids {
        session.handles.check(Kind::GraphNode, *id)?;
    }
    Ok(ids.iter().flat_map(|id| id.to_le_bytes()).collect())
}

/// Makes a node's id, sends the command that adds it, and writes the id back.
unsafe fn add(
    session: &Session,
    node: *mut u64,
    graph: u64,
    send: impl FnOnce(u64) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    required(node)?;
    session.handles.check(Kind::Graph, graph)?;
    let id = session.handles.make(Kind::GraphNode, session.context());
    if let Err(error) = send(id) {
        session.handles.forget(id);
        return Err(error);
    }
    // SAFETY: the caller's place.
    unsafe { put(node, id) }
}

/// Of CUDA_KERNEL_NODE_PARAMS.
#[derive(Clone, Copy)]
enum Version {
    First,
    Second,
}

/// A kernel node: function, shape and parameter buffer. The second version of its struct only appends fields: a library's kernel in the
/// place of a function, and the context that it runs in.
///
/// # Safety
/// `params` is NULL or a CUDA_KERNEL_NODE_PARAMS of that version.
unsafe fn kernel(
    session: &Session,
    version: Version,
    params: *const c_void,
) -> Result<(u64, Shape, Vec<u8>), CudaError> {
    required(params)?;
    let (kernel, context) = match version {
        Version::First => (0, 0),
        Version::Second => {
            // SAFETY: `kern` and `ctx` follow the first version's fields.
            unsafe {
                let after = params.cast::<CUDA_KERNEL_NODE_PARAMS_v1>().add(1);
                let after = after.cast::<u64>();
                (after.read_unaligned(), after.add(1).read_unaligned())
            }
        }
    };
    let context = match context {
        0 => session.context(),
        context => {
            session.handles.check(Kind::Context, context)?;
            context
        }
    };
    let params = params.cast::<CUDA_KERNEL_NODE_PARAMS_v1>();
    // SAFETY: plain numbers and pointers of the caller's struct.
    unsafe {
        let shape = Shape {
            grid: [(*params).gridDimX, (*params).gridDimY, (*params).gridDimZ],
            block: [
                (*params).blockDimX,
                (*params).blockDimY,
                (*params).blockDimZ,
            ],
            shared_bytes: (*params).sharedMemBytes,
        };
        let function = match (*params).func as u64 {
            0 => kernel,
            function => function,
        };
        let prepared = prepare(
            session,
            function,
            context,
            &shape,
            (*params).kernelParams as *const *const c_void,
            (*params).extra as *const *const c_void,
        )?;
        Ok((prepared.function, shape, prepared.params))
    }
}

unsafe fn add_kernel(
    session: &Session,
    version: Version,
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> Result<(), CudaError> {
    // SAFETY: the caller's arguments.
    let (before, (function, shape, buffer)) = unsafe {
        (
            dependencies(session, list, count)?,
            kernel(session, version, params)?,
        )
    };
    let Shape {
        grid: [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = shape;
    // SAFETY: the caller's place.
    unsafe {
        add(session, node, graph, |id| {
            send::rgpuGraphAddKernelNode(
                session,
                id,
                graph,
                function,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared_bytes,
                &before,
                &buffer,
            )
        })
    }
}

pub unsafe fn cuGraphAddKernelNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> u32 {
    enter("cuGraphAddKernelNode", Needs::Context, |session| {
        // SAFETY: the caller's arguments.
        unsafe { add_kernel(session, Version::First, node, graph, list, count, params) }
    })
}

pub unsafe fn cuGraphAddKernelNode_v2(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> u32 {
    enter("cuGraphAddKernelNode_v2", Needs::Context, |session| {
        // SAFETY: the caller's arguments.
        unsafe { add_kernel(session, Version::Second, node, graph, list, count, params) }
    })
}

/// A copy node's struct as bytes; both ends must be memory of the program's on the device.
///
/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D.
unsafe fn copy<'a>(session: &Session, params: *const c_void) -> Result<&'a [u8], CudaError> {
    const DEVICE: u32 = 2;
    required(params)?;
    let copy = params.cast::<MaybeUninit<CUDA_MEMCPY3D_v2>>();
    // SAFETY: the caller's struct; memory types are read as numbers.
    let (src_type, dst_type, src, dst) = unsafe {
        let copy = (*copy).as_ptr();
        (
            (&raw const (*copy).srcMemoryType).cast::<u32>().read(),
            (&raw const (*copy).dstMemoryType).cast::<u32>().read(),
            (*copy).srcDevice,
            (*copy).dstDevice,
        )
    };
    if src_type != DEVICE || dst_type != DEVICE {
        return Err(super::device::refuse(
            "cuGraphAddMemcpyNode(host memory or arrays)",
        ));
    }
    let memory = session.memory();
    let on_device = |at: u64| memory.find(at).is_some_and(|found| found.is_on_device());
    if !on_device(src) || !on_device(dst) {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the struct's size.
    unsafe { input_bytes(params, size_of::<CUDA_MEMCPY3D_v2>()) }
}

pub unsafe fn cuGraphAddMemcpyNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
    context: u64,
) -> u32 {
    enter("cuGraphAddMemcpyNode", Needs::Context, |session| {
        session.handles.check(Kind::Context, context)?;
        // SAFETY: the caller's arguments.
        let (before, copy) =
            unsafe { (dependencies(session, list, count)?, copy(session, params)?) };
        // SAFETY: the caller's place.
        unsafe {
            add(session, node, graph, |id| {
                send::rgpuGraphAddMemcpyNode(session, id, graph, context, &before, copy)
            })
        }
    })
}

pub unsafe fn cuGraphAddEmptyNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
) -> u32 {
    enter("cuGraphAddEmptyNode", Needs::Context, |session| {
        // SAFETY: the caller's list.
        let before = unsafe { dependencies(session, list, count) }?;
        // SAFETY: the caller's place.
        unsafe {
            add(session, node, graph, |id| {
                send::rgpuGraphAddEmptyNode(session, id, graph, &before)
            })
        }
    })
}

fn instantiate(session: &Session, graph: u64, flags: u64) -> Result<u64, CudaError> {
    session.handles.check(Kind::Graph, graph)?;
    let id = session.handles.make(Kind::GraphExec, session.context());
    if let Err(error) = send::rgpuGraphInstantiate(session, id, graph, flags) {
        session.handles.forget(id);
        return Err(error);
    }
    Ok(id)
}

pub unsafe fn cuGraphInstantiate_v2(
    exec: *mut u64,
    graph: u64,
    error_node: *mut u64,
    log: *mut c_char,
    log_bytes: usize,
) -> u32 {
    enter("cuGraphInstantiate_v2", Needs::Context, |session| {
        required(exec)?;
        let id = instantiate(session, graph, 0)?;
        // SAFETY: the caller's places; the log is empty when nothing went wrong at the call.
        unsafe {
            put_opt(error_node, 0);
            if log_bytes > 0 {
                put_opt(log, 0);
            }
            put(exec, id)
        }
    })
}

pub unsafe fn cuGraphInstantiateWithFlags(exec: *mut u64, graph: u64, flags: u64) -> u32 {
    enter("cuGraphInstantiateWithFlags", Needs::Context, |session| {
        /// CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | UPLOAD | DEVICE_LAUNCH | USE_NODE_PRIORITY
        const KNOWN: u64 = 0xF;
        required(exec)?;
        if flags & !KNOWN != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let id = instantiate(session, graph, flags)?;
        // SAFETY: the caller's place.
        unsafe { put(exec, id) }
    })
}

unsafe fn set_kernel(
    session: &Session,
    version: Version,
    exec: u64,
    node: u64,
    params: *const c_void,
) -> Result<(), CudaError> {
    session.handles.check(Kind::GraphExec, exec)?;
    session.handles.check(Kind::GraphNode, node)?;
    // SAFETY: the caller's struct.
    let (function, shape, buffer) = unsafe { kernel(session, version, params) }?;
    let Shape {
        grid: [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = shape;
    send::rgpuGraphExecKernelNodeSetParams(
        session,
        exec,
        node,
        function,
        gx,
        gy,
        gz,
        bx,
        by,
        bz,
        shared_bytes,
        &buffer,
    )
}

pub unsafe fn cuGraphExecKernelNodeSetParams(exec: u64, node: u64, params: *const c_void) -> u32 {
    const NAME: &str = "cuGraphExecKernelNodeSetParams";
    // SAFETY: the caller's struct.
    enter(NAME, Needs::Context, |session| unsafe {
        set_kernel(session, Version::First, exec, node, params)
    })
}

pub unsafe fn cuGraphExecKernelNodeSetParams_v2(
    exec: u64,
    node: u64,
    params: *const c_void,
) -> u32 {
    const NAME: &str = "cuGraphExecKernelNodeSetParams_v2";
    // SAFETY: the caller's struct.
    enter(NAME, Needs::Context, |session| unsafe {
        set_kernel(session, Version::Second, exec, node, params)
    })
}

pub unsafe fn cuGraphExecMemcpyNodeSetParams(
    exec: u64,
    node: u64,
    params: *const c_void,
    context: u64,
) -> u32 {
    enter(
        "cuGraphExecMemcpyNodeSetParams",
        Needs::Context,
        |session| {
            session.handles.check(Kind::GraphExec, exec)?;
            session.handles.check(Kind::GraphNode, node)?;
            session.handles.check(Kind::Context, context)?;
            // SAFETY: the caller's struct.
            let copy = unsafe { copy(session, params) }?;
            send::rgpuGraphExecMemcpyNodeSetParams(session, exec, node, context, copy)
        },
    )
}
