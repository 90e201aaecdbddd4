//! What CUDA keeps per thread: the stack of current contexts, and the number under which the worker knows the thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use per_thread::PerThread;
use rgpu_proto::CudaError;
use rgpu_proto::handshake::MAX_THREADS;

use crate::handles::server_of;
use crate::log;

static NUMBER: PerThread<Number> = PerThread::new(|| Number(Numbers::lock().take()));
static CONTEXTS: PerThread<RefCell<Vec<u64>>> = PerThread::new(RefCell::default);

thread_local! {
    static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
    static IN_PROGRAM: Cell<bool> = const { Cell::new(false) };
}

/// Numbers from 1 on. Each stands for a thread of the worker's, so one is used again when its thread has ended.
struct Numbers {
    /// Below `next`, and nobody's.
    free: BTreeSet<u32>,
    next: u32,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    free: BTreeSet::new(),
    next: 1,
});

/// Whether there has been a second one.
static MANY: AtomicBool = AtomicBool::new(false);

impl Numbers {
    fn lock() -> std::sync::MutexGuard<'static, Numbers> {
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More threads than the worker can have share its last one: their calls then wait for each other.
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            let number = self.next.min(MAX_THREADS);
            self.next = (self.next + 1).min(MAX_THREADS);
            if number > 1 {
                MANY.store(true, Ordering::Relaxed);
            }
            number
        })
    }

    fn give(&mut self, number: u32) {
        // The last one may still be others'.
        if number < MAX_THREADS {
            self.free.insert(number);
        }
    }
}

struct Number(u32);

impl Drop for Number {
    fn drop(&mut self) {
        // The worker's thread keeps its capture mode: a number with another mode than the first is not used again.
        if CAPTURE_MODE.try_with(Cell::get).unwrap_or(0) == 0 {
            Numbers::lock().give(self.0);
        }
    }
}

/// What cuThreadExchangeStreamCaptureMode sets; returns what it was.
pub fn exchange_capture_mode(mode: u32) -> u32 {
    CAPTURE_MODE.try_with(|old| old.replace(mode)).unwrap_or(0)
}

/// Whether this thread waits for the reply of each command now.
pub fn is_at_once() -> bool {
    AT_ONCE.try_with(Cell::get).unwrap_or(false)
}

/// Sends a command that is usually not waited for so that its own result comes back.
pub fn at_once<T>(send: impl FnOnce() -> T) -> T {
    let before = AT_ONCE.try_with(|now| now.replace(true)).unwrap_or(false);
    let result = send();
    let _ = AT_ONCE.try_with(|now| now.set(before));
    result
}

/// Whether a function of the program runs on this thread that must not call CUDA.
pub fn is_in_program() -> bool {
    IN_PROGRAM.try_with(Cell::get).unwrap_or(false)
}

/// Calls a function of the program that a stream or a graph's end has come to.
pub fn in_program(call: impl FnOnce()) {
    let _ = IN_PROGRAM.try_with(|inside| inside.set(true));
    call();
    let _ = IN_PROGRAM.try_with(|inside| inside.set(false));
}

/// This thread's number; that of all who can have none of their own otherwise.
pub fn number() -> u32 {
    NUMBER.try_with(|number| number.0).unwrap_or(MAX_THREADS)
}

/// Whether more than one thread has come to CUDA.
pub fn are_many() -> bool {
    MANY.load(Ordering::Relaxed)
}

/// The current context, 0 for none.
pub fn context() -> u64 {
    CONTEXTS
        .try_with(|stack| stack.borrow().last().copied().unwrap_or(0))
        .unwrap_or(0)
}

/// Replaces the top of the stack (cuCtxSetCurrent); 0 pops it.
pub fn set(context: u64) {
    let _ = CONTEXTS.try_with(|stack| {
        let mut stack = stack.borrow_mut();
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

pub fn push(context: u64) {
    let _ = CONTEXTS.try_with(|stack| stack.borrow_mut().push(context));
}

pub fn pop() -> Option<u64> {
    CONTEXTS
        .try_with(|stack| stack.borrow_mut().pop())
        .flatten()
}

/// Makes a context current for a while in a thread that has none of that server's.
pub struct Borrowed(bool);

impl Borrowed {
    pub fn new(context: u64) -> Borrowed {
        let current = self::context();
        let needed = current == 0 || server_of(current) != server_of(context);
        if needed {
            push(context);
        }
        Borrowed(needed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.0 {
            pop();
        }
    }
}

/// Starts a thread on which no handler of the program's signals runs.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), CudaError> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigfillset fills `all`, and pthread_sigmask stores this thread's mask in `before`, which the new thread does not get.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
    }
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    // SAFETY: `before` was stored above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread.map(drop).map_err(|error| {
        log::error(&format!("no thread {name}: {error}"));
        CudaError::OPERATING_SYSTEM
    })
}

/// Runs with another context on top of the stack.
pub fn within<T>(context: u64, body: impl FnOnce() -> T) -> T {
    struct Popped;
    impl Drop for Popped {
        fn drop(&mut self) {
            pop();
        }
    }
    push(context);
    let _popped = Popped;
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_never_run_out() {
        let mut numbers = Numbers {
            free: BTreeSet::new(),
            next: 1,
        };
        let all: Vec<u32> = (0..MAX_THREADS).map(|_| numbers.take()).collect();
        assert_eq!(all, (1..=MAX_THREADS).collect::<Vec<_>>());
        assert_eq!(numbers.take(), MAX_THREADS, "shared");
        numbers.give(MAX_THREADS);
        assert_eq!(numbers.take(), MAX_THREADS);
        numbers.give(7);
        numbers.give(3);
        assert_eq!((numbers.take(), numbers.take()), (3, 7));
    }
}
