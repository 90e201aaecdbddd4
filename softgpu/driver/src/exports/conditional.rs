//! Nodes that run other graphs as a value in memory says.

use std::sync::Arc;

use super::graph::graph_of;
use super::memory::named;
use super::{Handle, call};
use crate::abi::{ConditionalNodeParams, Out};
use crate::error::{Error, Result};
use crate::graph::{Conditional, Operation, Variable};
use crate::runtime::Runtime;

/// CU_GRAPH_COND_ASSIGN_DEFAULT
const ASSIGN_DEFAULT: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphConditionalHandleCreate(
    handle: Out<u64>,
    graph: Handle,
    context: Handle,
    default: u32,
    flags: u32,
) -> u32 {
    call(|runtime| {
        handle.check()?;
        if flags & !ASSIGN_DEFAULT != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let graph = graph_of(runtime, graph)?;
        let context = named(runtime, context)?;
        let default = (flags & ASSIGN_DEFAULT != 0).then_some(default);
        let variable = Variable::create(runtime, &context.device, context.handle, default)?;
        handle.put(variable.address)?;
        graph.add_variable(variable);
        Ok(())
    })
}

/// The structure gets the address of the new graphs' handles.
pub fn conditional(runtime: &Runtime, params: Out<ConditionalNodeParams>) -> Result<Operation> {
    let mut read = params.read_at(0)?;
    let variable = Variable::find(runtime, read.handle)?;
    if named(runtime, read.context)?.handle != variable.context {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let node = Conditional::create(runtime, variable, read.kind, read.size)?;
    read.graphs = node.handles.as_ptr() as u64;
    params.put(read)?;
    Ok(Operation::Conditional(Arc::new(node)))
}
