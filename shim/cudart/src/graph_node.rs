//! Graphs: nodes of any kind by cudaGraphNodeParams. It and the driver's structure differ in where kernels, copies and contexts stand.

use std::ffi::c_void;
use std::ptr::null;

use crate::abi::{
    Copy3D, DriverCopy3D, DriverKernelNodeParams, Handle, KernelNodeParams, NodeParams,
};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::execution_context::driver_context;
use crate::{Runtime, Version, copy3d, graph};

/// cudaGraphNodeType.
const KERNEL: u32 = 0;
const MEMCPY: u32 = 1;
const MEMSET: u32 = 2;
const HOST: u32 = 3;
const GRAPH: u32 = 4;
const WAIT_EVENT: u32 = 6;
const EVENT_RECORD: u32 = 7;
const MEM_ALLOC: u32 = 10;
const MEM_FREE: u32 = 11;
const CONDITIONAL: u32 = 13;

/// Words of the body.
const COPY: usize = 2;
const COPY_CONTEXT: usize = 1;
const KERNEL_CONTEXT: usize = 7;
const MEMSET_CONTEXT: usize = 5;
const HOST_CONTEXT: usize = 3;
const CONDITIONAL_CONTEXT: usize = 3;

/// As the driver has it. In 12 a node's context is always the current one.
unsafe fn of_runtime(runtime: &Runtime, cu: &Driver, params: &NodeParams) -> Result<NodeParams> {
    let mut made = *params;
    let given = |at: usize| -> Result<u64> {
        let handle = match runtime.version {
            Version::V12 => 0,
            Version::V13 => params.body[at],
        };
        Ok(driver_context(cu, handle as Handle)? as u64)
    };
    match params.kind {
        KERNEL => {
            let common = params.body.as_ptr().cast::<KernelNodeParams>();
            let mut kernel = graph::driver_kernel(cu, &*common)?;
            kernel.context = given(KERNEL_CONTEXT)? as Handle;
            made.body = [0; 29];
            made.body
                .as_mut_ptr()
                .cast::<DriverKernelNodeParams>()
                .write(kernel);
        }
        MEMCPY => {
            let copy = params.body[COPY..].as_ptr().cast::<Copy3D>();
            let copy = copy3d::of_parameters(cu, &*copy)?;
            made.body[COPY..].fill(0);
            made.body[COPY_CONTEXT] = given(COPY_CONTEXT)?;
            made.body[COPY..]
                .as_mut_ptr()
                .cast::<DriverCopy3D>()
                .write(copy);
        }
        MEMSET => made.body[MEMSET_CONTEXT] = given(MEMSET_CONTEXT)?,
        HOST if runtime.version == Version::V12 => made.body[2..].fill(0),
        HOST if params.body[HOST_CONTEXT] != 0 => made.body[HOST_CONTEXT] = given(HOST_CONTEXT)?,
        CONDITIONAL => made.body[CONDITIONAL_CONTEXT] = given(CONDITIONAL_CONTEXT)?,
        _ => {}
    }
    Ok(made)
}

pub unsafe fn cudaGraphAddNode_v2(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    edges: *const c_void,
    count: usize,
    params: *mut NodeParams,
) -> Result {
    let cu = runtime.context()?;
    let params = params.as_mut().ok_or(Error::INVALID_VALUE)?;
    let mut made = of_runtime(runtime, cu, params)?;
    let (node, dependencies) = (node.cast(), dependencies.cast());
    cu.cuGraphAddNode_v2(
        node,
        graph,
        dependencies,
        edges,
        count,
        (&raw mut made).cast(),
    )?;
    // The address of new memory, and the graphs of a condition.
    if matches!(params.kind, MEM_ALLOC | CONDITIONAL) {
        let context = params.body[CONDITIONAL_CONTEXT];
        params.body = made.body;
        if params.kind == CONDITIONAL {
            params.body[CONDITIONAL_CONTEXT] = context;
        }
    }
    Ok(())
}

/// Before 12.3, without data on edges.
pub unsafe fn cudaGraphAddNode(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    params: *mut NodeParams,
) -> Result {
    cudaGraphAddNode_v2(runtime, node, graph, dependencies, null(), count, params)
}

pub unsafe fn cudaGraphNodeSetParams(
    runtime: &Runtime,
    node: Handle,
    params: *mut NodeParams,
) -> Result {
    let cu = runtime.context()?;
    let mut made = of_runtime(runtime, cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    cu.cuGraphNodeSetParams(node, (&raw mut made).cast())
}

pub unsafe fn cudaGraphExecNodeSetParams(
    runtime: &Runtime,
    executable: Handle,
    node: Handle,
    params: *mut NodeParams,
) -> Result {
    let cu = runtime.context()?;
    let mut made = of_runtime(runtime, cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    cu.cuGraphExecNodeSetParams(executable, node, (&raw mut made).cast())
}

/// Asks by the call of the node's own kind, which every driver has.
pub unsafe fn cudaGraphNodeGetParams(
    runtime: &Runtime,
    node: Handle,
    params: *mut NodeParams,
) -> Result {
    if params.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let mut found = NodeParams::default();
    cu.cuGraphNodeGetType(node, (&raw mut found.kind).cast())?;
    let body = found.body.as_mut_ptr();
    match found.kind {
        KERNEL => {
            let mut kernel = DriverKernelNodeParams::default();
            cu.cuGraphKernelNodeGetParams_v2(node, (&raw mut kernel).cast())?;
            let mut common = kernel.common;
            common.function = graph::host_function(cu, &kernel);
            body.cast::<KernelNodeParams>().write(common);
        }
        MEMCPY => {
            let mut copy = DriverCopy3D::default();
            cu.cuGraphMemcpyNodeGetParams(node, (&raw mut copy).cast())?;
            let copy = copy3d::to_parameters(cu, &copy)?;
            body.add(COPY).cast::<Copy3D>().write(copy);
        }
        MEMSET => cu.cuGraphMemsetNodeGetParams(node, body.cast())?,
        HOST => cu.cuGraphHostNodeGetParams(node, body.cast())?,
        GRAPH => cu.cuGraphChildGraphNodeGetGraph(node, body.cast())?,
        WAIT_EVENT => cu.cuGraphEventWaitNodeGetEvent(node, body.cast())?,
        EVENT_RECORD => cu.cuGraphEventRecordNodeGetEvent(node, body.cast())?,
        MEM_ALLOC => cu.cuGraphMemAllocNodeGetParams(node, body.cast())?,
        MEM_FREE => cu.cuGraphMemFreeNodeGetParams(node, body.cast())?,
        _ => return Err(Error::NOT_SUPPORTED),
    }
    params.write(found);
    Ok(())
}

const _: () = assert!(size_of::<DriverCopy3D>() <= (29 - COPY) * 8);
