//! Error handling. Each thread has the last error of its calls.

use std::cell::Cell;
use std::ffi::{CStr, c_char};

use crate::Runtime;
use crate::error_names::NAMES;

/// A cudaError_t that is not cudaSuccess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub u32);

pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    pub const INVALID_VALUE: Error = Error(1);
    pub const INITIALIZATION_ERROR: Error = Error(3);
    pub const INVALID_CONFIGURATION: Error = Error(9);
    pub const INVALID_PITCH_VALUE: Error = Error(12);
    pub const INVALID_SYMBOL: Error = Error(13);
    pub const INVALID_CHANNEL_DESCRIPTOR: Error = Error(20);
    pub const INVALID_MEMCPY_DIRECTION: Error = Error(21);
    pub const INSUFFICIENT_DRIVER: Error = Error(35);
    pub const MISSING_CONFIGURATION: Error = Error(52);
    pub const INVALID_DEVICE_FUNCTION: Error = Error(98);
    pub const NO_DEVICE: Error = Error(100);
    pub const INVALID_DEVICE: Error = Error(101);
    pub const INVALID_KERNEL_IMAGE: Error = Error(200);
    pub const NO_KERNEL_IMAGE_FOR_DEVICE: Error = Error(209);
    pub const NOT_SUPPORTED: Error = Error(801);
    pub const SYMBOL_NOT_FOUND: Error = Error(500);
    pub const NOT_READY: Error = Error(600);
    pub const UNKNOWN: Error = Error(999);

    /// After which the context gives nothing but the same error.
    fn sticky(self) -> bool {
        matches!(self.0, 226 | 700 | 702 | 710 | 714..=719 | 721 | 810 | 911)
    }
}

/// From a CUresult. The numbers are the same but for some that the runtime does not have.
pub fn of_driver(result: u32) -> Error {
    if NAMES.binary_search_by_key(&result, |row| row.0).is_ok() {
        Error(result)
    } else {
        Error::UNKNOWN
    }
}

thread_local! {
    static LAST: Cell<u32> = const { Cell::new(0) };
}

/// That work goes on is no error.
pub fn remember(error: Error) {
    if error != Error::NOT_READY {
        let _ = LAST.try_with(|last| last.set(error.0));
    }
}

/// A device that was reset has no error any more.
pub fn forget() {
    let _ = LAST.try_with(|last| last.set(0));
}

pub fn cudaPeekAtLastError(_: &Runtime) -> u32 {
    LAST.try_with(Cell::get).unwrap_or(0)
}

pub fn cudaGetLastError(runtime: &Runtime) -> u32 {
    let last = cudaPeekAtLastError(runtime);
    if !Error(last).sticky() {
        forget();
    }
    last
}

fn row(error: u32) -> Option<&'static (u32, &'static CStr, &'static CStr)> {
    let found = NAMES.binary_search_by_key(&error, |row| row.0);
    found.ok().map(|at| &NAMES[at])
}

pub fn cudaGetErrorName(_: &Runtime, error: u32) -> *const c_char {
    row(error)
        .map_or(c"unrecognized error code", |row| row.1)
        .as_ptr()
}

pub fn cudaGetErrorString(_: &Runtime, error: u32) -> *const c_char {
    row(error)
        .map_or(c"unrecognized error code", |row| row.2)
        .as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Streams, Version};

    const RUNTIME: Runtime = Runtime::new(Version::V13, Streams::Legacy);

    #[test]
    fn the_last_error_is_kept_until_it_is_asked_for() {
        assert_eq!(crate::enter(|| Err(Error::INVALID_VALUE)), 1);
        assert_eq!(crate::enter(|| Ok(())), 0);
        assert_eq!(crate::enter(|| Err(Error::NOT_READY)), 600);
        assert_eq!(cudaPeekAtLastError(&RUNTIME), 1);
        assert_eq!(cudaGetLastError(&RUNTIME), 1);
        assert_eq!(cudaGetLastError(&RUNTIME), 0);
        assert_eq!(crate::enter(|| panic!("a fault of ours")), 999);
        assert_eq!(cudaGetLastError(&RUNTIME), 999);
        assert_eq!(crate::enter(|| Err(Error(700))), 700);
        assert_eq!(cudaGetLastError(&RUNTIME), 700);
        assert_eq!(cudaGetLastError(&RUNTIME), 700, "it is sticky");
        forget();
        let other = std::thread::spawn(|| cudaPeekAtLastError(&RUNTIME));
        remember(Error::INVALID_VALUE);
        assert_eq!(other.join().unwrap(), 0, "another thread's is its own");
    }

    #[test]
    fn numbers_are_the_drivers() {
        assert!(NAMES.is_sorted_by_key(|row| row.0));
        assert_eq!(of_driver(700), Error(700));
        assert_eq!(of_driver(202), Error::UNKNOWN);
        // SAFETY: constant texts.
        let name = |error| unsafe { CStr::from_ptr(cudaGetErrorName(&RUNTIME, error)) };
        assert_eq!(name(0), c"cudaSuccess");
        assert_eq!(name(801), c"cudaErrorNotSupported");
        assert_eq!(name(8888), c"unrecognized error code");
    }
}
