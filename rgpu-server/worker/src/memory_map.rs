//! Which device memory the session has mapped, and where. Pure: it decides, the caller drives the driver and says how that went.

use std::collections::BTreeMap;

use rgpu_proto::CudaError;
use rgpu_proto::handshake::AddressWindow;
use rgpu_proto::snapshot::MAX_DEVICES;

use crate::held::Held;
use crate::quota::{MemoryLedger, Of};

/// Most mappings and allocations of one session.
const MAX_ENTRIES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The driver is being asked for it.
    Mapping,
    Mapped,
    /// Given back by the client; earlier work may still use it.
    Unmapping,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    device: i32,
    bytes: u64,
    phase: Phase,
    /// Other sessions may have it, too.
    lent: bool,
    /// It is not on the device: it has left, or is about to.
    away: bool,
}

impl Entry {
    fn new(device: i32, bytes: u64, phase: Phase) -> Entry {
        Entry {
            device,
            bytes,
            phase,
            lent: false,
            away: false,
        }
    }
}

/// A range that the driver knows as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub address: u64,
    pub bytes: u64,
}

/// One device's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub range: AddressWindow,
    /// Mappings are multiples of this (bytes).
    pub granularity: u64,
}

/// So much that a client keeps ready on a device is believed: as much as the library keeps, and little for one that lies to pay less.
const MOST_READY: u64 = 64 << 20;

/// All memory of a session.
#[derive(Debug, Default)]
pub struct MemoryMap {
    pub ledger: MemoryLedger,
    windows: Vec<Window>,
    /// By address; windows of different devices do not overlap.
    mapped: BTreeMap<u64, Entry>,
    in_windows: u64,
    /// Where the driver chose the address.
    allocated: BTreeMap<u64, Entry>,
    /// By device: what the client says that it keeps for its program's next allocations. It is not paid for, and no quota is decided by it.
    unused: Vec<u64>,
    /// What the driver tells, if it does.
    held: Option<Held>,
}

impl MemoryMap {
    pub fn new(limit: Option<u64>, windows: Vec<Window>) -> MemoryMap {
        MemoryMap {
            ledger: MemoryLedger::new(limit),
            windows,
            ..MemoryMap::default()
        }
    }

    /// From now on the driver is asked what it holds.
    pub fn ask(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// Asks the driver what it holds, if that may have changed and does not change now.
    pub fn refresh(&mut self) {
        if self.ledger.may_ask() {
            self.ask_now();
        }
    }

    fn ask_now(&mut self) {
        if let Some(held) = self.held.as_ref().and_then(Held::now) {
            self.ledger.holds(&held);
        }
    }

    /// Whether the call that is under way has taken more than the vGPU may hold; then it is to be undone.
    pub fn is_over(&mut self) -> bool {
        if self.ledger.changes_alone() {
            self.ask_now();
        }
        self.ledger.is_over()
    }

    /// Whether so much more would go past what the vGPU may hold, where the driver tells what it takes. Otherwise it does not count.
    pub fn lacks_room(&mut self, bytes: u64) -> bool {
        self.refresh();
        self.held.is_some() && bytes > self.ledger.left()
    }

    pub fn note_unused(&mut self, device: i32, bytes: u64) -> Result<(), CudaError> {
        let device = usize::try_from(device).ok().filter(|it| *it < MAX_DEVICES);
        let device = device.ok_or(CudaError::INVALID_DEVICE)?;
        if self.unused.len() <= device {
            self.unused.resize(device + 1, 0);
        }
        self.unused[device] = bytes.min(MOST_READY);
        self.ledger.keeps_ready(self.unused.iter().sum());
        Ok(())
    }

    pub fn unused(&self) -> &[u64] {
        &self.unused
    }

    /// Sets a mapping aside, if it lies in the device's window, overlaps nothing, and the quota holds it. The caller then maps it and
    /// says [`Self::mapped`] or [`Self::failed`].
    pub fn plan(&mut self, device: i32, range: Range) -> Result<(), CudaError> {
        let window = usize::try_from(device)
            .ok()
            .and_then(|device| self.windows.get(device))
            .ok_or(CudaError::INVALID_VALUE)?;
        let within = range
            .address
            .checked_sub(window.range.base)
            .and_then(|offset| offset.checked_add(range.bytes))
            .is_some_and(|end| end <= window.range.len);
        if !within
            || range.bytes == 0
            || !range.bytes.is_multiple_of(window.granularity)
            || !(range.address - window.range.base).is_multiple_of(window.granularity)
        {
            return Err(CudaError::INVALID_VALUE);
        }
        let end = range.address + range.bytes;
        if let Some((&address, entry)) = self.mapped.range(..end).next_back()
            && address + entry.bytes > range.address
        {
            return Err(CudaError::ALREADY_MAPPED);
        }
        self.charge(device, range.bytes)?;
        let entry = Entry::new(device, range.bytes, Phase::Mapping);
        self.mapped.insert(range.address, entry);
        self.in_windows += range.bytes;
        Ok(())
    }

    /// The driver has mapped what was planned.
    pub fn mapped(&mut self, address: u64) {
        if let Some(entry) = self.mapped.get_mut(&address) {
            entry.phase = Phase::Mapped;
        }
    }

    /// The driver did not map what was planned, or has unmapped it.
    pub fn unmapped(&mut self, address: u64) {
        if let Some(entry) = self.mapped.remove(&address) {
            self.in_windows -= entry.bytes;
            self.ledger.give(entry.device, entry.bytes);
        }
    }

    /// Bytes of all that is mapped in the windows, or about to be, on its device or away.
    pub fn in_windows(&self) -> u64 {
        self.in_windows
    }

    /// Takes from the first device what nobody else has: it is about to leave. Each comes back, or has not left after all, with [`Self::is_here`].
    pub fn begin_away(&mut self) -> Vec<Range> {
        let movable = self.mapped.iter_mut().filter(|(_, entry)| {
            entry.device == 0 && entry.phase == Phase::Mapped && !entry.lent && !entry.away
        });
        movable
            .map(|(&address, entry)| {
                entry.away = true;
                let bytes = entry.bytes;
                Range { address, bytes }
            })
            .collect()
    }

    /// A mapping is on its device.
    pub fn is_here(&mut self, address: u64) {
        if let Some(entry) = self.mapped.get_mut(&address) {
            entry.away = false;
        }
    }

    /// Other sessions may have these mappings from now on.
    pub fn lend(&mut self, parts: &[Range]) {
        for part in parts {
            if let Some(entry) = self.mapped.get_mut(&part.address) {
                entry.lent = true;
            }
        }
    }

    /// The mappings that make up exactly this range, which now wait to be unmapped ([`Self::unmapped`]).
    pub fn plan_unmap(&mut self, range: Range) -> Result<Vec<Range>, CudaError> {
        let end = range
            .address
            .checked_add(range.bytes)
            .filter(|_| range.bytes > 0)
            .ok_or(CudaError::INVALID_VALUE)?;
        let mut parts = Vec::new();
        let mut at = range.address;
        for (&address, entry) in self.mapped.range(range.address..end) {
            if address != at || entry.phase != Phase::Mapped {
                return Err(CudaError::INVALID_VALUE);
            }
            parts.push(Range {
                address,
                bytes: entry.bytes,
            });
            at += entry.bytes;
        }
        if at != end {
            return Err(CudaError::INVALID_VALUE);
        }
        for part in &parts {
            if let Some(entry) = self.mapped.get_mut(&part.address) {
                entry.phase = Phase::Unmapping;
            }
        }
        Ok(parts)
    }

    /// The mappings of a device in which a range lies, if they are there.
    pub fn covering(&self, device: i32, range: Range) -> Result<Vec<Range>, CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let end = range.address.checked_add(range.bytes);
        let end = end.filter(|_| range.bytes > 0).ok_or(invalid)?;
        let first = self.mapped.range(..=range.address).next_back();
        let &first = first.ok_or(invalid)?.0;
        let mut reached = first;
        let mut parts = Vec::new();
        for (&address, entry) in self.mapped.range(first..end) {
            if address != reached
                || entry.phase != Phase::Mapped
                || entry.device != device
                || entry.away
            {
                return Err(invalid);
            }
            let bytes = entry.bytes;
            parts.push(Range { address, bytes });
            reached += bytes;
        }
        match reached >= end {
            true => Ok(parts),
            false => Err(invalid),
        }
    }

    /// INVALID_VALUE unless this is an allocation, whole, whose address the driver has chosen.
    pub fn check_allocated(&self, device: i32, range: Range) -> Result<(), CudaError> {
        match self.allocated.get(&range.address) {
            Some(entry)
                if (entry.bytes, entry.device, entry.phase)
                    == (range.bytes, device, Phase::Mapped) =>
            {
                Ok(())
            }
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    /// Takes `bytes` of a device from the quota for memory whose address the driver chooses; the caller then says [`Self::allocated`] or
    /// gives them back to the ledger.
    pub fn charge(&mut self, device: i32, bytes: u64) -> Result<(), CudaError> {
        self.charge_of(Of::Session, device, bytes)
    }

    pub fn charge_of(&mut self, of: Of, device: i32, bytes: u64) -> Result<(), CudaError> {
        // What has been given back meanwhile can be had again.
        self.refresh();
        let full = self.mapped.len() + self.allocated.len() >= MAX_ENTRIES;
        match !full && self.ledger.take_of(of, device, bytes) {
            true => Ok(()),
            false => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    /// The driver has allocated what was charged.
    pub fn allocated(&mut self, device: i32, range: Range) {
        let entry = Entry::new(device, range.bytes, Phase::Mapped);
        self.allocated.insert(range.address, entry);
    }

    /// An allocation, whole, now waits to be freed ([`Self::freed`]).
    pub fn plan_free(&mut self, range: Range) -> Result<(), CudaError> {
        match self.allocated.get_mut(&range.address) {
            Some(entry) if entry.bytes == range.bytes && entry.phase == Phase::Mapped => {
                entry.phase = Phase::Unmapping;
                Ok(())
            }
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    /// The driver has freed an allocation.
    pub fn freed(&mut self, address: u64) {
        if let Some(entry) = self.allocated.remove(&address) {
            self.ledger.give(entry.device, entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x2080_0000_0000;
    const MIB: u64 = 1 << 20;
    const PART: u64 = 2 * MIB;

    fn map(limit: u64) -> MemoryMap {
        let range = AddressWindow {
            base: BASE,
            len: 64 * MIB,
        };
        MemoryMap::new(
            Some(limit),
            vec![Window {
                range,
                granularity: PART,
            }],
        )
    }

    fn range(part: u64, parts: u64) -> Range {
        Range {
            address: BASE + part * PART,
            bytes: parts * PART,
        }
    }

    fn add(map: &mut MemoryMap, range: Range) {
        map.plan(0, range).unwrap();
        map.mapped(range.address);
    }

    #[test]
    fn only_whole_granules_inside_the_window_are_mapped() {
        let mut map = map(64 * MIB);
        for (device, address, bytes) in [
            (0, BASE, 0),
            (0, BASE, MIB),
            (0, BASE + MIB, PART),
            (0, BASE - PART, PART),
            (0, BASE + 64 * MIB, PART),
            (0, BASE + 62 * MIB, 2 * PART),
            (0, BASE, u64::MAX),
            (0, u64::MAX, PART),
            (0, 0, PART),
            (1, BASE, PART),
            (-1, BASE, PART),
        ] {
            assert_eq!(
                map.plan(device, Range { address, bytes }),
                Err(CudaError::INVALID_VALUE),
                "device {device}, {address:#x}, {bytes:#x}"
            );
        }
        assert_eq!(map.ledger.used(), 0);
        add(&mut map, range(31, 1));
    }

    #[test]
    fn mappings_never_overlap() {
        let mut map = map(64 * MIB);
        add(&mut map, range(4, 4));
        for (part, parts) in [(4, 4), (3, 2), (7, 1), (0, 32), (5, 1)] {
            assert_eq!(
                map.plan(0, range(part, parts)),
                Err(CudaError::ALREADY_MAPPED)
            );
        }
        add(&mut map, range(3, 1));
        add(&mut map, range(8, 1));
        assert_eq!(map.ledger.used(), 6 * PART);
    }

    #[test]
    fn what_is_lent_lies_in_mappings_without_a_gap() {
        let mut map = map(64 * MIB);
        add(&mut map, range(0, 1));
        add(&mut map, range(1, 2));
        add(&mut map, range(4, 1));
        let at = |offset, bytes| Range {
            address: BASE + offset,
            bytes,
        };
        let inside = at(PART - 512, 1024);
        assert_eq!(map.covering(0, inside), Ok(vec![range(0, 1), range(1, 2)]));
        assert_eq!(map.covering(0, at(4 * PART, PART)), Ok(vec![range(4, 1)]));
        for (device, range) in [
            (1, inside),
            (0, at(0, 0)),
            (0, at(0, 3 * PART + 1)),
            (0, at(3 * PART, 1)),
            (0, at(2 * PART, 3 * PART)),
            (0, at(4 * PART, PART + 1)),
            (0, at(0, u64::MAX)),
            (
                0,
                Range {
                    address: BASE - 1,
                    bytes: 2,
                },
            ),
        ] {
            let none = Err(CudaError::INVALID_VALUE);
            assert_eq!(map.covering(device, range), none, "{range:?}");
        }
        map.plan_unmap(range(4, 1)).unwrap();
        assert!(map.covering(0, at(4 * PART, PART)).is_err());
        let placed = Range {
            address: 4096,
            bytes: 512,
        };
        map.charge(0, 512).unwrap();
        map.allocated(0, placed);
        assert_eq!(map.check_allocated(0, placed), Ok(()));
        assert!(map.check_allocated(1, placed).is_err());
        assert!(map.check_allocated(0, at(0, 512)).is_err());
    }

    #[test]
    fn what_is_the_sessions_alone_may_leave_its_device() {
        let mut map = map(64 * MIB);
        for part in 0..4 {
            add(&mut map, range(part, 1));
        }
        map.lend(&[range(1, 1)]);
        map.plan_unmap(range(2, 1)).unwrap();
        map.plan(0, range(4, 1)).unwrap();
        assert_eq!(map.begin_away(), [range(0, 1), range(3, 1)]);
        assert_eq!(map.begin_away(), []);
        // It counts as before, and cannot be lent; the client may give it back.
        assert_eq!((map.ledger.used(), map.in_windows()), (5 * PART, 5 * PART));
        assert!(map.covering(0, range(0, 1)).is_err());
        assert_eq!(map.plan_unmap(range(0, 1)), Ok(vec![range(0, 1)]));
        map.unmapped(range(0, 1).address);
        map.is_here(range(3, 1).address);
        assert_eq!(map.covering(0, range(3, 1)), Ok(vec![range(3, 1)]));
        assert_eq!(map.begin_away(), [range(3, 1)]);
        assert_eq!(map.in_windows(), 4 * PART);
    }

    #[test]
    fn unmapping_takes_whole_adjacent_mappings() {
        let mut map = map(64 * MIB);
        add(&mut map, range(0, 1));
        add(&mut map, range(1, 2));
        add(&mut map, range(4, 1));
        for (part, parts) in [(0, 2), (1, 1), (2, 1), (0, 4), (0, 5), (3, 1), (5, 1)] {
            assert_eq!(
                map.plan_unmap(range(part, parts)),
                Err(CudaError::INVALID_VALUE)
            );
        }
        let overflow = Range {
            address: BASE,
            bytes: u64::MAX,
        };
        assert_eq!(map.plan_unmap(overflow), Err(CudaError::INVALID_VALUE));
        assert_eq!(
            map.plan_unmap(range(0, 3)),
            Ok(vec![range(0, 1), range(1, 2)])
        );
        // It stays charged and its addresses taken until the driver has done it; and it cannot be unmapped twice.
        assert_eq!(map.plan_unmap(range(0, 1)), Err(CudaError::INVALID_VALUE));
        assert_eq!(map.plan(0, range(0, 1)), Err(CudaError::ALREADY_MAPPED));
        assert_eq!(map.ledger.used(), 4 * PART);
        map.unmapped(range(0, 1).address);
        map.unmapped(range(1, 2).address);
        assert_eq!(map.ledger.used(), PART);
        add(&mut map, range(0, 1));
    }

    #[test]
    fn the_quota_covers_both_kinds() {
        let mut map = map(3 * PART);
        add(&mut map, range(0, 2));
        assert_eq!(map.plan(0, range(2, 2)), Err(CudaError::OUT_OF_MEMORY));
        map.charge(0, PART).unwrap();
        assert_eq!(map.charge(0, 1), Err(CudaError::OUT_OF_MEMORY));
        let allocation = Range {
            address: 0x7000,
            bytes: PART,
        };
        map.allocated(0, allocation);
        let part_of_it = Range {
            bytes: 1,
            ..allocation
        };
        assert_eq!(map.plan_free(part_of_it), Err(CudaError::INVALID_VALUE));
        map.plan_free(allocation).unwrap();
        assert_eq!(map.plan_free(allocation), Err(CudaError::INVALID_VALUE));
        map.freed(0x7000);
        map.plan(0, range(2, 1)).unwrap();
    }
}
