//! cuGetProcAddress: names without suffix mean the newest variant that the caller's version knows.

use std::ffi::{c_char, c_void};

use super::plain;
use super::unsupported::SERVED;
use crate::abi::{In, Out};
use crate::error::Error;

const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;
const VERSION_TOO_LOW: u32 = 2;
const PER_THREAD_DEFAULT_STREAM: u64 = 2;

/// The newest variant that came with `version` or before. A name that has variants for the per-thread default stream
/// has no other to those who ask for it.
fn find(name: &str, version: i32, flags: u64) -> Option<*const c_void> {
    let first = SERVED.partition_point(|row| row.base < name);
    let rows = SERVED[first..].iter().take_while(|row| row.base == name);
    let per_thread =
        flags & PER_THREAD_DEFAULT_STREAM != 0 && rows.clone().any(|row| row.per_thread);
    rows.filter(|row| row.per_thread == per_thread && row.version <= version)
        .last()
        .map(|row| row.address)
}

fn look_up(
    name: In<c_char>,
    function: Out<*const c_void>,
    version: i32,
    flags: u64,
) -> Result<u32, Error> {
    function.check()?;
    let name = name
        .text()?
        .to_str()
        .map_err(|_| Error::ERROR_INVALID_VALUE)?;
    // Legacy and per-thread exclude each other.
    if flags > PER_THREAD_DEFAULT_STREAM {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let found = find(name, version, flags);
    function.put(found.unwrap_or(std::ptr::null()))?;
    Ok(match found {
        Some(_) => FOUND,
        None if find(name, i32::MAX, flags).is_some() => VERSION_TOO_LOW,
        None => NOT_FOUND,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    name: In<c_char>,
    function: Out<*const c_void>,
    version: i32,
    flags: u64,
) -> u32 {
    plain(|| match look_up(name, function, version, flags)? {
        FOUND => Ok(()),
        _ => Err(Error::ERROR_NOT_FOUND),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    name: In<c_char>,
    function: Out<*const c_void>,
    version: i32,
    flags: u64,
    status: Out<u32>,
) -> u32 {
    plain(|| {
        let found = look_up(name, function, version, flags)?;
        status.put_if(found);
        // With a place for the status, an unknown name is no error.
        if found == FOUND || !status.is_null() {
            Ok(())
        } else {
            Err(Error::ERROR_NOT_FOUND)
        }
    })
}
