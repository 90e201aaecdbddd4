//! What the host's own NVML says of the devices that the driver has: nothing where the host has none, or it does not know them.

use nvml_wrapper::enum_wrappers::device::{
    Clock, PcieUtilCounter, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use rgpu_proto::monitor::{DeviceSample, Readings};
use rgpu_proto::snapshot::DeviceSnapshot;

pub struct Host(Option<Nvml>);

impl Host {
    pub fn open() -> Host {
        let nvml = Nvml::builder()
            .lib_path("libnvidia-ml.so.1".as_ref())
            .init();
        Host(
            nvml.map_err(|error| tracing::debug!(%error, "no readings of the hardware"))
                .ok(),
        )
    }

    /// Version of the host's GPU driver.
    pub fn driver_version(&self) -> String {
        let version = self.0.as_ref().map(Nvml::sys_driver_version);
        version.and_then(Result::ok).unwrap_or_default()
    }

    /// `None`: the host's NVML does not have this device, since its driver is another one.
    pub fn read(&self, device: &DeviceSnapshot) -> Option<DeviceSample> {
        let device = self.0.as_ref()?.device_by_uuid(device.uuid_text()).ok()?;
        Some(DeviceSample {
            free: device.memory_info().ok().map(|memory| memory.free),
            readings: Some(readings(&device)),
        })
    }
}

fn readings(device: &Device<'_>) -> Readings {
    const CLOCKS: [Clock; 4] = [Clock::Graphics, Clock::SM, Clock::Memory, Clock::Video];
    let threshold = |which| device.temperature_threshold(which).ok();
    let throughput = |counter| device.pcie_throughput(counter).ok();
    Readings {
        utilization: answer(device.utilization_rates()).map(|rates| (rates.gpu, rates.memory)),
        temperature: answer(device.temperature(TemperatureSensor::Gpu)),
        temperature_thresholds: (
            threshold(TemperatureThreshold::Slowdown),
            threshold(TemperatureThreshold::Shutdown),
        ),
        power: answer(device.power_usage()),
        power_limit: answer(device.enforced_power_limit()),
        energy: answer(device.total_energy_consumption()),
        fan: answer(device.fan_speed(0)),
        performance_state: answer(device.performance_state()).map(|state| state.as_c()),
        clocks: CLOCKS.map(|clock| device.clock_info(clock).ok()),
        max_clocks: CLOCKS.map(|clock| device.max_clock_info(clock).ok()),
        codecs: (
            answer(device.encoder_utilization()).map(|codec| codec.utilization),
            answer(device.decoder_utilization()).map(|codec| codec.utilization),
        ),
        pcie: (
            answer(device.current_pcie_link_gen()),
            answer(device.current_pcie_link_width()),
        ),
        pcie_max: (
            answer(device.max_pcie_link_gen()),
            answer(device.max_pcie_link_width()),
        ),
        pcie_throughput: (
            throughput(PcieUtilCounter::Send),
            throughput(PcieUtilCounter::Receive),
        ),
    }
}

/// Most of what can be asked is not there on one device or another.
fn answer<T>(result: Result<T, NvmlError>) -> Option<T> {
    result
        .inspect_err(|error| tracing::trace!(%error, "a reading is not there"))
        .ok()
}
