//! Streams, and which task waits for which.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex};

use per_thread::PerThread;

use crate::capture::Capture;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handles;
use crate::runtime::Runtime;
use crate::task::{Task, Work};

pub const NON_BLOCKING: u32 = 1;
/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
pub const LEGACY: u64 = 1;
pub const PER_THREAD: u64 = 2;

/// Priorities from least to greatest.
pub const PRIORITIES: (i32, i32) = (0, -5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Legacy,
    /// Waits for the legacy stream and is waited for by it.
    Blocking,
    NonBlocking,
}

pub struct Stream {
    pub handle: u64,
    pub context: Arc<Context>,
    pub flags: u32,
    pub priority: i32,
    role: Role,
    capturing: AtomicBool,
    capture: Mutex<Option<Arc<Capture>>>,
    /// What cuStreamGetCaptureInfo points to until it is called again.
    pub capture_nodes: Mutex<Box<[u64]>>,
    /// CUlaunchAttributeID and value, for those who ask.
    pub attributes: Mutex<BTreeMap<u32, [u64; 8]>>,
    /// Nobody can enqueue any more; forgotten when it is idle.
    pub gone: AtomicBool,
}

/// The last task of each stream of a context; one lock, so that the order is one order.
#[derive(Default)]
pub struct Order {
    lanes: Vec<Lane>,
    /// What all later work of the context waits for (cuCtxWaitEvent).
    gates: Vec<Arc<Task>>,
}

struct Lane {
    stream: u64,
    role: Role,
    tail: Option<Arc<Task>>,
    owner: Option<Arc<Stream>>,
}

impl Lane {
    /// The task to wait for, if it is not done.
    fn pending(&mut self) -> Option<Arc<Task>> {
        if self.tail.as_ref().is_some_and(|task| task.is_done()) {
            self.tail = None;
        }
        self.tail.clone()
    }
}

impl Order {
    fn lane(&mut self, stream: &Stream) -> &mut Lane {
        let at = self
            .lanes
            .iter()
            .position(|lane| lane.stream == stream.handle);
        let at = at.unwrap_or_else(|| {
            let (stream, role) = (stream.handle, stream.role);
            self.lanes.push(Lane {
                stream,
                role,
                tail: None,
                owner: None,
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }

    /// Lanes of destroyed streams that are idle.
    fn forget_gone(&mut self) {
        self.lanes.retain_mut(|lane| {
            let gone = lane
                .owner
                .as_ref()
                .is_some_and(|stream| stream.gone.load(Acquire));
            !(gone && lane.pending().is_none())
        });
    }

    /// What a task that is enqueued now has to wait for.
    fn before(&mut self, stream: &Stream) -> Vec<Arc<Task>> {
        self.forget_gone();
        let mut before: Vec<Arc<Task>> = self.lane(stream).pending().into_iter().collect();
        self.gates.retain(|gate| !gate.is_done());
        before.extend(self.gates.iter().cloned());
        for lane in &mut self.lanes {
            if matches!(
                (stream.role, lane.role),
                (Role::Legacy, Role::Blocking) | (Role::Blocking, Role::Legacy)
            ) {
                before.extend(lane.pending());
            }
        }
        before
    }

    pub fn hold(&mut self, gate: Arc<Task>) {
        self.gates.push(gate);
    }

    /// The unfinished tails of all streams.
    pub fn tails(&mut self) -> Vec<Arc<Task>> {
        self.lanes.iter_mut().filter_map(Lane::pending).collect()
    }
}

impl Stream {
    fn new(context: &Arc<Context>, role: Role, flags: u32, priority: i32) -> Arc<Stream> {
        let stream = Arc::new(Stream {
            handle: handles::fresh(),
            context: context.clone(),
            flags,
            priority,
            role,
            capturing: AtomicBool::new(false),
            capture: Mutex::default(),
            capture_nodes: Mutex::default(),
            attributes: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let mut order = context.order();
        order.forget_gone();
        order.lane(&stream).owner = Some(stream.clone());
        drop(order);
        stream
    }

    /// The NULL stream of a context; all its values are the same stream.
    pub fn legacy(context: &Arc<Context>) -> Arc<Stream> {
        Arc::new(Stream {
            handle: LEGACY,
            context: context.clone(),
            flags: 0,
            priority: PRIORITIES.0,
            role: Role::Legacy,
            capturing: AtomicBool::new(false),
            capture: Mutex::default(),
            capture_nodes: Mutex::default(),
            attributes: Mutex::default(),
            gone: AtomicBool::new(false),
        })
    }

    pub fn create(context: &Arc<Context>, flags: u32, priority: i32) -> Result<Arc<Stream>> {
        if flags & !NON_BLOCKING != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let role = if flags & NON_BLOCKING != 0 {
            Role::NonBlocking
        } else {
            Role::Blocking
        };
        // Out of range is clamped, says cuda.h.
        let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
        Ok(Stream::new(context, role, flags, priority))
    }

    fn per_thread(context: &Arc<Context>) -> Arc<Stream> {
        MINE.try_with(|mine| {
            let mut mine = mine.streams.borrow_mut();
            if let Some(stream) = mine.iter().find(|s| s.context.handle == context.handle) {
                return stream.clone();
            }
            mine.retain(|s| !s.context.is_destroyed());
            let stream = Stream::new(context, Role::Blocking, 0, PRIORITIES.0);
            mine.push(stream.clone());
            stream
        })
        .unwrap_or_else(|| Stream::legacy(context))
    }

    pub fn is_legacy(&self) -> bool {
        self.role == Role::Legacy
    }

    /// Does the legacy stream wait for it?
    pub fn is_blocking(&self) -> bool {
        self.role == Role::Blocking
    }

    pub fn capture(&self) -> Option<Arc<Capture>> {
        if !self.capturing.load(Acquire) {
            return None;
        }
        let capture = self.capture.lock().unwrap_or_else(|e| e.into_inner());
        capture.clone()
    }

    pub fn set_capture(&self, capture: Option<Arc<Capture>>) {
        let mut place = self.capture.lock().unwrap_or_else(|e| e.into_inner());
        self.capturing.store(capture.is_some(), Release);
        let before = std::mem::replace(&mut *place, capture);
        drop(place);
        drop(before);
    }

    /// The stream that a handle names; the special ones belong to the current context.
    pub fn find(runtime: &Runtime, handle: u64) -> Result<Arc<Stream>> {
        let stream = match handle {
            0 if PER_THREAD_DEFAULT.get() => Stream::per_thread(&Context::current_lane()?),
            0 | LEGACY => Context::current_lane()?.legacy(),
            PER_THREAD => Stream::per_thread(&Context::current_lane()?),
            _ => runtime.streams.get(handle)?,
        };
        if stream.context.green().is_some() && stream.context.is_destroyed() {
            return Err(Error::ERROR_STREAM_DETACHED);
        }
        stream.context.check()?;
        Ok(stream)
    }

    /// Enqueues work behind everything that it has to follow, and behind `also`.
    pub fn enqueue(&self, work: Work, also: &[Arc<Task>]) -> Arc<Task> {
        self.enqueue_many(also, |before| {
            Task::start(&self.context, self.priority, work, before)
        })
    }

    /// Enqueues several tasks that `make` orders among themselves; the last that it returns ends them all.
    pub fn enqueue_many(
        &self,
        also: &[Arc<Task>],
        make: impl FnOnce(&[Arc<Task>]) -> Arc<Task>,
    ) -> Arc<Task> {
        let mut order = self.context.order();
        let mut before = order.before(self);
        before.extend_from_slice(also);
        let last = make(&before);
        order.lane(self).tail = Some(last.clone());
        last
    }

    /// What work that is enqueued now would wait for: nothing, when it may as well be done at once.
    pub fn before(&self) -> Vec<Arc<Task>> {
        self.context.order().before(self)
    }

    /// What is enqueued now and not done. To ask the legacy stream is to enqueue a mark in it, so that it speaks for
    /// the blocking streams, too.
    fn unfinished(&self) -> Vec<Arc<Task>> {
        let mut order = self.context.order();
        match self.role {
            Role::Legacy => order.before(self),
            _ => order.lane(self).pending().into_iter().collect(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.unfinished().is_empty()
    }

    /// Waits for what is enqueued now.
    pub fn synchronize(&self) -> Result {
        self.unfinished().iter().for_each(|task| task.wait());
        self.context.check()
    }
}

/// The per-thread streams of this thread, given up with it.
struct Mine {
    streams: RefCell<Vec<Arc<Stream>>>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        for stream in self.streams.borrow_mut().drain(..) {
            stream.gone.store(true, Release);
        }
    }
}

static MINE: PerThread<Mine> = PerThread::new(|| Mine {
    streams: RefCell::default(),
});

thread_local! {
    /// Set while a `_ptsz` or `_ptds` variant runs: NULL is the per-thread stream.
    static PER_THREAD_DEFAULT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call as its variant for the per-thread default stream.
pub fn with_per_thread_default<T>(call: impl FnOnce() -> T) -> T {
    let before = PER_THREAD_DEFAULT.replace(true);
    let result = call();
    PER_THREAD_DEFAULT.set(before);
    result
}

/// Serialises launches of one executable graph; its last launch.
#[derive(Default)]
pub struct Last(Mutex<Option<Arc<Task>>>);

impl Last {
    pub fn follow(&self, launch: impl FnOnce(&[Arc<Task>]) -> Arc<Task>) -> Arc<Task> {
        let mut last = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let before: Vec<Arc<Task>> = last
            .take()
            .filter(|task| !task.is_done())
            .into_iter()
            .collect();
        let task = launch(&before);
        *last = Some(task.clone());
        task
    }
}
