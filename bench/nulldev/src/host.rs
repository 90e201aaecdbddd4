//! Host functions, and whatever else a stream does behind them. One runs at a time, in the order of the times at which their streams come to them: on
//! a thread of this library, or on one that waits for them, which saves it the other's wake-up. Never on the thread that launches one: a function
//! may wait for what that thread does next.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::answer;
use crate::errors::Error;
use crate::stream::{self, Stream};
use crate::timeline::{now, reached, wait_until};

type Work = Box<dyn FnOnce() + Send>;

struct Queue {
    /// By the time when they are due, and their number.
    items: BTreeMap<(u64, u64), (&'static Stream, Work)>,
    number: u64,
    has_thread: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    items: BTreeMap::new(),
    number: 0,
    has_thread: false,
});
static ADDED: Condvar = Condvar::new();
/// Held by who runs one.
static RUNNING: Mutex<()> = Mutex::new(());
/// Those that have not returned.
static PENDING: AtomicU64 = AtomicU64::new(0);

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn any() -> bool {
    PENDING.load(Ordering::Acquire) > 0
}

/// Runs it when the stream's work so far is done.
pub fn push(stream: &'static Stream, work: Work) {
    let mut queue = queue();
    PENDING.fetch_add(1, Ordering::AcqRel);
    stream.queue();
    queue.number += 1;
    let key = (stream.end(), queue.number);
    queue.items.insert(key, (stream, work));
    if !std::mem::replace(&mut queue.has_thread, true) {
        // If there is none to be had, those run that somebody waits for.
        let _ = std::thread::Builder::new()
            .name("nulldev-host".into())
            .spawn(serve);
    }
    ADDED.notify_one();
}

fn serve() {
    loop {
        let mut queue = queue();
        while let due = queue.items.keys().next().map(|key| key.0)
            && !due.is_some_and(reached)
        {
            let left = due.map_or(u64::MAX, |due| due.saturating_sub(now()));
            let waited = ADDED.wait_timeout(queue, Duration::from_nanos(left));
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        step();
    }
}

/// Runs the first one if it is due; else returns when it is, if there is one.
fn step() -> Option<u64> {
    let _one = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut queue = queue();
    let first = queue.items.first_entry()?;
    let due = first.key().0;
    if !reached(due) {
        return Some(due);
    }
    let (stream, work) = first.remove();
    drop(queue);
    work();
    stream.returned();
    PENDING.fetch_sub(1, Ordering::AcqRel);
    None
}

/// Runs what comes first, or waits for who does, until something has become so.
pub fn run_until(so: impl Fn() -> bool) {
    while !so() {
        if let Some(due) = step() {
            wait_until(due);
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(
    stream: u64,
    function: Option<extern "C" fn(*mut c_void)>,
    data: u64,
) -> u32 {
    answer(|| {
        let stream = stream::find(stream)?;
        let function = function.ok_or(Error::INVALID_VALUE)?;
        push(stream, Box::new(move || function(data as *mut c_void)));
        Ok(())
    })
}
