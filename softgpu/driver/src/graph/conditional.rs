//! Conditional nodes: a value that kernels set chooses which graph runs, and how often.

use std::sync::{Arc, Weak};

use super::{Executable, Graph, Operation};
use crate::copy::Fill;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::handles::Registry;
use crate::host;
use crate::memory::Kind;
use crate::runtime::{self, Runtime};
use crate::task::{Task, Work};

/// CUgraphConditionalNodeType.
pub const IF: u32 = 0;
pub const WHILE: u32 = 1;
pub const SWITCH: u32 = 2;

/// What a CUgraphConditionalHandle names: a word of device memory, by its address, which cudaGraphSetConditional writes.
pub struct Variable {
    pub address: u64,
    pub context: u64,
    /// Written whenever a graph that has it begins.
    default: Option<u32>,
}

impl Variable {
    pub fn create(
        runtime: &Runtime,
        device: &Device,
        context: u64,
        default: Option<u32>,
    ) -> Result<Arc<Variable>> {
        let memory = &runtime.memory;
        let address = memory.allocate(device.ordinal, 0, 4, Kind::Device)?;
        // SAFETY: four bytes that were allocated above, aligned, and that nobody else knows.
        runtime.access(|| unsafe { (address as *mut u32).write_volatile(0) });
        let variable = Arc::new(Variable {
            address,
            context,
            default,
        });
        runtime
            .conditions
            .insert(address, Arc::new(Arc::downgrade(&variable)));
        Ok(variable)
    }

    pub fn find(runtime: &Runtime, handle: u64) -> Result<Arc<Variable>> {
        let found = runtime.conditions.find(handle);
        let found = found.and_then(|variable: Arc<Weak<Variable>>| variable.upgrade());
        found.ok_or(Error::ERROR_INVALID_VALUE)
    }

    pub fn reset(&self) -> Option<Work> {
        let value = self.default?;
        Some(Work::Fill(Fill::word(self.address, value)))
    }

    fn value(&self, runtime: &Runtime) -> u32 {
        // SAFETY: four bytes of this variable's own memory, aligned, there for as long as it lives.
        runtime.access(|| unsafe { (self.address as *const u32).read_volatile() })
    }
}

impl Drop for Variable {
    fn drop(&mut self) {
        if let Ok(runtime) = runtime::get() {
            let _ = runtime.conditions.take(self.address);
            if let Ok(block) = runtime.memory.retire(self.address) {
                runtime.still(|| runtime.memory.release(block));
            }
        }
    }
}

/// By handle; none of them keeps its variable.
pub type Variables = Registry<Weak<Variable>>;

pub struct Conditional {
    pub variable: Arc<Variable>,
    pub kind: u32,
    pub bodies: Vec<Arc<Graph>>,
    /// The bodies' handles, which the program is given a pointer to.
    pub handles: Box<[u64]>,
}

impl Conditional {
    pub fn create(
        runtime: &Runtime,
        variable: Arc<Variable>,
        kind: u32,
        size: u32,
    ) -> Result<Conditional> {
        const MAX_BODIES: u32 = 1 << 16;
        let fits = match kind {
            IF => matches!(size, 1 | 2),
            WHILE => size == 1,
            SWITCH => (1..=MAX_BODIES).contains(&size),
            _ => false,
        };
        if !fits {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let bodies = (0..size).map(|_| Graph::create(runtime, true)).collect();
        Ok(Conditional::with(variable, kind, bodies))
    }

    fn with(variable: Arc<Variable>, kind: u32, bodies: Vec<Arc<Graph>>) -> Conditional {
        Conditional {
            variable,
            kind,
            handles: bodies.iter().map(|graph| graph.handle).collect(),
            bodies,
        }
    }

    pub fn duplicate(&self, runtime: &Runtime) -> Result<Conditional> {
        let bodies = self.bodies.iter();
        let bodies: Result<_> = bodies.map(|graph| graph.duplicate(runtime, true)).collect();
        Ok(Conditional::with(self.variable.clone(), self.kind, bodies?))
    }

    /// The bodies as they run: of kernels, copies, fills and graphs of such.
    pub fn instantiate(&self, depth: usize) -> Result<Vec<Arc<Executable>>> {
        self.bodies
            .iter()
            .map(|graph| {
                check(graph, depth)?;
                graph.instantiate_at(0, depth).map(Arc::new)
            })
            .collect()
    }

    /// Which body a value chooses.
    fn choice(&self, value: u32) -> usize {
        match (self.kind, value) {
            (SWITCH, value) => value as usize,
            (_, 0) => 1,
            _ => 0,
        }
    }
}

fn check(graph: &Graph, depth: usize) -> Result {
    const MAX_DEPTH: usize = 64;
    if depth > MAX_DEPTH {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    for operation in graph.operations() {
        match operation {
            Operation::Empty
            | Operation::Kernel(_)
            | Operation::Copy(_)
            | Operation::Fill(_)
            | Operation::Conditional(_) => {}
            Operation::Child(child) => check(&child, depth + 1)?,
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
    }
    Ok(())
}

pub struct ConditionalRun {
    pub node: Arc<Conditional>,
    pub bodies: Vec<Arc<Executable>>,
}

/// Runs a conditional node's task on a thread of its own, which waits for the graphs that it starts.
pub fn run_conditional(task: Arc<Task>) {
    let mine = task.clone();
    let run = move || {
        if let (Some(Work::Conditional(run)), Ok(runtime)) = (mine.take_work(), runtime::get()) {
            run.perform(runtime, &mine);
        }
        host::finish(&mine);
    };
    if host::spawn("softgpu-condition", run).is_err() {
        task.context.fail(Error::ERROR_OPERATING_SYSTEM);
        host::finish(&task);
    }
}

impl ConditionalRun {
    fn perform(&self, runtime: &'static Runtime, task: &Task) {
        loop {
            if task.context.has_failed() {
                return;
            }
            let value = self.node.variable.value(runtime);
            let Some(body) = self.bodies.get(self.node.choice(value)) else {
                return;
            };
            body.run(runtime, (&task.context, task.priority));
            if self.node.kind != WHILE {
                return;
            }
        }
    }
}
