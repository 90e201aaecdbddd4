//! One piece of enqueued work and the order of such pieces.
//!
//! A task becomes ready when the tasks it waits for are done; it then goes to its device's executor, or is done on the
//! spot when there is nothing to run (an event, a join).

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::context::Context;
use crate::copy::{Copy, Fill};
use crate::event::Record;
use crate::futex::{self, Scope};
use crate::graph::{ConditionalRun, GraphMemory};
use crate::kernel::KernelRun;
use crate::memory::Block;
use crate::pool::MemPool;
use crate::waits::Condition;

const PENDING: u32 = 0;
const AWAITED: u32 = 1;
const DONE: u32 = 2;

pub enum Work {
    /// Orders others.
    Join,
    Event(Arc<Record>),
    Kernel(Arc<KernelRun>),
    Copy(Copy),
    /// To device memory, from bytes of which the program may already have changed the original.
    Staged {
        to: u64,
        bytes: Box<[u8]>,
    },
    Fill(Fill),
    /// Memory that the program has freed in stream order; the pool that gets it.
    Release(Option<Arc<MemPool>>, Block),
    /// Orders others; what a graph's nodes use stays until then.
    Keep(Vec<Arc<GraphMemory>>),
    /// Something that comes from elsewhere.
    Await(Condition),
    /// A function of the program, called from a thread of its own.
    Host(HostCall),
    /// Graphs of which a value in memory chooses.
    Conditional(ConditionalRun),
}

impl Work {
    /// Bytes that are moved.
    pub fn bytes(&self) -> u64 {
        match self {
            Work::Copy(copy) => copy.bytes(),
            Work::Staged { bytes, .. } => bytes.len() as u64,
            Work::Fill(fill) => fill.bytes(),
            Work::Join
            | Work::Event(_)
            | Work::Kernel(_)
            | Work::Release(..)
            | Work::Keep(_)
            | Work::Await(_)
            | Work::Host(_)
            | Work::Conditional(_) => 0,
        }
    }
}

pub struct HostCall {
    pub function: HostFunction,
    pub data: u64,
}

pub enum HostFunction {
    /// CUhostFn.
    Plain(extern "C" fn(u64)),
    /// CUstreamCallback: stream, status, data. Called after errors, too.
    Callback(u64, extern "C" fn(u64, u32, u64)),
}

pub struct Task {
    pub context: Arc<Context>,
    pub priority: i32,
    state: AtomicU32,
    /// Tasks that are not done, and one more until [`Task::start`] has seen all of them.
    missing: AtomicUsize,
    links: Mutex<Links>,
}

struct Links {
    work: Option<Work>,
    followers: Vec<Arc<Task>>,
    done: bool,
}

impl Task {
    /// A task that becomes ready when all of `after` are done.
    pub fn start(
        context: &Arc<Context>,
        priority: i32,
        work: Work,
        after: &[Arc<Task>],
    ) -> Arc<Task> {
        let task = Arc::new(Task {
            context: context.clone(),
            priority,
            state: AtomicU32::new(PENDING),
            missing: AtomicUsize::new(1),
            links: Mutex::new(Links {
                work: Some(work),
                followers: Vec::new(),
                done: false,
            }),
        });
        for before in after {
            let mut links = before.links();
            if !links.done {
                task.missing.fetch_add(1, Relaxed);
                links.followers.push(task.clone());
            }
        }
        let mut ready = Vec::new();
        task.clone().arrived(&mut ready);
        for task in ready {
            task.context.device.clone().executor.submit(task);
        }
        task
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// One of those it waited for is done. Adds to `ready` what can run now, this task or others behind it.
    fn arrived(self: Arc<Task>, ready: &mut Vec<Arc<Task>>) {
        // A chain of joins may be long: no recursion.
        let mut stack = vec![self];
        while let Some(task) = stack.pop() {
            if task.missing.fetch_sub(1, AcqRel) != 1 {
                continue;
            }
            let mut links = task.links();
            match &links.work {
                Some(Work::Join | Work::Keep(_)) | None => {}
                Some(Work::Event(record)) => record.stamp(),
                Some(_) => {
                    drop(links);
                    ready.push(task);
                    continue;
                }
            }
            // What it kept is gone before anybody hears that it is done.
            let work = links.work.take();
            drop(links);
            drop(work);
            stack.extend(task.close(&mut task.links()));
        }
    }

    fn close(&self, links: &mut Links) -> Vec<Arc<Task>> {
        links.done = true;
        if self.state.swap(DONE, AcqRel) == AWAITED {
            futex::wake(&self.state, i32::MAX, Scope::Process);
        }
        std::mem::take(&mut links.followers)
    }

    /// What to run; the executor takes it once.
    pub fn take_work(&self) -> Option<Work> {
        self.links().work.take()
    }

    /// The work is done. Returns what became ready.
    pub fn complete(&self) -> Vec<Arc<Task>> {
        let followers = {
            let mut links = self.links();
            links.work = None;
            self.close(&mut links)
        };
        let mut ready = Vec::new();
        for follower in followers {
            follower.arrived(&mut ready);
        }
        ready
    }

    /// Is its work none for the device's threads?
    pub fn runs_elsewhere(&self) -> bool {
        matches!(
            self.links().work,
            Some(Work::Host(_) | Work::Await(_) | Work::Conditional(_))
        )
    }

    pub fn is_conditional(&self) -> bool {
        matches!(self.links().work, Some(Work::Conditional(_)))
    }

    pub fn is_wait(&self) -> bool {
        matches!(self.links().work, Some(Work::Await(_)))
    }

    pub fn is_done(&self) -> bool {
        self.state.load(Acquire) == DONE
    }

    pub fn wait(&self) {
        loop {
            match self
                .state
                .compare_exchange(PENDING, AWAITED, AcqRel, Acquire)
            {
                Err(DONE) => return,
                _ => futex::wait(&self.state, AWAITED, None, Scope::Process),
            }
        }
    }
}
