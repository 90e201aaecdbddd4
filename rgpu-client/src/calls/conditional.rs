//! Nodes that run other graphs as a value says.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuConditionalHandleReply;
use rgpu_proto::node_params::conditional::{IF, MOST_GRAPHS, SWITCH, WHILE};

use super::graph::{self, dependencies, ids};
use super::graph_node::{Place, keep_words};
use crate::entry::{Needs, put, required};
use crate::handles::Kind;
use crate::node_params::context;
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// CU_GRAPH_COND_ASSIGN_DEFAULT
const ASSIGN_DEFAULT: u32 = 1;

pub unsafe fn cuGraphConditionalHandleCreate(
    handle: *mut u64,
    graph: u64,
    of: u64,
    value: u32,
    flags: u32,
) -> u32 {
    let name = "cuGraphConditionalHandleCreate";
    Of::Handle(graph).enter(name, Needs::Context, |session| {
        required(handle)?;
        if flags & !ASSIGN_DEFAULT != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        session.handles.check(Kind::Graph, graph)?;
        let of = context(session, of)?;
        let mut reply = rgpuConditionalHandleReply::default();
        send::rgpuConditionalHandle(session, graph, of, value, flags, &mut reply)?;
        // SAFETY: the caller's place.
        unsafe { put(handle, reply.handle.get()) }
    })
}

/// Takes a node's graphs into the mirror.
pub fn adopt(session: &Session, node: u64, bodies: &[u64]) -> Result<(), CudaError> {
    for &body in bodies {
        session.handles.adopt(Kind::Graph, body)?;
        session.graphs().note_child(node, body);
    }
    Ok(())
}

/// # Safety
/// The caller's place, and `params` a CUDA_CONDITIONAL_NODE_PARAMS, of four words.
pub unsafe fn add(name: &'static str, place: &Place, params: *mut u64) -> u32 {
    Of::Handle(place.graph).enter(name, Needs::Context, |session| {
        session.handles.check(Kind::Graph, place.graph)?;
        // SAFETY: the caller's list and struct.
        let (before, [handle, shape, _, of]) = unsafe {
            (
                dependencies(session, place.graph, place.list, place.count)?,
                params.cast::<[u64; 4]>().read_unaligned(),
            )
        };
        let (kind, size) = (shape as u32, (shape >> 32) as u32);
        let fits = match kind {
            IF => matches!(size, 1 | 2),
            WHILE => size == 1,
            SWITCH => (1..=MOST_GRAPHS).contains(&size),
            _ => false,
        };
        if !fits {
            return Err(CudaError::INVALID_VALUE);
        }
        let of = context(session, of)?;
        let mut bodies = Vec::new();
        // SAFETY: the caller's places.
        unsafe {
            graph::add(session, place.node, place.graph, |id| {
                send::rgpuGraphAddConditional(
                    session,
                    id,
                    place.graph,
                    of,
                    handle,
                    kind,
                    size,
                    &before,
                    &mut bodies,
                )
            })?;
            let (node, bodies) = (place.node.read(), ids(&bodies));
            adopt(session, node, &bodies)?;
            let kept = keep_words(session, node, bodies);
            params.add(2).write_unaligned(kept);
        }
        Ok(())
    })
}
