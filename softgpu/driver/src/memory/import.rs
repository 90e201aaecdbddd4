//! Memory of other processes.

use std::os::fd::{AsFd, AsRawFd};

use super::{Allocation, GRANULARITY, Kind, Memory, PAGE};
use crate::error::{Error, Result};
use crate::ipc::{self, IpcHandle, Place};

/// Of the file that physical memory is in.
pub(super) const FILE_NAME: &std::ffi::CStr = c"softgpu";

impl Memory {
    /// A handle by which other processes can use an allocation.
    pub fn export(&self, address: u64) -> Result<IpcHandle> {
        let found = self.find(address).ok_or(Error::ERROR_INVALID_VALUE)?;
        // Pools and graphs have their own ways, managed memory has none.
        if found.kind != Kind::Device || found.pool != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let state = self.state();
        let (start, physical) = match &found.physical {
            Some(physical) => (found.base, physical),
            None => {
                let chunk = state.chunks.range(..=found.base).next_back();
                let (&start, physical) = chunk.ok_or(Error::ERROR_INVALID_VALUE)?;
                (start, physical)
            }
        };
        let place = Place {
            device: found.device,
            offset: physical.offset,
            size: physical.size,
            from: found.base - start,
            bytes: found.size,
        };
        Ok(ipc::memory_handle(self.store.file.as_raw_fd(), place))
    }

    /// Makes an allocation of another process usable here; where it begins.
    pub fn import(&self, handle: &IpcHandle, context: u64) -> Result<u64> {
        let name = FILE_NAME.to_str().unwrap_or_default();
        let (file, place) = ipc::open_memory(handle, name)?;
        if !place.offset.is_multiple_of(PAGE) || !place.size.is_multiple_of(PAGE) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let span = place.size.next_multiple_of(GRANULARITY);
        let mut state = self.state();
        let at = state
            .addresses
            .take(span, GRANULARITY)
            .ok_or(Error::ERROR_MAP_FAILED)?;
        if self
            .space
            .map(at, place.size, file.as_fd(), place.offset)
            .is_err()
        {
            state.addresses.give(at, span);
            return Err(Error::ERROR_MAP_FAILED);
        }
        state.next_id += 1;
        let base = at + place.from;
        let allocation = Allocation {
            base,
            size: place.bytes,
            kind: Kind::Imported {
                from: place.from,
                span: place.size,
            },
            device: place.device,
            context,
            id: state.next_id,
            pool: 0,
            sync_memops: false,
            pooled: 0,
            physical: None,
        };
        state.allocations.insert(base, allocation);
        Ok(base)
    }

    /// Takes it away again.
    pub fn close(&self, base: u64) -> Result {
        let mut state = self.state();
        let (from, span) = match state.allocations.get(&base).map(|a| a.kind) {
            Some(Kind::Imported { from, span }) => (from, span),
            _ => return Err(Error::ERROR_INVALID_VALUE),
        };
        state.allocations.remove(&base);
        let at = base - from;
        if self.space.unmap(at, span).is_ok() {
            state.addresses.give(at, span.next_multiple_of(GRANULARITY));
        }
        Ok(())
    }
}
