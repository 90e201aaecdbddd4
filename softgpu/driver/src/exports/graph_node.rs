//! Nodes: adding them, and what they do.

use super::conditional::conditional;
use super::graph::{MAX_DEPENDENCIES, check_edge_data, graph_of, node_of};
use super::graph_memop::mem_ops;
use super::memory::named;
use super::{Handle, call};
use crate::abi::{
    EdgeData, HostNode, In, KernelNode, KernelNodeV2, MemAllocNode, Memcpy3d, MemcpyNode,
    MemsetNode, MemsetNodeV2, NodeParams, Out,
};
use crate::copy::{Copy, Fill};
use crate::error::{Error, Result};
use crate::graph::{CopyNode, FillNode, GRAPH_OWNED, GraphMemory, KernelRunNode, Operation};
use crate::launch::{Arguments, Launch};
use crate::library;
use crate::runtime::Runtime;

/// CUgraphNodeType.
const KERNEL: u32 = 0;
const MEMCPY: u32 = 1;
const MEMSET: u32 = 2;
const HOST: u32 = 3;
const GRAPH: u32 = 4;
const EMPTY: u32 = 5;
const WAIT_EVENT: u32 = 6;
const EVENT_RECORD: u32 = 7;
const MEM_ALLOC: u32 = 10;
const MEM_FREE: u32 = 11;
const BATCH_MEM_OP: u32 = 12;
const CONDITIONAL: u32 = 13;
const LAST_TYPE: u32 = 13;

pub struct Place {
    pub node: Out<Handle>,
    pub graph: Handle,
    pub after: In<Handle>,
    pub count: usize,
}

impl Place {
    pub fn add(&self, runtime: &Runtime, operation: impl FnOnce() -> Result<Operation>) -> Result {
        self.node.check()?;
        if self.count > MAX_DEPENDENCIES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let graph = graph_of(runtime, self.graph)?;
        let after = self.after.list(self.count)?;
        self.node.put(graph.add(runtime, operation()?, &after)?)
    }
}

// From parameters to operations.

/// `context`: of a library's kernel; null is the current one.
fn kernel_in(runtime: &Runtime, node: &KernelNode, context: Handle) -> Result<Operation> {
    let function = library::function(runtime, node.function, || named(runtime, context))?;
    function.module.context.check()?;
    // SAFETY: the C caller's node leads to parameters as cuLaunchKernel takes them.
    let arguments = unsafe {
        Arguments {
            params: In::at(node.params),
            extra: In::at(node.extra),
        }
    };
    let launch = Launch::new(function, node.grid, node.block, node.shared, arguments)?;
    Ok(Operation::kernel(launch))
}

pub fn kernel(runtime: &Runtime, params: In<KernelNode>) -> Result<Operation> {
    kernel_in(runtime, &params.get()?, 0)
}

pub fn kernel_v2(runtime: &Runtime, params: In<KernelNodeV2>) -> Result<Operation> {
    let params = params.get()?;
    let mut node = params.node;
    if node.function == 0 {
        node.function = params.kernel;
    }
    kernel_in(runtime, &node, params.context)
}

pub fn memcpy(runtime: &Runtime, params: &Memcpy3d, context: Handle) -> Result<Operation> {
    named(runtime, context)?.check()?;
    Ok(Operation::Copy(CopyNode {
        copy: Copy::from_params(runtime, params)?,
        params: *params,
    }))
}

pub fn memset(runtime: &Runtime, params: &MemsetNode, context: Handle) -> Result<Operation> {
    named(runtime, context)?.check()?;
    Ok(Operation::Fill(FillNode {
        fill: Fill::new(runtime, params)?,
        params: *params,
    }))
}

pub fn host(params: In<HostNode>) -> Result<Operation> {
    let params = params.get()?;
    let function = params.function.ok_or(Error::ERROR_INVALID_VALUE)?;
    Ok(Operation::Host(function, params.data))
}

pub fn record(runtime: &Runtime, event: Handle) -> Result<Operation> {
    Ok(Operation::Record(runtime.events.get(event)?, event))
}

pub fn wait(runtime: &Runtime, event: Handle) -> Result<Operation> {
    Ok(Operation::Wait(runtime.events.get(event)?, event))
}

fn child(runtime: &Runtime, graph: Handle) -> Result<Operation> {
    let graph = graph_of(runtime, graph)?;
    if graph.has_memory() {
        return Err(Error::ERROR_NOT_SUPPORTED);
    }
    Ok(Operation::Child(graph.duplicate(runtime, true)?))
}

fn mem_alloc(runtime: &Runtime, params: Out<MemAllocNode>) -> Result<Operation> {
    const PINNED: u32 = 1;
    const DEVICE: u32 = 1;
    let mut read = params.read_at(0)?;
    if read.props.kind != PINNED || read.props.location.kind != DEVICE {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    if read.props.handle_types != 0 {
        return Err(Error::ERROR_NOT_SUPPORTED);
    }
    let device = runtime.device(read.props.location.id)?;
    let memory = GraphMemory::allocate(runtime, device, read.bytes as u64)?;
    read.address = memory.address;
    params.put(read)?;
    Ok(Operation::Alloc(memory))
}

fn mem_free(runtime: &Runtime, address: u64) -> Result<Operation> {
    let found = runtime.memory.starts_at(address);
    match found.map(|found| found.pool) {
        Some(GRAPH_OWNED) => Ok(Operation::Free(address)),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// Nodes whose parameters come in one structure for all kinds.
pub fn any_kind(runtime: &Runtime, params: Out<NodeParams>) -> Result<Operation> {
    let kind = params.read_at(0)?.kind;
    let body = NodeParams::body(params);
    // SAFETY: the C caller's structure has the kind's parameters in it.
    unsafe {
        match kind {
            KERNEL => kernel_v2(runtime, In::at(body)),
            MEMCPY => {
                let params = In::<MemcpyNode>::at(body).get()?;
                if params.flags != 0 {
                    return Err(Error::ERROR_INVALID_VALUE);
                }
                memcpy(runtime, &params.copy, params.context)
            }
            MEMSET => {
                let params = In::<MemsetNodeV2>::at(body).get()?;
                memset(runtime, &params.node, params.context)
            }
            HOST => host(In::at(body)),
            GRAPH => child(runtime, In::<Handle>::at(body).get()?),
            EMPTY => Ok(Operation::Empty),
            WAIT_EVENT => wait(runtime, In::<Handle>::at(body).get()?),
            EVENT_RECORD => record(runtime, In::<Handle>::at(body).get()?),
            MEM_ALLOC => mem_alloc(runtime, Out::at(body)),
            MEM_FREE => mem_free(runtime, In::<u64>::at(body).get()?),
            BATCH_MEM_OP => mem_ops(runtime, In::at(body)),
            CONDITIONAL => conditional(runtime, Out::at(body)),
            _ if kind <= LAST_TYPE => Err(Error::ERROR_NOT_SUPPORTED),
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    }
}

// Adding.

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<KernelNode>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || kernel(runtime, params)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode_v2(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<KernelNodeV2>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || kernel_v2(runtime, params)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemcpyNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<Memcpy3d>,
    context: Handle,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || memcpy(runtime, &params.get()?, context)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemsetNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<MemsetNode>,
    context: Handle,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || memset(runtime, &params.get()?, context)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddHostNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<HostNode>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || host(params)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddChildGraphNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    inner: Handle,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || child(runtime, inner)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEmptyNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || Ok(Operation::Empty)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEventRecordNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    event: Handle,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || record(runtime, event)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEventWaitNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    event: Handle,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || wait(runtime, event)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemAllocNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: Out<MemAllocNode>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || mem_alloc(runtime, params)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemFreeNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    address: u64,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || mem_free(runtime, address)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: Out<NodeParams>,
) -> u32 {
    cuGraphAddNode_v2(node, graph, after, In::null(), count, params)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddNode_v2(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    data: In<EdgeData>,
    count: usize,
    params: Out<NodeParams>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| {
        check_edge_data(data, count)?;
        place.add(runtime, || any_kind(runtime, params))
    })
}

// Asking.

pub(super) fn kernel_params(runtime: &Runtime, node: Handle) -> Result<KernelNode> {
    let node = node_of(runtime, node)?;
    node.read(|operation| match operation {
        Operation::Kernel(kernel) => Ok(KernelNode {
            function: kernel.launch.function.handle,
            grid: kernel.launch.grid,
            block: kernel.launch.block,
            shared: kernel.launch.shared,
            params: node.parameter_pointers(kernel),
            extra: 0,
        }),
        _ => Err(Error::ERROR_INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeGetParams(node: Handle, params: Out<KernelNode>) -> u32 {
    call(|runtime| params.put(kernel_params(runtime, node)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeGetParams_v2(node: Handle, params: Out<KernelNodeV2>) -> u32 {
    call(|runtime| {
        params.put(KernelNodeV2 {
            node: kernel_params(runtime, node)?,
            kernel: 0,
            context: 0,
        })
    })
}

/// What `pick` finds in a node of the right kind.
fn ask<T>(
    runtime: &Runtime,
    node: Handle,
    pick: impl FnOnce(&Operation) -> Option<T>,
) -> Result<T> {
    let node = node_of(runtime, node)?;
    node.read(|operation| pick(operation).ok_or(Error::ERROR_INVALID_VALUE))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemcpyNodeGetParams(node: Handle, params: Out<Memcpy3d>) -> u32 {
    call(|runtime| {
        params.put(ask(runtime, node, |operation| match operation {
            Operation::Copy(node) => Some(node.params),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemsetNodeGetParams(node: Handle, params: Out<MemsetNode>) -> u32 {
    call(|runtime| {
        params.put(ask(runtime, node, |operation| match operation {
            Operation::Fill(node) => Some(node.params),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphHostNodeGetParams(node: Handle, params: Out<HostNode>) -> u32 {
    call(|runtime| {
        params.put(ask(runtime, node, |operation| match operation {
            Operation::Host(function, data) => Some(HostNode {
                function: Some(*function),
                data: *data,
            }),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphChildGraphNodeGetGraph(node: Handle, graph: Out<Handle>) -> u32 {
    call(|runtime| {
        graph.put(ask(runtime, node, |operation| match operation {
            Operation::Child(child) => Some(child.handle),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphEventRecordNodeGetEvent(node: Handle, event: Out<Handle>) -> u32 {
    call(|runtime| {
        event.put(ask(runtime, node, |operation| match operation {
            Operation::Record(_, event) => Some(*event),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphEventWaitNodeGetEvent(node: Handle, event: Out<Handle>) -> u32 {
    call(|runtime| {
        event.put(ask(runtime, node, |operation| match operation {
            Operation::Wait(_, event) => Some(*event),
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemAllocNodeGetParams(node: Handle, params: Out<MemAllocNode>) -> u32 {
    call(|runtime| {
        let memory = ask(runtime, node, |operation| match operation {
            Operation::Alloc(memory) => Some(memory.clone()),
            _ => None,
        })?;
        let device = runtime.visible_ordinal(&memory.device);
        params.put(MemAllocNode::of(device, memory.bytes, memory.address))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemFreeNodeGetParams(node: Handle, address: Out<u64>) -> u32 {
    call(|runtime| {
        address.put(ask(runtime, node, |operation| match operation {
            Operation::Free(address) => Some(*address),
            _ => None,
        })?)
    })
}

// Changing.

/// Replaces what a node does by something of the same kind.
pub(super) fn set(runtime: &Runtime, node: Handle, changed: Operation) -> Result {
    node_of(runtime, node)?.change(|old| match (old, changed) {
        // What was set for the node stays with it.
        (Operation::Kernel(old), Operation::Kernel(new)) => {
            KernelRunNode::with(new.launch, old.attributes.clone()).map(Operation::Kernel)
        }
        (old, new) if old.kind() == new.kind() => Ok(new),
        _ => Err(Error::ERROR_INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeSetParams(node: Handle, params: In<KernelNode>) -> u32 {
    call(|runtime| set(runtime, node, kernel(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeSetParams_v2(node: Handle, params: In<KernelNodeV2>) -> u32 {
    call(|runtime| set(runtime, node, kernel_v2(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemcpyNodeSetParams(node: Handle, params: In<Memcpy3d>) -> u32 {
    call(|runtime| set(runtime, node, memcpy(runtime, &params.get()?, 0)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemsetNodeSetParams(node: Handle, params: In<MemsetNode>) -> u32 {
    call(|runtime| set(runtime, node, memset(runtime, &params.get()?, 0)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphHostNodeSetParams(node: Handle, params: In<HostNode>) -> u32 {
    call(|runtime| set(runtime, node, host(params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphEventRecordNodeSetEvent(node: Handle, event: Handle) -> u32 {
    call(|runtime| set(runtime, node, record(runtime, event)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphEventWaitNodeSetEvent(node: Handle, event: Handle) -> u32 {
    call(|runtime| set(runtime, node, wait(runtime, event)?))
}

/// Kinds that can be changed after they were made.
pub fn changed(runtime: &Runtime, params: Out<NodeParams>) -> Result<Operation> {
    match params.read_at(0)?.kind {
        KERNEL | MEMCPY | MEMSET | HOST | WAIT_EVENT | EVENT_RECORD | BATCH_MEM_OP => {
            any_kind(runtime, params)
        }
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeSetParams(node: Handle, params: Out<NodeParams>) -> u32 {
    call(|runtime| set(runtime, node, changed(runtime, params)?))
}

// Attributes of kernels.

/// CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW, COOPERATIVE, CLUSTER_*, PRIORITY, MEM_SYNC_DOMAIN_*, …
fn check_attribute(attribute: u32) -> Result {
    match attribute {
        1 | 2 | 4 | 5 | 8..=10 | 14 => Ok(()),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeGetAttribute(
    node: Handle,
    attribute: u32,
    value: Out<[u64; 8]>,
) -> u32 {
    call(|runtime| {
        check_attribute(attribute)?;
        value.put(ask(runtime, node, |operation| match operation {
            Operation::Kernel(kernel) => {
                Some(kernel.attributes.get(&attribute).copied().unwrap_or([0; 8]))
            }
            _ => None,
        })?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeSetAttribute(
    node: Handle,
    attribute: u32,
    value: In<[u64; 8]>,
) -> u32 {
    call(|runtime| {
        check_attribute(attribute)?;
        let value = value.get()?;
        node_of(runtime, node)?.change(|operation| match operation {
            Operation::Kernel(kernel) => {
                let KernelRunNode {
                    launch,
                    mut attributes,
                } = kernel.clone();
                attributes.insert(attribute, value);
                KernelRunNode::with(launch, attributes).map(Operation::Kernel)
            }
            _ => Err(Error::ERROR_INVALID_VALUE),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeCopyAttributes(to: Handle, from: Handle) -> u32 {
    call(|runtime| {
        let attributes = ask(runtime, from, |operation| match operation {
            Operation::Kernel(kernel) => Some(kernel.attributes.clone()),
            _ => None,
        })?;
        node_of(runtime, to)?.change(|operation| match operation {
            Operation::Kernel(kernel) => {
                KernelRunNode::with(kernel.launch.clone(), attributes).map(Operation::Kernel)
            }
            _ => Err(Error::ERROR_INVALID_VALUE),
        })
    })
}
