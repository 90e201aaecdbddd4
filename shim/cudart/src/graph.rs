//! Graphs: kernel nodes, which name host functions, and conditional handles. Most of the rest is the driver's.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{DriverKernelNodeParams, Handle, KernelNodeParams};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::registry::{self, Kind};
use crate::{Runtime, context, execution, execution_context};

/// The driver's parameters: the function in the current context stands for the host function.
pub unsafe fn driver_kernel(
    cu: &Driver,
    params: &KernelNodeParams,
) -> Result<DriverKernelNodeParams> {
    let code = registry::code(cu, params.function)?;
    let mut common = *params;
    common.function = execution::function(cu, code)?;
    Ok(DriverKernelNodeParams {
        common,
        kernel: null_mut(),
        context: context::current(cu)?,
    })
}

/// The program's name of what a node runs: its host function, or, of code that it did not register, the handle, which it can pass where
/// a host function stands.
pub unsafe fn host_function(cu: &Driver, params: &DriverKernelNodeParams) -> *mut c_void {
    let (function, kernel) = (params.common.function, params.kernel);
    if let Some(host) = registry::host_of(kernel).or_else(|| registry::host_of(function)) {
        return host;
    }
    for (host, kernel) in registry::kernels() {
        let mut here: Handle = null_mut();
        let known = cu.cuKernelGetFunction((&raw mut here).cast(), kernel);
        if known.is_ok() && here == function {
            return host;
        }
    }
    let (handle, kind) = match function.is_null() {
        true => (kernel, Kind::Kernel),
        false => (function, Kind::Function),
    };
    registry::add_handle(handle, kind);
    handle
}

pub unsafe fn cudaGraphAddKernelNode(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    params: *const KernelNodeParams,
) -> Result {
    let cu = runtime.context()?;
    let made = driver_kernel(cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    let made = (&raw const made).cast();
    cu.cuGraphAddKernelNode_v2(node.cast(), graph, dependencies.cast(), count, made)
}

pub unsafe fn cudaGraphKernelNodeGetParams(
    runtime: &Runtime,
    node: Handle,
    params: *mut KernelNodeParams,
) -> Result {
    if params.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let mut found = DriverKernelNodeParams::default();
    cu.cuGraphKernelNodeGetParams_v2(node, (&raw mut found).cast())?;
    let mut common = found.common;
    common.function = host_function(cu, &found);
    params.write(common);
    Ok(())
}

pub unsafe fn cudaGraphKernelNodeSetParams(
    runtime: &Runtime,
    node: Handle,
    params: *const KernelNodeParams,
) -> Result {
    let cu = runtime.context()?;
    let made = driver_kernel(cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    cu.cuGraphKernelNodeSetParams_v2(node, (&raw const made).cast())
}

pub unsafe fn cudaGraphExecKernelNodeSetParams(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    params: *const KernelNodeParams,
) -> Result {
    let cu = runtime.context()?;
    let made = driver_kernel(cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    cu.cuGraphExecKernelNodeSetParams_v2(graph, node, (&raw const made).cast())
}

/// As CUDA 12's header has it: from the first to the second. CUDA 13's is the driver's, the other way round.
pub unsafe fn cudaGraphKernelNodeCopyAttributes(
    runtime: &Runtime,
    src: Handle,
    dst: Handle,
) -> Result {
    runtime.context()?.cuGraphKernelNodeCopyAttributes(dst, src)
}

pub unsafe fn cudaGraphConditionalHandleCreate(
    runtime: &Runtime,
    handle: *mut u64,
    graph: Handle,
    value: u32,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    cu.cuGraphConditionalHandleCreate(handle, graph, context::current(cu)?, value, flags)
}

pub unsafe fn cudaGraphConditionalHandleCreate_v2(
    runtime: &Runtime,
    handle: *mut u64,
    graph: Handle,
    context: Handle,
    value: u32,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    let context = execution_context::driver_context(cu, context)?;
    cu.cuGraphConditionalHandleCreate(handle, graph, context, value, flags)
}
