//! Readings of the hardware: the host's own NVML takes them, so that they are there on servers with NVIDIA's driver.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::*;

use super::device::struct_version;
use super::read;
use crate::out::Out;
use crate::state::{Answer, INVALID_ARGUMENT, NOT_SUPPORTED, VERSION_MISMATCH};

// CUdevice_attribute: kHz.
const CLOCK_RATE: i32 = 13;
const MEMORY_CLOCK_RATE: i32 = 36;
/// NVML does not say how long its samples of encoder and decoder are; the usual time.
const SAMPLING_US: c_uint = 167_000;

/// The place of a clock in the lists of readings.
fn clock(kind: nvmlClockType_t) -> Answer<usize> {
    match kind < nvmlClockType_enum_NVML_CLOCK_COUNT {
        true => Ok(kind as usize),
        false => Err(INVALID_ARGUMENT),
    }
}

served! {
    fn nvmlDeviceGetUtilizationRates(device: nvmlDevice_t, rates: Out<nvmlUtilization_t>) |open| {
        let (gpu, memory) = read(open.readings(open.device(device)?)?.utilization)?;
        rates.put(nvmlUtilization_t { gpu, memory })
    }

    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, sensor: nvmlTemperatureSensors_t, degrees: Out<c_uint>) |open| {
        if sensor != nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU {
            return Err(INVALID_ARGUMENT);
        }
        degrees.put(read(open.readings(open.device(device)?)?.temperature)?)
    }

    fn nvmlDeviceGetTemperatureV(device: nvmlDevice_t, temperature: Out<nvmlTemperature_t>) |open| {
        let mut asked = temperature.get()?;
        if asked.version != struct_version::<nvmlTemperature_t>(1) {
            return Err(VERSION_MISMATCH);
        }
        if asked.sensorType != nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU {
            return Err(INVALID_ARGUMENT);
        }
        asked.temperature = read(open.readings(open.device(device)?)?.temperature)? as c_int;
        temperature.put(asked)
    }

    fn nvmlDeviceGetTemperatureThreshold(device: nvmlDevice_t, kind: nvmlTemperatureThresholds_t, degrees: Out<c_uint>) |open| {
        let (slowdown, shutdown) = open.readings(open.device(device)?)?.temperature_thresholds;
        degrees.put(read(match kind {
            nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SHUTDOWN => shutdown,
            nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SLOWDOWN => slowdown,
            _ => None,
        })?)
    }

    fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, milliwatts: Out<c_uint>) |open| {
        milliwatts.put(read(open.readings(open.device(device)?)?.power)?)
    }

    fn nvmlDeviceGetEnforcedPowerLimit, nvmlDeviceGetPowerManagementLimit(device: nvmlDevice_t, milliwatts: Out<c_uint>) |open| {
        milliwatts.put(read(open.readings(open.device(device)?)?.power_limit)?)
    }

    fn nvmlDeviceGetTotalEnergyConsumption(device: nvmlDevice_t, millijoules: Out<c_ulonglong>) |open| {
        millijoules.put(read(open.readings(open.device(device)?)?.energy)?)
    }

    fn nvmlDeviceGetFanSpeed(device: nvmlDevice_t, percent: Out<c_uint>) |open| {
        percent.put(read(open.readings(open.device(device)?)?.fan)?)
    }

    fn nvmlDeviceGetFanSpeed_v2(device: nvmlDevice_t, fan: c_uint, percent: Out<c_uint>) |open| {
        let speed = read(open.readings(open.device(device)?)?.fan)?;
        match fan {
            0 => percent.put(speed),
            _ => Err(INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetPerformanceState, nvmlDeviceGetPowerState(device: nvmlDevice_t, state: Out<nvmlPstates_t>) |open| {
        state.put(read(open.readings(open.device(device)?)?.performance_state)? as nvmlPstates_t)
    }

    fn nvmlDeviceGetClockInfo(device: nvmlDevice_t, kind: nvmlClockType_t, mhz: Out<c_uint>) |open| {
        let place = clock(kind)?;
        mhz.put(read(open.readings(open.device(device)?)?.clocks[place])?)
    }

    /// CUDA knows the highest clocks too.
    fn nvmlDeviceGetMaxClockInfo(device: nvmlDevice_t, kind: nvmlClockType_t, mhz: Out<c_uint>) |open| {
        let place = clock(kind)?;
        let device = open.device(device)?;
        if let Ok(readings) = open.readings(device)
            && let Some(clock) = readings.max_clocks[place]
        {
            return mhz.put(clock);
        }
        let khz = match kind {
            nvmlClockType_enum_NVML_CLOCK_GRAPHICS | nvmlClockType_enum_NVML_CLOCK_SM => {
                open.attribute(device, CLOCK_RATE)?
            }
            nvmlClockType_enum_NVML_CLOCK_MEM => open.attribute(device, MEMORY_CLOCK_RATE)?,
            _ => return Err(NOT_SUPPORTED),
        };
        mhz.put((khz / 1000) as c_uint)
    }

    fn nvmlDeviceGetEncoderUtilization(device: nvmlDevice_t, percent: Out<c_uint>, period: Out<c_uint>) |open| {
        percent.put(read(open.readings(open.device(device)?)?.codecs.0)?)?;
        period.put(SAMPLING_US)
    }

    fn nvmlDeviceGetDecoderUtilization(device: nvmlDevice_t, percent: Out<c_uint>, period: Out<c_uint>) |open| {
        percent.put(read(open.readings(open.device(device)?)?.codecs.1)?)?;
        period.put(SAMPLING_US)
    }

    fn nvmlDeviceGetCurrPcieLinkGeneration(device: nvmlDevice_t, generation: Out<c_uint>) |open| {
        generation.put(read(open.readings(open.device(device)?)?.pcie.0)?)
    }

    fn nvmlDeviceGetCurrPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) |open| {
        width.put(read(open.readings(open.device(device)?)?.pcie.1)?)
    }

    fn nvmlDeviceGetMaxPcieLinkGeneration, nvmlDeviceGetGpuMaxPcieLinkGeneration(device: nvmlDevice_t, generation: Out<c_uint>) |open| {
        generation.put(read(open.readings(open.device(device)?)?.pcie_max.0)?)
    }

    fn nvmlDeviceGetMaxPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) |open| {
        width.put(read(open.readings(open.device(device)?)?.pcie_max.1)?)
    }

    fn nvmlDeviceGetPcieThroughput(device: nvmlDevice_t, counter: nvmlPcieUtilCounter_t, kib: Out<c_uint>) |open| {
        let (sent, received) = open.readings(open.device(device)?)?.pcie_throughput;
        kib.put(read(match counter {
            nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_TX_BYTES => sent,
            nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_RX_BYTES => received,
            _ => return Err(INVALID_ARGUMENT),
        })?)
    }

    /// Each field has its own result.
    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: c_int, values: Out<nvmlFieldValue_t>) |open| {
        // NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION.
        const ENERGY: c_uint = 83;
        let device = open.device(device)?;
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(INVALID_ARGUMENT)?;
        for value in values.list(count)? {
            let energy = match value.fieldId {
                ENERGY => open.readings(device).ok().and_then(|readings| readings.energy),
                _ => None,
            };
            match energy {
                Some(energy) => {
                    value.nvmlReturn = nvmlReturn_enum_NVML_SUCCESS;
                    value.valueType = nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
                    value.value = nvmlValue_st { ullVal: energy };
                }
                None => value.nvmlReturn = NOT_SUPPORTED,
            }
        }
        Ok(())
    }
}
