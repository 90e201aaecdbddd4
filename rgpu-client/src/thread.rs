//! What CUDA keeps per thread: the stack of current contexts, and the number under which the worker knows the thread.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static CONTEXTS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// This thread's number; 0 while the thread is being torn down.
pub fn number() -> u32 {
    NUMBER
        .try_with(|number| {
            if number.get() == 0 {
                number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            number.get()
        })
        .unwrap_or(0)
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
        .ok()
        .flatten()
}
