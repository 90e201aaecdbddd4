//! Events: a place in a stream, and when the device came there.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::stream::Stream;
use crate::task::{Task, Work};

pub const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
const FLAGS: u32 = 7;

pub struct Event {
    pub context: Arc<Context>,
    pub flags: u32,
    last: Mutex<Option<Recorded>>,
}

#[derive(Clone)]
struct Recorded {
    record: Arc<Record>,
    /// None: the stream was idle.
    task: Option<Arc<Task>>,
}

/// When the event happened, in nanoseconds since the library first looked at the clock.
#[derive(Default)]
pub struct Record(AtomicU64);

impl Record {
    pub fn stamp(&self) {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        self.0.store(start.elapsed().as_nanos() as u64, Release);
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
        }))
    }

    fn last(&self) -> Option<Recorded> {
        self.last.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub fn record(&self, stream: &Stream) -> Result {
        if stream.context.handle != self.context.handle {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        let record = Arc::new(Record::default());
        let task = if stream.before().is_empty() {
            record.stamp();
            None
        } else {
            Some(stream.enqueue(Work::Event(record.clone()), &[]))
        };
        *self.last.lock().unwrap_or_else(|e| e.into_inner()) = Some(Recorded { record, task });
        Ok(())
    }

    /// The task that later work has to follow.
    pub fn pending(&self) -> Option<Arc<Task>> {
        self.last()?.task.filter(|task| !task.is_done())
    }

    pub fn query(&self) -> Result {
        self.context.check()?;
        if self.pending().is_some() {
            Err(Error::ERROR_NOT_READY)
        } else {
            Ok(())
        }
    }

    pub fn synchronize(&self) -> Result {
        if let Some(task) = self.pending() {
            task.wait();
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
        let (Some(from), Some(to)) = (self.last(), end.last()) else {
            return Err(Error::ERROR_INVALID_HANDLE);
        };
        if self.pending().is_some() || end.pending().is_some() {
            return Err(Error::ERROR_NOT_READY);
        }
        let (from, to) = (from.record.0.load(Acquire), to.record.0.load(Acquire));
        Ok((to as i64 - from as i64) as f32 / 1e6)
    }
}
