//! What graphs and nodes are called in pictures of them, and what a node of any kind does.

use super::graph::{graph_of, node_of};
use super::graph_exec::executable_of;
use super::graph_node::kernel_params;
use super::{Handle, call, cuGraphAddNode_v2, cuGraphNodeSetParams};
use crate::abi::{
    ConditionalNodeParams, EdgeData, HostNode, In, KernelNodeV2, MemAllocNode, MemcpyNode,
    MemsetNodeV2, NodeParams, Out,
};
use crate::error::Result;
use crate::graph::Operation;
use crate::runtime::Runtime;

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetId(graph: Handle, id: Out<u32>) -> u32 {
    call(|runtime| id.put(graph_of(runtime, graph)?.id))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecGetId(executable: Handle, id: Out<u32>) -> u32 {
    call(|runtime| id.put(executable_of(runtime, executable)?.id))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetLocalId(node: Handle, id: Out<u32>) -> u32 {
    call(|runtime| id.put(node_of(runtime, node)?.id))
}

/// No other node of the process has it: the graph's id above the node's.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetToolsId(node: Handle, id: Out<u64>) -> u32 {
    call(|runtime| {
        let node = node_of(runtime, node)?;
        id.put(u64::from(node.graph()?.id) << 32 | u64::from(node.id))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetParams(node: Handle, params: Out<NodeParams>) -> u32 {
    call(|runtime| {
        params.check()?;
        let found = node_of(runtime, node)?;
        let kind = found.operation().kind();
        params.put(NodeParams {
            kind,
            reserved0: [0; 3],
            params: [0; 29],
            reserved2: 0,
        })?;
        if kind == 0 {
            let node = kernel_params(runtime, node)?;
            // SAFETY: the C caller's structure has room for parameters of each kind.
            let body: Out<KernelNodeV2> = unsafe { Out::at(NodeParams::body(params)) };
            return body.put(KernelNodeV2 {
                node,
                kernel: 0,
                context: 0,
            });
        }
        found.read(|operation| put(runtime, operation, NodeParams::body(params)))
    })
}

/// All but a kernel's, which come with pointers of their own.
fn put(runtime: &Runtime, operation: &Operation, body: u64) -> Result {
    // SAFETY: the C caller's structure has room for parameters of each kind.
    unsafe {
        match operation {
            Operation::Empty | Operation::Kernel(_) => Ok(()),
            Operation::Copy(node) => Out::at(body).put(MemcpyNode {
                flags: 0,
                reserved: 0,
                context: 0,
                copy: node.params,
            }),
            Operation::Fill(node) => Out::at(body).put(MemsetNodeV2 {
                node: node.params,
                context: 0,
            }),
            Operation::Host(function, data) => Out::at(body).put(HostNode {
                function: Some(*function),
                data: *data,
            }),
            Operation::Child(child) => Out::at(body).put(child.handle),
            Operation::Record(_, event) | Operation::Wait(_, event) => Out::at(body).put(*event),
            Operation::Alloc(memory) => {
                let device = runtime.visible_ordinal(&memory.device);
                Out::at(body).put(MemAllocNode::of(device, memory.bytes, memory.address))
            }
            Operation::Free(address) => Out::at(body).put(*address),
            Operation::MemOps(node) => Out::at(body).put(node.params()),
            Operation::Conditional(node) => Out::at(body).put(ConditionalNodeParams {
                handle: node.variable.address,
                kind: node.kind,
                size: node.handles.len() as u32,
                graphs: node.handles.as_ptr() as u64,
                context: node.variable.context,
            }),
        }
    }
}

/// A kernel whose context is named must be of that context.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddNode_v3(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    data: In<EdgeData>,
    count: usize,
    params: Out<NodeParams>,
) -> u32 {
    let fits = call(|runtime| check_kernel(runtime, params));
    if fits != 0 {
        return fits;
    }
    cuGraphAddNode_v2(node, graph, after, data, count, params)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeSetParams_v2(node: Handle, params: Out<NodeParams>) -> u32 {
    let fits = call(|runtime| check_kernel(runtime, params));
    if fits != 0 {
        return fits;
    }
    cuGraphNodeSetParams(node, params)
}

fn check_kernel(runtime: &Runtime, params: Out<NodeParams>) -> Result {
    let read = params.read_at(0)?;
    if read.kind != 0 {
        return Ok(());
    }
    // SAFETY: the C caller's structure has a kernel's parameters in it.
    let kernel = unsafe { In::<KernelNodeV2>::at(NodeParams::body(params)) }.get()?;
    let function = runtime.functions.find(kernel.node.function);
    match function {
        Some(function) if kernel.context != 0 => {
            let context = runtime.context(kernel.context)?;
            if context.handle == function.module.context.handle {
                Ok(())
            } else {
                Err(crate::error::Error::ERROR_INVALID_CONTEXT)
            }
        }
        _ => Ok(()),
    }
}
