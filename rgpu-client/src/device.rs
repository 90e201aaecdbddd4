//! The devices that the program sees, as one of its servers has them.

use rgpu_proto::CudaError;
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};

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
    /// By the program's ordinals; `None` for another server's.
    list: Vec<Option<Device>>,
    peers: Vec<rgpu_proto::snapshot::PeerSnapshot>,
}

impl Devices {
    /// `slots`: for each of the program's devices the server's ordinal, if it is this server's.
    pub fn new(snapshot: Snapshot, slots: &[Option<usize>]) -> Devices {
        let device = |ordinal: usize| Device {
            ordinal: ordinal as i32,
            snapshot: snapshot.devices[ordinal].clone(),
        };
        let list = slots.iter().map(|slot| slot.map(device)).collect();
        Devices {
            driver_version: snapshot.driver_version,
            list,
            peers: snapshot.p2p,
        }
    }

    /// How many the program has.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// By the program's ordinal, which is also its CUdevice.
    pub fn get(&self, device: i32) -> Result<&Device, CudaError> {
        usize::try_from(device)
            .ok()
            .and_then(|at| self.list.get(at)?.as_ref())
            .ok_or(CudaError::INVALID_DEVICE)
    }

    /// The program's number of a device of the server's; 0 for one that the program does not see.
    pub fn number(&self, ordinal: i32) -> i32 {
        let is_it =
            |device: &Option<Device>| device.as_ref().is_some_and(|it| it.ordinal == ordinal);
        let at = self.list.iter().position(is_it);
        at.unwrap_or(0) as i32
    }

    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.slots().flatten()
    }

    /// The first that the server has.
    pub fn first(&self) -> i32 {
        let first = self.list.iter().position(Option::is_some);
        first.map_or(0, |at| at as i32)
    }

    pub fn slots(&self) -> impl Iterator<Item = Option<&Device>> {
        self.list.iter().map(Option::as_ref)
    }

    /// Whether that is a device of another of the program's servers.
    pub fn is_elsewhere(&self, device: i32) -> bool {
        let at = usize::try_from(device).ok();
        at.and_then(|at| self.list.get(at))
            .is_some_and(Option::is_none)
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
