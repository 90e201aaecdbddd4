//! Device, pinned and managed memory of this process, and the address window of all devices.
//!
//! Addresses of device memory are host addresses: the window is one reservation, physical memory is ranges of one
//! memfd, and both are handed out here. Callers make sure that nothing still uses what they free.

mod advice;
mod blocks;
mod exports;
mod host;
mod import;
mod mapping;
mod physical;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use softgpu_engine::AddressSpace;

pub use advice::{Advice, Location};
pub use blocks::Block;
pub use exports::Ticket;
pub use physical::Physical;
use physical::Store;

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
/// Stands for a pool in modules' variables, which go with their module.
pub const MODULE_OWNED: u64 = u64::MAX - 1;
const WINDOW_HINT: u64 = 0x2000_0000_0000;
/// Room also for the windows that a program keeps apart for each of many devices.
const WINDOW: u64 = 1 << 45;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    Managed,
    /// A CUDA array: programs do not know the address.
    Array,
    /// cuMemMap.
    Mapped,
    /// Of another process; where in its pages it begins, and their bytes.
    Imported {
        from: u64,
        span: u64,
    },
    /// cuMemHostAlloc, with its flags.
    Host(u32),
    /// cuMemHostRegister, with its flags.
    Registered(u32),
}

impl Kind {
    pub fn on_device(self) -> bool {
        matches!(
            self,
            Kind::Device | Kind::Managed | Kind::Array | Kind::Mapped | Kind::Imported { .. }
        )
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
    /// The stream-ordered pool that it came from; 0: none.
    pub pool: u64,
    /// CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, for those who ask for it back.
    pub sync_memops: bool,
    /// Bytes taken from the pool; 0: has its own chunk.
    pooled: u64,
    /// Own physical memory, for those with their own chunk.
    physical: Option<Arc<Physical>>,
}

impl Allocation {
    /// Whether its physical memory can be had by a descriptor.
    pub fn is_shareable(&self) -> bool {
        let physical = self.physical.as_ref();
        physical.is_some_and(|physical| physical.file().is_some())
    }
}

pub struct Memory {
    pub space: AddressSpace,
    store: Arc<Store>,
    /// Where in the store's file the table of exported allocations begins.
    table: u64,
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
    advices: advice::Advices,
    exports: exports::Exports,
    /// By where the allocation begins.
    imports: BTreeMap<u64, import::Import>,
    next_id: u64,
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
        let fd = unsafe { libc::memfd_create(import::FILE_NAME.as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a valid descriptor. Sparse: costs what is used of it.
        if unsafe { libc::ftruncate(file.as_raw_fd(), (size + exports::BYTES) as i64) } != 0 {
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
            table: size,
            check: config.check_memory,
            state: Mutex::new(State {
                addresses: Ranges::new(base, len),
                allocations: BTreeMap::new(),
                pools: (0..config.devices).map(|_| Pool::default()).collect(),
                chunks: BTreeMap::new(),
                host_pool: Pool::default(),
                reservations: BTreeMap::new(),
                advices: advice::Advices::default(),
                exports: exports::Exports::default(),
                imports: BTreeMap::new(),
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

    /// Bytes of a device that this process holds, as the machine's ledger has it.
    pub fn held(&self, device: usize) -> u64 {
        self.store.ledger.held(device)
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
                pool: 0,
                sync_memops: false,
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
        let (file, offset) = physical.place();
        if self.space.map(at, mapped, file, offset).is_err() {
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

    /// The allocation of the program's that begins at `base`.
    pub fn starts_at(&self, base: u64) -> Option<Allocation> {
        let found = self.state().allocations.get(&base).cloned();
        found.filter(|allocation| allocation.kind != Kind::Array)
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
        if allocation.kind == Kind::Managed {
            state.advices.forget(base, allocation.size);
        }
        let (file, table) = (self.store.file.as_fd(), self.table);
        state.exports.forget(allocation.id, file, table);
        self.give_back(&mut state, allocation.into());
        Ok(())
    }

    /// Frees the memory of an array.
    pub fn free_array(&self, base: u64) -> Result {
        let mut state = self.state();
        match state.allocations.get(&base) {
            Some(allocation) if allocation.kind == Kind::Array => {}
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        if let Some(allocation) = state.allocations.remove(&base) {
            self.give_back(&mut state, allocation.into());
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
                Kind::Array => self.free_array(allocation.base),
                Kind::Host(_) => self.free_host(allocation.base),
                Kind::Registered(_) => self.unregister(allocation.base),
                Kind::Imported { .. } => self.end_import(allocation.base),
                // Mappings belong to nobody until cuMemUnmap.
                Kind::Mapped => Ok(()),
            };
        }
    }

    /// The allocation of the program's that contains `address`.
    pub fn find(&self, address: u64) -> Option<Allocation> {
        let state = self.state();
        let (_, allocation) = state.allocations.range(..=address).next_back()?;
        let known = allocation.kind != Kind::Array;
        (known && address - allocation.base < allocation.size).then(|| allocation.clone())
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
}
