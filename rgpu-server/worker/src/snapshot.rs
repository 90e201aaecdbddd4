//! What the client learns about the devices at connect.

use std::ffi::{CStr, c_char};

use rgpu_proto::CudaError;
use rgpu_proto::snapshot::{DeviceSnapshot, MAX_DEVICES, MAX_NAME, PeerSnapshot, Snapshot};

use crate::driver::Driver;

/// Beyond every CUdevice_attribute of the CUDA versions so far (about 150).
const ATTRIBUTES: i32 = 256;
/// Beyond every CUdevice_P2PAttribute.
const PEER_ATTRIBUTES: i32 = 16;
/// CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED.
const PEER_ACCESS: i32 = 2;

/// Asks the driver for everything. Needs no context.
pub fn take(driver: &Driver) -> Result<Snapshot, CudaError> {
    let mut snapshot = Snapshot::default();
    // SAFETY: a place for the number.
    unsafe { driver_call!(driver.cuDriverGetVersion(&mut snapshot.driver_version)) }?;
    let mut count = 0;
    // SAFETY: a place for the number.
    unsafe { driver_call!(driver.cuDeviceGetCount(&mut count)) }?;
    let count = count.clamp(0, MAX_DEVICES as i32);
    for ordinal in 0..count {
        snapshot.devices.push(device(driver, ordinal)?);
    }
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            snapshot.p2p.push(peer(driver, from, to));
        }
    }
    Ok(snapshot)
}

fn device(driver: &Driver, ordinal: i32) -> Result<DeviceSnapshot, CudaError> {
    let mut device = 0;
    // SAFETY: a place for the handle.
    unsafe { driver_call!(driver.cuDeviceGet(&mut device, ordinal)) }?;
    let mut uuid = [0; 16];
    // SAFETY: a CUuuid has 16 bytes.
    unsafe { driver_call!(driver.cuDeviceGetUuid(uuid.as_mut_ptr(), device)) }?;
    let mut total = 0;
    // SAFETY: a place for the number.
    unsafe { driver_call!(driver.cuDeviceTotalMem_v2(&mut total, device)) }?;
    let attributes = (1..ATTRIBUTES)
        .filter_map(|attribute| {
            let mut value = 0;
            // SAFETY: a place for the number; an attribute that the driver does not know is an error.
            unsafe { driver_call!(driver.cuDeviceGetAttribute(&mut value, attribute, device)) }
                .ok()
                .map(|()| (attribute, value))
        })
        .collect();
    Ok(DeviceSnapshot {
        name: text(|place, len| {
            // SAFETY: `place` has room for `len` bytes.
            unsafe { driver_call!(driver.cuDeviceGetName(place, len, device)) }
        })?,
        uuid,
        pci_bus_id: text(|place, len| {
            // SAFETY: `place` has room for `len` bytes.
            unsafe { driver_call!(driver.cuDeviceGetPCIBusId(place, len, device)) }
        })?,
        total_memory: total as u64,
        attributes,
        // These need a context: the client asks when it has one.
        ..DeviceSnapshot::default()
    })
}

fn peer(driver: &Driver, from: i32, to: i32) -> PeerSnapshot {
    let attributes: Vec<(i32, i32)> = (1..PEER_ATTRIBUTES)
        .filter_map(|attribute| {
            let mut value = 0;
            // SAFETY: a place for the number.
            unsafe { driver_call!(driver.cuDeviceGetP2PAttribute(&mut value, attribute, from, to)) }
                .ok()
                .map(|()| (attribute, value))
        })
        .collect();
    PeerSnapshot {
        from: from as u32,
        to: to as u32,
        can_access: attributes
            .iter()
            .any(|&(attribute, value)| attribute == PEER_ACCESS && value != 0),
        attributes,
    }
}

fn text(ask: impl FnOnce(*mut c_char, i32) -> Result<(), CudaError>) -> Result<String, CudaError> {
    let mut bytes = [0u8; MAX_NAME];
    ask(bytes.as_mut_ptr().cast(), MAX_NAME as i32 - 1)?;
    let text = CStr::from_bytes_until_nul(&bytes).map_err(|_| CudaError::UNKNOWN)?;
    let mut text = text.to_string_lossy().into_owned();
    while text.len() > MAX_NAME {
        // A lossy conversion may have made it longer.
        text.pop();
    }
    Ok(text)
}
