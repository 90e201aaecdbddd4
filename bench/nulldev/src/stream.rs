//! Streams: when each one's work ends, and which host functions it waits for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Out, answer};
use crate::config;
use crate::context::{self, Context};
use crate::errors::{Error, Result};
use crate::event;
use crate::handles::Table;
use crate::host;
use crate::timeline::{now, reached, wait_until};

const NON_BLOCKING: u32 = 1;
/// The NULL stream, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD, which is the same one here.
const DEFAULT: std::ops::RangeInclusive<u64> = 0..=2;

pub struct Stream {
    handle: u64,
    pub context: &'static Context,
    flags: u32,
    priority: i32,
    /// When its own work ends; 0 unless paced.
    end: AtomicU64,
    /// Host functions that it has been given, and those that have returned.
    queued: AtomicU64,
    done: AtomicU64,
}

static STREAMS: Table<Stream> = Table::new(2);

pub fn find(handle: u64) -> Result<&'static Stream> {
    match DEFAULT.contains(&handle) {
        true => context::current().map(Context::legacy),
        false => STREAMS.get(handle),
    }
}

impl Stream {
    fn new(handle: u64, context: &'static Context, flags: u32, priority: i32) -> Stream {
        Stream {
            handle,
            context,
            flags,
            priority,
            end: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    pub fn legacy(context: &'static Context) -> &'static Stream {
        Box::leak(Box::new(Stream::new(0, context, 0, 0)))
    }

    fn is_legacy(&self) -> bool {
        self.handle == 0
    }

    fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    /// When all work that comes before the next one's ends: the legacy stream and the blocking ones wait for each other.
    pub fn end(&self) -> u64 {
        let others = match (self.is_legacy(), self.is_blocking()) {
            (true, _) => self.context.blocking_end.load(Ordering::Acquire),
            (false, true) => self.context.legacy().end.load(Ordering::Acquire),
            (false, false) => 0,
        };
        self.end.load(Ordering::Acquire).max(others)
    }

    fn extend(&self, end: u64) {
        self.end.fetch_max(end, Ordering::AcqRel);
        self.context.end.fetch_max(end, Ordering::AcqRel);
        if self.is_blocking() {
            self.context.blocking_end.fetch_max(end, Ordering::AcqRel);
        }
    }

    /// A kernel, in paced mode.
    pub fn launch(&self, paced: &config::Paced, duration: u64) {
        self.extend(paced.timeline.place(now(), self.end(), duration));
    }

    fn has_functions(&self) -> bool {
        !self.has_done(self.queued.load(Ordering::Acquire))
    }

    /// Whether this many of its functions have returned.
    pub fn has_done(&self, functions: u64) -> bool {
        self.done.load(Ordering::Acquire) >= functions
    }

    /// Whether it waits for functions of other streams without having one that says so.
    fn waits_for_others(&self) -> bool {
        host::any()
            && match (self.is_legacy(), self.is_blocking()) {
                (true, _) => (self.context.streams().iter())
                    .any(|stream| stream.is_blocking() && stream.has_functions()),
                (false, true) => self.context.legacy().has_functions(),
                (false, false) => false,
            }
    }

    /// One more function; only [`host`] says so.
    pub fn queue(&self) {
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    pub fn returned(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    /// How many of its functions must have returned until all its work so far is done. Functions run in the order of their times, so an empty one
    /// stands for those of other streams.
    pub fn functions(&'static self) -> u64 {
        if self.waits_for_others() {
            host::push(self, Box::new(|| {}));
        }
        self.queued.load(Ordering::Acquire)
    }

    /// Waits for host functions.
    pub fn settle(&'static self) {
        let functions = self.functions();
        host::run_until(|| self.has_done(functions));
    }

    pub fn wait(&'static self) {
        self.settle();
        wait_until(self.end());
    }

    /// Whether work of this process's own cannot be done at once.
    pub fn is_standing(&self) -> bool {
        self.has_functions() || self.waits_for_others()
    }

    /// Work of this process's own, which takes no time of the device's, behind the host functions that come before.
    pub fn perform(&'static self, work: impl FnOnce() + Send + 'static) {
        host::push(self, Box::new(work));
    }

    /// What comes now begins when what the event stands for has ended.
    fn wait_for(&'static self, event: &'static event::Event) -> Result {
        if config::paced()?.is_some() {
            self.extend(event.end());
        }
        if event.waits_for_functions() {
            host::push(self, Box::new(|| {}));
        }
        Ok(())
    }
}

fn create(stream: Out<u64>, flags: u32, priority: i32) -> Result {
    let context = context::current()?;
    stream.check()?;
    if flags & !NON_BLOCKING != 0 {
        return Err(Error::INVALID_VALUE);
    }
    let made = STREAMS
        .insert(|handle| Box::leak(Box::new(Stream::new(handle, context, flags, priority))))?;
    context.streams().push(made);
    stream.put(made.handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: Out<u64>, flags: u32) -> u32 {
    answer(|| create(stream, flags, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(stream: Out<u64>, flags: u32, priority: i32) -> u32 {
    answer(|| create(stream, flags, priority.clamp(-5, 0)))
}

/// What is under way goes on.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: u64) -> u32 {
    answer(|| {
        let stream = STREAMS.remove(stream)?;
        if stream.has_functions() {
            // The context waits for it, and forgets it when it ends.
            return Ok(());
        }
        let mut streams = stream.context.streams();
        streams.retain(|other| other.handle != stream.handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> u32 {
    answer(|| {
        find(stream)?.wait();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: u64) -> u32 {
    answer(|| {
        let stream = find(stream)?;
        let done = !stream.is_standing() && reached(stream.end());
        if done { Ok(()) } else { Err(Error::NOT_READY) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, _flags: u32) -> u32 {
    answer(|| find(stream)?.wait_for(event::find(event)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: u64, status: Out<u32>) -> u32 {
    answer(|| find(stream).and_then(|_| status.put(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(stream: u64, context: Out<u64>) -> u32 {
    answer(|| context.put(find(stream)?.context.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(stream: u64, flags: Out<u32>) -> u32 {
    answer(|| flags.put(find(stream)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(stream: u64, priority: Out<i32>) -> u32 {
    answer(|| priority.put(find(stream)?.priority))
}

/// A handle is never used twice; the legacy stream's is its context's.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetId(stream: u64, id: Out<u64>) -> u32 {
    answer(|| match find(stream)? {
        stream if stream.is_legacy() => id.put(stream.context.handle),
        stream => id.put(stream.handle),
    })
}
