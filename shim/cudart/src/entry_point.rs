//! The driver's functions for the program's own use.

use std::ffi::{c_char, c_void};

use crate::driver::{self, PER_THREAD_STREAM};
use crate::error::{Error, Result};
use crate::{Runtime, Streams};

/// What cudaDriverEntryPointQueryResult has for a missing name.
const NOT_FOUND: u32 = 1;
/// How new the functions may be that the name alone asks for: those of this library's own version, as far as the driver knows it.
const OWN_VERSION: u32 = 13050;

pub unsafe fn cudaGetDriverEntryPoint(
    runtime: &Runtime,
    symbol: *const c_char,
    function: *mut *mut c_void,
    flags: u64,
    status: *mut u32,
) -> Result {
    let cu = driver::loaded(runtime.streams)?;
    let mut newest = 0;
    cu.cuDriverGetVersion(&mut newest)?;
    let own = match runtime.version {
        crate::Version::V12 => 12090,
        crate::Version::V13 => OWN_VERSION,
    };
    let version = own.min(newest as u32);
    cudaGetDriverEntryPointByVersion(runtime, symbol, function, version, flags, status)
}

pub unsafe fn cudaGetDriverEntryPointByVersion(
    runtime: &Runtime,
    symbol: *const c_char,
    function: *mut *mut c_void,
    version: u32,
    flags: u64,
    status: *mut u32,
) -> Result {
    if symbol.is_null() || function.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    function.write(std::ptr::null_mut());
    // The default is what the caller was compiled for.
    let flags = match (flags, runtime.streams) {
        (0, Streams::PerThread) => PER_THREAD_STREAM,
        (flags, _) => flags,
    };
    let mut found = NOT_FOUND;
    let result = driver::proc_address(symbol, function.cast(), version, flags, &mut found);
    if !status.is_null() {
        status.write(found);
    }
    match result {
        // Whoever has a place for the status reads it there; others, at the pointer.
        Err(Error::SYMBOL_NOT_FOUND) => Ok(()),
        result => result,
    }
}
