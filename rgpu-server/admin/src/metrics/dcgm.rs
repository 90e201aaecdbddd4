//! The device metrics that dashboards know, by the names and labels of NVIDIA's dcgm-exporter.

use std::fmt::Error;

use crate::data::{Device, Facts, Readings};

use super::{Labels, Sheet};

const MIB: u64 = 1 << 20;

pub(super) fn write(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    let used = |it: &Device| it.memory_total_bytes.checked_sub(it.memory_free_bytes?);
    let read = |get: fn(&Readings) -> Option<f64>| {
        move |device: &Device| device.readings.as_ref().and_then(get)
    };
    let mib = |bytes: u64| (bytes / MIB) as f64;
    let mut of = |name: &str, help: &str, get: &dyn Fn(&Device) -> Option<f64>| {
        let known = facts
            .devices
            .iter()
            .filter_map(|device| Some((device, get(device)?)));
        let samples = known.map(|(device, value)| (labels(facts, device), value));
        sheet.gauges(name, None, help, samples)
    };
    of(
        "DCGM_FI_DEV_SM_CLOCK",
        "SM clock frequency (in MHz).",
        &read(|it| it.sm_clock_mhz.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_MEM_CLOCK",
        "Memory clock frequency (in MHz).",
        &read(|it| it.memory_clock_mhz.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_GPU_TEMP",
        "GPU temperature (in C).",
        &read(|it| it.temperature_celsius.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_POWER_USAGE",
        "Power draw (in W).",
        &read(|it| it.power_watts),
    )?;
    of(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Energy since the driver was loaded (in mJ).",
        &read(|it| it.energy_millijoules.map(|energy| energy as f64)),
    )?;
    of("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", &|it| {
        it.utilization_percent
    })?;
    of(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "Memory utilization (in %).",
        &read(|it| it.memory_utilization_percent.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_ENC_UTIL",
        "Encoder utilization (in %).",
        &read(|it| it.encoder_percent.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_DEC_UTIL",
        "Decoder utilization (in %).",
        &read(|it| it.decoder_percent.map(f64::from)),
    )?;
    of(
        "DCGM_FI_DEV_FB_FREE",
        "Device memory that nobody holds (in MiB).",
        &|it| it.memory_free_bytes.map(mib),
    )?;
    of(
        "DCGM_FI_DEV_FB_USED",
        "Device memory that is held (in MiB).",
        &|it| used(it).map(mib),
    )
}

fn labels(facts: &Facts, device: &Device) -> Labels {
    let mut labels = vec![
        ("gpu", device.ordinal.to_string()),
        ("UUID", device.uuid.clone()),
        ("pci_bus_id", bus_id(&device.pci_bus_id)),
        ("device", format!("nvidia{}", device.ordinal)),
        ("modelName", device.name.clone()),
        ("hostname", facts.hostname.clone()),
    ];
    if !facts.host_driver.is_empty() {
        labels.push(("DCGM_FI_DRIVER_VERSION", facts.host_driver.clone()));
    }
    labels
}

/// NVML's form of a bus id, `00000000:3B:00.0`, where CUDA's is `0000:3b:00.0`.
fn bus_id(cuda: &str) -> String {
    match cuda.split_once(':') {
        Some((domain, rest)) => format!("{domain:0>8}:{rest}").to_ascii_uppercase(),
        None => cuda.to_owned(),
    }
}
