//! Beginning, and the look-up of functions.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use crate::abi::{In, Out, answer};
use crate::config;
use crate::errors::{Error, Result};

const VERSION: i32 = 13_020;
/// Functions whose newest form came with this version and differs from those before.
const CHANGED: &[(&CStr, &CStr, i32)] = &[
    (c"cuCtxCreate", c"cuCtxCreate_v4", 12_050),
    (c"cuGetProcAddress", c"cuGetProcAddress_v2", 12_000),
];
// Of CUdriverProcAddressQueryResult.
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: u32) -> u32 {
    answer(|| match flags {
        0 => config::init(),
        _ => Err(Error::INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<i32>) -> u32 {
    answer(|| version.put(VERSION))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> u32 {
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> u32 {
    0
}

/// This library, as the system's loader knows it.
fn own_library() -> Option<*mut c_void> {
    let mut info = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    let here = cuInit as *const c_void;
    // SAFETY: an address of this library, and a place for what is known of it.
    if unsafe { libc::dladdr(here, &mut info) } == 0 {
        return None;
    }
    // SAFETY: the name that the loader has for it; it is loaded already and is not ended.
    let library = unsafe { libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!library.is_null()).then_some(library)
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*const c_void> {
    // SAFETY: a library that the loader knows, and a terminated name.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!address.is_null()).then_some(address.cast_const())
}

/// Of the forms of a function, the newest.
fn find(name: &CStr, version: i32) -> Option<*const c_void> {
    // What else the process has is none of the driver's.
    if !name.to_bytes().starts_with(b"cu") {
        return None;
    }
    let library = own_library()?;
    if let Some((plain, newest, since)) = CHANGED.iter().find(|row| row.0 == name) {
        let older = match *plain == c"cuCtxCreate" {
            true => c"cuCtxCreate_v2",
            false => plain,
        };
        return symbol(library, if version >= *since { newest } else { older });
    }
    let second = CString::new([name.to_bytes(), b"_v2"].concat()).ok()?;
    symbol(library, &second).or_else(|| symbol(library, name))
}

fn look_up(name: In<c_char>, function: Out<*const c_void>, version: i32) -> Result<u32> {
    let found = find(name.text()?, version);
    function.put(found.unwrap_or(ptr::null()))?;
    Ok(if found.is_some() { FOUND } else { NOT_FOUND })
}

/// There are no forms for the per-thread default stream, so flags say nothing.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    name: In<c_char>,
    function: Out<*const c_void>,
    version: i32,
    _flags: u64,
) -> u32 {
    answer(|| match look_up(name, function, version)? {
        FOUND => Ok(()),
        _ => Err(Error::NOT_FOUND),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    name: In<c_char>,
    function: Out<*const c_void>,
    version: i32,
    _flags: u64,
    status: Out<u32>,
) -> u32 {
    answer(|| {
        let found = look_up(name, function, version)?;
        // With a place for the status, an unknown name is no error.
        match status.put(found) {
            Err(_) if found != FOUND => Err(Error::NOT_FOUND),
            _ => Ok(()),
        }
    })
}
