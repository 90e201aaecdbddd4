//! The system: versions, processes, and units (there are none).

use std::ffi::{c_int, c_uint};

use nvml_wrapper_sys::bindings::*;
use rgpu_client::calls::device::served_version;

use super::internal::command;
use crate::out::{Buffer, Out};
use crate::state::{INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Open};

/// As cuDriverGetVersion has it.
fn cuda_version(open: &Open) -> i32 {
    served_version(open.driver_version())
}

served! {
    /// Where the server's driver is not NVIDIA's, there is no such version.
    fn nvmlSystemGetDriverVersion(version: Buffer, length: c_uint) |open| {
        let driver = open.host_driver()?;
        match driver.is_empty() {
            true => Err(NOT_SUPPORTED),
            false => version.put(length, &driver),
        }
    }

    /// NVML's own: that of CUDA, and behind it the driver's.
    fn nvmlSystemGetNVMLVersion(version: Buffer, length: c_uint) |open| {
        let cuda = cuda_version(open) / 1000;
        let driver = open.host_driver()?;
        match driver.is_empty() {
            true => version.put(length, &format!("{cuda}.0")),
            false => version.put(length, &format!("{cuda}.{driver}")),
        }
    }

    fn nvmlSystemGetCudaDriverVersion, nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) |open| {
        version.put(cuda_version(open))
    }

    /// Of this machine, where the processes are that a device is shown with.
    fn nvmlSystemGetProcessName(pid: c_uint, name: Buffer, length: c_uint) |_open| {
        let text = command(pid).ok_or(NOT_FOUND)?;
        // As long as there is room: a path is not worth less for its lost end.
        let mut end = text.len().min((length as usize).saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        name.put(length, &text[..end])
    }

    fn nvmlUnitGetCount(count: Out<c_uint>) |_open| { count.put(0) }

    fn nvmlUnitGetHandleByIndex(_index: c_uint, _unit: Out<nvmlUnit_t>) |_open| { Err(INVALID_ARGUMENT) }

    fn nvmlSystemGetHicVersion(count: Out<c_uint>, _entries: Out<nvmlHwbcEntry_t>) |_open| { count.put(0) }
}
