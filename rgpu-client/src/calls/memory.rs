//! Device memory: the mirror of what the program holds, and allocations, which the client places itself.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeMap;

use rgpu_proto::handshake::AddressWindow;
use rgpu_proto::{CudaError, calls};

use super::advice::Advices;
use super::capture;
use super::context::current_device;
use super::host::{self, HostMemory};
use super::managed::{self, Sharing};
use super::pool;
use crate::device::Device;
use crate::entry::{Needs, enter, put, put_opt, required};
use crate::greeting::granted;
use crate::heap::{self, Allocation, Heap, Plan, Tag};
use crate::ipc::Ipc;
use crate::pool::{Back, Order, Pools};
use crate::send;
use crate::servers::Of;
use crate::session::Session;
use crate::virtual_memory::VirtualMemory;

/// `kind` of rgpuMemoryMap: in the window, or where the driver likes.
const IN_WINDOW: u32 = 0;
const BY_DRIVER: u32 = 1;

/// Where one device's memory comes from.
enum Source {
    Window(Heap),
    /// The driver chooses addresses.
    Driver(BTreeMap<u64, Allocation>),
}

struct DeviceMemory {
    ordinal: i32,
    source: Source,
}

/// How a call names the memory on one side of a copy, and, of an address that was looked up, where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Host,
    Device,
    /// By its address.
    Any,
}

/// Memory of CUDA's that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub base: u64,
    pub size: u64,
    pub owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of the device with this number among the program's.
    Allocated {
        device: usize,
        context: u64,
        tag: Tag,
    },
    /// Of another process.
    Imported {
        device: usize,
        context: u64,
        tag: Tag,
    },
    /// Physical memory that the program has mapped.
    Mapped {
        device: usize,
        usable: bool,
        tag: Tag,
    },
    /// A variable of this module or library, or memory of this graph. Host and device share it if it is managed; then this is the device
    /// whose memory it is.
    Variable { owner: u64, managed: Option<i32> },
    /// Host memory that was allocated or registered.
    Host {
        context: u64,
        registered: bool,
        flags: u32,
        zero_copy: bool,
        tag: Tag,
    },
}

/// What a module, a library or a graph has, as in [`Owner::Variable`].
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub size: u64,
    pub owner: u64,
    pub managed: Option<i32>,
}

impl Found {
    pub fn sharing(&self) -> Sharing {
        match self.owner {
            Owner::Allocated { tag, .. } => tag.sharing,
            Owner::Variable {
                managed: Some(_), ..
            } => Sharing::Managed,
            _ => Sharing::None,
        }
    }

    pub fn is_on_device(&self) -> bool {
        !matches!(self.owner, Owner::Host { .. })
    }

    /// Whether the device can use these bytes where they are.
    pub fn is_the_devices(&self) -> bool {
        !matches!(
            self.owner,
            Owner::Host {
                zero_copy: false,
                ..
            }
        )
    }
}

/// The mirror of the program's memory.
pub struct Memory {
    devices: Vec<DeviceMemory>,
    pub(crate) host: HostMemory,
    /// By address.
    globals: BTreeMap<u64, Variable>,
    pub(super) pools: Pools,
    pub(super) virtual_memory: VirtualMemory,
    pub(super) advices: Advices,
    pub(super) ipc: Ipc,
    /// The last number that was given to an allocation.
    last_id: u64,
    /// What the server has been told of [`Memory::unused`], by device.
    told: Vec<u64>,
}

impl Memory {
    /// `credit`: what is mapped on the first device already, as [`Heap::credit`] has it.
    pub fn new<'a>(
        devices: impl Iterator<Item = Option<&'a Device>>,
        windows: &[AddressWindow],
        spare: Vec<AddressWindow>,
        credit: &[u64],
        mark: u64,
    ) -> Memory {
        let devices: Vec<DeviceMemory> = devices
            .map(|device| {
                // Nothing is ever allocated on a device of another server's.
                let Some(device) = device else {
                    return DeviceMemory {
                        ordinal: -1,
                        source: Source::Driver(BTreeMap::new()),
                    };
                };
                let source = match granted(windows, device.ordinal as usize) {
                    Some((base, len)) => {
                        let mut heap = Heap::new(base, len);
                        if device.ordinal == 0 {
                            heap.credit(credit);
                        }
                        Source::Window(heap)
                    }
                    None => Source::Driver(BTreeMap::new()),
                };
                DeviceMemory {
                    ordinal: device.ordinal,
                    source,
                }
            })
            .collect();
        Memory {
            told: vec![0; devices.len()],
            pools: Pools::new(devices.len(), mark),
            virtual_memory: VirtualMemory::new(spare, mark),
            advices: Advices::default(),
            ipc: Ipc::default(),
            devices,
            host: HostMemory::default(),
            globals: BTreeMap::new(),
            last_id: mark,
        }
    }

    /// Mapped memory of a device that the program does not use.
    fn unused(&self, device: usize) -> u64 {
        match &self.devices[device].source {
            Source::Window(heap) => heap.unused(),
            Source::Driver(_) => 0,
        }
    }

    /// What the server is yet to be told of it: the server's number of the device, and bytes.
    pub fn untold(&mut self) -> Vec<(i32, u64)> {
        let mut news = Vec::new();
        for device in 0..self.devices.len() {
            let unused = self.unused(device);
            if std::mem::replace(&mut self.told[device], unused) != unused {
                news.push((self.devices[device].ordinal, unused));
            }
        }
        news
    }

    /// Notes a module's variable, so that copies may reach it.
    pub fn note_global(&mut self, address: u64, variable: Variable) {
        self.globals.insert(address, variable);
    }

    pub fn note_graph_memory(&mut self, address: u64, size: u64, graph: u64) {
        let variable = Variable {
            size,
            owner: graph,
            managed: None,
        };
        self.note_global(address, variable);
    }

    /// Whether memory that begins here is a graph's, as `is_graph` knows its owner.
    pub fn graph_memory(&self, address: u64, is_graph: impl FnOnce(u64) -> bool) -> bool {
        let found = self.globals.get(&address);
        found.is_some_and(|found| is_graph(found.owner))
    }

    /// What belongs to one owner is another's from now on.
    pub fn hand_over_globals(&mut self, from: u64, to: u64) {
        let of_it = self.globals.values_mut().filter(|it| it.owner == from);
        of_it.for_each(|variable| variable.owner = to);
    }

    pub fn forget_globals(&mut self, owner: u64) {
        self.globals.retain(|_, variable| variable.owner != owner);
    }

    /// A number that no other allocation of the process has or had.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The memory that holds the address.
    pub fn find(&self, address: u64) -> Option<Found> {
        self.find_allocated(address)
            .or_else(|| {
                let (base, variable) = self.globals.range(..=address).next_back()?;
                let Variable {
                    size,
                    owner,
                    managed,
                } = *variable;
                (address - base < size).then_some(Found {
                    base: *base,
                    size,
                    owner: Owner::Variable { owner, managed },
                })
            })
            .or_else(|| self.host.find(address))
            .or_else(|| self.virtual_memory.find(address))
            .or_else(|| self.ipc.find(address))
    }

    fn find_allocated(&self, address: u64) -> Option<Found> {
        let held = self.devices.iter().map(|device| match &device.source {
            Source::Window(heap) => heap.find(address),
            Source::Driver(list) => {
                let (base, allocation) = list.range(..=address).next_back()?;
                (address - base < allocation.size).then_some((*base, *allocation))
            }
        });
        let (device, (base, allocation)) = held
            .enumerate()
            .find_map(|(device, found)| Some((device, found?)))?;
        let Allocation {
            size, context, tag, ..
        } = allocation;
        Some(Found {
            base,
            size,
            owner: Owner::Allocated {
                device,
                context,
                tag,
            },
        })
    }

    /// Whether all of this is one allocation's of this process.
    pub fn is_allocated(&self, address: u64, bytes: u64) -> bool {
        let found = self.find_allocated(address);
        found.is_some_and(|found| bytes <= found.size - (address - found.base))
    }

    /// What is remembered of the allocation or pinned block that holds the address.
    pub fn tag(&mut self, address: u64) -> Option<&mut Tag> {
        for device in &mut self.devices {
            let found = match &mut device.source {
                Source::Window(heap) => heap.tag(address),
                Source::Driver(list) => list
                    .range_mut(..=address)
                    .next_back()
                    .filter(|(base, allocation)| address - **base < allocation.size)
                    .map(|(_, allocation)| &mut allocation.tag),
            };
            if found.is_some() {
                return found;
            }
        }
        if self.virtual_memory.find(address).is_some() {
            return self.virtual_memory.tag(address);
        }
        if self.ipc.find(address).is_some() {
            return self.ipc.tag(address);
        }
        self.host.tag(address)
    }

    /// Where the side of a copy is that a call names so; INVALID_VALUE unless all bytes lie in one piece of memory that fits the name.
    /// Pinned memory is the device's, too; addresses of CUDA's that hold nothing are nobody's.
    pub fn side(&self, place: Place, address: u64, bytes: u64) -> Result<Place, CudaError> {
        let Some(found) = self.find(address) else {
            let pageable = place != Place::Device && address != 0 && !self.is_window(address);
            return match pageable && bytes <= isize::MAX as u64 {
                true => Ok(Place::Host),
                false => Err(CudaError::INVALID_VALUE),
            };
        };
        let fits = match found.owner {
            Owner::Mapped { .. } => self.virtual_memory.covers(address, bytes),
            _ => bytes <= found.size - (address - found.base),
        };
        if !fits {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok(match found.is_the_devices() {
            true => Place::Device,
            false => Place::Host,
        })
    }

    /// INVALID_VALUE unless all bytes lie in one piece of device memory.
    pub fn check(&self, address: u64, bytes: u64) -> Result<(), CudaError> {
        match self.side(Place::Device, address, bytes)? {
            Place::Device => Ok(()),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    /// Whether the client places this device's memory.
    pub fn has_window(&self, device: usize) -> bool {
        let source = self.devices.get(device).map(|device| &device.source);
        matches!(source, Some(Source::Window(_)))
    }

    /// As the server is told of the device's allocations.
    pub(super) fn kind_of(&self, device: usize) -> u32 {
        match self.has_window(device) {
            true => IN_WINDOW,
            false => BY_DRIVER,
        }
    }

    /// Frees an allocation of the current context's.
    pub fn free_now(&mut self, session: &Session, address: u64) -> Result<(), CudaError> {
        let order = Order {
            stream: None,
            context: session.owner(),
        };
        self.free(session, address, order)
    }

    /// Addresses that are kept free for device memory: the program has nothing there.
    fn is_window(&self, address: u64) -> bool {
        heap::in_windows(address) || self.virtual_memory.is_reserved(address)
    }

    /// Whether the address is in memory of the program's, or in a range that it has reserved.
    pub fn knows(&self, address: u64) -> bool {
        self.find(address).is_some() || self.virtual_memory.is_reserved(address)
    }

    /// The context that the memory at this address belongs to, 0 for none.
    pub fn home(&self, address: u64) -> u64 {
        match self.find(address).map(|found| found.owner) {
            Some(Owner::Allocated { context, .. } | Owner::Host { context, .. }) => context,
            _ => 0,
        }
    }

    /// The context's work is done up to the command of that number: memory that it freed before may be used again, and large memory
    /// goes back.
    pub fn settle(&mut self, session: &Session, context: u64, done: u64) {
        let settled = |pools: &mut Pools, back: &mut Vec<Back>| {
            pools.settle(context, done, back);
            Ok(())
        };
        // It cannot fail.
        let _ = self.pools_give(session, settled);
        self.settle_by(session, |heap| heap.settle(context, done));
    }

    /// The same for all that was freed, if the session has nothing to do.
    pub fn settle_idle(&mut self, session: &Session) {
        // Under the lock: a free that is seen here comes after the work that it follows, which is seen too.
        if session.is_idle() {
            let settled = |pools: &mut Pools, back: &mut Vec<Back>| {
                pools.settle_all(back);
                Ok(())
            };
            // It cannot fail.
            let _ = self.pools_give(session, settled);
            self.settle_by(session, Heap::settle_all);
        }
    }

    /// Asks the pools for something, and takes what they give back.
    pub(super) fn pools_give(
        &mut self,
        session: &Session,
        ask: impl FnOnce(&mut Pools, &mut Vec<Back>) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let mut back = Vec::new();
        let result = ask(&mut self.pools, &mut back);
        let any = !back.is_empty();
        for (device, kept, rests) in back {
            // Only memory of a window is kept.
            if let Source::Window(heap) = &mut self.devices[device].source {
                heap.give(kept, rests);
            }
        }
        if any {
            self.trim(session);
        }
        result
    }

    /// What the pool has kept for such an allocation, given to the program again.
    pub(super) fn again(
        &mut self,
        pool: u64,
        size: u64,
        order: Order,
    ) -> Result<Option<u64>, CudaError> {
        let tag = Tag {
            id: self.next_id(),
            pool,
            ..Tag::default()
        };
        let device = self.pools.get(pool)?.device;
        let Source::Window(heap) = &mut self.devices[device].source else {
            return Ok(None);
        };
        let kept = self.pools.again(pool, heap::rounded(size), order)?;
        Ok(kept.map(|kept| heap.revive(kept, size, tag)))
    }

    /// Room in the pool for so many bytes.
    pub(super) fn admit(
        &mut self,
        session: &Session,
        pool: u64,
        bytes: u64,
    ) -> Result<(), CudaError> {
        self.pools_give(session, |pools, back| pools.admit(pool, bytes, back))
    }

    /// Takes an allocation from the program, in the order of a stream. Returns at once; the memory is used again when earlier work is
    /// known to be done.
    pub(super) fn free(
        &mut self,
        session: &Session,
        address: u64,
        order: Order,
    ) -> Result<(), CudaError> {
        for device in &mut self.devices {
            match &mut device.source {
                Source::Window(heap) => {
                    let pool = match heap.find(address) {
                        Some((base, allocation)) if base == address => allocation.tag.pool,
                        _ => continue,
                    };
                    if pool == 0 {
                        if let Some(gone) = heap.free(address, session.sent()) {
                            self.ipc.forget(session, gone.tag.id);
                        }
                    } else if let Some(kept) = heap.retire(address) {
                        let sent = session.sent();
                        self.pools_give(session, |pools, back| {
                            pools.freed(pool, kept, order, sent, back);
                            Ok(())
                        })?;
                    }
                }
                Source::Driver(list) => {
                    let Some(Allocation { size, tag, .. }) = list.remove(&address) else {
                        continue;
                    };
                    self.pools.gone(tag.pool, heap::rounded(size));
                    self.ipc.forget(session, tag.id);
                    send::rgpuMemoryUnmap(session, device.ordinal, BY_DRIVER, address, size)?;
                }
            }
            self.settle_idle(session);
            return Ok(());
        }
        Err(CudaError::INVALID_VALUE)
    }

    fn settle_by(&mut self, session: &Session, settle: impl Fn(&mut Heap)) {
        for device in &mut self.devices {
            if let Source::Window(heap) = &mut device.source
                && heap.resting_bytes() > 0
            {
                settle(heap);
            }
        }
        self.trim(session);
    }

    /// Gives large memory back that is free again.
    fn trim(&mut self, session: &Session) {
        for device in &mut self.devices {
            if let Source::Window(heap) = &mut device.source {
                for (address, len) in heap.trim_large() {
                    // The connection may just have broken; then nothing is left to give back.
                    let _ = send::rgpuMemoryUnmap(session, device.ordinal, IN_WINDOW, address, len);
                }
            }
        }
    }

    /// Gives back, before a context is destroyed, what the driver has placed for it.
    pub fn leave_context(&mut self, session: &Session, context: u64) {
        for device in &mut self.devices {
            if let Source::Driver(list) = &mut device.source {
                list.retain(|address, allocation| {
                    let leaves = allocation.context == context;
                    if leaves {
                        let (ordinal, size) = (device.ordinal, allocation.size);
                        let _ = send::rgpuMemoryUnmap(session, ordinal, BY_DRIVER, *address, size);
                    }
                    !leaves
                });
            }
        }
    }

    /// Frees what a context had that has been destroyed, by the command of that number or an earlier one.
    pub fn end_context(&mut self, session: &Session, context: u64, sent: u64) {
        self.pools.end_context(context, sent);
        for device in &mut self.devices {
            if let Source::Window(heap) = &mut device.source {
                heap.end_context(context, sent);
            }
        }
        if self.ipc.has_exports() {
            let mut ipc = std::mem::take(&mut self.ipc);
            let is_of = |found: &Found, id| matches!(found.owner, Owner::Allocated { tag, .. } if tag.id == id);
            ipc.forget_unless(session, |base, id| {
                self.find_allocated(base)
                    .is_some_and(|found| is_of(&found, id))
            });
            self.ipc = ipc;
        }
    }
}

/// So many freed bytes may wait for work to end before an allocation that needs new memory waits for it.
const MOST_RESTING: u64 = 64 << 20;

/// Allocates on the current context's device.
fn allocate(session: &Session, bytes: u64) -> Result<u64, CudaError> {
    let device = current_device(session)? as usize;
    allocate_for(session, device, session.owner(), bytes, Tag::default())
}

/// Allocates on the device with this number, for a context or a pool.
pub fn allocate_for(
    session: &Session,
    at: usize,
    context: u64,
    bytes: u64,
    tag: Tag,
) -> Result<u64, CudaError> {
    let mut drained = false;
    let mut waited = false;
    loop {
        let mut memory = session.memory();
        let tag = Tag {
            id: memory.next_id(),
            ..tag
        };
        let unsettled = memory.pools.unsettled(at);
        let DeviceMemory { ordinal, source } = memory
            .devices
            .get_mut(at)
            .ok_or(CudaError::INVALID_DEVICE)?;
        let ordinal = *ordinal;
        let mut reply = calls::rgpuMemoryMapReply::default();
        let refused = match source {
            Source::Driver(list) => {
                match send::rgpuMemoryMap(session, ordinal, BY_DRIVER, 0, bytes, &mut reply) {
                    Ok(()) => {
                        let address = reply.placed.get();
                        list.insert(address, Allocation::by_driver(bytes, context, tag));
                        return Ok(address);
                    }
                    Err(error) => error,
                }
            }
            Source::Window(heap) => match heap.allocate(bytes, context, tag) {
                Plan::Ready(address) => return Ok(address),
                Plan::Full => CudaError::OUT_OF_MEMORY,
                // A program that never synchronises must not grow by what it has freed.
                Plan::Map { .. } if !waited && heap.resting_bytes() + unsettled >= MOST_RESTING => {
                    waited = true;
                    drop(memory);
                    super::context::synchronize(session)?;
                    continue;
                }
                Plan::Map {
                    address,
                    len,
                    minimum,
                } => {
                    let mut result =
                        send::rgpuMemoryMap(session, ordinal, IN_WINDOW, address, len, &mut reply);
                    let mut mapped = len;
                    if result == Err(CudaError::OUT_OF_MEMORY) && minimum < len {
                        mapped = minimum;
                        result = send::rgpuMemoryMap(
                            session, ordinal, IN_WINDOW, address, minimum, &mut reply,
                        );
                    }
                    match result {
                        Ok(()) => {
                            heap.mapped(address, mapped);
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            },
        };
        if refused != CudaError::OUT_OF_MEMORY || drained {
            return Err(refused);
        }
        drained = true;
        drop(memory);
        give_all_back(session)?;
    }
}

/// Waits for the work that uses what was freed, and gives it back to the device: it may be all that is missing.
pub(super) fn give_all_back(session: &Session) -> Result<(), CudaError> {
    super::context::synchronize(session)?;
    let mut memory = session.memory();
    memory.pools_give(session, |pools, back| {
        pools.shrink_all(back);
        Ok(())
    })?;
    for device in &mut memory.devices {
        if let Source::Window(heap) = &mut device.source {
            for (address, len) in heap.trim(0) {
                send::rgpuMemoryUnmap(session, device.ordinal, IN_WINDOW, address, len)?;
            }
        }
    }
    Ok(())
}

pub unsafe fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> u32 {
    enter("cuMemAlloc_v2", Needs::Context, |session| {
        required(address)?;
        if bytes == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        capture::probe(session)?;
        let placed = allocate(session, bytes as u64)?;
        // SAFETY: the caller's place.
        unsafe { put(address, placed) }
    })
}

pub unsafe fn cuMemAllocPitch_v2(
    address: *mut u64,
    pitch: *mut usize,
    width: usize,
    height: usize,
    element: u32,
) -> u32 {
    /// Rows begin at multiples of this, as on current devices.
    const ROW: usize = 512;
    enter("cuMemAllocPitch_v2", Needs::Context, |session| {
        required(address)?;
        required(pitch)?;
        if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(CudaError::INVALID_VALUE);
        }
        let row = width
            .checked_next_multiple_of(ROW)
            .ok_or(CudaError::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(CudaError::OUT_OF_MEMORY)?;
        capture::probe(session)?;
        let placed = allocate(session, bytes as u64)?;
        // SAFETY: the caller's places.
        unsafe {
            put(address, placed)?;
            put(pitch, row)
        }
    })
}

pub unsafe fn cuMemFree_v2(address: u64) -> u32 {
    Of::Pointer(address).enter("cuMemFree_v2", Needs::Session, |session| {
        if address == 0 {
            return Ok(());
        }
        session.fault()?;
        capture::probe(session)?;
        if pool::is_graph_memory(session, address) {
            // As for all memory, the work that may use it is over when this returns.
            host::wait(session);
            return send::rgpuGraphMemoryFree(session, 0, address);
        }
        let found = session.memory().find(address);
        let is_variable = found.is_some_and(|found| matches!(found.owner, Owner::Variable { .. }));
        match found.map(|found| found.sharing()) {
            // It is cuMemFreeHost's.
            Some(Sharing::Mapped(_)) => return Err(CudaError::INVALID_VALUE),
            Some(Sharing::Managed) if !is_variable => {
                if let Some(range) = session.unshare(address) {
                    managed::given_up(&range);
                    session.memory().advices.forget(address);
                }
            }
            _ => {}
        }
        session.memory().free_now(session, address)
    })
}

pub unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    enter("cuMemGetInfo_v2", Needs::Context, |session| {
        let at = current_device(session)? as usize;
        let ordinal = session.devices.get(at as i32)?.ordinal;
        // The session's own memory and what the program holds of it is known here; what other sessions leave is not.
        let mut reply = calls::rgpuMemoryInfoReply::default();
        send::rgpuMemoryInfo(session, ordinal, &mut reply)?;
        let unused = session.memory().unused(at);
        let all = reply.total.get();
        let left = (reply.free.get() + unused).min(all);
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(free, left as usize);
            put_opt(total, all as usize);
        }
        Ok(())
    })
}
