//! Graphs as a whole: what nodes they have, and which follows which. The driver knows; here is known which graph a node is in.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::{HashMap, HashSet};
use std::ffi::{c_char, c_void};

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphFindInCloneReply;
use rgpu_proto::frame::MAX_DEPENDENCIES;

use super::graph_host::Hosts;
use super::graph_node::Kept;
use crate::entry::{Needs, input_str, put, required};
use crate::handles::Kind;
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// The mirror of the session's graphs.
#[derive(Default)]
pub struct Graphs {
    /// The graph of each node that is known.
    nodes: HashMap<u64, u64>,
    members: HashMap<u64, Vec<u64>>,
    /// Graphs that are part of a node, by the node.
    children: HashMap<u64, Vec<u64>>,
    /// Graphs that got edges apart from their nodes: they may have circles.
    edited: HashSet<u64>,
    /// Lists that the program was given, by stream (cuStreamGetCaptureInfo).
    lists: HashMap<u64, Box<[u64]>>,
    /// Parameters that the program was given, by node.
    pub kept: HashMap<u64, Kept>,
    pub hosts: Hosts,
    /// The executable graph of each graph, while both are there. One with memory of its own has but one.
    instances: HashMap<u64, u64>,
}

impl Graphs {
    /// A node is in this graph.
    pub fn note(&mut self, node: u64, graph: u64) {
        if self.nodes.insert(node, graph).is_none() {
            self.members.entry(graph).or_default().push(node);
        }
    }

    pub fn note_instance(&mut self, graph: u64, exec: u64) {
        self.instances.insert(graph, exec);
    }

    pub fn forget_instance(&mut self, exec: u64) {
        self.instances.retain(|_, known| *known != exec);
    }

    /// The graph goes; its executable graph may stay.
    fn end_instance_of(&mut self, graph: u64) -> Option<u64> {
        self.instances.remove(&graph)
    }

    pub fn graph_of(&self, node: u64) -> Option<u64> {
        self.nodes.get(&node).copied()
    }

    pub fn note_child(&mut self, node: u64, graph: u64) {
        let children = self.children.entry(node).or_default();
        if !children.contains(&graph) {
            children.push(graph);
        }
    }

    /// Some graph of the session calls functions of the program or copies from or to its memory.
    pub fn note_hosts(&mut self) {
        self.hosts.used = true;
    }

    pub fn is_edited(&self, graph: u64) -> bool {
        self.edited.contains(&graph)
    }

    /// Keeps a list for the program until the next one of the same stream.
    pub fn keep_list(&mut self, stream: u64, list: Vec<u64>) -> *const u64 {
        let place = self.lists.entry(stream).or_default();
        *place = list.into();
        place.as_ptr()
    }

    /// Forgets a graph, and returns the ids that end with it.
    fn forget(&mut self, graph: u64) -> Vec<u64> {
        let mut gone = vec![graph];
        let mut at = 0;
        while let Some(&graph) = gone.get(at) {
            at += 1;
            self.edited.remove(&graph);
            for node in self.members.remove(&graph).unwrap_or_default() {
                self.nodes.remove(&node);
                self.kept.remove(&node);
                gone.extend(self.children.remove(&node).unwrap_or_default());
                // Nodes have no members: they only pass through the list.
                gone.push(node);
            }
        }
        gone
    }

    fn forget_node(&mut self, node: u64) -> Vec<u64> {
        if let Some(graph) = self.nodes.remove(&node)
            && let Some(members) = self.members.get_mut(&graph)
        {
            members.retain(|&other| other != node);
        }
        self.kept.remove(&node);
        let children = self.children.remove(&node).unwrap_or_default();
        children
            .into_iter()
            .flat_map(|child| self.forget(child))
            .collect()
    }

    fn is_child(&self, graph: u64) -> bool {
        self.children
            .values()
            .any(|children| children.contains(&graph))
    }
}

fn bytes_of(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Ids as they travel.
pub fn ids(bytes: &[u8]) -> Vec<u64> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|id| u64::from_le_bytes(*id))
        .collect()
}

/// A list of the program's.
///
/// # Safety
/// `list` is NULL or `count` handles.
unsafe fn list<'a>(list: *const u64, count: usize) -> Result<&'a [u64], CudaError> {
    if count == 0 {
        return Ok(&[]);
    }
    required(list)?;
    if count > MAX_DEPENDENCIES {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: `count` handles.
    Ok(unsafe { std::slice::from_raw_parts(list, count) })
}

/// Nodes of any graph, as they travel.
///
/// # Safety
/// `nodes` is NULL or `count` handles.
pub unsafe fn nodes(
    session: &Session,
    nodes: *const u64,
    count: usize,
) -> Result<Vec<u8>, CudaError> {
    // SAFETY: the caller's list.
    let ids = unsafe { list(nodes, count) }?;
    for id in ids {
        session.handles.check(Kind::GraphNode, *id)?;
    }
    Ok(bytes_of(ids))
}

/// The ids of a node's dependencies, as they travel: nodes of the same graph, each once.
///
/// # Safety
/// `nodes` is NULL or `count` handles.
pub unsafe fn dependencies(
    session: &Session,
    graph: u64,
    nodes: *const u64,
    count: usize,
) -> Result<Vec<u8>, CudaError> {
    // SAFETY: the caller's list.
    let ids = unsafe { list(nodes, count) }?;
    let graphs = session.graphs();
    let mut seen = HashSet::new();
    for id in ids {
        let here = graphs.graph_of(*id) == Some(graph);
        if !here || (ids.len() > 1 && !seen.insert(*id)) {
            return Err(CudaError::INVALID_VALUE);
        }
    }
    Ok(bytes_of(ids))
}

/// Edges between kernels that overlap are not served.
///
/// # Safety
/// `edges` is NULL or `count` CUgraphEdgeData.
pub unsafe fn check_edges(edges: *const c_void, count: usize) -> Result<(), CudaError> {
    if edges.is_null() {
        return Ok(());
    }
    // SAFETY: a CUgraphEdgeData is eight bytes.
    let plain = unsafe { list(edges.cast(), count) }?
        .iter()
        .all(|edge| *edge == 0);
    if plain {
        Ok(())
    } else {
        Err(super::device::refuse("edge data"))
    }
}

/// Makes a node's id, sends the command that adds it, and writes the id back.
pub unsafe fn add(
    session: &Session,
    node: *mut u64,
    graph: u64,
    send: impl FnOnce(u64) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    required(node)?;
    session.handles.check(Kind::Graph, graph)?;
    let id = session.handles.make(Kind::GraphNode, session.context());
    if let Err(error) = send(id) {
        session.handles.forget(id);
        return Err(error);
    }
    session.graphs().note(id, graph);
    // SAFETY: the caller's place.
    unsafe { put(node, id) }
}

pub unsafe fn cuGraphDestroy(graph: u64) -> u32 {
    Of::Handle(graph).enter("cuGraphDestroy", Needs::Session, |session| {
        session.handles.check(Kind::Graph, graph)?;
        if session.graphs().is_child(graph) {
            return Err(CudaError::INVALID_VALUE);
        }
        session.handles.consume(Kind::Graph, graph)?;
        for id in session.graphs().forget(graph) {
            session.handles.forget(id);
        }
        let instance = session.graphs().end_instance_of(graph);
        match instance {
            Some(exec) => session.memory().hand_over_globals(graph, exec),
            None => session.memory().forget_globals(graph),
        }
        send::rgpuGraphDestroy(session, graph)
    })
}

pub unsafe fn cuGraphDestroyNode(node: u64) -> u32 {
    Of::Handle(node).enter("cuGraphDestroyNode", Needs::Context, |session| {
        session.handles.check(Kind::GraphNode, node)?;
        send::rgpuGraphDestroyNode(session, node)?;
        session.handles.forget(node);
        for id in session.graphs().forget_node(node) {
            session.handles.forget(id);
        }
        Ok(())
    })
}

/// Fills an array that the program made, or says how long it would have to be.
///
/// # Safety
/// `count` is NULL or a number; `places` is NULL or as many handles.
unsafe fn fill(found: &[u64], places: *mut u64, count: *mut usize) -> Result<(), CudaError> {
    required(count)?;
    if places.is_null() {
        // SAFETY: the caller's place.
        return unsafe { put(count, found.len()) };
    }
    // SAFETY: the caller's places.
    unsafe {
        let room = count.read();
        // Entries that are left over become null, says cuda.h.
        for at in 0..room {
            places.add(at).write(found.get(at).copied().unwrap_or(0));
        }
        put(count, room.min(found.len()))
    }
}

/// # Safety
/// `edges` is NULL or as many CUgraphEdgeData as `count` says.
unsafe fn clear(edges: *mut c_void, count: *mut usize) -> Result<(), CudaError> {
    required(count)?;
    if !edges.is_null() {
        // SAFETY: the caller's places; a CUgraphEdgeData is eight bytes.
        unsafe { edges.cast::<u64>().write_bytes(0, count.read()) };
    }
    Ok(())
}

/// Takes nodes into the mirror that the server has named.
fn adopt(session: &Session, graph: u64, nodes: &[u64]) -> Result<(), CudaError> {
    let mut graphs = session.graphs();
    for &node in nodes {
        session.handles.adopt(Kind::GraphNode, node)?;
        graphs.note(node, graph);
    }
    Ok(())
}

const ALL: u32 = 0;
const ROOTS: u32 = 1;
const EDGES: u32 = 2;

fn nodes_of(session: &Session, graph: u64, what: u32) -> Result<Vec<u64>, CudaError> {
    session.handles.check(Kind::Graph, graph)?;
    let mut found = Vec::new();
    send::rgpuGraphNodes(session, graph, what, &mut found)?;
    let found = ids(&found);
    adopt(session, graph, &found)?;
    Ok(found)
}

pub unsafe fn cuGraphGetNodes(graph: u64, places: *mut u64, count: *mut usize) -> u32 {
    Of::Handle(graph).enter("cuGraphGetNodes", Needs::Context, |session| {
        // SAFETY: the caller's places.
        unsafe { fill(&nodes_of(session, graph, ALL)?, places, count) }
    })
}

pub unsafe fn cuGraphGetRootNodes(graph: u64, places: *mut u64, count: *mut usize) -> u32 {
    Of::Handle(graph).enter("cuGraphGetRootNodes", Needs::Context, |session| {
        // SAFETY: the caller's places.
        unsafe { fill(&nodes_of(session, graph, ROOTS)?, places, count) }
    })
}

pub unsafe fn cuGraphGetEdges_v2(
    graph: u64,
    from: *mut u64,
    to: *mut u64,
    edges: *mut c_void,
    count: *mut usize,
) -> u32 {
    Of::Handle(graph).enter("cuGraphGetEdges_v2", Needs::Context, |session| {
        required(count)?;
        if from.is_null() != to.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let pairs = nodes_of(session, graph, EDGES)?;
        let (first, second): (Vec<u64>, Vec<u64>) = pairs
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[from, to]| (*from, *to))
            .unzip();
        // SAFETY: the caller's places.
        unsafe {
            clear(edges, count)?;
            let mut room = count.read();
            fill(&first, from, &raw mut room)?;
            fill(&second, to, count)
        }
    })
}

pub unsafe fn cuGraphGetEdges(graph: u64, from: *mut u64, to: *mut u64, count: *mut usize) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuGraphGetEdges_v2(graph, from, to, std::ptr::null_mut(), count) }
}

const BEFORE: u32 = 0;
const AFTER: u32 = 1;

unsafe fn links(
    name: &'static str,
    node: u64,
    what: u32,
    places: *mut u64,
    edges: *mut c_void,
    count: *mut usize,
) -> u32 {
    Of::Handle(node).enter(name, Needs::Context, |session| {
        session.handles.check(Kind::GraphNode, node)?;
        let mut found = Vec::new();
        send::rgpuGraphNodeLinks(session, node, what, &mut found)?;
        let found = ids(&found);
        let graph = session.graphs().graph_of(node);
        adopt(session, graph.ok_or(CudaError::INVALID_VALUE)?, &found)?;
        // SAFETY: the caller's places.
        unsafe {
            clear(edges, count)?;
            fill(&found, places, count)
        }
    })
}

pub unsafe fn cuGraphNodeGetDependencies(node: u64, places: *mut u64, count: *mut usize) -> u32 {
    let (name, edges) = ("cuGraphNodeGetDependencies", std::ptr::null_mut());
    // SAFETY: the same contract.
    unsafe { links(name, node, BEFORE, places, edges, count) }
}

pub unsafe fn cuGraphNodeGetDependencies_v2(
    node: u64,
    places: *mut u64,
    edges: *mut c_void,
    count: *mut usize,
) -> u32 {
    let name = "cuGraphNodeGetDependencies_v2";
    // SAFETY: the same contract.
    unsafe { links(name, node, BEFORE, places, edges, count) }
}

pub unsafe fn cuGraphNodeGetDependentNodes(node: u64, places: *mut u64, count: *mut usize) -> u32 {
    let (name, edges) = ("cuGraphNodeGetDependentNodes", std::ptr::null_mut());
    // SAFETY: the same contract.
    unsafe { links(name, node, AFTER, places, edges, count) }
}

pub unsafe fn cuGraphNodeGetDependentNodes_v2(
    node: u64,
    places: *mut u64,
    edges: *mut c_void,
    count: *mut usize,
) -> u32 {
    let name = "cuGraphNodeGetDependentNodes_v2";
    // SAFETY: the same contract.
    unsafe { links(name, node, AFTER, places, edges, count) }
}

unsafe fn connect(
    name: &'static str,
    graph: u64,
    remove: bool,
    from: *const u64,
    to: *const u64,
    edges: *const c_void,
    count: usize,
) -> u32 {
    Of::Handle(graph).enter(name, Needs::Context, |session| {
        session.handles.check(Kind::Graph, graph)?;
        // SAFETY: the caller's lists.
        let (from, to) = unsafe {
            check_edges(edges, count)?;
            (list(from, count)?, list(to, count)?)
        };
        let mut pairs = Vec::with_capacity(2 * count);
        for (from, to) in from.iter().zip(to) {
            session.handles.check(Kind::GraphNode, *from)?;
            session.handles.check(Kind::GraphNode, *to)?;
            pairs.extend([*from, *to]);
        }
        send::rgpuGraphEdges(session, graph, remove.into(), &bytes_of(&pairs))?;
        session.graphs().edited.insert(graph);
        Ok(())
    })
}

pub unsafe fn cuGraphAddDependencies_v2(
    graph: u64,
    from: *const u64,
    to: *const u64,
    edges: *const c_void,
    count: usize,
) -> u32 {
    let name = "cuGraphAddDependencies_v2";
    // SAFETY: the same contract.
    unsafe { connect(name, graph, false, from, to, edges, count) }
}

pub unsafe fn cuGraphAddDependencies(
    graph: u64,
    from: *const u64,
    to: *const u64,
    count: usize,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuGraphAddDependencies_v2(graph, from, to, std::ptr::null(), count) }
}

pub unsafe fn cuGraphRemoveDependencies_v2(
    graph: u64,
    from: *const u64,
    to: *const u64,
    edges: *const c_void,
    count: usize,
) -> u32 {
    let name = "cuGraphRemoveDependencies_v2";
    // SAFETY: the same contract.
    unsafe { connect(name, graph, true, from, to, edges, count) }
}

pub unsafe fn cuGraphRemoveDependencies(
    graph: u64,
    from: *const u64,
    to: *const u64,
    count: usize,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuGraphRemoveDependencies_v2(graph, from, to, std::ptr::null(), count) }
}

pub unsafe fn cuGraphNodeGetContainingGraph(node: u64, graph: *mut u64) -> u32 {
    Of::Handle(node).enter("cuGraphNodeGetContainingGraph", Needs::Context, |session| {
        session.handles.check(Kind::GraphNode, node)?;
        let known = session.graphs().graph_of(node);
        // SAFETY: the caller's place.
        unsafe { put(graph, known.ok_or(CudaError::INVALID_VALUE)?) }
    })
}

pub unsafe fn cuGraphNodeFindInClone(node: *mut u64, original: u64, clone: u64) -> u32 {
    Of::Handle(original).enter("cuGraphNodeFindInClone", Needs::Context, |session| {
        required(node)?;
        session.handles.check(Kind::GraphNode, original)?;
        session.handles.check(Kind::Graph, clone)?;
        let mut reply = rgpuGraphFindInCloneReply::default();
        send::rgpuGraphFindInClone(session, original, clone, &mut reply)?;
        let found = reply.node.get();
        adopt(session, clone, &[found])?;
        // SAFETY: the caller's place.
        unsafe { put(node, found) }
    })
}

pub unsafe fn cuGraphDebugDotPrint(graph: u64, path: *const c_char, flags: u32) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    Of::Handle(graph).enter("cuGraphDebugDotPrint", Needs::Context, |session| {
        session.handles.check(Kind::Graph, graph)?;
        // SAFETY: the caller's string.
        let path = std::ffi::OsStr::from_bytes(unsafe { input_str(path) }?);
        let mut text = Vec::new();
        send::rgpuGraphDot(session, graph, flags, &mut text)?;
        std::fs::write(path, text).map_err(|_| CudaError::OPERATING_SYSTEM)
    })
}
