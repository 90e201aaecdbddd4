//! Nodes that write values and wait for them.

use std::sync::Arc;

use super::graph::node_of;
use super::graph_node::{Place, set};
use super::memop::{MAX_OPERATIONS, check};
use super::memory::named;
use super::{Handle, call};
use crate::abi::{In, MemOpsNodeParams, Out};
use crate::error::{Error, Result};
use crate::graph::{MemOpsNode, Operation};
use crate::runtime::Runtime;

pub fn mem_ops(runtime: &Runtime, params: In<MemOpsNodeParams>) -> Result<Operation> {
    let params = params.get()?;
    if params.flags != 0 || params.count > MAX_OPERATIONS {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let context = named(runtime, params.context)?;
    context.check()?;
    // SAFETY: the C caller's structure leads to that many operations.
    let list = unsafe { In::at(params.operations) };
    let operations = list.list(params.count as usize)?;
    check(runtime, &operations)?;
    Ok(Operation::MemOps(Arc::new(MemOpsNode {
        operations: operations.into(),
        context: context.handle,
        flags: params.flags,
    })))
}

impl MemOpsNode {
    /// What the list points to stays until the node is changed.
    pub fn params(&self) -> MemOpsNodeParams {
        MemOpsNodeParams {
            context: self.context,
            count: self.operations.len() as u32,
            operations: self.operations.as_ptr() as u64,
            flags: self.flags,
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddBatchMemOpNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<MemOpsNodeParams>,
) -> u32 {
    let place = Place {
        node,
        graph,
        after,
        count,
    };
    call(|runtime| place.add(runtime, || mem_ops(runtime, params)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphBatchMemOpNodeGetParams(
    node: Handle,
    params: Out<MemOpsNodeParams>,
) -> u32 {
    call(|runtime| {
        node_of(runtime, node)?.read(|operation| match operation {
            Operation::MemOps(node) => params.put(node.params()),
            _ => Err(Error::ERROR_INVALID_VALUE),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphBatchMemOpNodeSetParams(
    node: Handle,
    params: In<MemOpsNodeParams>,
) -> u32 {
    call(|runtime| set(runtime, node, mem_ops(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecBatchMemOpNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<MemOpsNodeParams>,
) -> u32 {
    call(|runtime| super::graph_exec::set(runtime, executable, node, mem_ops(runtime, params)?))
}
