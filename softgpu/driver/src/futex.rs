//! Waiting on a 32-bit word, private to the process or in shared memory.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process,
    Shared,
}

/// Sleeps while `word` is `expected`, at most `timeout`. May return early (signals, spurious wake-ups): callers loop.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>, scope: Scope) {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(1 << 30) as libc::time_t,
        tv_nsec: t.subsec_nanos() as libc::c_long,
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word outlives the call, and the kernel only reads it and the timespec.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation(libc::FUTEX_WAIT, scope),
            expected,
            spec,
        )
    };
}

/// Wakes up to `count` sleepers of `word`.
pub fn wake(word: &AtomicU32, count: i32, scope: Scope) {
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation(libc::FUTEX_WAKE, scope),
            count,
        )
    };
}

fn operation(op: i32, scope: Scope) -> i32 {
    match scope {
        Scope::Process => op | libc::FUTEX_PRIVATE_FLAG,
        Scope::Shared => op,
    }
}
