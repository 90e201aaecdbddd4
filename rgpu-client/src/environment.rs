//! CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, as CUDA's programming guide describes them: pure functions of their values and the listed
//! devices.

use rgpu_proto::snapshot::{DeviceSnapshot, uuid_text};

/// What decides of a device's place.
pub struct Seen {
    pub uuid: [u8; 16],
    bus: String,
    speed: u64,
}

impl Seen {
    pub fn of(device: &DeviceSnapshot) -> Seen {
        const CLOCK_RATE: i32 = 13;
        const MULTIPROCESSOR_COUNT: i32 = 16;
        let number = |id: i32| device.attribute(id).map_or(0, |value| value.max(0) as u64);
        Seen {
            uuid: device.uuid,
            bus: device.pci_bus_id.clone(),
            speed: number(CLOCK_RATE) * number(MULTIPROCESSOR_COUNT),
        }
    }
}

/// In which order devices are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Servers as they are listed, the devices of each as its driver has them: an NVIDIA driver the fastest first.
    Listed,
    FastestFirst,
    PciBusId,
}

impl Order {
    /// CUDA takes no notice of other values.
    pub fn parse(value: Option<&str>) -> Order {
        match value {
            Some("FASTEST_FIRST") => Order::FastestFirst,
            Some("PCI_BUS_ID") => Order::PciBusId,
            _ => Order::Listed,
        }
    }
}

/// The listed devices in that order, as places in the list. Those that are alike in it stay as they are listed.
pub fn ordered(devices: &[Seen], order: Order) -> Vec<usize> {
    let mut places: Vec<usize> = (0..devices.len()).collect();
    match order {
        Order::Listed => {}
        Order::FastestFirst => places.sort_by_key(|&at| std::cmp::Reverse(devices[at].speed)),
        Order::PciBusId => places.sort_by(|&a, &b| devices[a].bus.cmp(&devices[b].bus)),
    }
    places
}

/// The devices that the program sees, in its order, as places in the list. Parsing ends at the first entry that names no device, as a MIG
/// device's does; a device named twice leaves none.
pub fn visible(value: Option<&str>, uuids: &[[u8; 16]]) -> Vec<usize> {
    let Some(value) = value else {
        return (0..uuids.len()).collect();
    };
    let by_uuid = value.trim_start().starts_with("GPU-");
    let mut chosen = Vec::new();
    for entry in value.split(',').map(str::trim) {
        let found = if by_uuid {
            entry
                .strip_prefix("GPU-")
                .and_then(|prefix| find(prefix, uuids))
        } else {
            index(entry, uuids.len())
        };
        let Some(ordinal) = found else { break };
        if chosen.contains(&ordinal) {
            return Vec::new();
        }
        chosen.push(ordinal);
    }
    chosen
}

/// Read as strtoul does: leading digits count, what follows them does not.
fn index(entry: &str, count: usize) -> Option<usize> {
    let digits = entry
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(entry.len());
    entry[..digits]
        .parse()
        .ok()
        .filter(|ordinal| *ordinal < count)
}

/// The one device whose UUID begins so.
fn find(prefix: &str, uuids: &[[u8; 16]]) -> Option<usize> {
    let wanted = format!("GPU-{}", prefix.to_ascii_lowercase());
    let mut matches = uuids
        .iter()
        .enumerate()
        .filter(|(_, uuid)| uuid_text(uuid).starts_with(&wanted));
    let (ordinal, _) = matches.next().filter(|_| !prefix.is_empty())?;
    matches.next().is_none().then_some(ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_documented() {
        let uuids = [[0x11; 16], [0x12; 16], [0x22; 16]];
        assert_eq!(visible(None, &uuids), [0, 1, 2]);
        assert_eq!(visible(Some(""), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("0,2,-1,1"), &uuids), [0, 2]);
        assert_eq!(visible(Some("2, 0"), &uuids), [2, 0]);
        assert_eq!(visible(Some("1gpu2,2ampere"), &uuids), [1, 2]);
        assert_eq!(visible(Some("1,1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("7,1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("-1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("MIG-22222222,1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("1,MIG-22222222,0"), &uuids), [1]);
        assert_eq!(visible(Some("GPU-22222222"), &uuids), [2]);
        assert_eq!(
            visible(Some("GPU-1"), &uuids),
            [0usize; 0],
            "an ambiguous prefix"
        );
        assert_eq!(visible(Some("GPU-22222222-2222,0"), &uuids), [2]);
    }

    #[test]
    fn order_is_stable() {
        let seen = |speed: u64, bus: &str| Seen {
            uuid: [0; 16],
            bus: bus.into(),
            speed,
        };
        let devices = [
            seen(5, "0000:3b:00.0"),
            seen(9, "0000:af:00.0"),
            seen(9, "0000:3b:00.0"),
        ];
        for (value, expected) in [
            (None, [0, 1, 2]),
            (Some("fastest"), [0, 1, 2]),
            (Some("FASTEST_FIRST"), [1, 2, 0]),
            (Some("PCI_BUS_ID"), [0, 2, 1]),
        ] {
            assert_eq!(
                ordered(&devices, Order::parse(value)),
                expected,
                "{value:?}"
            );
        }
    }
}
