//! cuGetProcAddress: only what is really served is found; programs choose their code paths by it.
#![allow(non_snake_case)] // The names are cuda.h's.

use std::ffi::{CStr, c_char, c_void};

use rgpu_client::calls::device::DRIVER_VERSION;

use crate::exports::SYMBOLS;

/// A function that is served.
pub struct Symbol {
    /// Without `_vN`, `_ptds` and `_ptsz`.
    pub base: &'static str,
    /// The CUDA version that introduced this form: 1000 * major + 10 * minor.
    pub since: u32,
    /// The form for the per-thread default stream.
    pub per_thread: bool,
    pub address: *const (),
}

// SAFETY: addresses of functions, which never change.
unsafe impl Sync for Symbol {}

const SUCCESS: u32 = 0;
const INVALID_VALUE: u32 = 1;

/// CUdriverProcAddressQueryResult.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Address(*const ()),
    Nowhere,
    OnlyLater,
}

/// Of the forms that the flags allow and that the version knows, the newest.
fn find(name: &str, version: u32, per_thread: bool) -> Found {
    let forms = || SYMBOLS.iter().filter(|symbol| symbol.base == name);
    // A name that has forms for the per-thread default stream has no others to those who ask for them.
    let wanted = per_thread && forms().any(|symbol| symbol.per_thread);
    let found = forms()
        .filter(|symbol| symbol.per_thread == wanted && symbol.since <= version)
        .max_by_key(|symbol| symbol.since);
    match found {
        Some(symbol) => Found::Address(symbol.address),
        None if forms().next().is_some() => Found::OnlyLater,
        None => Found::Nowhere,
    }
}

/// # Safety
/// As cuda.h says of cuGetProcAddress_v2.
pub unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cuda_version: i32,
    flags: u64,
    status: *mut u32,
) -> u32 {
    const PER_THREAD_DEFAULT_STREAM: u64 = 2;
    if symbol.is_null()
        || pfn.is_null()
        || flags > PER_THREAD_DEFAULT_STREAM
        || cuda_version > DRIVER_VERSION
    {
        return INVALID_VALUE;
    }
    // SAFETY: the caller's NUL-terminated name.
    let name = unsafe { CStr::from_ptr(symbol) }
        .to_str()
        .unwrap_or_default();
    let found = find(
        name,
        cuda_version.max(0) as u32,
        flags == PER_THREAD_DEFAULT_STREAM,
    );
    let (address, code) = match found {
        Found::Address(address) => (address, 0),
        Found::Nowhere => (std::ptr::null(), 1),
        Found::OnlyLater => (std::ptr::null(), 2),
    };
    // SAFETY: the caller's places; the status may be NULL.
    unsafe {
        pfn.write(address as *mut c_void);
        if !status.is_null() {
            status.write(code);
        }
    }
    SUCCESS
}

/// # Safety
/// As cuda.h says of cuGetProcAddress.
pub unsafe fn cuGetProcAddress(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cuda_version: i32,
    flags: u64,
) -> u32 {
    const NOT_FOUND: u32 = 500;
    let mut status = 0;
    // SAFETY: the caller's arguments.
    let result = unsafe { cuGetProcAddress_v2(symbol, pfn, cuda_version, flags, &mut status) };
    // The first form of this function has no status to tell a missing name by.
    if result == SUCCESS && status != 0 {
        NOT_FOUND
    } else {
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_form_that_the_version_knows() {
        assert!(matches!(
            find("cuMemAlloc", 12000, false),
            Found::Address(_)
        ));
        assert_eq!(find("cuMemAlloc", 3000, false), Found::OnlyLater);
        assert_eq!(find("cuNoSuchThing", 12000, false), Found::Nowhere);
        assert_eq!(find("cuLaunchKernel", 6000, true), Found::OnlyLater);
        let first = exports_address("cuGetProcAddress", 11030);
        assert_ne!(first, exports_address("cuGetProcAddress", 12000));
    }

    fn exports_address(name: &str, version: u32) -> *const () {
        match find(name, version, false) {
            Found::Address(address) => address,
            other => panic!("{name}: {other:?}"),
        }
    }
}
