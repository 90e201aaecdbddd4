//! Pinned and registered memory of the host.

use super::{Allocation, GRANULARITY, Kind, Memory, PAGE, SMALL};
use crate::error::{Error, Result};

impl Memory {
    pub fn allocate_host(&self, device: usize, context: u64, size: u64, flags: u32) -> Result<u64> {
        if size == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let mut state = self.state();
        let (base, pooled) = if size <= SMALL / 2 {
            let rounded = size.next_multiple_of(PAGE);
            let at = match state.host_pool.take(rounded, PAGE) {
                Some(at) => at,
                None => {
                    let at = self.host_pages(GRANULARITY)?;
                    state.host_pool.add(at, GRANULARITY);
                    state
                        .host_pool
                        .take(rounded, PAGE)
                        .ok_or(Error::ERROR_OUT_OF_MEMORY)?
                }
            };
            (at, rounded)
        } else {
            (
                self.host_pages(
                    size.checked_next_multiple_of(PAGE)
                        .ok_or(Error::ERROR_OUT_OF_MEMORY)?,
                )?,
                0,
            )
        };
        state.next_id += 1;
        let id = state.next_id;
        let kind = Kind::Host(flags);
        state.allocations.insert(
            base,
            Allocation {
                base,
                size,
                kind,
                device,
                context,
                id,
                pooled,
                pool: 0,
                sync_memops: false,
                physical: None,
            },
        );
        Ok(base)
    }

    fn host_pages(&self, size: u64) -> Result<u64> {
        // SAFETY: new private pages at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        if self.space.allow_host(at as u64, size).is_err() {
            // SAFETY: mapped above.
            unsafe { libc::munmap(at, size as usize) };
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        Ok(at as u64)
    }

    fn drop_host_pages(&self, at: u64, size: u64) {
        if self.space.forbid_host(at).is_ok() {
            // SAFETY: pages of `host_pages` that nothing uses any more.
            unsafe { libc::munmap(at as *mut libc::c_void, size as usize) };
        }
    }

    pub fn free_host(&self, base: u64) -> Result {
        let mut state = self.state();
        if !matches!(
            state.allocations.get(&base),
            Some(Allocation {
                kind: Kind::Host(_),
                ..
            })
        ) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let Some(allocation) = state.allocations.remove(&base) else {
            return Err(Error::ERROR_INVALID_VALUE);
        };
        if allocation.pooled == 0 {
            self.drop_host_pages(base, allocation.size.next_multiple_of(PAGE));
        } else if let Some((start, len)) = state.host_pool.give(base, allocation.pooled) {
            self.drop_host_pages(start, len);
        }
        Ok(())
    }

    pub fn register(
        &self,
        device: usize,
        context: u64,
        base: u64,
        size: u64,
        flags: u32,
    ) -> Result {
        let end = base
            .checked_add(size)
            .filter(|_| size > 0 && base != 0)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut state = self.state();
        if state
            .allocations
            .range(..end)
            .next_back()
            .is_some_and(|(_, a)| a.base + a.size > base)
        {
            return Err(Error::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.space
            .allow_host(base, size)
            .map_err(|_| Error::ERROR_INVALID_VALUE)?;
        state.next_id += 1;
        let id = state.next_id;
        let kind = Kind::Registered(flags);
        state.allocations.insert(
            base,
            Allocation {
                base,
                size,
                kind,
                device,
                context,
                id,
                pooled: 0,
                pool: 0,
                sync_memops: false,
                physical: None,
            },
        );
        Ok(())
    }

    pub fn unregister(&self, base: u64) -> Result {
        let mut state = self.state();
        if !matches!(
            state.allocations.get(&base),
            Some(Allocation {
                kind: Kind::Registered(_),
                ..
            })
        ) {
            return Err(Error::ERROR_HOST_MEMORY_NOT_REGISTERED);
        }
        let _ = self.space.forbid_host(base);
        state.allocations.remove(&base);
        Ok(())
    }
}
