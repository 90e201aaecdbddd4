use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;

use crate::state::State;

// cuda.h: CU_LAUNCH_PARAM_END, CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE.
const END: *mut c_void = ptr::null_mut();
const BUFFER_POINTER: *mut c_void = ptr::without_provenance_mut(1);
const BUFFER_SIZE: *mut c_void = ptr::without_provenance_mut(2);

/// Refuses a parameter buffer that is shorter or longer than the function's.
pub fn check_params(state: &State, function: *mut c_void, params: &[u8]) -> Result<(), CudaError> {
    let info = state.shared.functions().get(&function.addr()).copied();
    match info.and_then(|info| info.param_bytes) {
        Some(bytes) if bytes != params.len() => Err(CudaError::INVALID_VALUE),
        _ => Ok(()),
    }
}

/// Calls `body` with the `extra` argument that hands over the whole parameter buffer. The driver copies the buffer during the call.
pub fn with_extra<T>(params: &[u8], body: impl FnOnce(*mut *mut c_void) -> T) -> T {
    if params.is_empty() {
        return body(ptr::null_mut());
    }
    let mut size = params.len();
    let mut extra = [
        BUFFER_POINTER,
        params.as_ptr().cast_mut().cast(),
        BUFFER_SIZE,
        (&raw mut size).cast(),
        END,
    ];
    body(extra.as_mut_ptr())
}

#[expect(clippy::too_many_arguments, reason = "cuLaunchKernel's own")]
pub fn rgpuLaunch(
    state: &State,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: *mut c_void,
    params: &[u8],
) -> Result<(), CudaError> {
    check_params(state, function, params)?;
    state
        .shared
        .counters
        .launches
        .fetch_add(1, Ordering::Relaxed);
    with_extra(params, |extra| {
        // SAFETY: handles are the driver's own, `extra` describes a buffer of the length that the function takes.
        unsafe {
            driver_call!(state.driver.cuLaunchKernel(
                function,
                grid_x,
                grid_y,
                grid_z,
                block_x,
                block_y,
                block_z,
                shared_bytes,
                stream,
                ptr::null_mut(),
                extra
            ))
        }
    })
}
