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

/// Variants that came later than the `_v2` of CUDA 3.2 and 4.0: name, version, function.
static LATER: &[(&str, i32, &str)] = &[
    (
        "cuDevicePrimaryCtxRelease",
        11_000,
        "cuDevicePrimaryCtxRelease_v2",
    ),
    (
        "cuDevicePrimaryCtxReset",
        11_000,
        "cuDevicePrimaryCtxReset_v2",
    ),
    (
        "cuDevicePrimaryCtxSetFlags",
        11_000,
        "cuDevicePrimaryCtxSetFlags_v2",
    ),
    ("cuDeviceGetUuid", 11_040, "cuDeviceGetUuid_v2"),
    ("cuEventElapsedTime", 12_080, "cuEventElapsedTime_v2"),
    ("cuGetProcAddress", 12_000, "cuGetProcAddress_v2"),
    ("cuGraphAddKernelNode", 12_000, "cuGraphAddKernelNode_v2"),
    (
        "cuGraphExecKernelNodeSetParams",
        12_000,
        "cuGraphExecKernelNodeSetParams_v2",
    ),
    ("cuGraphInstantiate", 12_000, "cuGraphInstantiateWithFlags"),
    ("cuGraphInstantiate", 11_000, "cuGraphInstantiate_v2"),
];

fn served(name: &str) -> Option<*const c_void> {
    let at = SERVED.binary_search_by_key(&name, |entry| entry.0).ok()?;
    Some(SERVED[at].1.0)
}

fn find(name: &str, version: i32, flags: u64) -> Option<*const c_void> {
    let mut variants = LATER.iter().filter(|entry| entry.0 == name).peekable();
    let target = if variants.peek().is_some() {
        variants
            .find(|entry| entry.1 <= version)
            .map_or(name.to_owned(), |entry| entry.2.to_owned())
    } else {
        let second = format!("{name}_v2");
        if served(&second).is_some() {
            second
        } else {
            name.to_owned()
        }
    };
    if flags & PER_THREAD_DEFAULT_STREAM != 0 {
        for suffix in ["_ptsz", "_ptds"] {
            if let Some(function) = served(&format!("{target}{suffix}")) {
                return Some(function);
            }
        }
    }
    served(&target)
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
