//! What a client learns about the server's devices once, at connect, and answers queries from afterwards.

use serde::{Deserialize, Serialize};

/// More devices than any host has; a bound for a list that comes from a peer.
pub const MAX_DEVICES: usize = 64;
/// `CU_DEVICE_ATTRIBUTE_MAX` is about 150; room for later versions.
pub const MAX_ATTRIBUTES: usize = 1024;
/// Longest device name or PCI bus id in bytes (CUDA's own buffers are 256).
pub const MAX_NAME: usize = 256;

/// Everything that `cuDeviceGet*`, `cuDriverGetVersion` and the like are answered from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// As `cuDriverGetVersion` gives it: 1000 × major + 10 × minor.
    pub driver_version: i32,
    /// In ordinal order.
    pub devices: Vec<DeviceSnapshot>,
    /// One entry for each ordered pair of different devices.
    pub p2p: Vec<PeerSnapshot>,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSnapshot {
    /// `cuDeviceGetName`.
    pub name: String,
    /// `cuDeviceGetUuid_v2`.
    pub uuid: [u8; 16],
    /// `cuDeviceGetPCIBusId`, `domain:bus:device.function`.
    pub pci_bus_id: String,
    /// Bytes that the session may use at most: the smaller of the device's memory and the session's vGPU.
    pub total_memory: u64,
    /// `(CUdevice_attribute, value)` for each attribute that the driver answered; what is absent was refused by the driver.
    pub attributes: Vec<(i32, i32)>,
    /// `cuCtxGetStreamPriorityRange`: (least, greatest).
    pub stream_priorities: (i32, i32),
    /// `(CUlimit, value)` as a fresh context has them.
    pub context_limits: Vec<(i32, u64)>,
    /// `(CUexecAffinityType, supported)`.
    pub exec_affinity: Vec<(i32, i32)>,
}

/// Peer access from one device to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSnapshot {
    /// Ordinal of the device that would access.
    pub from: u32,
    /// Ordinal of the device whose memory it would access.
    pub to: u32,
    /// `cuDeviceCanAccessPeer`.
    pub can_access: bool,
    /// `(CUdevice_P2PAttribute, value)`.
    pub attributes: Vec<(i32, i32)>,
}

/// A snapshot from a peer that breaks a bound.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server's device snapshot is not usable: {0}")]
pub struct SnapshotError(String);

/// A device's UUID as nvidia-smi, NVML and CUDA_VISIBLE_DEVICES write it.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(40);
    text.push_str("GPU-");
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl DeviceSnapshot {
    /// [`uuid_text`] of this device.
    pub fn uuid_text(&self) -> String {
        uuid_text(&self.uuid)
    }

    /// The value of a `CUdevice_attribute`, if the driver answered it.
    pub fn attribute(&self, attribute: i32) -> Option<i32> {
        self.attributes
            .iter()
            .find(|(id, _)| *id == attribute)
            .map(|(_, value)| *value)
    }
}

impl Snapshot {
    /// Checks the bounds that the rest of the program relies on. The handshake calls it for each snapshot that arrives.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let bound = |what: &str, len: usize, max: usize| match len <= max {
            true => Ok(()),
            false => Err(SnapshotError(format!("{what}: {len}, the bound is {max}"))),
        };
        bound("devices", self.devices.len(), MAX_DEVICES)?;
        bound("peer entries", self.p2p.len(), MAX_DEVICES * MAX_DEVICES)?;
        for device in &self.devices {
            bound("bytes of a device name", device.name.len(), MAX_NAME)?;
            bound("bytes of a PCI bus id", device.pci_bus_id.len(), MAX_NAME)?;
            bound("device attributes", device.attributes.len(), MAX_ATTRIBUTES)?;
            bound(
                "context limits",
                device.context_limits.len(),
                MAX_ATTRIBUTES,
            )?;
            bound(
                "execution affinities",
                device.exec_affinity.len(),
                MAX_ATTRIBUTES,
            )?;
            if device.name.contains('\0') || device.pci_bus_id.contains('\0') {
                return Err(SnapshotError("a name holds a NUL byte".into()));
            }
        }
        for peer in &self.p2p {
            bound("peer attributes", peer.attributes.len(), MAX_ATTRIBUTES)?;
            if peer.from as usize >= self.devices.len() || peer.to as usize >= self.devices.len() {
                return Err(SnapshotError(format!(
                    "peer entry {} -> {} names no device",
                    peer.from, peer.to
                )));
            }
        }
        Ok(())
    }
}
