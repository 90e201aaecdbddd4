use std::ffi::{CString, c_void};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphFindInCloneReply;
use rgpu_proto::frame::{MAX_BODY, MAX_DEPENDENCIES};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::handles::Kind;
use crate::state::State;

/// Most nodes, or ends of edges, that one answer holds.
const MOST: usize = MAX_BODY as usize / 16;

/// The driver's nodes of these ids.
pub fn nodes(state: &State, ids: &[u8]) -> Result<Vec<*mut c_void>, CudaError> {
    let (ids, rest) = ids.as_chunks::<8>();
    if !rest.is_empty() || ids.len() > 2 * MAX_DEPENDENCIES {
        return Err(CudaError::INVALID_VALUE);
    }
    ids.iter()
        .map(|id| state.handles.get(Kind::GraphNode, u64::from_le_bytes(*id)))
        .collect()
}

pub fn put_ids(ids: &[u64], reply: &mut Vec<u8>) -> Result<(), CudaError> {
    if ids.len() > MOST {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    reply.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    Ok(())
}

/// A list that the driver first says the length of.
fn list(
    mut ask: impl FnMut(*mut *mut c_void, &mut usize) -> Result<(), CudaError>,
) -> Result<Vec<*mut c_void>, CudaError> {
    let mut count = 0;
    ask(ptr::null_mut(), &mut count)?;
    if count > MOST {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let mut found = vec![ptr::null_mut(); count];
    if count > 0 {
        ask(found.as_mut_ptr(), &mut count)?;
        found.truncate(count);
    }
    Ok(found)
}

pub fn all_nodes(state: &State, graph: *mut c_void) -> Result<Vec<*mut c_void>, CudaError> {
    // SAFETY: the graph is the driver's own, and the list has the length that it said.
    list(|places, count| unsafe {
        driver_call!(state.driver.cuGraphGetNodes(graph, places, count))
    })
}

/// The graph that a node is a part of is known by the node's owner.
fn graph_of_node(state: &State, node: *mut c_void) -> Result<*mut c_void, CudaError> {
    state
        .handles
        .owner_of(Kind::GraphNode, node)
        .ok_or(CudaError::INVALID_VALUE)
}

pub fn rgpuGraphDestroy(state: &State, graph: *mut c_void) -> Result<(), CudaError> {
    // SAFETY: the graph is the driver's own, and its ids are gone.
    let destroyed = unsafe { driver_call!(state.driver.cuGraphDestroy(graph)) };
    crate::calls::user_object::forget_graph(state, graph);
    destroyed
}

fn edges(state: &State, graph: *mut c_void) -> Result<Vec<*mut c_void>, CudaError> {
    let mut count = 0;
    let nothing = ptr::null_mut();
    // SAFETY: the graph is the driver's own; without places it says how many there are.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphGetEdges(graph, nothing, nothing.cast(), &mut count)
        )
    }?;
    if count > MOST / 2 {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let (mut from, mut to) = (vec![nothing.cast(); count], vec![nothing.cast(); count]);
    if count > 0 {
        // SAFETY: both lists have that length.
        unsafe {
            driver_call!(state.driver.cuGraphGetEdges(
                graph,
                from.as_mut_ptr(),
                to.as_mut_ptr(),
                &mut count
            ))
        }?;
    }
    Ok(from
        .into_iter()
        .zip(to)
        .take(count)
        .flat_map(|(from, to)| [from, to])
        .collect())
}

pub fn rgpuGraphNodes(
    state: &State,
    graph: *mut c_void,
    what: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let found = match what {
        0 => all_nodes(state, graph)?,
        // SAFETY: the graph is the driver's own, and the list has the length that it said.
        1 => list(|places, count| unsafe {
            driver_call!(state.driver.cuGraphGetRootNodes(graph, places, count))
        })?,
        2 => edges(state, graph)?,
        _ => return Err(CudaError::INVALID_VALUE),
    };
    put_ids(&state.handles.name(Kind::GraphNode, &found, graph)?, reply)
}

pub fn rgpuGraphNodeLinks(
    state: &State,
    node: *mut c_void,
    what: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    // SAFETY: the node is the driver's own, and the list has the length that it said.
    let found = list(|places, count| unsafe {
        match what {
            0 => driver_call!(state.driver.cuGraphNodeGetDependencies(node, places, count)),
            1 => driver_call!(
                state
                    .driver
                    .cuGraphNodeGetDependentNodes(node, places, count)
            ),
            _ => Err(CudaError::INVALID_VALUE),
        }
    })?;
    let graph = graph_of_node(state, node)?;
    put_ids(&state.handles.name(Kind::GraphNode, &found, graph)?, reply)
}

pub fn rgpuGraphEdges(
    state: &State,
    graph: *mut c_void,
    remove: u32,
    pairs: &[u8],
) -> Result<(), CudaError> {
    let ends = nodes(state, pairs)?;
    let (pairs, odd) = ends.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(CudaError::INVALID_VALUE);
    }
    let (from, to): (Vec<*mut c_void>, Vec<*mut c_void>) =
        pairs.iter().map(|[from, to]| (*from, *to)).unzip();
    let (first, second, count) = (from.as_ptr(), to.as_ptr(), from.len());
    // SAFETY: handles are the driver's own, and the lists as long as is said.
    unsafe {
        if remove == 0 {
            driver_call!(
                state
                    .driver
                    .cuGraphAddDependencies(graph, first, second, count)
            )
        } else {
            driver_call!(
                state
                    .driver
                    .cuGraphRemoveDependencies(graph, first, second, count)
            )
        }
    }
}

pub fn rgpuGraphDestroyNode(state: &State, node: *mut c_void) -> Result<(), CudaError> {
    // SAFETY: the node is the driver's own, and its id is gone.
    unsafe { driver_call!(state.driver.cuGraphDestroyNode(node)) }
}

pub fn rgpuGraphFindInClone(
    state: &State,
    original: *mut c_void,
    clone: *mut c_void,
    out: &mut rgpuGraphFindInCloneReply,
) -> Result<(), CudaError> {
    let mut node = ptr::null_mut();
    // SAFETY: handles are the driver's own, and `node` a place.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphNodeFindInClone(&mut node, original, clone)
        )
    }?;
    let ids = state.handles.name(Kind::GraphNode, &[node], clone)?;
    out.node.set(ids[0]);
    Ok(())
}

/// The driver writes a file: one that has no name but in this process.
pub fn rgpuGraphDot(
    state: &State,
    graph: *mut c_void,
    flags: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let failed = |_| CudaError::OPERATING_SYSTEM;
    let file =
        memfd_create("graph", MemfdFlags::CLOEXEC).map_err(|_| CudaError::OPERATING_SYSTEM)?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|_| CudaError::OPERATING_SYSTEM)?;
    // SAFETY: the graph is the driver's own, and the path a string.
    unsafe {
        driver_call!(
            state
                .driver
                .cuGraphDebugDotPrint(graph, path.as_ptr(), flags)
        )
    }?;
    // Opened anew: the driver may have left the end of the file as the place to read from.
    let written = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
    let most = u64::from(MAX_BODY) / 2;
    if written.metadata().map_err(failed)?.len() > most {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    written.take(most).read_to_end(reply).map_err(failed)?;
    Ok(())
}
