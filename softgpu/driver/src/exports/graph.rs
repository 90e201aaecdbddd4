//! Graphs as a whole: what nodes they have, and which follows which.

use std::ffi::c_char;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::{Handle, call};
use crate::abi::{EdgeData, In, Out};
use crate::error::{Error, Result};
use crate::graph::{Edge, Graph, Node};
use crate::runtime::Runtime;

pub const MAX_DEPENDENCIES: usize = 1 << 20;

pub fn graph_of(runtime: &Runtime, graph: Handle) -> Result<Arc<Graph>> {
    runtime.graphs.find(graph).ok_or(Error::ERROR_INVALID_VALUE)
}

pub fn node_of(runtime: &Runtime, node: Handle) -> Result<Arc<Node>> {
    runtime.nodes.find(node).ok_or(Error::ERROR_INVALID_VALUE)
}

/// Edges between kernels that overlap are for devices that can do that.
pub fn check_edge_data(edges: In<EdgeData>, count: usize) -> Result {
    if edges.is_null() {
        return Ok(());
    }
    if count > MAX_DEPENDENCIES {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    for edge in edges.list(count)? {
        if edge != EdgeData::default() {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(graph: Out<Handle>, flags: u32) -> u32 {
    call(|runtime| {
        graph.check()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        graph.put(Graph::create(runtime, false).handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> u32 {
    call(|runtime| {
        if graph_of(runtime, graph)?.is_child {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let gone = runtime.graphs.take(graph);
        gone.map_err(|_| Error::ERROR_INVALID_VALUE)?
            .dissolve(runtime);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphClone(clone: Out<Handle>, graph: Handle) -> u32 {
    call(|runtime| {
        clone.check()?;
        let graph = graph_of(runtime, graph)?;
        if graph.has_memory() {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
        clone.put(graph.duplicate(runtime, false)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeFindInClone(
    node: Out<Handle>,
    original: Handle,
    clone: Handle,
) -> u32 {
    call(|runtime| {
        node.check()?;
        let found = graph_of(runtime, clone)?.find_clone_of(original);
        node.put(found.ok_or(Error::ERROR_INVALID_VALUE)?)
    })
}

/// Fills an array that the program made, or says how long it would have to be.
fn fill(found: &[u64], places: Out<Handle>, count: Out<usize>) -> Result {
    if places.is_null() {
        return count.put(found.len());
    }
    let room = count.read_at(0)?;
    // Entries that are left over become null, says cuda.h.
    for at in 0..room {
        places.put_at(at, found.get(at).copied().unwrap_or(0))?;
    }
    count.put(room.min(found.len()))
}

fn clear(edges: Out<EdgeData>, count: Out<usize>) -> Result {
    if !edges.is_null() {
        for at in 0..count.read_at(0)? {
            edges.put_at(at, EdgeData::default())?;
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> u32 {
    call(|runtime| fill(&graph_of(runtime, graph)?.nodes(), nodes, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> u32 {
    call(|runtime| fill(&graph_of(runtime, graph)?.roots(), nodes, count))
}

fn edges(
    runtime: &Runtime,
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    count: Out<usize>,
) -> Result {
    let edges = graph_of(runtime, graph)?.edges();
    if from.is_null() != to.is_null() {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let (first, second): (Vec<u64>, Vec<u64>) = edges.into_iter().unzip();
    let room = if from.is_null() { 0 } else { count.read_at(0)? };
    fill(&first, from, count)?;
    if !to.is_null() {
        count.put(room)?;
        fill(&second, to, count)?;
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetEdges(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| edges(runtime, graph, from, to, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetEdges_v2(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    data: Out<EdgeData>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| {
        clear(data, count)?;
        edges(runtime, graph, from, to, count)
    })
}

fn dependencies(runtime: &Runtime, node: Handle, nodes: Out<Handle>, count: Out<usize>) -> Result {
    let graph = node_of(runtime, node)?.graph()?;
    fill(&graph.dependencies(node), nodes, count)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependencies(
    node: Handle,
    nodes: Out<Handle>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| dependencies(runtime, node, nodes, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependencies_v2(
    node: Handle,
    nodes: Out<Handle>,
    data: Out<EdgeData>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| {
        clear(data, count)?;
        dependencies(runtime, node, nodes, count)
    })
}

fn dependents(runtime: &Runtime, node: Handle, nodes: Out<Handle>, count: Out<usize>) -> Result {
    let graph = node_of(runtime, node)?.graph()?;
    fill(&graph.dependents(node), nodes, count)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependentNodes(
    node: Handle,
    nodes: Out<Handle>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| dependents(runtime, node, nodes, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependentNodes_v2(
    node: Handle,
    nodes: Out<Handle>,
    data: Out<EdgeData>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| {
        clear(data, count)?;
        dependents(runtime, node, nodes, count)
    })
}

fn pairs(from: In<Handle>, to: In<Handle>, count: usize) -> Result<Vec<Edge>> {
    if count > MAX_DEPENDENCIES {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(from.list(count)?.into_iter().zip(to.list(count)?).collect())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddDependencies(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
) -> u32 {
    call(|runtime| graph_of(runtime, graph)?.connect(&pairs(from, to, count)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddDependencies_v2(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    data: In<EdgeData>,
    count: usize,
) -> u32 {
    call(|runtime| {
        check_edge_data(data, count)?;
        graph_of(runtime, graph)?.connect(&pairs(from, to, count)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphRemoveDependencies(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
) -> u32 {
    call(|runtime| graph_of(runtime, graph)?.disconnect(&pairs(from, to, count)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphRemoveDependencies_v2(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    data: In<EdgeData>,
    count: usize,
) -> u32 {
    call(|runtime| {
        check_edge_data(data, count)?;
        graph_of(runtime, graph)?.disconnect(&pairs(from, to, count)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroyNode(node: Handle) -> u32 {
    call(|runtime| {
        let graph = node_of(runtime, node)?.graph()?;
        graph.remove(runtime, node)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetContainingGraph(node: Handle, graph: Out<Handle>) -> u32 {
    call(|runtime| graph.put(node_of(runtime, node)?.graph()?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetType(node: Handle, kind: Out<u32>) -> u32 {
    call(|runtime| kind.put(node_of(runtime, node)?.operation().kind()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDebugDotPrint(graph: Handle, path: In<c_char>, flags: u32) -> u32 {
    call(|runtime| {
        let _ = flags;
        let graph = graph_of(runtime, graph)?;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.text()?.to_bytes()));
        std::fs::write(path, graph.dot()).map_err(|_| Error::ERROR_OPERATING_SYSTEM)
    })
}
