//! Graphs: nodes with what they do, and which follows which.

mod conditional;
mod dot;
mod executable;
mod memory;
mod operation;
mod user_object;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

pub use conditional::{Conditional, ConditionalRun, Variable, Variables, run_conditional};
pub use executable::{Executable, Mismatch, UpdateResult};
pub use memory::{GRAPH_OWNED, GraphMemory};
pub use operation::{CopyNode, FillNode, KernelRunNode, MemOpsNode, Operation};
pub use user_object::{Owned, UserObject};

use crate::error::{Error, Result};
use crate::handles;
use crate::runtime::Runtime;

const MAX_NODES: usize = 1 << 20;

pub struct Graph {
    pub handle: u64,
    /// What the program's tools and [`Graph::dot`] call it.
    pub id: u32,
    /// Part of another graph's node, with which it goes.
    pub is_child: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By handle, which is the order in which they came.
    nodes: BTreeMap<u64, Entry>,
    /// Of the next node.
    next_id: u32,
    objects: Vec<Owned>,
    variables: Vec<Arc<Variable>>,
}

struct Entry {
    node: Arc<Node>,
    /// Whom it follows.
    after: Vec<u64>,
}

pub struct Node {
    pub handle: u64,
    /// Within its graph.
    pub id: u32,
    graph: Weak<Graph>,
    /// The node that it was cloned from; 0: none.
    origin: u64,
    operation: Mutex<Operation>,
    /// Pointers to a kernel's parameters, for those who ask.
    pointers: Mutex<Box<[u64]>>,
}

/// An edge: who goes first, who follows.
pub type Edge = (u64, u64);

impl Node {
    pub fn graph(&self) -> Result<Arc<Graph>> {
        self.graph.upgrade().ok_or(Error::ERROR_INVALID_VALUE)
    }

    fn lock(&self) -> MutexGuard<'_, Operation> {
        self.operation.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn operation(&self) -> Operation {
        self.lock().clone()
    }

    /// `read` sees the node's own operation, of which what it points to stays until the node is changed.
    pub fn read<T>(&self, read: impl FnOnce(&Operation) -> Result<T>) -> Result<T> {
        read(&self.lock())
    }

    pub fn change(&self, change: impl FnOnce(&Operation) -> Result<Operation>) -> Result {
        let mut operation = self.lock();
        *operation = change(&operation)?;
        Ok(())
    }

    /// An array of pointers to a kernel's parameters, which lives until the next call of this.
    pub fn parameter_pointers(&self, kernel: &KernelRunNode) -> u64 {
        let base = kernel.launch.params.as_ptr() as u64;
        let params = &kernel.launch.function.info().params;
        let new: Box<[u64]> = params
            .iter()
            .map(|param| base + u64::from(param.offset))
            .collect();
        let mut pointers = self.pointers.lock().unwrap_or_else(|e| e.into_inner());
        // The same when nothing has changed: others may still look at it.
        if *pointers != new {
            *pointers = new;
        }
        pointers.as_ptr() as u64
    }
}

/// Of graphs and of executable ones.
fn fresh_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl Graph {
    pub fn create(runtime: &Runtime, is_child: bool) -> Arc<Graph> {
        let graph = Arc::new(Graph {
            handle: handles::fresh(),
            id: fresh_id(),
            is_child,
            state: Mutex::default(),
        });
        runtime.graphs.insert(graph.handle, graph.clone());
        graph
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a node; returns its handle.
    pub fn add(
        self: &Arc<Self>,
        runtime: &Runtime,
        operation: Operation,
        after: &[u64],
    ) -> Result<u64> {
        self.add_copy(runtime, operation, after, 0)
    }

    fn add_copy(
        self: &Arc<Self>,
        runtime: &Runtime,
        operation: Operation,
        after: &[u64],
        origin: u64,
    ) -> Result<u64> {
        let mut state = self.state();
        if state.nodes.len() >= MAX_NODES {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        let different: BTreeSet<u64> = after.iter().copied().collect();
        if different.len() < after.len() || !after.iter().all(|node| state.nodes.contains_key(node))
        {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let handle = handles::fresh();
        let id = state.next_id;
        state.next_id += 1;
        let node = Arc::new(Node {
            handle,
            id,
            graph: Arc::downgrade(self),
            origin,
            operation: Mutex::new(operation),
            pointers: Mutex::default(),
        });
        runtime.nodes.insert(handle, node.clone());
        let after = after.to_vec();
        state.nodes.insert(handle, Entry { node, after });
        Ok(handle)
    }

    pub fn nodes(&self) -> Vec<u64> {
        self.state().nodes.keys().copied().collect()
    }

    pub fn roots(&self) -> Vec<u64> {
        let state = self.state();
        let roots = state
            .nodes
            .iter()
            .filter(|(_, entry)| entry.after.is_empty());
        roots.map(|(&handle, _)| handle).collect()
    }

    pub fn edges(&self) -> Vec<Edge> {
        let state = self.state();
        let of = |(&to, entry): (&u64, &Entry)| -> Vec<Edge> {
            entry.after.iter().map(|&from| (from, to)).collect()
        };
        state.nodes.iter().flat_map(of).collect()
    }

    pub fn dependencies(&self, node: u64) -> Vec<u64> {
        let state = self.state();
        let entry = state.nodes.get(&node);
        entry.map_or(Vec::new(), |entry| entry.after.clone())
    }

    pub fn dependents(&self, node: u64) -> Vec<u64> {
        let edges = self.edges().into_iter();
        edges
            .filter(|&(from, _)| from == node)
            .map(|(_, to)| to)
            .collect()
    }

    /// Adds all edges or none.
    pub fn connect(&self, edges: &[Edge]) -> Result {
        let mut state = self.state();
        let mut new = BTreeSet::new();
        for &(from, to) in edges {
            let known = state.nodes.contains_key(&from)
                && state
                    .nodes
                    .get(&to)
                    .is_some_and(|entry| !entry.after.contains(&from));
            if !known || from == to || !new.insert((from, to)) {
                return Err(Error::ERROR_INVALID_VALUE);
            }
        }
        for &(from, to) in edges {
            if let Some(entry) = state.nodes.get_mut(&to) {
                entry.after.push(from);
            }
        }
        Ok(())
    }

    /// Takes all edges away or none.
    pub fn disconnect(&self, edges: &[Edge]) -> Result {
        let mut state = self.state();
        for (from, to) in edges {
            let entry = state.nodes.get(to);
            if !entry.is_some_and(|entry| entry.after.contains(from)) {
                return Err(Error::ERROR_INVALID_VALUE);
            }
        }
        for (from, to) in edges {
            if let Some(entry) = state.nodes.get_mut(to) {
                entry.after.retain(|other| other != from);
            }
        }
        Ok(())
    }

    pub fn remove(&self, runtime: &Runtime, node: u64) -> Result {
        let mut state = self.state();
        let removed = state
            .nodes
            .remove(&node)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        for entry in state.nodes.values_mut() {
            entry.after.retain(|&other| other != node);
        }
        drop(state);
        let _ = runtime.nodes.take(node);
        for inner in removed.node.operation().graphs() {
            let _ = runtime.graphs.take(inner.handle);
            inner.dissolve(runtime);
        }
        Ok(())
    }

    /// Its nodes' handles mean nothing any more.
    pub fn dissolve(&self, runtime: &Runtime) {
        let entries = std::mem::take(&mut self.state().nodes);
        for (handle, entry) in entries {
            let _ = runtime.nodes.take(handle);
            for inner in entry.node.operation().graphs() {
                let _ = runtime.graphs.take(inner.handle);
                inner.dissolve(runtime);
            }
        }
        let objects = std::mem::take(&mut self.state().objects);
        drop(objects);
    }

    /// The nodes in an order in which each comes after those that it follows; the same order for graphs that were made
    /// alike. None: they go in circles.
    fn sorted(&self) -> Option<Vec<(Arc<Node>, Vec<u64>)>> {
        let state = self.state();
        let mut missing: BTreeMap<u64, usize> = BTreeMap::new();
        let mut followers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (&handle, entry) in &state.nodes {
            missing.insert(handle, entry.after.len());
            for &from in &entry.after {
                followers.entry(from).or_default().push(handle);
            }
        }
        let mut ready: BTreeSet<u64> = missing
            .iter()
            .filter(|&(_, &count)| count == 0)
            .map(|(&handle, _)| handle)
            .collect();
        let mut sorted = Vec::with_capacity(state.nodes.len());
        while let Some(handle) = ready.pop_first() {
            let entry = state.nodes.get(&handle)?;
            sorted.push((entry.node.clone(), entry.after.clone()));
            for follower in followers.get(&handle).into_iter().flatten() {
                let count = missing.get_mut(follower)?;
                *count -= 1;
                if *count == 0 {
                    ready.insert(*follower);
                }
            }
        }
        (sorted.len() == state.nodes.len()).then_some(sorted)
    }

    /// A copy; its nodes know where they come from.
    pub fn duplicate(&self, runtime: &Runtime, is_child: bool) -> Result<Arc<Graph>> {
        let copy = Graph::create(runtime, is_child);
        let state = self.state();
        let mut names: BTreeMap<u64, u64> = BTreeMap::new();
        // First the nodes in their order, then the edges, which may lead from later nodes to earlier ones.
        for (&handle, entry) in &state.nodes {
            let operation = entry.node.operation().duplicate(runtime)?;
            names.insert(handle, copy.add_copy(runtime, operation, &[], handle)?);
        }
        let edges: Option<Vec<Edge>> = state
            .nodes
            .iter()
            .flat_map(|(to, entry)| entry.after.iter().map(move |from| (from, to)))
            .map(|(from, to)| Some((*names.get(from)?, *names.get(to)?)))
            .collect();
        copy.connect(&edges.ok_or(Error::ERROR_INVALID_VALUE)?)?;
        let mut copied = copy.state();
        copied.objects = state.objects.clone();
        copied.variables = state.variables.clone();
        drop(copied);
        Ok(copy)
    }

    /// The node of this clone that was made from another.
    pub fn find_clone_of(&self, origin: u64) -> Option<u64> {
        let nodes: Vec<Arc<Node>> = self
            .state()
            .nodes
            .values()
            .map(|entry| entry.node.clone())
            .collect();
        let own = nodes.iter().find(|node| node.origin == origin);
        own.map(|node| node.handle).or_else(|| {
            let inner = |node: &Arc<Node>| node.operation().graphs();
            nodes
                .iter()
                .flat_map(inner)
                .find_map(|graph| graph.find_clone_of(origin))
        })
    }

    /// May it become part of another graph? Memory has one owner.
    pub fn has_memory(&self) -> bool {
        let nodes: Vec<Arc<Node>> = self
            .state()
            .nodes
            .values()
            .map(|entry| entry.node.clone())
            .collect();
        nodes.iter().any(|node| match node.operation() {
            Operation::Alloc(_) | Operation::Free(_) => true,
            other => other.graphs().iter().any(|graph| graph.has_memory()),
        })
    }

    /// The operations of its nodes.
    fn operations(&self) -> Vec<Operation> {
        let state = self.state();
        state
            .nodes
            .values()
            .map(|entry| entry.node.operation())
            .collect()
    }

    /// The variables whose values the graph sets when it begins.
    pub fn variables(&self) -> Vec<Arc<Variable>> {
        self.state().variables.clone()
    }

    pub fn add_variable(&self, variable: Arc<Variable>) {
        self.state().variables.push(variable);
    }

    pub fn retain(&self, object: &Arc<UserObject>, count: u32) {
        let owned = (0..count).map(|_| Owned::new(object));
        self.state().objects.extend(owned);
    }

    /// Gives up references to an object; it must have that many.
    pub fn release(&self, object: &Arc<UserObject>, count: u32) -> Result {
        let mut state = self.state();
        let (mut given_up, kept): (Vec<Owned>, Vec<Owned>) = std::mem::take(&mut state.objects)
            .into_iter()
            .partition(|owned| owned.is(object));
        let enough = given_up.len() >= count as usize;
        let rest = given_up.split_off(if enough { count as usize } else { 0 });
        state.objects = kept;
        state.objects.extend(rest);
        drop(state);
        drop(given_up);
        if enough {
            Ok(())
        } else {
            Err(Error::ERROR_INVALID_VALUE)
        }
    }

    /// The objects of the graph and of those within it.
    fn objects(&self) -> Vec<Owned> {
        let state = self.state();
        let mut all = state.objects.clone();
        for entry in state.nodes.values() {
            for inner in entry.node.operation().graphs() {
                all.extend(inner.objects());
            }
        }
        all
    }
}
