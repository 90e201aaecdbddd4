//! The mirror of the program's own virtual memory management: what it has reserved, made and mapped.

use std::collections::{BTreeMap, HashMap};

use rgpu_proto::CudaError;
use rgpu_proto::handshake::AddressWindow;

use crate::calls::memory::{Found, Owner};
use crate::heap::{GRANULE, Tag};
use crate::pool::READ_WRITE;
use crate::send;
use crate::session::Session;

pub struct Physical {
    pub bytes: u64,
    pub device: i32,
    /// Handles of the program's that name it, and places where it is mapped. The server keeps it as long as there are any.
    pub handles: u32,
    pub mappings: u32,
}

#[derive(Clone)]
pub struct Mapping {
    pub bytes: u64,
    pub physical: u64,
    /// What each device may do with it.
    pub access: BTreeMap<i32, u32>,
    pub tag: Tag,
}

impl Mapping {
    pub fn is_usable(&self) -> bool {
        self.access.values().any(|&flags| flags == READ_WRITE)
    }
}

/// All of it. Ids of physical memory are the server's, too.
#[derive(Default)]
pub struct VirtualMemory {
    /// What its handles have in common.
    mark: u64,
    /// Windows that were kept free for devices that are not there: addresses that can be had without a collision.
    spare: Vec<AddressWindow>,
    pub reservations: BTreeMap<u64, u64>,
    /// Where memory of other processes is: the server's reservations, not the program's.
    pub lent: BTreeMap<u64, u64>,
    /// One of those windows, for pinned memory alone.
    pinned_window: Option<AddressWindow>,
    /// Whether the server has reserved it, once it was asked: a driver may give small ranges addresses of its own choice.
    pub pinned_reserved: Option<bool>,
    /// Places in it that are taken.
    pinned: BTreeMap<u64, u64>,
    pub physical: HashMap<u64, Physical>,
    /// The physical memory that each handle names.
    pub handles: HashMap<u64, u64>,
    pub mappings: BTreeMap<u64, Mapping>,
    made: u64,
}

impl VirtualMemory {
    pub fn new(mut spare: Vec<AddressWindow>, mark: u64) -> VirtualMemory {
        VirtualMemory {
            mark,
            pinned_window: spare.pop(),
            spare,
            ..VirtualMemory::default()
        }
    }

    pub fn fresh(&mut self) -> u64 {
        self.made += 1;
        (0x5648 << 48) | self.mark | (self.made << 4)
    }

    pub fn find(&self, address: u64) -> Option<Found> {
        let (base, mapping) = self.mappings.range(..=address).next_back()?;
        let device = self.physical.get(&mapping.physical)?.device as usize;
        (address - base < mapping.bytes).then_some(Found {
            base: *base,
            size: mapping.bytes,
            owner: Owner::Mapped {
                device,
                usable: mapping.is_usable(),
                tag: mapping.tag,
            },
        })
    }

    pub fn tag(&mut self, address: u64) -> Option<&mut Tag> {
        let (base, mapping) = self.mappings.range_mut(..=address).next_back()?;
        (address - base < mapping.bytes).then_some(&mut mapping.tag)
    }

    /// Whether the program may use all of these bytes: neighbouring mappings are one range to it.
    pub fn covers(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else {
            return false;
        };
        let mut at = address;
        loop {
            match self.mappings.range(..=at).next_back() {
                Some((base, mapping)) if at - base < mapping.bytes && mapping.is_usable() => {
                    at = base + mapping.bytes;
                }
                _ => return false,
            }
            if at >= end {
                return true;
            }
        }
    }

    pub fn is_reserved(&self, address: u64) -> bool {
        [&self.reservations, &self.lent].iter().any(|map| {
            let before = map.range(..=address).next_back();
            before.is_some_and(|(base, bytes)| address - base < *bytes)
        })
    }

    /// A free place in the spare windows.
    pub fn place(&self, bytes: u64, alignment: u64) -> Option<u64> {
        let taken = [&self.reservations, &self.lent];
        let mut windows = self.spare.iter();
        windows.find_map(|window| gap(window, &taken, bytes, alignment))
    }

    /// A place for pinned memory, which is taken until it is vacated.
    pub fn occupy(&mut self, bytes: u64) -> Option<u64> {
        let at = gap(
            self.pinned_window.as_ref()?,
            &[&self.pinned],
            bytes,
            GRANULE,
        )?;
        self.pinned.insert(at, bytes);
        Some(at)
    }

    pub fn pinned_window(&self) -> Option<AddressWindow> {
        self.pinned_window
    }

    pub fn vacate(&mut self, at: u64) {
        self.pinned.remove(&at);
    }

    /// Is something there, the program's or what is kept for pinned memory?
    pub fn is_taken(&self, address: u64, bytes: u64) -> bool {
        let for_pinned = self.pinned_window.is_some_and(|window| {
            address < window.base + window.len && window.base < address.saturating_add(bytes)
        });
        let all = [&self.reservations, &self.lent];
        for_pinned || all.iter().any(|map| Self::overlaps(map, address, bytes))
    }

    pub fn in_spare(&self, address: u64, bytes: u64) -> bool {
        self.spare.iter().any(|window| {
            address >= window.base
                && address
                    .checked_add(bytes)
                    .is_some_and(|end| end <= window.base + window.len)
        })
    }

    fn overlaps(map: &BTreeMap<u64, u64>, address: u64, bytes: u64) -> bool {
        let before = map.range(..address.saturating_add(bytes)).next_back();
        before.is_some_and(|(base, len)| base + len > address)
    }

    /// The mappings that make up exactly this range.
    pub fn parts(&self, address: u64, bytes: u64) -> Result<Vec<u64>, CudaError> {
        let end = address.checked_add(bytes).filter(|_| bytes > 0);
        let end = end.ok_or(CudaError::INVALID_VALUE)?;
        let mut at = address;
        let mut parts = Vec::new();
        while at < end {
            let mapping = self.mappings.get(&at).ok_or(CudaError::INVALID_VALUE)?;
            parts.push(at);
            at += mapping.bytes;
        }
        match at == end {
            true => Ok(parts),
            false => Err(CudaError::INVALID_VALUE),
        }
    }

    /// Lets go of physical memory that nothing names and that is mapped nowhere.
    pub fn let_go(&mut self, session: &Session, id: u64) -> Result<(), CudaError> {
        match self.physical.get(&id) {
            Some(physical) if physical.handles == 0 && physical.mappings == 0 => {
                self.physical.remove(&id);
                send::rgpuPhysicalRelease(session, id)
            }
            _ => Ok(()),
        }
    }
}

/// The first free place in a window.
fn gap(
    window: &AddressWindow,
    taken: &[&BTreeMap<u64, u64>],
    bytes: u64,
    alignment: u64,
) -> Option<u64> {
    let end = window.base + window.len;
    let mut at = window.base.checked_next_multiple_of(alignment)?;
    let taken: BTreeMap<u64, u64> = taken
        .iter()
        .flat_map(|map| map.range(window.base..end))
        .map(|(base, len)| (*base, *len))
        .collect();
    for (base, len) in taken {
        if base - at.min(base) >= bytes {
            break;
        }
        at = (base + len).checked_next_multiple_of(alignment)?.max(at);
    }
    let room = end.checked_sub(at)?;
    (room >= bytes).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(access: u32) -> Mapping {
        Mapping {
            bytes: GRANULE,
            physical: 1,
            access: BTreeMap::from([(0, access)]),
            tag: Tag::default(),
        }
    }

    #[test]
    fn neighbours_are_one_range_where_they_are_usable() {
        let mut own = VirtualMemory::default();
        let base = 64 * GRANULE;
        for (number, access) in [READ_WRITE, READ_WRITE, 0].into_iter().enumerate() {
            let at = base + number as u64 * GRANULE;
            own.mappings.insert(at, mapping(access));
        }
        assert!(own.covers(base + 5, 2 * GRANULE - 5));
        assert!(!own.covers(base + 5, 2 * GRANULE - 4));
        assert!(!own.covers(base - 1, 1) && !own.covers(base, u64::MAX));
        assert_eq!(own.parts(base, 2 * GRANULE).unwrap().len(), 2);
        for (at, bytes) in [(base, 0), (base, GRANULE + 1), (base + 1, GRANULE)] {
            assert!(own.parts(at, bytes).is_err());
        }
    }

    #[test]
    fn places_never_overlap() {
        let [window, for_pinned] = [1, 2].map(|number| AddressWindow {
            base: number << 40,
            len: 16 * GRANULE,
        });
        let mut own = VirtualMemory::new(vec![window, for_pinned], 0);
        let mut placed = 0;
        for number in 1.. {
            let bytes = (number % 3 + 1) * GRANULE;
            let Some(at) = own.place(bytes, 2 * GRANULE) else {
                break;
            };
            assert!(at.is_multiple_of(2 * GRANULE) && own.in_spare(at, bytes));
            assert!(!own.is_taken(at, bytes));
            match number % 2 {
                0 => own.lent.insert(at, bytes),
                _ => own.reservations.insert(at, bytes),
            };
            placed += bytes;
        }
        assert!(placed >= 10 * GRANULE, "{placed}");
        let first = own.reservations.pop_first().unwrap();
        assert_eq!(own.place(first.1, GRANULE), Some(first.0));
        assert!(own.is_taken(for_pinned.base, 1));
        let pinned = own.occupy(16 * GRANULE);
        assert_eq!((pinned, own.occupy(1)), (Some(for_pinned.base), None));
        own.vacate(for_pinned.base);
        assert!(own.occupy(1).is_some());
    }
}
