//! Graphs: nodes that copy and fill.

use std::ffi::c_void;

use crate::abi::{Copy3D, DriverCopy3D, Handle, MemsetParams, Side3D};
use crate::copy::sides;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, context, copy3d, symbol};

/// A copy of some bytes.
fn bytes(dst: *mut c_void, src: *const c_void, count: usize, kind: u32) -> Result<DriverCopy3D> {
    let (from, to) = sides(kind)?;
    let side = |address: *mut c_void, memory| Side3D {
        memory,
        host: address,
        device: address as u64,
        pitch: count,
        height: 1,
        ..Side3D::default()
    };
    Ok(DriverCopy3D {
        src: side(src.cast_mut(), from),
        dst: side(dst, to),
        width: count,
        height: 1,
        depth: 1,
    })
}

unsafe fn to_symbol(
    cu: &Driver,
    symbol: *const c_void,
    src: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
) -> Result<DriverCopy3D> {
    symbol::check_to(kind)?;
    let address = symbol::part(cu, symbol, offset, count)?;
    bytes(address as *mut c_void, src, count, kind)
}

unsafe fn from_symbol(
    cu: &Driver,
    dst: *mut c_void,
    symbol: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
) -> Result<DriverCopy3D> {
    symbol::check_from(kind)?;
    let address = symbol::part(cu, symbol, offset, count)?;
    bytes(dst, address as *const c_void, count, kind)
}

/// Where a new node goes.
struct Place {
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
}

impl Place {
    unsafe fn add(self, cu: &Driver, copy: DriverCopy3D) -> Result {
        let (node, dependencies) = (self.node.cast(), self.dependencies.cast());
        let (copy, context) = ((&raw const copy).cast(), context::current(cu)?);
        cu.cuGraphAddMemcpyNode(node, self.graph, dependencies, self.count, copy, context)
    }
}

unsafe fn set(cu: &Driver, node: Handle, copy: DriverCopy3D) -> Result {
    cu.cuGraphMemcpyNodeSetParams(node, (&raw const copy).cast())
}

unsafe fn set_executable(cu: &Driver, graph: Handle, node: Handle, copy: DriverCopy3D) -> Result {
    let context = context::current(cu)?;
    cu.cuGraphExecMemcpyNodeSetParams(graph, node, (&raw const copy).cast(), context)
}

pub unsafe fn cudaGraphAddMemcpyNode(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    params: *const Copy3D,
) -> Result {
    let cu = runtime.context()?;
    let copy = copy3d::of_parameters(cu, params.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    Place {
        node,
        graph,
        dependencies,
        count,
    }
    .add(cu, copy)
}

pub unsafe fn cudaGraphAddMemcpyNode1D(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    Place {
        node,
        graph,
        dependencies,
        count,
    }
    .add(cu, bytes(dst, src, size, kind)?)
}

pub unsafe fn cudaGraphAddMemcpyNodeToSymbol(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    symbol: *const c_void,
    src: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    let copy = to_symbol(cu, symbol, src, size, offset, kind)?;
    Place {
        node,
        graph,
        dependencies,
        count,
    }
    .add(cu, copy)
}

pub unsafe fn cudaGraphAddMemcpyNodeFromSymbol(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    dst: *mut c_void,
    symbol: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    let copy = from_symbol(cu, dst, symbol, size, offset, kind)?;
    Place {
        node,
        graph,
        dependencies,
        count,
    }
    .add(cu, copy)
}

pub unsafe fn cudaGraphMemcpyNodeGetParams(
    runtime: &Runtime,
    node: Handle,
    params: *mut Copy3D,
) -> Result {
    if params.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let mut found = DriverCopy3D::default();
    cu.cuGraphMemcpyNodeGetParams(node, (&raw mut found).cast())?;
    params.write(copy3d::to_parameters(cu, &found)?);
    Ok(())
}

pub unsafe fn cudaGraphMemcpyNodeSetParams(
    runtime: &Runtime,
    node: Handle,
    params: *const Copy3D,
) -> Result {
    let cu = runtime.context()?;
    let params = params.as_ref().ok_or(Error::INVALID_VALUE)?;
    set(cu, node, copy3d::of_parameters(cu, params)?)
}

pub unsafe fn cudaGraphMemcpyNodeSetParams1D(
    runtime: &Runtime,
    node: Handle,
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    kind: u32,
) -> Result {
    set(runtime.context()?, node, bytes(dst, src, size, kind)?)
}

pub unsafe fn cudaGraphMemcpyNodeSetParamsToSymbol(
    runtime: &Runtime,
    node: Handle,
    symbol: *const c_void,
    src: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    set(cu, node, to_symbol(cu, symbol, src, size, offset, kind)?)
}

pub unsafe fn cudaGraphMemcpyNodeSetParamsFromSymbol(
    runtime: &Runtime,
    node: Handle,
    dst: *mut c_void,
    symbol: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    set(cu, node, from_symbol(cu, dst, symbol, size, offset, kind)?)
}

pub unsafe fn cudaGraphExecMemcpyNodeSetParams(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    params: *const Copy3D,
) -> Result {
    let cu = runtime.context()?;
    let params = params.as_ref().ok_or(Error::INVALID_VALUE)?;
    set_executable(cu, graph, node, copy3d::of_parameters(cu, params)?)
}

pub unsafe fn cudaGraphExecMemcpyNodeSetParams1D(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    kind: u32,
) -> Result {
    set_executable(
        runtime.context()?,
        graph,
        node,
        bytes(dst, src, size, kind)?,
    )
}

pub unsafe fn cudaGraphExecMemcpyNodeSetParamsToSymbol(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    symbol: *const c_void,
    src: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    set_executable(
        cu,
        graph,
        node,
        to_symbol(cu, symbol, src, size, offset, kind)?,
    )
}

pub unsafe fn cudaGraphExecMemcpyNodeSetParamsFromSymbol(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    dst: *mut c_void,
    symbol: *const c_void,
    size: usize,
    offset: usize,
    kind: u32,
) -> Result {
    let cu = runtime.context()?;
    set_executable(
        cu,
        graph,
        node,
        from_symbol(cu, dst, symbol, size, offset, kind)?,
    )
}

pub unsafe fn cudaGraphAddMemsetNode(
    runtime: &Runtime,
    node: *mut Handle,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    params: *const MemsetParams,
) -> Result {
    let cu = runtime.context()?;
    let context = context::current(cu)?;
    let (node, dependencies) = (node.cast(), dependencies.cast());
    cu.cuGraphAddMemsetNode(node, graph, dependencies, count, params.cast(), context)
}

pub unsafe fn cudaGraphExecMemsetNodeSetParams(
    runtime: &Runtime,
    graph: Handle,
    node: Handle,
    params: *const MemsetParams,
) -> Result {
    let cu = runtime.context()?;
    let context = context::current(cu)?;
    cu.cuGraphExecMemsetNodeSetParams(graph, node, params.cast(), context)
}
