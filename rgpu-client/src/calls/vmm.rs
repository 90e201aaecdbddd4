//! The program's own virtual memory management: all but reserving, making and unmapping is judged by the mirror.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeMap;
use std::ffi::c_void;

use rgpu_proto::{CudaError, calls};
use rustix::mm::{MapFlags, ProtFlags};

use super::memory::Owner;
use super::pool::{AccessDescription, LOCATION_DEVICE, Location, TYPE_PINNED};
use crate::entry::{Needs, enter, put, required};
use crate::heap::{GRANULE, Tag};
use crate::pool::READ_WRITE;
use crate::send;
use crate::servers::Of;
use crate::session::Session;
use crate::virtual_memory::{Mapping, Physical};

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

/// Keeps addresses free of this process's own mappings; false if it has some there.
pub(super) fn keep_free(address: u64, bytes: u64) -> bool {
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

/// Ends what [`keep_free`] began.
pub(super) fn give_up(address: u64, bytes: u64) {
    // SAFETY: what was mapped there to keep it free.
    let _ = unsafe { rustix::mm::munmap(address as *mut c_void, bytes as usize) };
}

fn reserve(session: &Session, bytes: u64, alignment: u64, hint: u64) -> Result<u64, CudaError> {
    let wanted = {
        let memory = session.memory();
        let own = &memory.virtual_memory;
        let hinted = hint != 0 && hint.is_multiple_of(alignment) && !own.is_taken(hint, bytes);
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
    Of::Pointer(address).enter("cuMemAddressFree", Needs::Session, |session| {
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
            give_up(address, bytes);
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

/// The device that the memory is to be on.
///
/// # Safety
/// `prop` is NULL or a CUmemAllocationProp.
unsafe fn of(prop: *const c_void) -> Of {
    if prop.is_null() {
        return Of::Current;
    }
    // SAFETY: the caller's struct, of plain numbers.
    let prop = unsafe { prop.cast::<Prop>().read_unaligned() };
    match prop.location_kind {
        LOCATION_DEVICE => Of::Device(prop.device),
        _ => Of::Current,
    }
}

pub unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const c_void,
    option: u32,
) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { of(prop) };
    of.enter("cuMemGetAllocationGranularity", Needs::Session, |session| {
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
    // SAFETY: the caller's struct.
    let of = unsafe { of(prop) };
    of.enter("cuMemCreate", Needs::Session, |session| {
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
    Of::Handle(handle).enter("cuMemRelease", Needs::Session, |session| {
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
    Of::Handle(handle).enter("cuMemMap", Needs::Session, |session| {
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
    Of::Pointer(address).enter("cuMemUnmap", Needs::Session, |session| {
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
    Of::Pointer(address).enter("cuMemSetAccess", Needs::Session, |session| {
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
    Of::Pointer(address).enter("cuMemGetAccess", Needs::Session, |session| {
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
    Of::Pointer(address as u64).enter("cuMemRetainAllocationHandle", Needs::Session, |session| {
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
    Of::Handle(handle).enter(name, Needs::Session, |session| {
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
