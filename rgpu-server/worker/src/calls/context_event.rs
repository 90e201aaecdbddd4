use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::state::State;

pub fn rgpuContextRecordEvent(
    state: &State,
    context: *mut c_void,
    event: *mut c_void,
) -> Result<(), CudaError> {
    // SAFETY: handles are the driver's own.
    unsafe { driver_call!(state.driver.cuCtxRecordEvent(context, event)) }
}

pub fn rgpuContextWaitEvent(
    state: &State,
    context: *mut c_void,
    event: *mut c_void,
) -> Result<(), CudaError> {
    // SAFETY: handles are the driver's own.
    unsafe { driver_call!(state.driver.cuCtxWaitEvent(context, event)) }
}
