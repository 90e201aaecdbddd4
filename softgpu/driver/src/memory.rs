//! Device, pinned and managed memory of this process, and the address window of all devices.
//!
//! Addresses of device memory are host addresses: the window is one reservation, physical memory is ranges of one
//! memfd, and both are handed out here. Callers make sure that nothing still uses what they free.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use softgpu_engine::AddressSpace;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::ranges::{Pool, Ranges};

/// Unit of physical memory and of reserved addresses.
pub const GRANULARITY: u64 = 2 << 20;
/// cuMemAlloc: "suitably aligned for any kind of variable"; 256 bytes since the first GPUs, 512 in practice.
const ALIGN: u64 = 512;
const SMALL: u64 = 1 << 20;
const PAGE: u64 = 4096;
const WINDOW_HINT: u64 = 0x2000_0000_0000;
const WINDOW: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    Managed,
    /// cuMemMap.
    Mapped,
    /// cuMemHostAlloc, with its flags.
    Host(u32),
    /// cuMemHostRegister, with its flags.
    Registered(u32),
}

impl Kind {
    pub fn on_device(self) -> bool {
        matches!(self, Kind::Device | Kind::Managed | Kind::Mapped)
    }
}

/// One allocation as the program sees it.
#[derive(Clone)]
pub struct Allocation {
    pub base: u64,
    pub size: u64,
    pub kind: Kind,
    pub device: usize,
    /// Owner, so that its destruction frees the memory.
    pub context: u64,
    /// CU_POINTER_ATTRIBUTE_BUFFER_ID: unique for the process.
    pub id: u64,
    /// Bytes taken from the pool; 0: has its own chunk.
    pooled: u64,
    /// Own physical memory, for those with their own chunk.
    physical: Option<Arc<Physical>>,
}

/// Physical memory of one device, released when nobody holds or maps it.
pub struct Physical {
    pub device: usize,
    pub size: u64,
    offset: u64,
    store: Arc<Store>,
}

/// Where physical memory comes from.
struct Store {
    file: OwnedFd,
    free: Mutex<Ranges>,
    ledger: Arc<Ledger>,
    total: u64,
}

pub struct Memory {
    pub space: AddressSpace,
    store: Arc<Store>,
    check: bool,
    state: Mutex<State>,
}

struct State {
    addresses: Ranges,
    allocations: BTreeMap<u64, Allocation>,
    /// Per device, with the physical memory of each chunk.
    pools: Vec<Pool>,
    chunks: BTreeMap<u64, Arc<Physical>>,
    host_pool: Pool,
    reservations: BTreeMap<u64, u64>,
    next_id: u64,
}

impl Store {
    fn take(self: &Arc<Store>, device: usize, size: u64) -> Result<Arc<Physical>> {
        if !self.ledger.take(device, size, self.total) {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        match free.take(size, GRANULARITY) {
            Some(offset) => Ok(Arc::new(Physical {
                device,
                size,
                offset,
                store: self.clone(),
            })),
            None => {
                self.ledger.give_back(device, size);
                Err(Error::ERROR_OUT_OF_MEMORY)
            }
        }
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the range is ours and mapped nowhere; its pages go back to the system and read as zero later.
        unsafe {
            libc::fallocate(
                self.store.file.as_raw_fd(),
                mode,
                self.offset as i64,
                self.size as i64,
            )
        };
        self.store
            .free
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .give(self.offset, self.size);
        self.store.ledger.give_back(self.device, self.size);
    }
}

impl Memory {
    pub fn new(config: &Config, ledger: Arc<Ledger>) -> io::Result<Memory> {
        // Where address space is limited (ulimit -v, containers), a smaller window serves.
        let need = (config.memory * config.devices.max(1) as u64 * 2)
            .max(1 << 32)
            .next_power_of_two();
        let mut size = WINDOW.max(need);
        let space = loop {
            match AddressSpace::reserve(WINDOW_HINT, size) {
                Ok(space) => break space,
                Err(e) if size / 2 < need => return Err(e),
                Err(_) => size /= 2,
            }
        };
        // SAFETY: a literal name; the result is checked.
        let fd = unsafe { libc::memfd_create(c"softgpu".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a valid descriptor. Sparse: costs what is used of it.
        if unsafe { libc::ftruncate(file.as_raw_fd(), size as i64) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let base = space.base().next_multiple_of(GRANULARITY);
        let len = (space.base() + space.len() - base) & !(GRANULARITY - 1);
        Ok(Memory {
            store: Arc::new(Store {
                file,
                free: Mutex::new(Ranges::new(0, size)),
                ledger,
                total: config.memory,
            }),
            check: config.check_memory,
            state: Mutex::new(State {
                addresses: Ranges::new(base, len),
                allocations: BTreeMap::new(),
                pools: (0..config.devices).map(|_| Pool::default()).collect(),
                chunks: BTreeMap::new(),
                host_pool: Pool::default(),
                reservations: BTreeMap::new(),
                next_id: 0,
            }),
            space,
        })
    }

    /// (free, total) of a device, over all processes.
    pub fn info(&self, device: usize) -> (u64, u64) {
        (
            self.store
                .total
                .saturating_sub(self.store.ledger.used(device)),
            self.store.total,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn allocate(&self, device: usize, context: u64, size: u64, kind: Kind) -> Result<u64> {
        if size == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if size > self.store.total {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        let mut state = self.state();
        let (base, pooled, physical) = if size <= SMALL && !self.check {
            let rounded = size.next_multiple_of(ALIGN);
            let at = match state.pools[device].take(rounded, ALIGN) {
                Some(at) => at,
                None => {
                    let (at, physical) =
                        self.chunk(&mut state, device, GRANULARITY, GRANULARITY)?;
                    state.chunks.insert(at, physical);
                    state.pools[device].add(at, GRANULARITY);
                    state.pools[device]
                        .take(rounded, ALIGN)
                        .ok_or(Error::ERROR_OUT_OF_MEMORY)?
                }
            };
            (at, rounded, None)
        } else {
            // Under SOFTGPU_CHECK=memory every allocation has pages of its own, and a hole behind them.
            let chunk = (size + if self.check { PAGE } else { 0 }).next_multiple_of(GRANULARITY);
            let mapped = if self.check {
                size.next_multiple_of(PAGE)
            } else {
                chunk
            };
            let (at, physical) = self.chunk(&mut state, device, chunk, mapped)?;
            (at, 0, Some(physical))
        };
        state.next_id += 1;
        let id = state.next_id;
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
                physical,
            },
        );
        Ok(base)
    }

    /// New physical memory at a new address, of which the first `mapped` bytes can be used.
    fn chunk(
        &self,
        state: &mut State,
        device: usize,
        size: u64,
        mapped: u64,
    ) -> Result<(u64, Arc<Physical>)> {
        let physical = self.store.take(device, size)?;
        let at = state
            .addresses
            .take(size, GRANULARITY)
            .ok_or(Error::ERROR_OUT_OF_MEMORY)?;
        if self
            .space
            .map(at, mapped, self.store.file.as_fd(), physical.offset)
            .is_err()
        {
            state.addresses.give(at, size);
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        Ok((at, physical))
    }

    fn drop_chunk(&self, state: &mut State, at: u64, physical: Arc<Physical>) {
        // An unmap that fails (out of map entries) leaves the range unusable: better than handing it out twice.
        if self.space.unmap(at, physical.size).is_ok() {
            state.addresses.give(at, physical.size);
        }
    }

    /// The allocation that begins at `base`, if `free` would take it.
    pub fn starts_at(&self, base: u64) -> Option<Allocation> {
        self.state().allocations.get(&base).cloned()
    }

    /// Frees device memory of [`Memory::allocate`].
    pub fn free(&self, base: u64) -> Result {
        let mut state = self.state();
        match state.allocations.get(&base).map(|a| a.kind) {
            Some(Kind::Device | Kind::Managed) => {}
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        let Some(allocation) = state.allocations.remove(&base) else {
            return Err(Error::ERROR_INVALID_VALUE);
        };
        match allocation.physical {
            Some(physical) => self.drop_chunk(&mut state, base, physical),
            None => {
                if let Some((start, _)) =
                    state.pools[allocation.device].give(base, allocation.pooled)
                    && let Some(physical) = state.chunks.remove(&start)
                {
                    self.drop_chunk(&mut state, start, physical);
                }
            }
        }
        Ok(())
    }

    /// Everything that a context owns, when it is destroyed.
    pub fn free_context(&self, context: u64) {
        let owned: Vec<Allocation> = self
            .state()
            .allocations
            .values()
            .filter(|a| a.context == context)
            .cloned()
            .collect();
        for allocation in owned {
            let _ = match allocation.kind {
                Kind::Device | Kind::Managed => self.free(allocation.base),
                Kind::Host(_) => self.free_host(allocation.base),
                Kind::Registered(_) => self.unregister(allocation.base),
                // Mappings belong to nobody until cuMemUnmap.
                Kind::Mapped => Ok(()),
            };
        }
    }

    /// The allocation that contains `address`.
    pub fn find(&self, address: u64) -> Option<Allocation> {
        let state = self.state();
        let (_, allocation) = state.allocations.range(..=address).next_back()?;
        (address - allocation.base < allocation.size).then(|| allocation.clone())
    }

    /// What kind of memory `len` bytes at `address` are. None: nothing of CUDA's, that is pageable host memory.
    /// An error when the range begins in an allocation and runs past it.
    pub fn classify(&self, address: u64, len: u64) -> Result<Option<Kind>> {
        let state = self.state();
        let Some((_, first)) = state.allocations.range(..=address).next_back() else {
            return Ok(None);
        };
        if address - first.base >= first.size {
            return Ok(None);
        }
        let Some(end) = address.checked_add(len) else {
            return Err(Error::ERROR_INVALID_VALUE);
        };
        let mut reached = first.base + first.size;
        // Neighbouring mappings of a reservation are one range to the program.
        while reached < end {
            match state.allocations.get(&reached) {
                Some(next) if first.kind == Kind::Mapped && next.kind == Kind::Mapped => {
                    reached += next.size
                }
                _ => return Err(Error::ERROR_INVALID_VALUE),
            }
        }
        if first.kind.on_device() && !self.space.check(address, len.max(1)) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Ok(Some(first.kind))
    }

    pub fn in_window(&self, address: u64) -> bool {
        address.wrapping_sub(self.space.base()) < self.space.len()
    }

    // Host memory.

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

    // Virtual memory management.

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

    pub fn create(&self, device: usize, size: u64) -> Result<Arc<Physical>> {
        if size == 0 || !size.is_multiple_of(GRANULARITY) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        self.store.take(device, size)
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
                (true, false) => self.space.map(
                    start,
                    physical.size,
                    self.store.file.as_fd(),
                    physical.offset,
                ),
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

    /// Gives allocation-order ids to those who want to know whether memory was reallocated.
    pub fn is_reserved(&self, address: u64) -> bool {
        self.state()
            .reservations
            .range(..=address)
            .next_back()
            .is_some_and(|(start, len)| address - start < *len)
    }
}
