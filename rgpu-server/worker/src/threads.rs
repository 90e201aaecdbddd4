//! Threads that are disturbed by no signal.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// In a process that such a thread has started: it begins with the thread's blocked signals.
pub fn take_signals() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills `none`; neither can fail with these arguments.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Starts a thread in which all signals are blocked: they belong to the main thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigfillset fills `all`, and pthread_sigmask stores this thread's mask in `before`; neither can fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
    }
    // What it logs is of this thread's session.
    let span = tracing::Span::current();
    let started = Builder::new()
        .name(name.into())
        .spawn(move || span.in_scope(body));
    // SAFETY: `before` was stored above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    started
}
