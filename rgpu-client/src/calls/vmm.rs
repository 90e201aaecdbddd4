//! The program's own virtual memory management: what it has reserved, made and mapped, and what may be done with it.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;

use rgpu_proto::handshake::AddressWindow;
use rgpu_proto::{CudaError, calls};
use rustix::mm::{MapFlags, ProtFlags};

use super::memory::{Found, Owner};
use super::pool::{AccessDescription, LOCATION_DEVICE, Location, TYPE_PINNED};
use crate::entry::{Needs, enter, put, required};
use crate::heap::{GRANULE, Tag};
use crate::pool::READ_WRITE;
use crate::send;
use crate::session::Session;

const MAX_DESCRIPTORS: usize = 1024;

/// CUmemAllocationProp.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Prop {
    kind: u32,
    handle_types: u32,
    location_kind: u32,
    device: i32,
    win32: u64,
    flags: [u8; 8],
}

const _: () = {
    use cudarc::driver::sys;
    assert!(size_of::<Prop>() == size_of::<sys::CUmemAllocationProp>());
    assert!(size_of::<AccessDescription>() == size_of::<sys::CUmemAccessDesc>());
};

struct Physical {
    bytes: u64,
    device: i32,
    /// Handles of the program's that name it, and places where it is mapped. The server keeps it as long as there are any.
    handles: u32,
    mappings: u32,
}

#[derive(Clone)]
struct Mapping {
    bytes: u64,
    physical: u64,
    /// What each device may do with it.
    access: BTreeMap<i32, u32>,
    tag: Tag,
}

impl Mapping {
    fn is_usable(&self) -> bool {
        self.access.values().any(|&flags| flags == READ_WRITE)
    }
}

/// All of it. Ids of physical memory are the server's, too.
#[derive(Default)]
pub struct VirtualMemory {
    /// Windows that were kept free for devices that are not there: addresses that can be had without a collision.
    spare: Vec<AddressWindow>,
    reservations: BTreeMap<u64, u64>,
    physical: HashMap<u64, Physical>,
    /// The physical memory that each handle names.
    handles: HashMap<u64, u64>,
    mappings: BTreeMap<u64, Mapping>,
    made: u64,
}

impl VirtualMemory {
    pub fn new(spare: Vec<AddressWindow>) -> VirtualMemory {
        VirtualMemory {
            spare,
            ..VirtualMemory::default()
        }
    }

    fn fresh(&mut self) -> u64 {
        self.made += 1;
        (0x5648 << 48) | (self.made << 4)
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
        let before = self.reservations.range(..=address).next_back();
        before.is_some_and(|(base, bytes)| address - base < *bytes)
    }

    /// A free place in the spare windows.
    fn place(&self, bytes: u64, alignment: u64) -> Option<u64> {
        for window in &self.spare {
            let end = window.base + window.len;
            let mut at = window.base.checked_next_multiple_of(alignment)?;
            for (base, taken) in self.reservations.range(window.base..end) {
                if base - at.min(*base) >= bytes {
                    break;
                }
                at = (base + taken).checked_next_multiple_of(alignment)?.max(at);
            }
            if end.checked_sub(at).is_some_and(|room| room >= bytes) {
                return Some(at);
            }
        }
        None
    }

    fn in_spare(&self, address: u64, bytes: u64) -> bool {
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
    fn parts(&self, address: u64, bytes: u64) -> Result<Vec<u64>, CudaError> {
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
    fn let_go(&mut self, session: &Session, id: u64) -> Result<(), CudaError> {
        match self.physical.get(&id) {
            Some(physical) if physical.handles == 0 && physical.mappings == 0 => {
                self.physical.remove(&id);
                send::rgpuPhysicalRelease(session, id)
            }
            _ => Ok(()),
        }
    }
}

/// Keeps addresses free of this process's own mappings; false if it has some there.
fn keep_free(address: u64, bytes: u64) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: NOREPLACE never touches a mapping that exists; nothing is ever read or written there.
    let mapped = unsafe {
        let at = address as *mut c_void;
        rustix::mm::mmap_anonymous(at, bytes as usize, ProtFlags::empty(), flags)
    };
    match mapped {
        Ok(at) if at as u64 == address => true,
        Ok(elsewhere) => {
            // SAFETY: made just now, by a kernel that does not know NOREPLACE.
            let _ = unsafe { rustix::mm::munmap(elsewhere, bytes as usize) };
            false
        }
        Err(_) => false,
    }
}

fn reserve(session: &Session, bytes: u64, alignment: u64, hint: u64) -> Result<u64, CudaError> {
    let wanted = {
        let memory = session.memory();
        let own = &memory.virtual_memory;
        let hinted = hint != 0
            && hint.is_multiple_of(alignment)
            && !VirtualMemory::overlaps(&own.reservations, hint, bytes);
        match hinted {
            true => Some(hint),
            false => own.place(bytes, alignment),
        }
    };
    let mut reply = calls::rgpuAddressReserveReply::default();
    send::rgpuAddressReserve(session, bytes, alignment, wanted.unwrap_or(0), &mut reply)?;
    let placed = reply.placed.get();
    let mut memory = session.memory();
    let own = &mut memory.virtual_memory;
    if !own.in_spare(placed, bytes) && !keep_free(placed, bytes) {
        // An address must not be the device's and the host's.
        send::rgpuAddressFree(session, placed, bytes)?;
        return Err(CudaError::OUT_OF_MEMORY);
    }
    own.reservations.insert(placed, bytes);
    Ok(placed)
}

pub unsafe fn cuMemAddressReserve(
    address: *mut u64,
    bytes: usize,
    alignment: usize,
    hint: u64,
    flags: u64,
) -> u32 {
    enter("cuMemAddressReserve", Needs::Session, |session| {
        required(address)?;
        let (bytes, alignment) = (bytes as u64, alignment as u64);
        if flags != 0
            || bytes == 0
            || !bytes.is_multiple_of(GRANULE)
            || !(alignment == 0 || alignment.is_power_of_two())
        {
            return Err(CudaError::INVALID_VALUE);
        }
        let alignment = alignment.max(GRANULE);
        // A hint is no more than that.
        let placed = match reserve(session, bytes, alignment, hint) {
            Err(CudaError::OUT_OF_MEMORY) if hint != 0 => reserve(session, bytes, alignment, 0),
            result => result,
        }?;
        // SAFETY: the caller's place.
        unsafe { put(address, placed) }
    })
}

pub unsafe fn cuMemAddressFree(address: u64, bytes: usize) -> u32 {
    enter("cuMemAddressFree", Needs::Session, |session| {
        let bytes = bytes as u64;
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        if own.reservations.get(&address) != Some(&bytes)
            || own
                .mappings
                .range(address..address + bytes)
                .next()
                .is_some()
        {
            return Err(CudaError::INVALID_VALUE);
        }
        own.reservations.remove(&address);
        if !own.in_spare(address, bytes) {
            // SAFETY: what `keep_free` has mapped there.
            let _ = unsafe { rustix::mm::munmap(address as *mut c_void, bytes as usize) };
        }
        send::rgpuAddressFree(session, address, bytes)
    })
}

/// The device of such memory, as the program numbers it.
///
/// # Safety
/// `prop` is NULL or a CUmemAllocationProp.
unsafe fn device_of(
    session: &Session,
    name: &'static str,
    prop: *const c_void,
) -> Result<i32, CudaError> {
    required(prop)?;
    // SAFETY: the caller's struct, of plain numbers.
    let prop = unsafe { prop.cast::<Prop>().read_unaligned() };
    if prop.kind != TYPE_PINNED || prop.location_kind != LOCATION_DEVICE {
        return Err(CudaError::INVALID_VALUE);
    }
    if prop.handle_types != 0 {
        return Err(super::device::refuse(name));
    }
    session.devices.get(prop.device)?;
    Ok(prop.device)
}

pub unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const c_void,
    option: u32,
) -> u32 {
    enter("cuMemGetAllocationGranularity", Needs::Session, |session| {
        required(granularity)?;
        let name = "cuMemGetAllocationGranularity(shareable handles)";
        // SAFETY: the caller's struct.
        let device = unsafe { device_of(session, name, prop) }?;
        if option > 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        let ordinal = session.devices.get(device)?.ordinal;
        let mut reply = calls::rgpuGranularityReply::default();
        send::rgpuGranularity(session, ordinal, option, &mut reply)?;
        // SAFETY: the caller's place.
        unsafe { put(granularity, reply.bytes.get() as usize) }
    })
}

pub unsafe fn cuMemCreate(handle: *mut u64, bytes: usize, prop: *const c_void, flags: u64) -> u32 {
    enter("cuMemCreate", Needs::Session, |session| {
        required(handle)?;
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's struct.
        let device = unsafe { device_of(session, "cuMemCreate(shareable handles)", prop) }?;
        let bytes = bytes as u64;
        if bytes == 0 || !bytes.is_multiple_of(GRANULE) {
            return Err(CudaError::INVALID_VALUE);
        }
        let ordinal = session.devices.get(device)?.ordinal;
        let id = session.memory().virtual_memory.fresh();
        send::rgpuPhysicalCreate(session, id, ordinal, bytes)?;
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        let physical = Physical {
            bytes,
            device,
            handles: 1,
            mappings: 0,
        };
        own.physical.insert(id, physical);
        own.handles.insert(id, id);
        // SAFETY: the caller's place.
        unsafe { put(handle, id) }
    })
}

/// The memory lives on while it is mapped.
pub unsafe fn cuMemRelease(handle: u64) -> u32 {
    enter("cuMemRelease", Needs::Session, |session| {
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        let id = own
            .handles
            .remove(&handle)
            .ok_or(CudaError::INVALID_VALUE)?;
        if let Some(physical) = own.physical.get_mut(&id) {
            physical.handles -= 1;
        }
        own.let_go(session, id)
    })
}

pub unsafe fn cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, flags: u64) -> u32 {
    enter("cuMemMap", Needs::Session, |session| {
        let invalid = CudaError::INVALID_VALUE;
        let bytes = bytes as u64;
        let mut memory = session.memory();
        let tag = Tag {
            id: memory.next_id(),
            ..Tag::default()
        };
        let own = &mut memory.virtual_memory;
        let id = *own.handles.get(&handle).ok_or(invalid)?;
        let reserved = own.reservations.range(..=address).next_back();
        let fits =
            reserved.is_some_and(|(base, len)| bytes <= *len && address - base <= len - bytes);
        let before = own
            .mappings
            .range(..address.saturating_add(bytes))
            .next_back();
        let taken = before.is_some_and(|(base, mapping)| base + mapping.bytes > address);
        let physical = own.physical.get_mut(&id).ok_or(invalid)?;
        if flags != 0
            || offset != 0
            || bytes != physical.bytes
            || !address.is_multiple_of(GRANULE)
            || !fits
            || taken
        {
            return Err(invalid);
        }
        physical.mappings += 1;
        let mapping = Mapping {
            bytes,
            physical: id,
            access: BTreeMap::new(),
            tag,
        };
        own.mappings.insert(address, mapping);
        send::rgpuPhysicalMap(session, id, address)
    })
}

pub unsafe fn cuMemUnmap(address: u64, bytes: usize) -> u32 {
    enter("cuMemUnmap", Needs::Session, |session| {
        let bytes = bytes as u64;
        // From here on nothing finds them, while the server waits for work.
        let gone: Vec<Mapping> = {
            let mut memory = session.memory();
            let own = &mut memory.virtual_memory;
            let parts = own.parts(address, bytes)?;
            parts
                .iter()
                .filter_map(|at| own.mappings.remove(at))
                .collect()
        };
        let result = send::rgpuPhysicalUnmap(session, address, bytes);
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        for Mapping { physical: id, .. } in gone {
            if let Some(physical) = own.physical.get_mut(&id) {
                physical.mappings -= 1;
            }
            own.let_go(session, id)?;
        }
        result
    })
}

pub unsafe fn cuMemSetAccess(
    address: u64,
    bytes: usize,
    access: *const c_void,
    count: usize,
) -> u32 {
    const NONE: u32 = 0;
    const READ: u32 = 1;
    enter("cuMemSetAccess", Needs::Session, |session| {
        if count == 0 || count > MAX_DESCRIPTORS {
            return Err(CudaError::INVALID_VALUE);
        }
        required(access)?;
        let mut changes = Vec::new();
        for number in 0..count {
            let access = access.cast::<AccessDescription>();
            // SAFETY: `count` of the caller's CUmemAccessDesc, of plain numbers.
            let AccessDescription { location, flags } =
                unsafe { access.add(number).read_unaligned() };
            if location.kind != LOCATION_DEVICE {
                return Err(CudaError::INVALID_VALUE);
            }
            let ordinal = session.devices.get(location.id)?.ordinal;
            match flags {
                NONE | READ_WRITE => changes.push((location.id, ordinal, flags)),
                READ => return Err(super::device::refuse("cuMemSetAccess(read only)")),
                _ => return Err(CudaError::INVALID_VALUE),
            }
        }
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        let parts = own.parts(address, bytes as u64)?;
        for (device, ordinal, flags) in changes {
            for at in &parts {
                if let Some(mapping) = own.mappings.get_mut(at) {
                    mapping.access.insert(device, flags);
                }
            }
            send::rgpuPhysicalAccess(session, address, bytes as u64, ordinal, flags)?;
        }
        Ok(())
    })
}

pub unsafe fn cuMemGetAccess(flags: *mut u64, location: *const c_void, address: u64) -> u32 {
    enter("cuMemGetAccess", Needs::Session, |session| {
        required(location)?;
        // SAFETY: the caller's CUmemLocation, of plain numbers.
        let location = unsafe { location.cast::<Location>().read_unaligned() };
        if location.kind != LOCATION_DEVICE {
            return Err(CudaError::INVALID_VALUE);
        }
        session.devices.get(location.id)?;
        let memory = session.memory();
        let found = memory.find(address).ok_or(CudaError::INVALID_VALUE)?;
        let known = match found.owner {
            Owner::Mapped { .. } => {
                let mapping = memory.virtual_memory.mappings.get(&found.base);
                let flags = mapping.and_then(|mapping| mapping.access.get(&location.id));
                flags.copied().unwrap_or(0)
            }
            _ => READ_WRITE,
        };
        // SAFETY: the caller's place.
        unsafe { put(flags, known.into()) }
    })
}

pub unsafe fn cuMemRetainAllocationHandle(handle: *mut u64, address: *mut c_void) -> u32 {
    enter("cuMemRetainAllocationHandle", Needs::Session, |session| {
        required(handle)?;
        let invalid = CudaError::INVALID_VALUE;
        let mut memory = session.memory();
        let own = &mut memory.virtual_memory;
        let found = own.find(address as u64).ok_or(invalid)?;
        let id = own.mappings.get(&found.base).ok_or(invalid)?.physical;
        let fresh = own.fresh();
        own.physical.get_mut(&id).ok_or(invalid)?.handles += 1;
        own.handles.insert(fresh, id);
        // SAFETY: the caller's place.
        unsafe { put(handle, fresh) }
    })
}

pub unsafe fn cuMemGetAllocationPropertiesFromHandle(prop: *mut c_void, handle: u64) -> u32 {
    let name = "cuMemGetAllocationPropertiesFromHandle";
    enter(name, Needs::Session, |session| {
        let invalid = CudaError::INVALID_VALUE;
        let device = {
            let memory = session.memory();
            let own = &memory.virtual_memory;
            let id = own.handles.get(&handle).ok_or(invalid)?;
            own.physical.get(id).ok_or(invalid)?.device
        };
        let known = Prop {
            kind: TYPE_PINNED,
            location_kind: LOCATION_DEVICE,
            device,
            ..Prop::default()
        };
        // SAFETY: the caller's place for the struct.
        unsafe { put(prop.cast::<Prop>(), known) }
    })
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
        let mut own = VirtualMemory::new(vec![AddressWindow {
            base: 1 << 40,
            len: 16 * GRANULE,
        }]);
        let mut placed = 0;
        for number in 1.. {
            let bytes = (number % 3 + 1) * GRANULE;
            let Some(at) = own.place(bytes, 2 * GRANULE) else {
                break;
            };
            assert!(at.is_multiple_of(2 * GRANULE) && own.in_spare(at, bytes));
            assert!(!VirtualMemory::overlaps(&own.reservations, at, bytes));
            own.reservations.insert(at, bytes);
            placed += bytes;
        }
        assert!(placed >= 10 * GRANULE, "{placed}");
        let first = own.reservations.pop_first().unwrap();
        assert_eq!(own.place(first.1, GRANULE), Some(first.0));
    }
}
