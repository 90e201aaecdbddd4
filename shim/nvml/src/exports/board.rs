//! What the host's own NVML says of the device's board, so that it is there on servers with NVIDIA's driver.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::*;

use super::device::enabled;
use super::read;
use crate::out::{Buffer, Out, Text};
use crate::state::{INVALID_ARGUMENT, NOT_FOUND};

served! {
    fn nvmlDeviceGetHandleBySerial(serial: Text, device: Out<nvmlDevice_t>) |open| {
        let serial = serial.get()?;
        let devices: Vec<_> = open.devices().collect();
        for candidate in devices {
            let board = open.board(candidate).unwrap_or_default();
            if board.serial.as_deref() == Some(serial) {
                return device.put(candidate.handle());
            }
        }
        Err(NOT_FOUND)
    }

    fn nvmlDeviceGetSerial(device: nvmlDevice_t, serial: Buffer, length: c_uint) |open| {
        serial.put(length, &read(open.board(open.device(device)?)?.serial)?)
    }

    fn nvmlDeviceGetBoardPartNumber(device: nvmlDevice_t, number: Buffer, length: c_uint) |open| {
        number.put(length, &read(open.board(open.device(device)?)?.part_number)?)
    }

    fn nvmlDeviceGetVbiosVersion(device: nvmlDevice_t, version: Buffer, length: c_uint) |open| {
        version.put(length, &read(open.board(open.device(device)?)?.vbios)?)
    }

    fn nvmlDeviceGetPersistenceMode(device: nvmlDevice_t, mode: Out<nvmlEnableState_t>) |open| {
        mode.put(enabled(read(open.board(open.device(device)?)?.persistence)?.into()))
    }

    fn nvmlDeviceGetBAR1MemoryInfo(device: nvmlDevice_t, memory: Out<nvmlBAR1Memory_t>) |open| {
        let (total, free) = read(open.board(open.device(device)?)?.bar1)?;
        memory.put(nvmlBAR1Memory_t {
            bar1Total: total,
            bar1Free: free,
            bar1Used: total.saturating_sub(free),
        })
    }

    fn nvmlDeviceGetTotalEccErrors(
        device: nvmlDevice_t,
        kind: nvmlMemoryErrorType_t,
        counter: nvmlEccCounterType_t,
        errors: Out<c_ulonglong>,
    ) |open| {
        let [volatile, aggregate] = open.board(open.device(device)?)?.ecc_errors;
        let (corrected, uncorrected) = match counter {
            nvmlEccCounterType_enum_NVML_VOLATILE_ECC => volatile,
            nvmlEccCounterType_enum_NVML_AGGREGATE_ECC => aggregate,
            _ => return Err(INVALID_ARGUMENT),
        };
        errors.put(read(match kind {
            nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => corrected,
            nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => uncorrected,
            _ => return Err(INVALID_ARGUMENT),
        })?)
    }

    fn nvmlDeviceGetCurrentClocksEventReasons, nvmlDeviceGetCurrentClocksThrottleReasons(device: nvmlDevice_t, reasons: Out<c_ulonglong>) |open| {
        reasons.put(read(open.board(open.device(device)?)?.clocks_event_reasons.0)?)
    }

    fn nvmlDeviceGetSupportedClocksEventReasons, nvmlDeviceGetSupportedClocksThrottleReasons(device: nvmlDevice_t, reasons: Out<c_ulonglong>) |open| {
        reasons.put(read(open.board(open.device(device)?)?.clocks_event_reasons.1)?)
    }

    fn nvmlDeviceGetPowerManagementDefaultLimit(device: nvmlDevice_t, milliwatts: Out<c_uint>) |open| {
        milliwatts.put(read(open.board(open.device(device)?)?.power_limit_default)?)
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(device: nvmlDevice_t, least: Out<c_uint>, most: Out<c_uint>) |open| {
        let constraints = read(open.board(open.device(device)?)?.power_limit_constraints)?;
        least.put(constraints.0)?;
        most.put(constraints.1)
    }

    /// What a tenant has of a device is never cut into instances.
    fn nvmlDeviceGetMigMode(device: nvmlDevice_t, now: Out<c_uint>, pending: Out<c_uint>) |open| {
        read(open.board(open.device(device)?)?.knows_mig.then_some(()))?;
        now.put(NVML_DEVICE_MIG_DISABLE)?;
        pending.put(NVML_DEVICE_MIG_DISABLE)
    }
}
