//! Variables of the device, by the host's addresses that stand for them.

use std::ffi::c_void;

use crate::abi::Handle;
use crate::copy::{self, kind};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, registry};

/// The address of `count` bytes of a variable, from `offset` on.
pub unsafe fn part(cu: &Driver, symbol: *const c_void, offset: usize, count: usize) -> Result<u64> {
    let (address, size) = registry::variable(cu, symbol)?;
    match offset.checked_add(count) {
        Some(end) if end <= size => Ok(address + offset as u64),
        _ => Err(Error::INVALID_VALUE),
    }
}

pub unsafe fn cudaGetSymbolAddress(
    runtime: &Runtime,
    place: *mut *mut c_void,
    symbol: *const c_void,
) -> Result {
    if place.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let (address, _) = registry::variable(runtime.context()?, symbol)?;
    place.write(address as *mut c_void);
    Ok(())
}

pub unsafe fn cudaGetSymbolSize(
    runtime: &Runtime,
    size: *mut usize,
    symbol: *const c_void,
) -> Result {
    if size.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    size.write(registry::variable(runtime.context()?, symbol)?.1);
    Ok(())
}

/// Whether a copy can have a variable at its end.
pub fn check_to(kind: u32) -> Result {
    match kind {
        kind::HOST_TO_DEVICE | kind::DEVICE_TO_DEVICE | kind::DEFAULT => Ok(()),
        _ => Err(Error::INVALID_MEMCPY_DIRECTION),
    }
}

/// Whether it can begin at one.
pub fn check_from(kind: u32) -> Result {
    match kind {
        kind::DEVICE_TO_HOST | kind::DEVICE_TO_DEVICE | kind::DEFAULT => Ok(()),
        _ => Err(Error::INVALID_MEMCPY_DIRECTION),
    }
}

pub unsafe fn cudaMemcpyToSymbol(
    runtime: &Runtime,
    symbol: *const c_void,
    src: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
) -> Result {
    check_to(kind)?;
    let address = part(runtime.context()?, symbol, offset, count)?;
    copy::cudaMemcpy(runtime, address as *mut c_void, src, count, kind)
}

pub unsafe fn cudaMemcpyFromSymbol(
    runtime: &Runtime,
    dst: *mut c_void,
    symbol: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
) -> Result {
    check_from(kind)?;
    let address = part(runtime.context()?, symbol, offset, count)?;
    copy::cudaMemcpy(runtime, dst, address as *const c_void, count, kind)
}

pub unsafe fn cudaMemcpyToSymbolAsync(
    runtime: &Runtime,
    symbol: *const c_void,
    src: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    check_to(kind)?;
    let address = part(runtime.context()?, symbol, offset, count)?;
    copy::cudaMemcpyAsync(runtime, address as *mut c_void, src, count, kind, stream)
}

pub unsafe fn cudaMemcpyFromSymbolAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    symbol: *const c_void,
    count: usize,
    offset: usize,
    kind: u32,
    stream: Handle,
) -> Result {
    check_from(kind)?;
    let address = part(runtime.context()?, symbol, offset, count)?;
    copy::cudaMemcpyAsync(runtime, dst, address as *const c_void, count, kind, stream)
}
