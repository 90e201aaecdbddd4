//! Core dumps of kernels that fail.

use std::ffi::c_void;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::context::Context;
use crate::coredump::{self, Callback, When};
use crate::error::{Error, Result};

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpGetAttribute(
    attribute: u32,
    value: Out<c_void>,
    size: Out<usize>,
) -> u32 {
    call(|_| {
        size.check()?;
        coredump::get(attribute, Some(&*Context::current()?), value, size)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpGetAttributeGlobal(
    attribute: u32,
    value: Out<c_void>,
    size: Out<usize>,
) -> u32 {
    call(|_| {
        size.check()?;
        coredump::get(attribute, None, value, size)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpSetAttribute(
    attribute: u32,
    value: In<c_void>,
    size: Out<usize>,
) -> u32 {
    call(|_| {
        size.check()?;
        coredump::set(attribute, Some(&*Context::current()?), value, size)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpSetAttributeGlobal(
    attribute: u32,
    value: In<c_void>,
    size: Out<usize>,
) -> u32 {
    call(|_| {
        size.check()?;
        coredump::set(attribute, None, value, size)
    })
}

fn register(when: When, function: Option<Callback>, data: u64, callback: Out<Handle>) -> Result {
    let function = function.ok_or(Error::ERROR_INVALID_VALUE)?;
    callback.put_if(coredump::register(when, function, data)?);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpRegisterStartCallback(
    function: Option<Callback>,
    data: u64,
    callback: Out<Handle>,
) -> u32 {
    call(|_| register(When::Start, function, data, callback))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpRegisterCompleteCallback(
    function: Option<Callback>,
    data: u64,
    callback: Out<Handle>,
) -> u32 {
    call(|_| register(When::Complete, function, data, callback))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpDeregisterStartCallback(callback: Handle) -> u32 {
    call(|_| coredump::deregister(When::Start, callback))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCoredumpDeregisterCompleteCallback(callback: Handle) -> u32 {
    call(|_| coredump::deregister(When::Complete, callback))
}
