//! Events: a place in a stream, and when the device came there.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::capture::{self, Capture};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::graph::Operation;
use crate::ipc::SharedEvent;
use crate::runtime::Runtime;
use crate::stream::Stream;
use crate::task::{Task, Work};
use crate::waits::Condition;

pub const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
const FLAGS: u32 = 7;

pub struct Event {
    pub context: Arc<Context>,
    pub flags: u32,
    last: Mutex<Option<Last>>,
    /// Of an event for several processes.
    shared: Option<Arc<SharedEvent>>,
}

#[derive(Clone)]
enum Last {
    Recorded(Recorded),
    /// In a stream that captured, after these nodes.
    Captured(Arc<Capture>, Vec<u64>),
}

#[derive(Clone)]
struct Recorded {
    record: Arc<Record>,
    /// None: the stream was idle.
    task: Option<Arc<Task>>,
}

#[derive(Default)]
pub struct Record {
    /// When the event happened, in nanoseconds since the library first looked at the clock.
    time: AtomicU64,
    /// Whom else to tell, and by which number.
    shared: Option<(Arc<SharedEvent>, u64)>,
}

impl Record {
    pub fn stamp(&self) {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        self.time.store(start.elapsed().as_nanos() as u64, Release);
        if let Some((shared, number)) = &self.shared {
            shared.end(*number);
        }
    }
}

impl Event {
    pub fn create(context: &Arc<Context>, flags: u32) -> Result<Arc<Event>> {
        // An event for other processes must not have timing, says cuda.h.
        if flags & !FLAGS != 0 || flags & (INTERPROCESS | DISABLE_TIMING) == INTERPROCESS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Ok(Arc::new(Event {
            context: context.clone(),
            flags,
            last: Mutex::default(),
            shared: if flags & INTERPROCESS != 0 {
                Some(SharedEvent::create()?)
            } else {
                None
            },
        }))
    }

    /// An event of another process.
    pub fn opened(context: &Arc<Context>, shared: Arc<SharedEvent>) -> Event {
        Event {
            context: context.clone(),
            flags: INTERPROCESS | DISABLE_TIMING,
            last: Mutex::default(),
            shared: Some(shared),
        }
    }

    pub fn shared(&self) -> Option<&Arc<SharedEvent>> {
        self.shared.as_ref()
    }

    /// A recording that begins.
    pub fn new_record(&self) -> Arc<Record> {
        Arc::new(Record {
            time: AtomicU64::new(0),
            shared: self.shared.clone().map(|shared| {
                let number = shared.begin();
                (shared, number)
            }),
        })
    }

    /// The last recording of any process, if it is not over.
    fn pending_elsewhere(&self) -> Option<(&Arc<SharedEvent>, u64)> {
        let shared = self.shared.as_ref()?;
        let last = shared.last();
        (!shared.is_over(last)).then_some((shared, last))
    }

    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn set_last(&self, last: Last) {
        let mut place = self.last.lock().unwrap_or_else(|e| e.into_inner());
        let before = place.replace(last);
        drop(place);
        drop(before);
    }

    /// The last recording, which a capture's is not.
    fn recorded_last(&self) -> Result<Option<Recorded>> {
        match self.last() {
            Some(Last::Captured(..)) => Err(Error::ERROR_CAPTURED_EVENT),
            Some(Last::Recorded(recorded)) => Ok(Some(recorded)),
            None => Ok(None),
        }
    }

    /// `external`: a node of its own, where the stream captures.
    pub fn record(
        self: &Arc<Self>,
        runtime: &Runtime,
        handle: u64,
        stream: &Stream,
        external: bool,
    ) -> Result {
        if stream.context.base().handle != self.context.handle {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        if let Some(capture) = stream.capture() {
            capture.check()?;
            if external {
                let operation = Operation::Record(self.clone(), handle);
                return capture.add(runtime, stream, operation).map(drop);
            }
            let nodes = capture.dependencies(stream);
            self.set_last(Last::Captured(capture, nodes));
            return Ok(());
        }
        capture::forbid_implicit(stream)?;
        let record = self.new_record();
        let task = if stream.before().is_empty() {
            record.stamp();
            None
        } else {
            Some(stream.enqueue(Work::Event(record.clone()), &[]))
        };
        self.recorded(record, task);
        Ok(())
    }

    /// The event was recorded elsewhere.
    pub fn recorded(&self, record: Arc<Record>, task: Option<Arc<Task>>) {
        self.set_last(Last::Recorded(Recorded { record, task }));
    }

    /// Lets later work of the stream wait; `external`: as a node of its own, where the stream captures.
    pub fn wait_in(
        self: &Arc<Self>,
        runtime: &Runtime,
        handle: u64,
        stream: &Arc<Stream>,
        external: bool,
    ) -> Result {
        match (self.last(), stream.capture()) {
            (_, Some(capture)) if external => {
                let operation = Operation::Wait(self.clone(), handle);
                capture.add(runtime, stream, operation).map(drop)
            }
            (Some(Last::Captured(capture, nodes)), _) if !capture.has_ended() => {
                capture.join(stream, &nodes)
            }
            (_, Some(capture)) => {
                // Work outside of the capture cannot become a part of it.
                capture.check()?;
                capture.invalidate();
                Err(Error::ERROR_STREAM_CAPTURE_ISOLATION)
            }
            (Some(Last::Captured(..)), None) => Err(Error::ERROR_CAPTURED_EVENT),
            (_, None) => {
                capture::forbid_implicit(stream)?;
                if let Some((shared, number)) = self.pending_elsewhere() {
                    let condition = Condition::Event(shared.clone(), number);
                    stream.enqueue(Work::Await(condition), &[]);
                } else if let Some(task) = self.pending() {
                    stream.enqueue(Work::Join, &[task]);
                }
                Ok(())
            }
        }
    }

    /// After all that the context's streams were given.
    pub fn record_in_context(&self, context: &Arc<Context>) -> Result {
        if context.base().handle != self.context.handle {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        context.check()?;
        capture::forbid_in(context)?;
        let record = self.new_record();
        let tails = context.tails();
        let task = if tails.is_empty() {
            record.stamp();
            None
        } else {
            Some(Task::start(context, 0, Work::Event(record.clone()), &tails))
        };
        self.recorded(record, task);
        Ok(())
    }

    /// Lets later work of all the context's streams wait.
    pub fn wait_in_context(&self, context: &Arc<Context>) -> Result {
        context.check()?;
        match self.last() {
            Some(Last::Captured(capture, _)) if !capture.has_ended() => {
                capture.invalidate();
                return Err(Error::ERROR_STREAM_CAPTURE_UNSUPPORTED);
            }
            Some(Last::Captured(..)) => return Err(Error::ERROR_CAPTURED_EVENT),
            _ => {}
        }
        capture::forbid_in(context)?;
        if let Some((shared, number)) = self.pending_elsewhere() {
            let condition = Work::Await(Condition::Event(shared.clone(), number));
            let gate = Task::start(context, 0, condition, &[]);
            context.hold(&gate);
        } else if let Some(task) = self.pending() {
            context.hold(&task);
        }
        Ok(())
    }

    /// The task that later work has to follow.
    pub fn pending(&self) -> Option<Arc<Task>> {
        match self.last()? {
            Last::Recorded(recorded) => recorded.task.filter(|task| !task.is_done()),
            Last::Captured(..) => None,
        }
    }

    pub fn query(&self) -> Result {
        self.context.check()?;
        self.recorded_last()?;
        if self.pending().is_some() || self.pending_elsewhere().is_some() {
            Err(Error::ERROR_NOT_READY)
        } else {
            Ok(())
        }
    }

    pub fn synchronize(&self) -> Result {
        self.recorded_last()?;
        if let Some(task) = self.pending() {
            task.wait();
        }
        if let Some((shared, number)) = self.pending_elsewhere() {
            shared.wait(number);
        }
        self.context.check()
    }

    /// Milliseconds from `self` to `end`.
    pub fn elapsed(&self, end: &Event) -> Result<f32> {
        if self.context.handle != end.context.handle {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        self.context.check()?;
        if (self.flags | end.flags) & DISABLE_TIMING != 0 {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        let (Some(from), Some(to)) = (self.recorded_last()?, end.recorded_last()?) else {
            return Err(Error::ERROR_INVALID_HANDLE);
        };
        if self.pending().is_some() || end.pending().is_some() {
            return Err(Error::ERROR_NOT_READY);
        }
        let (from, to) = (from.record.time.load(Acquire), to.record.time.load(Acquire));
        Ok((to as i64 - from as i64) as f32 / 1e6)
    }
}
