//! Memory for other processes, and of other processes.

use std::os::fd::{AsFd, AsRawFd};

use super::{Allocation, GRANULARITY, Kind, Memory, PAGE};
use crate::error::{Error, Result};
use crate::ipc::{self, IpcHandle, Place};

/// Of the file that physical memory is in.
pub(super) const FILE_NAME: &std::ffi::CStr = c"softgpu";

/// What was opened in a context: once, however often the program opens it.
pub(super) struct Import {
    handle: IpcHandle,
    context: u64,
    opened: u32,
}

impl Memory {
    /// A handle by which other processes can use an allocation.
    pub fn export(&self, address: u64) -> Result<IpcHandle> {
        let found = self.find(address).ok_or(Error::ERROR_INVALID_VALUE)?;
        // Pools and graphs have their own ways, managed memory has none.
        if found.kind != Kind::Device || found.pool != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let mut state = self.state();
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
            offset: physical.place().1,
            size: physical.size,
            from: found.base - start,
            bytes: found.size,
        };
        let file = self.store.file.as_fd();
        let ticket = state.exports.ticket(found.id, file, self.table)?;
        ipc::memory_handle(file.as_raw_fd(), place, ticket)
    }

    /// Makes an allocation of another process usable here; where it begins.
    pub fn import(&self, handle: &IpcHandle, context: u64, devices: &[usize]) -> Result<u64> {
        let name = FILE_NAME.to_str().unwrap_or_default();
        let (file, place) = ipc::open_memory(handle, name)?;
        if !place.offset.is_multiple_of(PAGE) || !place.size.is_multiple_of(PAGE) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if !devices.contains(&place.device) {
            return Err(Error::ERROR_MAP_FAILED);
        }
        let mut state = self.state();
        let known = state
            .imports
            .iter_mut()
            .find(|(_, import)| (import.handle, import.context) == (*handle, context));
        if let Some((base, import)) = known {
            import.opened += 1;
            return Ok(*base);
        }
        let span = place.size.next_multiple_of(GRANULARITY);
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
        let import = Import {
            handle: *handle,
            context,
            opened: 1,
        };
        state.imports.insert(base, import);
        Ok(base)
    }

    /// Whether closing it once more takes it away.
    pub fn is_closed_next(&self, base: u64) -> bool {
        let state = self.state();
        state.imports.get(&base).is_some_and(|it| it.opened <= 1)
    }

    /// Takes it away again, when it has been closed as often as it was opened.
    pub fn close(&self, base: u64) -> Result {
        let mut state = self.state();
        let import = state.imports.get_mut(&base);
        let import = import.ok_or(Error::ERROR_INVALID_VALUE)?;
        if import.opened > 1 {
            import.opened -= 1;
            return Ok(());
        }
        drop(state);
        self.end_import(base)
    }

    /// Takes it away however often it was opened.
    pub(super) fn end_import(&self, base: u64) -> Result {
        let mut state = self.state();
        let (from, span) = match state.allocations.get(&base).map(|a| a.kind) {
            Some(Kind::Imported { from, span }) => (from, span),
            _ => return Err(Error::ERROR_INVALID_VALUE),
        };
        state.allocations.remove(&base);
        state.imports.remove(&base);
        let at = base - from;
        if self.space.unmap(at, span).is_ok() {
            state.addresses.give(at, span.next_multiple_of(GRANULARITY));
        }
        Ok(())
    }
}
