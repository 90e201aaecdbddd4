//! Graphs: nodes with what they do and whom they follow, and their executable copies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::copy::{Copy, Fill};
use crate::error::{Error, Result};
use crate::handles;
use crate::launch::Launch;
use crate::runtime::Runtime;
use crate::stream::{Last, Stream};
use crate::task::{Task, Work};

const MAX_NODES: usize = 1 << 20;

#[derive(Clone)]
pub enum Operation {
    Empty,
    Kernel(Launch),
    Copy(Copy),
    Fill(Fill),
}

impl Operation {
    fn work(&self, runtime: &'static Runtime) -> Work {
        match self {
            Operation::Empty => Work::Join,
            Operation::Kernel(launch) => launch.work(runtime),
            Operation::Copy(copy) if copy.is_empty() => Work::Join,
            Operation::Copy(copy) => Work::Copy(*copy),
            Operation::Fill(fill) => Work::Fill(*fill),
        }
    }
}

#[derive(Clone)]
struct Node {
    handle: u64,
    operation: Operation,
    /// Indices of nodes that were added before: a graph has no circles by construction.
    after: Vec<usize>,
}

#[derive(Default)]
pub struct Graph {
    nodes: Mutex<Vec<Node>>,
}

pub struct Executable {
    nodes: Mutex<Vec<Node>>,
    places: HashMap<u64, usize>,
    /// Nodes that nobody follows.
    ends: Vec<usize>,
    last: Last,
    pub destroyed: AtomicBool,
}

fn lock(nodes: &Mutex<Vec<Node>>) -> MutexGuard<'_, Vec<Node>> {
    nodes.lock().unwrap_or_else(|e| e.into_inner())
}

impl Graph {
    /// Adds a node; returns its handle.
    pub fn add(&self, operation: Operation, after: &[u64]) -> Result<u64> {
        let mut nodes = lock(&self.nodes);
        if nodes.len() >= MAX_NODES {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        let mut places = Vec::with_capacity(after.len());
        for handle in after {
            let at = nodes.binary_search_by_key(handle, |node| node.handle);
            let at = at.map_err(|_| Error::ERROR_INVALID_VALUE)?;
            if places.contains(&at) {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            places.push(at);
        }
        // Handles grow, and this one is drawn under the lock: the list stays sorted.
        let handle = handles::fresh();
        nodes.push(Node {
            handle,
            operation,
            after: places,
        });
        Ok(handle)
    }

    pub fn nodes(&self) -> Vec<u64> {
        lock(&self.nodes).iter().map(|node| node.handle).collect()
    }

    pub fn instantiate(&self) -> Executable {
        let nodes = lock(&self.nodes).clone();
        let mut followed = vec![false; nodes.len()];
        nodes
            .iter()
            .flat_map(|node| &node.after)
            .for_each(|&at| followed[at] = true);
        Executable {
            places: nodes
                .iter()
                .enumerate()
                .map(|(at, node)| (node.handle, at))
                .collect(),
            ends: (0..nodes.len()).filter(|&at| !followed[at]).collect(),
            nodes: Mutex::new(nodes),
            last: Last::default(),
            destroyed: AtomicBool::new(false),
        }
    }
}

impl Executable {
    /// Replaces what a node does from the next launch on; `change` sees what it does now.
    pub fn change(
        &self,
        node: u64,
        change: impl FnOnce(&Operation) -> Result<Operation>,
    ) -> Result {
        let &at = self.places.get(&node).ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut nodes = lock(&self.nodes);
        let changed = change(&nodes[at].operation)?;
        nodes[at].operation = changed;
        Ok(())
    }

    pub fn launch(&self, runtime: &'static Runtime, stream: &Stream) -> Result {
        if self.destroyed.load(Acquire) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let nodes = lock(&self.nodes);
        let foreign = |node: &Node| match &node.operation {
            Operation::Kernel(launch) => launch.function.module.context.is_destroyed(),
            _ => false,
        };
        if nodes.iter().any(foreign) {
            return Err(Error::ERROR_CONTEXT_IS_DESTROYED);
        }
        // Two launches of one executable graph never overlap.
        self.last.follow(|last| {
            stream.enqueue_many(last, |before| {
                let start = |work: Work, after: &[Arc<Task>]| {
                    Task::start(&stream.context, stream.priority, work, after)
                };
                let mut tasks: Vec<Arc<Task>> = Vec::with_capacity(nodes.len());
                for node in nodes.iter() {
                    let after: Vec<Arc<Task>> =
                        node.after.iter().map(|&at| tasks[at].clone()).collect();
                    let after = if after.is_empty() { before } else { &after };
                    let task = match &node.operation {
                        // A kernel runs in its module's context, whatever stream the graph is launched into.
                        Operation::Kernel(launch) => {
                            let context = &launch.function.module.context;
                            Task::start(
                                context,
                                stream.priority,
                                node.operation.work(runtime),
                                after,
                            )
                        }
                        operation => start(operation.work(runtime), after),
                    };
                    tasks.push(task);
                }
                match (&tasks[..], &self.ends[..]) {
                    ([.., last], [_]) => last.clone(),
                    _ => {
                        let ends: Vec<Arc<Task>> =
                            self.ends.iter().map(|&at| tasks[at].clone()).collect();
                        start(Work::Join, if ends.is_empty() { before } else { &ends })
                    }
                }
            })
        });
        Ok(())
    }
}
