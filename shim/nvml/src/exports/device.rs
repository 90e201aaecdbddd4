//! Which devices there are, and what never changes about them.

use std::ffi::{c_int, c_uint};

use nvml_wrapper_sys::bindings::*;

use crate::out::{Buffer, Out, Text, field};
use crate::state::{
    Answer, Device, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Open, VERSION_MISMATCH,
};

// CUdevice_attribute.
const MULTIPROCESSORS: i32 = 16;
const COMPUTE_MODE: i32 = 20;
const ECC_ENABLED: i32 = 32;
const BUS_WIDTH: i32 = 37;
const MULTI_GPU_BOARD: i32 = 84;
const MULTI_GPU_BOARD_GROUP: i32 = 85;
const CAPABILITY: (i32, i32) = (75, 76);

/// A version of a struct as NVML_STRUCT_VERSION makes it.
pub fn struct_version<T>(version: u32) -> u32 {
    size_of::<T>() as u32 | version << 24
}

/// Where on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    domain: u32,
    bus: u32,
    device: u32,
    function: u32,
}

impl Place {
    /// From `DOMAIN:BUS:DEVICE.FUNCTION`; domain and function may be left out.
    fn parse(text: &str) -> Option<Place> {
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let (front, function) = text.rsplit_once('.').unwrap_or((text, "0"));
        let (front, device) = front.rsplit_once(':')?;
        let (domain, bus) = front.rsplit_once(':').unwrap_or(("0", front));
        Some(Place {
            domain: hex(domain)?,
            bus: hex(bus)?,
            device: hex(device)?,
            function: hex(function)?,
        })
    }

    fn of(open: &Open, device: nvmlDevice_t) -> Answer<Place> {
        let about = open.about(open.device(device)?);
        Place::parse(&about.pci_bus_id).ok_or(NOT_SUPPORTED)
    }

    /// With so many digits for the domain.
    fn text(self, digits: usize) -> String {
        let Place {
            domain,
            bus,
            device,
            function,
        } = self;
        format!("{domain:0digits$X}:{bus:02X}:{device:02X}.{function:X}")
    }
}

fn capability(open: &Open, device: Device) -> Answer<(i32, i32)> {
    Ok((
        open.attribute(device, CAPABILITY.0)?,
        open.attribute(device, CAPABILITY.1)?,
    ))
}

pub fn enabled(value: i32) -> nvmlEnableState_t {
    match value {
        0 => nvmlEnableState_enum_NVML_FEATURE_DISABLED,
        _ => nvmlEnableState_enum_NVML_FEATURE_ENABLED,
    }
}

served! {
    fn nvmlDeviceGetCount, nvmlDeviceGetCount_v2(count: Out<c_uint>) |open| {
        count.put(open.devices().count() as c_uint)
    }

    fn nvmlDeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<nvmlDevice_t>) |open| {
        device.put(open.at(index as usize)?.handle())
    }

    fn nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<nvmlDevice_t>) |open| {
        let wanted = uuid.get()?;
        let found = open.devices().find(|it| open.about(*it).uuid_text().eq_ignore_ascii_case(wanted));
        device.put(found.ok_or(NOT_FOUND)?.handle())
    }

    fn nvmlDeviceGetHandleByPciBusId, nvmlDeviceGetHandleByPciBusId_v2(bus_id: Text, device: Out<nvmlDevice_t>) |open| {
        let wanted = Place::parse(bus_id.get()?).ok_or(INVALID_ARGUMENT)?;
        let found = open.devices().find(|it| Place::parse(&open.about(*it).pci_bus_id) == Some(wanted));
        device.put(found.ok_or(NOT_FOUND)?.handle())
    }

    fn nvmlDeviceGetIndex, nvmlDeviceGetMinorNumber(device: nvmlDevice_t, index: Out<c_uint>) |open| {
        index.put(open.device(device)?.index() as c_uint)
    }

    fn nvmlDeviceGetName(device: nvmlDevice_t, name: Buffer, length: c_uint) |open| {
        let device = open.device(device)?;
        name.put(length, &open.about(device).name)
    }

    fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: Buffer, length: c_uint) |open| {
        let device = open.device(device)?;
        uuid.put(length, &open.about(device).uuid_text())
    }

    fn nvmlDeviceGetPciInfo, nvmlDeviceGetPciInfo_v2, nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) |open| {
        let at = Place::of(open, device)?;
        info.put(nvmlPciInfo_t {
            busIdLegacy: field(&at.text(4)),
            domain: at.domain,
            bus: at.bus,
            device: at.device,
            // CUDA does not tell the ids of vendor and device.
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: field(&at.text(8)),
        })
    }

    fn nvmlDeviceGetPciInfoExt(device: nvmlDevice_t, info: Out<nvmlPciInfoExt_t>) |open| {
        let version = struct_version::<nvmlPciInfoExt_t>(1);
        let at = Place::of(open, device)?;
        if info.get()?.version != version {
            return Err(VERSION_MISMATCH);
        }
        info.put(nvmlPciInfoExt_t {
            version,
            domain: at.domain,
            bus: at.bus,
            device: at.device,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            // A display controller that does 3D.
            baseClass: 3,
            subClass: 2,
            busId: field(&at.text(8)),
        })
    }

    fn nvmlDeviceGetBrand(device: nvmlDevice_t, brand: Out<nvmlBrandType_t>) |open| {
        open.device(device)?;
        brand.put(nvmlBrandType_enum_NVML_BRAND_UNKNOWN)
    }

    fn nvmlDeviceGetCudaComputeCapability(device: nvmlDevice_t, major: Out<c_int>, minor: Out<c_int>) |open| {
        let found = capability(open, open.device(device)?)?;
        major.put(found.0)?;
        minor.put(found.1)
    }

    fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, architecture: Out<nvmlDeviceArchitecture_t>) |open| {
        architecture.put(match capability(open, open.device(device)?)? {
            (3, _) => NVML_DEVICE_ARCH_KEPLER,
            (5, _) => NVML_DEVICE_ARCH_MAXWELL,
            (6, _) => NVML_DEVICE_ARCH_PASCAL,
            (7, 5) => NVML_DEVICE_ARCH_TURING,
            (7, _) => NVML_DEVICE_ARCH_VOLTA,
            (8, 9) => NVML_DEVICE_ARCH_ADA,
            (8, _) => NVML_DEVICE_ARCH_AMPERE,
            (9, _) => NVML_DEVICE_ARCH_HOPPER,
            (10..=12, _) => NVML_DEVICE_ARCH_BLACKWELL,
            _ => NVML_DEVICE_ARCH_UNKNOWN,
        })
    }

    fn nvmlDeviceGetNumGpuCores(device: nvmlDevice_t, cores: Out<c_uint>) |open| {
        let device = open.device(device)?;
        let each = match capability(open, device)? {
            (3, _) => 192,
            (5 | 6, 1..) | (5, 0) | (8, 6..) | (9.., _) => 128,
            _ => 64,
        };
        cores.put(each * open.attribute(device, MULTIPROCESSORS)? as c_uint)
    }

    fn nvmlDeviceGetMemoryBusWidth(device: nvmlDevice_t, bits: Out<c_uint>) |open| {
        bits.put(open.attribute(open.device(device)?, BUS_WIDTH)? as c_uint)
    }

    fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: Out<nvmlComputeMode_t>) |open| {
        mode.put(open.attribute(open.device(device)?, COMPUTE_MODE)? as nvmlComputeMode_t)
    }

    fn nvmlDeviceGetEccMode(device: nvmlDevice_t, now: Out<nvmlEnableState_t>, pending: Out<nvmlEnableState_t>) |open| {
        let mode = enabled(open.attribute(open.device(device)?, ECC_ENABLED)?);
        now.put(mode)?;
        pending.put(mode)
    }

    fn nvmlDeviceGetMultiGpuBoard(device: nvmlDevice_t, is: Out<c_uint>) |open| {
        is.put(open.attribute(open.device(device)?, MULTI_GPU_BOARD)? as c_uint)
    }

    fn nvmlDeviceGetBoardId(device: nvmlDevice_t, id: Out<c_uint>) |open| {
        id.put(open.attribute(open.device(device)?, MULTI_GPU_BOARD_GROUP)? as c_uint)
    }

    fn nvmlDeviceOnSameBoard(one: nvmlDevice_t, other: nvmlDevice_t, same: Out<c_int>) |open| {
        let group = |device| open.attribute(open.device(device)?, MULTI_GPU_BOARD_GROUP);
        let multi = open.attribute(open.device(one)?, MULTI_GPU_BOARD)? != 0;
        same.put((one == other || multi && group(one)? == group(other)?).into())
    }

    /// A remote device drives no display.
    fn nvmlDeviceGetDisplayMode, nvmlDeviceGetDisplayActive(device: nvmlDevice_t, state: Out<nvmlEnableState_t>) |open| {
        open.device(device)?;
        state.put(nvmlEnableState_enum_NVML_FEATURE_DISABLED)
    }

    fn nvmlDeviceIsMigDeviceHandle, nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, none: Out<c_uint>) |open| {
        open.device(device)?;
        none.put(0)
    }

    fn nvmlDeviceGetVirtualizationMode(device: nvmlDevice_t, mode: Out<nvmlGpuVirtualizationMode_t>) |open| {
        open.device(device)?;
        mode.put(nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_NONE)
    }

    fn nvmlDeviceGetP2PStatus(one: nvmlDevice_t, other: nvmlDevice_t, index: nvmlGpuP2PCapsIndex_t, status: Out<nvmlGpuP2PStatus_t>) |open| {
        // CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED.
        const ATOMICS: i32 = 3;
        let (one, other) = (open.device(one)?, open.device(other)?);
        if open.are_apart(one, other) {
            return status.put(nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_NOT_SUPPORTED);
        }
        let pair = open.peer(one, other).ok_or(INVALID_ARGUMENT)?;
        let possible = match index {
            nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_READ
            | nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_WRITE => pair.can_access,
            nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_ATOMICS => {
                pair.attributes.contains(&(ATOMICS, 1))
            }
            nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_NVLINK
            | nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_PCI => return Err(NOT_SUPPORTED),
            _ => return Err(INVALID_ARGUMENT),
        };
        status.put(match possible {
            true => nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_OK,
            false => nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_NOT_SUPPORTED,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_on_the_bus_are_read_in_every_form() {
        for text in ["0000:3B:00.0", "00000000:3b:00.0", "3b:00.0", "0000:3b:00"] {
            let at = Place::parse(text).unwrap();
            assert_eq!(at.text(8), "00000000:3B:00.0", "{text}");
        }
        for text in ["", "3b", "x:3b:00.0", "0000:3b:00.z"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
