//! Events, where they are not the driver's as they are.

use crate::Runtime;
use crate::abi::Handle;
use crate::error::{Error, Result};

pub unsafe fn cudaEventCreate(runtime: &Runtime, event: *mut Handle) -> Result {
    runtime.context()?.cuEventCreate(event.cast(), 0)
}

pub unsafe fn cudaEventElapsedTime(
    runtime: &Runtime,
    milliseconds: *mut f32,
    start: Handle,
    end: Handle,
) -> Result {
    let cu = runtime.context()?;
    cu.cuEventElapsedTime(milliseconds, start, end)
}

/// That of 12.8 and later, where the driver has it.
pub unsafe fn cudaEventElapsedTime_v2(
    runtime: &Runtime,
    milliseconds: *mut f32,
    start: Handle,
    end: Handle,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuEventElapsedTime_v2(milliseconds, start, end) {
        Err(Error::NOT_SUPPORTED) => cu.cuEventElapsedTime(milliseconds, start, end),
        result => result,
    }
}
