//! Virtual memory management: reserved addresses, physical memory, and mappings of the one to the other.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Allocation, GRANULARITY, Kind, Memory, Physical, State};
use crate::error::{Error, Result};

impl Memory {
    pub fn reserve(&self, size: u64, align: u64, hint: u64) -> Result<u64> {
        if size == 0
            || !size.is_multiple_of(GRANULARITY)
            || !(align == 0 || align.is_power_of_two())
        {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let align = align.max(GRANULARITY);
        let mut state = self.state();
        let hinted = hint != 0 && hint.is_multiple_of(align) && state.addresses.take_at(hint, size);
        let at = if hinted {
            Some(hint)
        } else {
            state.addresses.take(size, align)
        };
        let at = at.ok_or(Error::ERROR_OUT_OF_MEMORY)?;
        state.reservations.insert(at, size);
        Ok(at)
    }

    pub fn unreserve(&self, at: u64, size: u64) -> Result {
        let mut state = self.state();
        if state.reservations.get(&at) != Some(&size)
            || state.allocations.range(at..at + size).next().is_some()
        {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        state.reservations.remove(&at);
        state.addresses.give(at, size);
        Ok(())
    }

    /// `shareable`: other processes may have it, too.
    pub fn create(&self, device: usize, size: u64, shareable: bool) -> Result<Arc<Physical>> {
        if size == 0 || !size.is_multiple_of(GRANULARITY) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        match shareable {
            true => self.store.take_shareable(device, size),
            false => self.store.take(device, size),
        }
    }

    /// Physical memory behind a descriptor of [`Physical::file`]'s.
    pub fn import_physical(&self, file: OwnedFd) -> Result<Arc<Physical>> {
        self.store.import(file)
    }

    /// Binds physical memory to reserved addresses; usable after [`Memory::set_access`].
    pub fn map(&self, at: u64, size: u64, physical: &Arc<Physical>) -> Result {
        let end = at.checked_add(size).ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut state = self.state();
        let reserved = state
            .reservations
            .range(..=at)
            .next_back()
            .is_some_and(|(start, len)| end <= start + len);
        let taken = state
            .allocations
            .range(..end)
            .next_back()
            .is_some_and(|(_, a)| a.base + a.size > at);
        if !reserved || taken || size != physical.size || !at.is_multiple_of(GRANULARITY) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        state.next_id += 1;
        let id = state.next_id;
        let (device, physical) = (physical.device, Some(physical.clone()));
        let mapping = Allocation {
            base: at,
            size,
            kind: Kind::Mapped,
            device,
            context: 0,
            id,
            pooled: 0,
            pool: 0,
            sync_memops: false,
            physical,
        };
        state.allocations.insert(at, mapping);
        Ok(())
    }

    /// All mappings of the range, which must cover it exactly.
    fn mappings(state: &State, at: u64, size: u64) -> Result<Vec<(u64, Arc<Physical>)>> {
        let end = at
            .checked_add(size)
            .filter(|_| size > 0)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut reached = at;
        let mut out = Vec::new();
        while reached < end {
            let mapping = state
                .allocations
                .get(&reached)
                .filter(|a| a.kind == Kind::Mapped)
                .ok_or(Error::ERROR_INVALID_VALUE)?;
            out.push((
                reached,
                mapping.physical.clone().ok_or(Error::ERROR_INVALID_VALUE)?,
            ));
            reached += mapping.size;
        }
        if reached == end {
            Ok(out)
        } else {
            Err(Error::ERROR_INVALID_VALUE)
        }
    }

    pub fn set_access(&self, at: u64, size: u64, usable: bool) -> Result {
        let state = self.state();
        for (start, physical) in Memory::mappings(&state, at, size)? {
            let resident = self.space.check(start, 1);
            let changed = match (usable, resident) {
                (true, false) => {
                    let (file, offset) = physical.place();
                    self.space.map(start, physical.size, file, offset)
                }
                (false, true) => self.space.unmap(start, physical.size),
                _ => Ok(()),
            };
            changed.map_err(|_| Error::ERROR_OUT_OF_MEMORY)?;
        }
        Ok(())
    }

    /// Is the mapping at `address` usable?
    pub fn access(&self, address: u64) -> Result<bool> {
        match self.find(address) {
            Some(_) => Ok(self.space.check(address, 1)),
            None => Err(Error::ERROR_INVALID_VALUE),
        }
    }

    /// The physical memory behind a mapping (cuMemRetainAllocationHandle).
    pub fn physical_at(&self, address: u64) -> Option<Arc<Physical>> {
        self.find(address)
            .filter(|a| a.kind == Kind::Mapped)?
            .physical
    }

    pub fn unmap(&self, at: u64, size: u64) -> Result {
        let mut state = self.state();
        for (start, physical) in Memory::mappings(&state, at, size)? {
            if self.space.check(start, 1) {
                self.space
                    .unmap(start, physical.size)
                    .map_err(|_| Error::ERROR_UNMAP_FAILED)?;
            }
            state.allocations.remove(&start);
        }
        Ok(())
    }
}
