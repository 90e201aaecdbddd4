//! What the client has reserved, made and mapped by itself. Pure: it decides, the caller drives the driver and says how that went.

use std::collections::{BTreeMap, HashMap};

use rgpu_proto::CudaError;

use crate::memory_map::Range;

/// Most reservations, pieces of physical memory and mappings of one session, each.
const MAX_ENTRIES: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
pub struct Physical {
    /// The driver's handle.
    pub handle: u64,
    pub device: i32,
    pub bytes: u64,
    /// Where it is mapped, or about to be.
    mappings: u32,
    /// Nothing of another session's is in it.
    is_clear: bool,
}

#[derive(Debug, Default)]
pub struct VirtualMemory {
    reservations: BTreeMap<u64, u64>,
    physical: HashMap<u64, Physical>,
    /// Bytes and id of physical memory, by address.
    mappings: BTreeMap<u64, (u64, u64)>,
}

impl VirtualMemory {
    /// Whether one more reservation may be made.
    pub fn may_reserve(&self) -> Result<(), CudaError> {
        match self.reservations.len() < MAX_ENTRIES {
            true => Ok(()),
            false => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    pub fn reserved(&mut self, range: Range) {
        self.reservations.insert(range.address, range.bytes);
    }

    /// A whole reservation, in which nothing is mapped, is given up.
    pub fn unreserve(&mut self, range: Range) -> Result<(), CudaError> {
        let Range { address, bytes } = range;
        if self.reservations.get(&address) != Some(&bytes)
            || self
                .mappings
                .range(address..address + bytes)
                .next()
                .is_some()
        {
            return Err(CudaError::INVALID_VALUE);
        }
        self.reservations.remove(&address);
        Ok(())
    }

    /// Whether physical memory may be made under this id.
    pub fn may_create(&self, id: u64) -> Result<(), CudaError> {
        if self.physical.contains_key(&id) {
            return Err(CudaError::INVALID_VALUE);
        }
        match self.physical.len() < MAX_ENTRIES {
            true => Ok(()),
            false => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    pub fn created(&mut self, id: u64, handle: u64, device: i32, bytes: u64) {
        let physical = Physical {
            handle,
            device,
            bytes,
            mappings: 0,
            is_clear: false,
        };
        self.physical.insert(id, physical);
    }

    /// Physical memory that is mapped nowhere is given up.
    pub fn release(&mut self, id: u64) -> Result<Physical, CudaError> {
        match self.physical.get(&id) {
            Some(physical) if physical.mappings == 0 => {}
            _ => return Err(CudaError::INVALID_VALUE),
        }
        self.physical.remove(&id).ok_or(CudaError::INVALID_VALUE)
    }

    /// Sets a mapping aside: the driver's handle, and its bytes. If the driver refuses it, say [`Self::unmapped`].
    pub fn map(&mut self, id: u64, address: u64) -> Result<(u64, u64), CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let physical = self.physical.get_mut(&id).ok_or(invalid)?;
        let bytes = physical.bytes;
        let end = address.checked_add(bytes).ok_or(invalid)?;
        let reserved = self.reservations.range(..=address).next_back();
        let taken = self.mappings.range(..end).next_back();
        if reserved.is_none_or(|(base, len)| end > base + len)
            || taken.is_some_and(|(base, (len, _))| base + len > address)
            || self.mappings.len() >= MAX_ENTRIES
        {
            return Err(invalid);
        }
        physical.mappings += 1;
        self.mappings.insert(address, (bytes, id));
        Ok((physical.handle, bytes))
    }

    /// The mappings that make up exactly this range.
    pub fn parts(&self, range: Range) -> Result<Vec<Range>, CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let end = range.address.checked_add(range.bytes);
        let end = end.filter(|_| range.bytes > 0).ok_or(invalid)?;
        let mut parts = Vec::new();
        let mut address = range.address;
        while address < end {
            let &(bytes, _) = self.mappings.get(&address).ok_or(invalid)?;
            parts.push(Range { address, bytes });
            address += bytes;
        }
        match address == end {
            true => Ok(parts),
            false => Err(invalid),
        }
    }

    /// Says of what is mapped here whether it is clear now; what was said before.
    pub fn set_clear(&mut self, address: u64, is_clear: bool) -> bool {
        let mapping = self.mappings.get(&address);
        let physical = mapping.and_then(|(_, id)| self.physical.get_mut(id));
        physical.is_some_and(|it| std::mem::replace(&mut it.is_clear, is_clear))
    }

    /// Nothing is mapped here any more.
    pub fn unmapped(&mut self, address: u64) {
        if let Some((_, id)) = self.mappings.remove(&address)
            && let Some(physical) = self.physical.get_mut(&id)
        {
            physical.mappings -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_is_mapped_and_only_where_it_was_reserved() {
        let mut own = VirtualMemory::default();
        let range = |address, bytes| Range { address, bytes };
        own.reserved(range(100, 30));
        own.may_create(7).unwrap();
        own.created(7, 70, 0, 10);
        own.created(8, 80, 1, 20);
        assert_eq!(own.may_create(7), Err(CudaError::INVALID_VALUE));
        for (id, at) in [(9, 100), (7, 99), (7, 121), (8, 111), (7, u64::MAX)] {
            assert_eq!(own.map(id, at), Err(CudaError::INVALID_VALUE), "{id} {at}");
        }
        assert_eq!(own.map(7, 100), Ok((70, 10)));
        assert_eq!(own.map(7, 109), Err(CudaError::INVALID_VALUE));
        assert_eq!(own.map(8, 110), Ok((80, 20)));
        assert_eq!(own.parts(range(100, 30)).unwrap().len(), 2);
        assert!(!own.set_clear(100, true) && !own.set_clear(110, true));
        assert!(own.set_clear(100, false) && !own.set_clear(100, true));
        assert!(!own.set_clear(101, true), "no mapping begins there");
        for (at, bytes) in [(100, 11), (100, 0), (101, 9), (100, u64::MAX)] {
            assert!(own.parts(range(at, bytes)).is_err());
        }
        assert!(own.release(7).is_err() && own.unreserve(range(100, 30)).is_err());
        own.unmapped(100);
        assert_eq!(own.release(7).unwrap().handle, 70);
        assert!(own.release(7).is_err());
        own.unmapped(110);
        own.unreserve(range(100, 30)).unwrap();
        assert!(own.unreserve(range(100, 30)).is_err());
        assert!(own.map(8, 100).is_err());
    }
}
