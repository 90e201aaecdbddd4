//! Libraries, and what the driver knows host functions by.

use std::ffi::{c_char, c_void};

use crate::Runtime;
use crate::abi::Handle;
use crate::context;
use crate::error::{Error, Result};
use crate::execution;
use crate::registration;
use crate::registry::{self, Kind};

pub unsafe fn cudaLibraryGetKernel(
    runtime: &Runtime,
    kernel: *mut Handle,
    library: Handle,
    name: *const c_char,
) -> Result {
    let cu = runtime.context()?;
    cu.cuLibraryGetKernel(kernel.cast(), library, name)?;
    registry::add_handle(*kernel, Kind::Kernel);
    Ok(())
}

pub unsafe fn cudaLibraryEnumerateKernels(
    runtime: &Runtime,
    kernels: *mut Handle,
    count: u32,
    library: Handle,
) -> Result {
    let cu = runtime.context()?;
    let mut there = 0;
    cu.cuLibraryGetKernelCount(&mut there, library)?;
    cu.cuLibraryEnumerateKernels(kernels.cast(), count, library)?;
    for at in 0..there.min(count) as usize {
        registry::add_handle(*kernels.add(at), Kind::Kernel);
    }
    Ok(())
}

pub unsafe fn cudaKernelSetAttributeForDevice(
    runtime: &Runtime,
    kernel: Handle,
    attribute: u32,
    value: i32,
    device: i32,
) -> Result {
    let cu = runtime.context()?;
    let device = context::handle(cu, device)?;
    // A kernel's address in compiled code is as good as its handle.
    let kernel = registry::code(cu, kernel).map_or(kernel, |code| code.handle);
    cu.cuKernelSetAttribute(
        execution::driver_attribute(attribute)?,
        value,
        kernel,
        device,
    )
}

/// The function in the current context.
pub unsafe fn cudaGetFuncBySymbol(
    runtime: &Runtime,
    function: *mut Handle,
    symbol: *const c_void,
) -> Result {
    if function.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let found = execution::function(cu, registry::code(cu, symbol)?)?;
    registry::add_handle(found, Kind::Function);
    function.write(found);
    Ok(())
}

pub unsafe fn cudaGetKernel(runtime: &Runtime, kernel: *mut Handle, host: *const c_void) -> Result {
    if kernel.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let found = registration::kernel(runtime, host)?;
    registry::add_handle(found, Kind::Kernel);
    kernel.write(found);
    Ok(())
}
