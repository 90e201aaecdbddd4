use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuConditionalHandleReply;
use rgpu_proto::node_params::conditional::{CONTEXT, GRAPHS, HANDLE, MOST_GRAPHS, SHAPE};
use rgpu_proto::node_params::{self as at, NodeParams, WORDS};

use crate::calls::graph::{nodes, put_ids};
use crate::calls::graph_host::has_any;
use crate::calls::graph_node::remember;
use crate::handles::Kind;
use crate::state::State;

/// Of one session: each takes memory of the device that no quota counts.
const MOST_HANDLES: usize = 1 << 16;
const MAX_DEPTH: usize = 64;

pub fn rgpuConditionalHandle(
    state: &State,
    graph: *mut c_void,
    context: *mut c_void,
    value: u32,
    flags: u32,
    out: &mut rgpuConditionalHandleReply,
) -> Result<(), CudaError> {
    if state.shared.conditions().len() >= MOST_HANDLES {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let mut handle = 0;
    // SAFETY: handles are the driver's own, and `handle` a place.
    unsafe {
        driver_call!(state.driver.cuGraphConditionalHandleCreate(
            &mut handle,
            graph,
            context,
            value,
            flags
        ))
    }?;
    state.shared.conditions().insert(handle);
    out.handle.set(handle);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the node's own")]
pub fn rgpuGraphAddConditional(
    state: &State,
    id: u64,
    graph: *mut c_void,
    context: *mut c_void,
    handle: u64,
    kind: u32,
    size: u32,
    dependencies: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut words: NodeParams = [0; WORDS];
    let mut added = || {
        let before = nodes(state, dependencies)?;
        // A driver takes what it does not know for a place in its memory.
        if !state.shared.conditions().contains(&handle) || !(1..=MOST_GRAPHS).contains(&size) {
            return Err(CudaError::INVALID_VALUE);
        }
        words[0] = at::CONDITIONAL.into();
        words[HANDLE] = handle;
        words[SHAPE] = u64::from(kind) | u64::from(size) << 32;
        words[CONTEXT] = context.addr() as u64;
        let mut node = ptr::null_mut();
        // SAFETY: handles are the driver's own, and the struct holds what its type needs.
        unsafe {
            driver_call!(state.driver.cuGraphAddNode(
                &mut node,
                graph,
                before.as_ptr(),
                before.len(),
                words.as_mut_ptr().cast()
            ))
        }?;
        Ok(node)
    };
    let node = added();
    remember(state, id, graph, node)?;
    reply.extend(name_bodies(state, node?, &words)?);
    Ok(())
}

/// The ids of a node's graphs, as they travel.
fn name_bodies(state: &State, node: *mut c_void, words: &NodeParams) -> Result<Vec<u8>, CudaError> {
    let size = (words[SHAPE] >> 32) as usize;
    let list = words[GRAPHS] as *const *mut c_void;
    if list.is_null() || size > MOST_GRAPHS as usize {
        return Err(CudaError::UNKNOWN);
    }
    // SAFETY: the driver's own list of that many.
    let bodies = unsafe { std::slice::from_raw_parts(list, size) };
    let mut ids = Vec::new();
    put_ids(&state.handles.name(Kind::Graph, bodies, node)?, &mut ids)?;
    Ok(ids)
}

/// A conditional node's parameters as the client may see them, and the ids of its graphs.
pub fn params_of(
    state: &State,
    node: *mut c_void,
    words: &mut NodeParams,
) -> Result<Vec<u8>, CudaError> {
    // SAFETY: the node is the driver's own, and the words are as many as a CUgraphNodeParams has.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphNodeGetParams(node, words.as_mut_ptr().cast())
        )
    }?;
    let ids = name_bodies(state, node, words)?;
    let context = ptr::without_provenance_mut(words[CONTEXT] as usize);
    let context = state.handles.find(Kind::Context, context).unwrap_or(0);
    let (handle, shape) = (words[HANDLE], words[SHAPE]);
    *words = [0; WORDS];
    words[0] = at::CONDITIONAL.into();
    (words[HANDLE], words[SHAPE], words[CONTEXT]) = (handle, shape, context);
    Ok(ids)
}

/// Whether a graph is, or lies within, what a conditional node runs.
fn is_within(state: &State, mut graph: *mut c_void) -> Result<bool, CudaError> {
    for _ in 0..MAX_DEPTH {
        let node = match state.handles.owner_of(Kind::Graph, graph) {
            Some(node) if !node.is_null() => node,
            _ => return Ok(false),
        };
        let mut kind = 0;
        // SAFETY: the node is the driver's own: its graph is there. `kind` is a place.
        unsafe { driver_call!(state.driver.cuGraphNodeGetType(node, &mut kind)) }?;
        if kind == at::CONDITIONAL {
            return Ok(true);
        }
        match state.handles.owner_of(Kind::GraphNode, node) {
            Some(outer) => graph = outer,
            None => return Ok(false),
        }
    }
    Err(CudaError::INVALID_VALUE)
}

/// Copies with the client's memory go before and behind a launch as a whole; whether a conditional node's graph runs shows only later.
pub fn refuse_hosts(state: &State, graph: *mut c_void) -> Result<(), CudaError> {
    if is_within(state, graph)? {
        return Err(CudaError::NOT_SUPPORTED);
    }
    Ok(())
}

/// The same for a graph that becomes a part of it.
pub fn check_child(state: &State, graph: *mut c_void, child: u64) -> Result<(), CudaError> {
    if is_within(state, graph)? && has_any(state, ptr::without_provenance_mut(child as usize))? {
        return Err(CudaError::NOT_SUPPORTED);
    }
    Ok(())
}
