//! What the library says on the program's stderr: always what went wrong, and as much more as RGPU_LOG asks for. What went wrong stays
//! for who asks by cuLogs*, too.

use std::ffi::c_char;
use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use log_ring::Ring;

/// CUlogsCallback: data, level, message, its length.
pub type Callback = unsafe extern "C" fn(u64, u32, *mut c_char, usize);

#[derive(Default)]
pub struct Logs {
    pub ring: Ring,
    /// Handle, function and data of each.
    pub callbacks: Vec<(u64, Callback, u64)>,
    pub last_callback: u64,
}

static LOGS: Mutex<Logs> = Mutex::new(Logs {
    ring: Ring::new(),
    callbacks: Vec::new(),
    last_callback: 0,
});

pub fn logs() -> MutexGuard<'static, Logs> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each says what those before it say, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    /// Why there is no device, or no longer; calls that are not served.
    Error,
    /// Sessions as they begin and end.
    Info,
    /// Every command that is sent, with its bytes, and how long its answer took.
    Debug,
}

static LEVEL: LazyLock<Level> = LazyLock::new(|| {
    let value = std::env::var_os("RGPU_LOG").unwrap_or_default();
    let value = value.to_string_lossy();
    parse(&value).unwrap_or_else(|| {
        write(&format!(
            "RGPU_LOG: {value:?} is none of off, error, info, debug; going on with error"
        ));
        Level::Error
    })
});

fn parse(value: &str) -> Option<Level> {
    Some(match value.trim().to_ascii_lowercase().as_str() {
        "off" => Level::Off,
        "" | "error" => Level::Error,
        "info" => Level::Info,
        "debug" => Level::Debug,
        _ => return None,
    })
}

pub fn enabled(level: Level) -> bool {
    level <= *LEVEL
}

pub fn error(line: &str) {
    const ERROR: u32 = 0;
    if enabled(Level::Error) {
        write(line);
    }
    let mut logs = logs();
    logs.ring.push(line);
    let callbacks = logs.callbacks.clone();
    drop(logs);
    if callbacks.is_empty() {
        return;
    }
    let mut bytes: Vec<u8> = line.bytes().filter(|byte| *byte != 0).collect();
    bytes.push(0);
    for (_, callback, data) in callbacks {
        // SAFETY: a function that the program registered for this, and a terminated text of that length.
        unsafe { callback(data, ERROR, bytes.as_mut_ptr().cast(), bytes.len() - 1) };
    }
}

pub fn info(line: impl FnOnce() -> String) {
    if enabled(Level::Info) {
        write(&line());
    }
}

pub fn debug(line: impl FnOnce() -> String) {
    if enabled(Level::Debug) {
        write(&line());
    }
}

/// One write a line, so that those of several threads do not mix; whoever closed stderr does not want to know.
fn write(line: &str) {
    let _ = std::io::stderr().write_all(format!("rgpu: {line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_an_order() {
        assert_eq!(parse(" Info "), Some(Level::Info));
        assert_eq!(parse("loud"), None);
        assert!(Level::Off < Level::Error && Level::Info < Level::Debug);
    }
}
