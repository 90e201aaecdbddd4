//! Nodes that write values into memory and wait for them.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::node_params as at;
use rgpu_proto::node_params::mem_ops::{LIST, WORDS};

use super::graph_node::{Place, ask, keep_words, set};
use super::{graph, graph_exec};
use crate::entry::{Needs, required};
use crate::node_params::mem_ops;
use crate::servers::Of;
use crate::session::Session;

pub unsafe fn cuGraphAddBatchMemOpNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> u32 {
    let place = Place {
        node,
        graph,
        list,
        count,
    };
    // SAFETY: the caller's arguments.
    unsafe {
        place.add("cuGraphAddBatchMemOpNode", |session| {
            mem_ops(session, params)
        })
    }
}

/// The list of operations, where the program can read it.
pub fn keep_list(session: &Session, node: u64, operations: &[u8]) -> u64 {
    keep_words(session, node, graph::ids(operations))
}

pub unsafe fn cuGraphBatchMemOpNodeGetParams(node: u64, params: *mut c_void) -> u32 {
    let name = "cuGraphBatchMemOpNodeGetParams";
    Of::Handle(node).enter(name, Needs::Context, |session| {
        required(params)?;
        let (mut words, operations) = ask(session, node, at::BATCH_MEM_OP)?;
        words[LIST] = keep_list(session, node, &operations);
        let words = words[at::BODY..at::BODY + WORDS].iter();
        for (number, word) in words.enumerate() {
            // SAFETY: the caller's CUDA_BATCH_MEM_OP_NODE_PARAMS.
            unsafe { params.cast::<u64>().add(number).write_unaligned(*word) };
        }
        Ok(())
    })
}

pub unsafe fn cuGraphBatchMemOpNodeSetParams(node: u64, params: *const c_void) -> u32 {
    set("cuGraphBatchMemOpNodeSetParams", node, |session| {
        // SAFETY: the caller's struct.
        unsafe { mem_ops(session, params) }
    })
}

pub unsafe fn cuGraphExecBatchMemOpNodeSetParams(
    exec: u64,
    node: u64,
    params: *const c_void,
) -> u32 {
    let name = "cuGraphExecBatchMemOpNodeSetParams";
    graph_exec::set(name, exec, node, |session| {
        // SAFETY: the caller's struct.
        unsafe { mem_ops(session, params) }
    })
}
