//! What the host's own NVML says of the devices that the driver has: nothing where the host has none, or it does not know them.

use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use rgpu_proto::monitor::{Board, DeviceSample, Readings};
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

    pub fn read(&self, device: &DeviceSnapshot) -> Option<DeviceSample> {
        let device = self.find(device)?;
        Some(DeviceSample {
            free: device.memory_info().ok().map(|memory| memory.free),
            readings: Some(readings(&device)),
        })
    }

    pub fn board(&self, device: &DeviceSnapshot) -> Option<Board> {
        self.find(device).map(|device| board(&device))
    }

    /// `None`: the host's NVML does not have this device, since its driver is another one.
    fn find(&self, device: &DeviceSnapshot) -> Option<Device<'_>> {
        self.0.as_ref()?.device_by_uuid(device.uuid_text()).ok()
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

fn board(device: &Device<'_>) -> Board {
    let errors = |counter| {
        let of = |kind: MemoryError| answer(device.total_ecc_errors(kind, counter));
        (of(MemoryError::Corrected), of(MemoryError::Uncorrected))
    };
    Board {
        serial: answer(device.serial()),
        part_number: answer(device.board_part_number()),
        vbios: answer(device.vbios_version()),
        persistence: answer(device.is_in_persistent_mode()),
        bar1: answer(device.bar1_memory_info()).map(|window| (window.total, window.free)),
        ecc_errors: [EccCounter::Volatile, EccCounter::Aggregate].map(errors),
        clocks_event_reasons: (
            answer(device.current_throttle_reasons()).map(|reasons| reasons.bits()),
            answer(device.supported_throttle_reasons()).map(|reasons| reasons.bits()),
        ),
        power_limit_default: answer(device.power_management_limit_default()),
        power_limit_constraints: answer(device.power_management_limit_constraints())
            .map(|limits| (limits.min_limit, limits.max_limit)),
        knows_mig: device.mig_mode().is_ok(),
    }
}

/// Most of what can be asked is not there on one device or another.
fn answer<T>(result: Result<T, NvmlError>) -> Option<T> {
    result
        .inspect_err(|error| tracing::trace!(%error, "a reading is not there"))
        .ok()
}
