//! Events.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::abi::{Out, answer};
use crate::context;
use crate::errors::{Error, Result};
use crate::handles::Table;
use crate::host;
use crate::stream::{self, Stream};
use crate::timeline::{now, reached, wait_until};

const DISABLE_TIMING: u32 = 2;
/// BLOCKING_SYNC, DISABLE_TIMING; INTERPROCESS is not supported.
const FLAGS: u32 = 3;

#[derive(Default)]
pub struct Event {
    handle: AtomicU64,
    flags: AtomicU32,
    /// When what it stands for ends; 0: it was never recorded.
    end: AtomicU64,
    /// The stream of the last record, or null, and how many of its host functions come before.
    stream: AtomicPtr<Stream>,
    functions: AtomicU64,
}

static EVENTS: Table<Event> = Table::new(3);
/// Objects to use again: programs make many events.
static SPARE: Mutex<Vec<&'static Event>> = Mutex::new(Vec::new());

fn spare() -> MutexGuard<'static, Vec<&'static Event>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn find(handle: u64) -> Result<&'static Event> {
    EVENTS.get(handle)
}

impl Event {
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub fn waits_for_functions(&self) -> bool {
        let stream = self.stream.load(Ordering::Acquire);
        // SAFETY: null, or a stream's object, which is never freed.
        let stream = unsafe { stream.as_ref() };
        stream.is_some_and(|stream| !stream.has_done(self.functions.load(Ordering::Acquire)))
    }

    fn record(&self, stream: &'static Stream) {
        let functions = stream.functions();
        self.functions.store(functions, Ordering::Release);
        let stream_or_none = match stream.has_done(functions) {
            true => ptr::null_mut(),
            false => ptr::from_ref(stream).cast_mut(),
        };
        self.stream.store(stream_or_none, Ordering::Release);
        self.end.store(stream.end().max(now()), Ordering::Release);
    }

    fn is_done(&self) -> bool {
        !self.waits_for_functions() && reached(self.end())
    }

    fn wait(&self) {
        host::run_until(|| !self.waits_for_functions());
        wait_until(self.end());
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: Out<u64>, flags: u32) -> u32 {
    answer(|| {
        context::current()?;
        event.check()?;
        if flags & !FLAGS != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let made = EVENTS.insert(|handle| {
            let made = spare().pop().unwrap_or_else(|| Box::leak(Box::default()));
            made.handle.store(handle, Ordering::Relaxed);
            made.flags.store(flags, Ordering::Relaxed);
            made.end.store(0, Ordering::Relaxed);
            made.stream.store(ptr::null_mut(), Ordering::Relaxed);
            made
        })?;
        event.put(made.handle.load(Ordering::Relaxed))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: u64) -> u32 {
    answer(|| {
        let event = EVENTS.remove(event)?;
        spare().push(event);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: u64, stream: u64) -> u32 {
    answer(|| {
        find(event)?.record(stream::find(stream)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(event: u64, stream: u64, _flags: u32) -> u32 {
    cuEventRecord(event, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: u64) -> u32 {
    answer(|| match find(event)?.is_done() {
        true => Ok(()),
        false => Err(Error::NOT_READY),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: u64) -> u32 {
    answer(|| {
        find(event)?.wait();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) -> u32 {
    answer(|| {
        let (start, end) = (find(start)?, find(end)?);
        milliseconds.check()?;
        let timed = |event: &Event| {
            event.end() != 0 && event.flags.load(Ordering::Relaxed) & DISABLE_TIMING == 0
        };
        if !timed(start) || !timed(end) {
            return Err(Error::INVALID_HANDLE);
        }
        if !start.is_done() || !end.is_done() {
            return Err(Error::NOT_READY);
        }
        let nanoseconds = end.end() as i64 - start.end() as i64;
        milliseconds.put((nanoseconds as f64 / 1e6) as f32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: u64, end: u64) -> u32 {
    cuEventElapsedTime(milliseconds, start, end)
}
