//! Initialisation, version, names of errors, profiler.

use std::ffi::c_char;

use super::{call, plain};
use crate::abi::{In, Out};
use crate::error::{Error, describe};
use crate::runtime;

/// The newest CUDA of which all is served that a device like this one can do: 13.2. 13.3 brings captures that go on in a graph.
const VERSION: i32 = 13_020;

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: u32) -> u32 {
    plain(|| {
        if flags == 0 {
            runtime::init()
        } else {
            Err(Error::ERROR_INVALID_VALUE)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<i32>) -> u32 {
    plain(|| version.put(VERSION))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: u32, text: Out<*const c_char>) -> u32 {
    plain(|| match describe(error) {
        Some((name, _)) => text.put(name.as_ptr()),
        None => text
            .put(std::ptr::null())
            .and(Err(Error::ERROR_INVALID_VALUE)),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: u32, text: Out<*const c_char>) -> u32 {
    plain(|| match describe(error) {
        Some((_, description)) => text.put(description.as_ptr()),
        None => text
            .put(std::ptr::null())
            .and(Err(Error::ERROR_INVALID_VALUE)),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerInitialize(
    _config: In<c_char>,
    _output: In<c_char>,
    _mode: u32,
) -> u32 {
    call(|_| Err(Error::ERROR_PROFILER_DISABLED))
}

/// There is no profiler to start; programs that mark a range to be profiled go on.
#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> u32 {
    call(|_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> u32 {
    call(|_| Ok(()))
}
