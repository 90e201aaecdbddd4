//! Parameters of nodes of all kinds, in one structure.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::node_params::{self as at, NodeParams};

use super::graph_memop::keep_list;
use super::graph_node::{
    ask_any, cuGraphAddNode_v2, cuGraphNodeSetParams, keep_words, kernel_params, name_device,
};
use super::{conditional, graph};
use crate::entry::{Needs, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;

pub unsafe fn cuGraphNodeGetParams(node: u64, params: *mut c_void) -> u32 {
    Of::Handle(node).enter("cuGraphNodeGetParams", Needs::Context, |session| {
        required(params)?;
        let (mut words, behind) = ask_any(session, node)?;
        match words[0] as u32 {
            at::KERNEL => {
                let kernel = kernel_params(session, node)?;
                words[at::BODY..at::BODY + kernel.len()].copy_from_slice(&kernel);
            }
            at::GRAPH => {
                let child = words[at::ONLY];
                session.handles.adopt(Kind::Graph, child)?;
                session.graphs().note_child(node, child);
            }
            at::MEM_ALLOC => name_device(session, &mut words)?,
            at::BATCH_MEM_OP => words[at::mem_ops::LIST] = keep_list(session, node, &behind),
            at::CONDITIONAL => {
                let bodies = graph::ids(&behind);
                conditional::adopt(session, node, &bodies)?;
                words[at::conditional::GRAPHS] = keep_words(session, node, bodies);
            }
            _ => {}
        }
        // SAFETY: the caller's CUgraphNodeParams.
        unsafe { params.cast::<NodeParams>().write_unaligned(words) };
        Ok(())
    })
}

/// A kernel whose context is named must be of that context.
unsafe fn check_kernel(session: &Session, params: *const c_void) -> Result<(), CudaError> {
    required(params)?;
    // SAFETY: the caller's CUgraphNodeParams.
    let words = unsafe { params.cast::<NodeParams>().read_unaligned() };
    let (function, named) = (words[at::kernel::FUNCTION], words[at::kernel::CONTEXT]);
    if words[0] as u32 != at::KERNEL || function == 0 || named == 0 {
        return Ok(());
    }
    session.handles.check(Kind::Context, named)?;
    match session.handles.context_of(Kind::Function, function) {
        Ok(owner) if owner != named => Err(CudaError::INVALID_CONTEXT),
        _ => Ok(()),
    }
}

pub unsafe fn cuGraphAddNode_v3(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    edges: *const c_void,
    count: usize,
    params: *mut c_void,
) -> u32 {
    let fits = Of::Handle(graph).enter("cuGraphAddNode_v3", Needs::Context, |session| {
        // SAFETY: the caller's struct.
        unsafe { check_kernel(session, params) }
    });
    if fits != 0 {
        return fits;
    }
    // SAFETY: the same contract.
    unsafe { cuGraphAddNode_v2(node, graph, list, edges, count, params) }
}

pub unsafe fn cuGraphNodeSetParams_v2(node: u64, params: *const c_void) -> u32 {
    let fits = Of::Handle(node).enter("cuGraphNodeSetParams_v2", Needs::Context, |session| {
        // SAFETY: the caller's struct.
        unsafe { check_kernel(session, params) }
    });
    if fits != 0 {
        return fits;
    }
    // SAFETY: the same contract.
    unsafe { cuGraphNodeSetParams(node, params) }
}
