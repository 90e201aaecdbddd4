//! Event sets. No device here has events, so nothing ever comes to them; nvidia-smi and others make one all the same.

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use nvml_wrapper_sys::bindings::*;

use crate::out::Out;
use crate::state::{Answer, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, anywhere, enter};

const TIMEOUT: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_TIMEOUT;
/// All sets are alike: nothing is in them.
const SET: usize = 1;

fn known(set: nvmlEventSet_t) -> Answer<()> {
    match set.addr() {
        SET => Ok(()),
        _ => Err(INVALID_ARGUMENT),
    }
}

/// Nobody else is kept waiting.
fn wait(set: nvmlEventSet_t, milliseconds: c_uint) -> nvmlReturn_t {
    let asked = enter(|_| known(set));
    if asked != SUCCESS {
        return asked;
    }
    anywhere(|| {
        std::thread::sleep(Duration::from_millis(milliseconds.into()));
        Err(TIMEOUT)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait(
    set: nvmlEventSet_t,
    _data: Out<nvmlEventData_t>,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    wait(set, milliseconds)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    _data: Out<nvmlEventData_t>,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    wait(set, milliseconds)
}

served! {
    fn nvmlEventSetCreate(set: Out<nvmlEventSet_t>) |_open| {
        set.put(std::ptr::without_provenance_mut(SET))
    }

    fn nvmlEventSetFree(set: nvmlEventSet_t) |_open| { known(set) }

    fn nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, types: Out<c_ulonglong>) |open| {
        open.device(device)?;
        types.put(0)
    }

    fn nvmlDeviceRegisterEvents(device: nvmlDevice_t, types: c_ulonglong, set: nvmlEventSet_t) |open| {
        open.device(device)?;
        known(set)?;
        match types {
            0 => Ok(()),
            _ => Err(NOT_SUPPORTED),
        }
    }
}
