//! Streams, where they are not the driver's as they are.

use std::ptr::null_mut;

use crate::Runtime;
use crate::abi::Handle;
use crate::context;
use crate::error::{Error, Result};

pub unsafe fn cudaStreamCreate(runtime: &Runtime, stream: *mut Handle) -> Result {
    runtime.context()?.cuStreamCreate(stream.cast(), 0)
}

pub unsafe fn cudaStreamGetDevice(runtime: &Runtime, stream: Handle, device: *mut i32) -> Result {
    if device.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    match cu.cuStreamGetDevice(stream, device) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    let mut owner: Handle = null_mut();
    cu.cuStreamGetCtx(stream, (&raw mut owner).cast())?;
    context::within(cu, owner, || cu.cuCtxGetDevice(device))
}
