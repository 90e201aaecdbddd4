//! Executable graphs: all nodes in one list, those of child graphs in the place of their node.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{ConditionalRun, Graph, GraphMemory, Operation, Owned, Variable, fresh_id};
use crate::context::Context;
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
    /// What a conditional node may run.
    bodies: Vec<Arc<Executable>>,
}

pub struct Executable {
    pub flags: u64,
    pub id: u32,
    steps: Mutex<Vec<Step>>,
    places: HashMap<u64, usize>,
    /// Steps of child graphs, by their node.
    children: HashMap<u64, Range<usize>>,
    /// Steps that nobody follows.
    ends: Vec<usize>,
    objects: Vec<Owned>,
    /// Variables that have a value of their own whenever it begins.
    variables: Vec<Arc<Variable>>,
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
    variables: Vec<Arc<Variable>>,
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
        self.variables.extend(graph.variables());
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
            let bodies = match &operation {
                Operation::Conditional(node) => node.instantiate(depth + 1)?,
                _ => Vec::new(),
            };
            places.insert(node.handle, self.steps.len());
            self.steps.push(Step {
                handle: node.handle,
                operation,
                after,
                enabled: true,
                bodies,
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
    let same_bodies = old.bodies.len() == new.bodies.len();
    match (&old.operation, &new.operation) {
        (Operation::Conditional(_), _) if !same_bodies => return Err(UpdateResult::NotSupported),
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
        self.instantiate_at(flags, 0)
    }

    /// `depth`: how many graphs it is within.
    pub fn instantiate_at(&self, flags: u64, depth: usize) -> Result<Executable> {
        let mut flat = Flat::default();
        flat.add(self, &[], depth)?;
        let Flat {
            steps,
            children,
            variables,
        } = flat;
        Ok(Executable {
            flags,
            id: fresh_id(),
            variables,
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

    /// The executable graph whose node this is: this one, or a body of a conditional node.
    fn with_node(self: &Arc<Self>, node: u64) -> Option<Arc<Executable>> {
        if self.places.contains_key(&node) {
            return Some(self.clone());
        }
        let bodies: Vec<_> = self.steps().iter().flat_map(|s| s.bodies.clone()).collect();
        bodies.iter().find_map(|body| body.with_node(node))
    }

    /// Replaces what a node does from the next launch on; `change` sees what it does now.
    pub fn change(
        self: &Arc<Self>,
        node: u64,
        change: impl FnOnce(&Operation) -> Result<Operation>,
    ) -> Result {
        let owner = self.with_node(node).ok_or(Error::ERROR_INVALID_VALUE)?;
        let at = owner.place(node)?;
        let mut steps = owner.steps();
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
        graph.state().variables = self.variables.clone();
        let mut handles: Vec<u64> = Vec::new();
        for step in self.steps().iter() {
            let operation = match &step.operation {
                Operation::Child(_) => Operation::Empty,
                _ if !step.enabled => Operation::Empty,
                operation => operation.clone().duplicate(runtime)?,
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
        let lane = (&stream.context, stream.priority);
        // Two launches of one executable graph never overlap.
        self.last.follow(|last| {
            stream.enqueue_many(last, |before| {
                let ends = self.start_all(runtime, lane, &steps, before);
                match &ends[..] {
                    [last] if memory.is_empty() => last.clone(),
                    // The graph may be destroyed while it runs; its memory is not.
                    ends => Task::start(lane.0, lane.1, Work::Keep(memory), ends),
                }
            })
        });
        Ok(())
    }

    /// Runs it once, as the body of a conditional node; returns when it is done.
    pub fn run(&self, runtime: &'static Runtime, lane: Lane<'_>) {
        let ends = self.start_all(runtime, lane, &self.steps(), &[]);
        ends.iter().for_each(|task| task.wait());
    }

    /// The tasks with which it ends: `before`, if there is nothing to do.
    fn start_all(
        &self,
        runtime: &'static Runtime,
        lane: Lane<'_>,
        steps: &[Step],
        before: &[Arc<Task>],
    ) -> Vec<Arc<Task>> {
        let mut before = before.to_vec();
        for work in self
            .variables
            .iter()
            .filter_map(|variable| variable.reset())
        {
            before = vec![Task::start(lane.0, lane.1, work, &before)];
        }
        let mut tasks: Vec<Arc<Task>> = Vec::with_capacity(steps.len());
        for step in steps {
            let after: Vec<Arc<Task>> = step.after.iter().map(|&at| tasks[at].clone()).collect();
            let after = if after.is_empty() { &before } else { &after };
            tasks.push(start(runtime, lane, step, after));
        }
        match &self.ends[..] {
            [] => before,
            ends => ends.iter().map(|&at| tasks[at].clone()).collect(),
        }
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
        a.bodies = b.bodies;
    }
    Ok(())
}

/// Where work is done that no node says a place for, and how urgent it is.
pub type Lane<'a> = (&'a Arc<Context>, i32);

fn start(runtime: &'static Runtime, lane: Lane<'_>, step: &Step, after: &[Arc<Task>]) -> Arc<Task> {
    let in_stream = |work: Work, after: &[Arc<Task>]| Task::start(lane.0, lane.1, work, after);
    if !step.enabled {
        return in_stream(Work::Join, after);
    }
    match &step.operation {
        // A kernel runs in its module's context, whatever stream the graph is launched into.
        Operation::Kernel(kernel) => Task::start(
            &kernel.launch.function.module.context,
            lane.1,
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
        Operation::MemOps(node) => {
            let works = node.operations.iter().filter_map(|op| op.work());
            let chain = works.fold(after.to_vec(), |after, work| vec![in_stream(work, &after)]);
            match &chain[..] {
                [last] => last.clone(),
                all => in_stream(Work::Join, all),
            }
        }
        Operation::Conditional(node) => {
            let run = ConditionalRun {
                node: node.clone(),
                bodies: step.bodies.clone(),
            };
            in_stream(Work::Conditional(run), after)
        }
        operation => in_stream(operation.work(runtime), after),
    }
}
