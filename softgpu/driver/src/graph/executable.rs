//! Executable graphs: all nodes in one list, those of child graphs in the place of their node.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Graph, GraphMemory, Operation, Owned};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::{Last, Stream};
use crate::task::{Task, Work};

const MAX_DEPTH: usize = 64;

#[derive(Clone)]
struct Step {
    /// Of the node that it comes from.
    handle: u64,
    operation: Operation,
    after: Vec<usize>,
    enabled: bool,
}

pub struct Executable {
    pub flags: u64,
    steps: Mutex<Vec<Step>>,
    places: HashMap<u64, usize>,
    /// Steps of child graphs, by their node.
    children: HashMap<u64, Range<usize>>,
    /// Steps that nobody follows.
    ends: Vec<usize>,
    objects: Vec<Owned>,
    last: Last,
    pub destroyed: AtomicBool,
}

/// CUgraphExecUpdateResult.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateResult {
    Success = 0,
    TopologyChanged = 2,
    NodeTypeChanged = 3,
    NotSupported = 6,
    UnsupportedFunctionChange = 7,
}

/// Why a graph cannot replace another, and where: its node, and the other's.
pub struct Mismatch {
    pub result: UpdateResult,
    pub node: u64,
    pub from: u64,
}

#[derive(Default)]
struct Flat {
    steps: Vec<Step>,
    children: HashMap<u64, Range<usize>>,
}

impl Flat {
    fn of(graph: &Graph) -> Result<Flat> {
        let mut flat = Flat::default();
        flat.add(graph, &[], 0)?;
        Ok(flat)
    }

    /// Adds a graph's steps behind `entry`.
    fn add(&mut self, graph: &Graph, entry: &[usize], depth: usize) -> Result<Range<usize>> {
        if depth > MAX_DEPTH {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let first = self.steps.len();
        let sorted = graph.sorted().ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut places: HashMap<u64, usize> = HashMap::new();
        for (node, after) in sorted {
            let mut after: Vec<usize> = after
                .iter()
                .filter_map(|other| places.get(other).copied())
                .collect();
            after.sort_unstable();
            if after.is_empty() {
                after = entry.to_vec();
            }
            let mut operation = node.operation();
            if let Operation::Child(child) = &operation {
                let range = self.add(child, &after, depth + 1)?;
                let ends = ends(&self.steps, range.clone());
                if !ends.is_empty() {
                    after = ends;
                }
                self.children.insert(node.handle, range);
                operation = Operation::Child(child.clone());
            }
            places.insert(node.handle, self.steps.len());
            self.steps.push(Step {
                handle: node.handle,
                operation,
                after,
                enabled: true,
            });
        }
        Ok(first..self.steps.len())
    }
}

/// Steps of a range that none of it follows.
fn ends(steps: &[Step], range: Range<usize>) -> Vec<usize> {
    let mut followed = vec![false; steps.len()];
    steps[range.clone()]
        .iter()
        .flat_map(|step| &step.after)
        .for_each(|&at| followed[at] = true);
    range.filter(|&at| !followed[at]).collect()
}

/// Can one step do what the other does instead of what it does?
fn fits(old: &Step, new: &Step, offset: (usize, usize)) -> std::result::Result<(), UpdateResult> {
    if old.operation.kind() != new.operation.kind() {
        return Err(UpdateResult::NodeTypeChanged);
    }
    // Of steps outside of the range there is one set, that of the range's own node.
    let inside = |after: &[usize], start: usize| -> Vec<usize> {
        after
            .iter()
            .filter_map(|&at| at.checked_sub(start))
            .collect()
    };
    if inside(&old.after, offset.0) != inside(&new.after, offset.1) {
        return Err(UpdateResult::TopologyChanged);
    }
    match (&old.operation, &new.operation) {
        (Operation::Kernel(a), Operation::Kernel(b)) => {
            let context =
                |kernel: &super::KernelRunNode| kernel.launch.function.module.context.handle;
            if context(a) != context(b) {
                return Err(UpdateResult::UnsupportedFunctionChange);
            }
        }
        // Their memory is the graph's.
        (Operation::Alloc(_), _) | (Operation::Free(_), _) => {
            return Err(UpdateResult::NotSupported);
        }
        _ => {}
    }
    Ok(())
}

impl Graph {
    pub fn instantiate(&self, flags: u64) -> Result<Executable> {
        let Flat { steps, children } = Flat::of(self)?;
        Ok(Executable {
            flags,
            places: steps
                .iter()
                .enumerate()
                .map(|(at, step)| (step.handle, at))
                .collect(),
            ends: ends(&steps, 0..steps.len()),
            children,
            steps: Mutex::new(steps),
            objects: self.objects(),
            last: Last::default(),
            destroyed: AtomicBool::new(false),
        })
    }
}

impl Executable {
    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn place(&self, node: u64) -> Result<usize> {
        let found = self.places.get(&node).copied();
        found.ok_or(Error::ERROR_INVALID_VALUE)
    }

    /// Replaces what a node does from the next launch on; `change` sees what it does now.
    pub fn change(
        &self,
        node: u64,
        change: impl FnOnce(&Operation) -> Result<Operation>,
    ) -> Result {
        let at = self.place(node)?;
        let mut steps = self.steps();
        let changed = change(&steps[at].operation)?;
        steps[at].operation = changed;
        Ok(())
    }

    pub fn is_enabled(&self, node: u64) -> Result<bool> {
        let at = self.place(node)?;
        let steps = self.steps();
        can_be_disabled(&steps[at].operation)?;
        Ok(steps[at].enabled)
    }

    pub fn enable(&self, node: u64, enabled: bool) -> Result {
        let at = self.place(node)?;
        let mut steps = self.steps();
        can_be_disabled(&steps[at].operation)?;
        steps[at].enabled = enabled;
        Ok(())
    }

    /// Replaces what all nodes do by what those of a graph of the same shape do.
    pub fn update(&self, graph: &Graph) -> Result<std::result::Result<(), Mismatch>> {
        let new = Flat::of(graph)?;
        let mut steps = self.steps();
        let all = 0..steps.len();
        Ok(replace(&mut steps, all, new))
    }

    /// The same for the graph of one node.
    pub fn update_child(&self, node: u64, graph: &Graph) -> Result {
        let range = self.children.get(&node).cloned();
        let range = range.ok_or(Error::ERROR_INVALID_VALUE)?;
        let new = Flat::of(graph)?;
        replace(&mut self.steps(), range, new).map_err(|_| Error::ERROR_INVALID_VALUE)
    }

    /// A graph that does what this does, for those who capture its launch.
    pub fn as_graph(&self, runtime: &Runtime) -> Result<Arc<Graph>> {
        let graph = Graph::create(runtime, true);
        graph.state().objects = self.objects.clone();
        let mut handles: Vec<u64> = Vec::new();
        for step in self.steps().iter() {
            let operation = match &step.operation {
                Operation::Child(_) => Operation::Empty,
                _ if !step.enabled => Operation::Empty,
                operation => operation.clone(),
            };
            let after: Vec<u64> = step.after.iter().map(|&at| handles[at]).collect();
            handles.push(graph.add(runtime, operation, &after)?);
        }
        Ok(graph)
    }

    pub fn launch(&self, runtime: &'static Runtime, stream: &Stream) -> Result {
        if self.destroyed.load(Acquire) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let steps = self.steps();
        let gone = |step: &Step| match &step.operation {
            Operation::Kernel(kernel) => kernel.launch.function.module.context.is_destroyed(),
            _ => false,
        };
        if steps.iter().any(gone) {
            return Err(Error::ERROR_CONTEXT_IS_DESTROYED);
        }
        let memory: Vec<Arc<GraphMemory>> = steps
            .iter()
            .filter_map(|step| match &step.operation {
                Operation::Alloc(memory) => Some(memory.clone()),
                _ => None,
            })
            .collect();
        // Two launches of one executable graph never overlap.
        self.last.follow(|last| {
            stream.enqueue_many(last, |before| {
                let mut tasks: Vec<Arc<Task>> = Vec::with_capacity(steps.len());
                for step in steps.iter() {
                    let after: Vec<Arc<Task>> =
                        step.after.iter().map(|&at| tasks[at].clone()).collect();
                    let after = if after.is_empty() { before } else { &after };
                    tasks.push(start(runtime, stream, step, after));
                }
                match (&tasks[..], &self.ends[..]) {
                    ([.., last], [_]) if memory.is_empty() => last.clone(),
                    _ => {
                        let ends: Vec<Arc<Task>> =
                            self.ends.iter().map(|&at| tasks[at].clone()).collect();
                        let ends = if ends.is_empty() { before } else { &ends };
                        // The graph may be destroyed while it runs; its memory is not.
                        Task::start(&stream.context, stream.priority, Work::Keep(memory), ends)
                    }
                }
            })
        });
        Ok(())
    }
}

fn can_be_disabled(operation: &Operation) -> Result {
    match operation {
        Operation::Kernel(_) | Operation::Copy(_) | Operation::Fill(_) => Ok(()),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

fn replace(
    steps: &mut [Step],
    range: Range<usize>,
    new: Flat,
) -> std::result::Result<(), Mismatch> {
    let old = &mut steps[range.clone()];
    for (a, b) in old.iter().zip(&new.steps) {
        fits(a, b, (range.start, 0)).map_err(|result| Mismatch {
            result,
            node: b.handle,
            from: a.handle,
        })?;
    }
    if old.len() != new.steps.len() {
        return Err(Mismatch {
            result: UpdateResult::TopologyChanged,
            node: new.steps.get(old.len()).map_or(0, |step| step.handle),
            from: 0,
        });
    }
    for (a, b) in old.iter_mut().zip(new.steps) {
        a.operation = b.operation;
    }
    Ok(())
}

fn start(
    runtime: &'static Runtime,
    stream: &Stream,
    step: &Step,
    after: &[Arc<Task>],
) -> Arc<Task> {
    let in_stream = |work: Work, after: &[Arc<Task>]| {
        Task::start(&stream.context, stream.priority, work, after)
    };
    if !step.enabled {
        return in_stream(Work::Join, after);
    }
    match &step.operation {
        // A kernel runs in its module's context, whatever stream the graph is launched into.
        Operation::Kernel(kernel) => Task::start(
            &kernel.launch.function.module.context,
            stream.priority,
            step.operation.work(runtime),
            after,
        ),
        Operation::Record(event, _) => {
            let record = event.new_record();
            let task = in_stream(Work::Event(record.clone()), after);
            event.recorded(record, Some(task.clone()));
            task
        }
        Operation::Wait(event, _) => {
            let mut after = after.to_vec();
            after.extend(event.pending());
            in_stream(Work::Join, &after)
        }
        operation => in_stream(operation.work(runtime), after),
    }
}
