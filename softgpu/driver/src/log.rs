//! One-line messages on stderr, which say what went wrong; the last of them stay for who asks by cuLogs*.

use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use log_ring::Ring;

/// CUlogsCallback: data, level, message, its length.
pub type Callback = extern "C" fn(u64, u32, *mut std::ffi::c_char, usize);

#[derive(Default)]
pub struct Logs {
    pub ring: Ring,
    pub callbacks: Vec<(u64, Callback, u64)>,
}

static LOGS: Mutex<Logs> = Mutex::new(Logs {
    ring: Ring::new(),
    callbacks: Vec::new(),
});

pub fn logs() -> MutexGuard<'static, Logs> {
    LOGS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Writes `softgpu: MESSAGE` in one write, so that lines of several processes do not mix.
pub fn line(message: std::fmt::Arguments<'_>) {
    const ERROR: u32 = 0;
    let text = format!("softgpu: {message}\n");
    // A closed stderr must not disturb the program.
    let _ = std::io::stderr().write_all(text.as_bytes());
    let mut logs = logs();
    logs.ring.push(text.trim_end());
    let callbacks = logs.callbacks.clone();
    drop(logs);
    let mut bytes = text.into_bytes();
    bytes.push(0);
    for (_, callback, data) in callbacks {
        callback(data, ERROR, bytes.as_mut_ptr().cast(), bytes.len() - 1);
    }
}

#[macro_export]
#[doc(hidden)]
macro_rules! say {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}
