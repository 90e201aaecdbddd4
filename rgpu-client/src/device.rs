//! The devices that the program sees: the server's snapshot through CUDA_VISIBLE_DEVICES.

use rgpu_proto::CudaError;
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};

use crate::environment::visible;

/// A server's device under the program's ordinal.
pub struct Device {
    /// Ordinal on the server.
    pub ordinal: i32,
    pub snapshot: DeviceSnapshot,
}

impl Device {
    /// A CUdevice_attribute. What the driver refused is INVALID_VALUE, as it is for a number that it does not know.
    pub fn attribute(&self, attribute: i32) -> Result<i32, CudaError> {
        self.snapshot
            .attribute(attribute)
            .ok_or(CudaError::INVALID_VALUE)
    }
}

pub struct Devices {
    pub driver_version: i32,
    list: Vec<Device>,
    peers: Vec<rgpu_proto::snapshot::PeerSnapshot>,
}

impl Devices {
    pub fn new(snapshot: Snapshot, visible_devices: Option<&str>) -> Devices {
        let uuids: Vec<[u8; 16]> = snapshot.devices.iter().map(|device| device.uuid).collect();
        let list = visible(visible_devices, &uuids)
            .into_iter()
            .map(|ordinal| Device {
                ordinal: ordinal as i32,
                snapshot: snapshot.devices[ordinal].clone(),
            })
            .collect();
        Devices {
            driver_version: snapshot.driver_version,
            list,
            peers: snapshot.p2p,
        }
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// By the program's ordinal, which is also its CUdevice.
    pub fn get(&self, device: i32) -> Result<&Device, CudaError> {
        usize::try_from(device)
            .ok()
            .and_then(|at| self.list.get(at))
            .ok_or(CudaError::INVALID_DEVICE)
    }

    /// The program's number of a device of the server's; 0 for one that the program does not see.
    pub fn number(&self, ordinal: i32) -> i32 {
        let at = self
            .list
            .iter()
            .position(|device| device.ordinal == ordinal);
        at.unwrap_or(0) as i32
    }

    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.list.iter()
    }

    /// What is known of access from one device to another; `None` for a device and itself.
    pub fn peer(
        &self,
        from: i32,
        to: i32,
    ) -> Result<Option<&rgpu_proto::snapshot::PeerSnapshot>, CudaError> {
        let (from, to) = (self.get(from)?.ordinal as u32, self.get(to)?.ordinal as u32);
        Ok(self
            .peers
            .iter()
            .find(|peer| peer.from == from && peer.to == to))
    }
}
