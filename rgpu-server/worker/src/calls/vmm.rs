//! The program's own virtual memory management.

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuAddressReserveReply, rgpuGranularityReply};

use super::memory::{self, location, properties};
use crate::memory_map::Range;
use crate::state::State;
use crate::virtual_memory::Physical;

fn word(value: u64) -> Result<usize, CudaError> {
    usize::try_from(value).map_err(|_| CudaError::INVALID_VALUE)
}

pub fn rgpuAddressReserve(
    state: &State,
    bytes: u64,
    alignment: u64,
    hint: u64,
    out: &mut rgpuAddressReserveReply,
) -> Result<(), CudaError> {
    let driver = &state.driver;
    state.shared.virtual_memory().may_reserve()?;
    let (size, alignment) = (word(bytes)?, word(alignment)?);
    let mut address = 0;
    // SAFETY: a place for the address.
    unsafe { driver_call!(driver.cuMemAddressReserve(&mut address, size, alignment, hint, 0)) }?;
    let range = Range { address, bytes };
    state.shared.virtual_memory().reserved(range);
    out.placed.set(address);
    Ok(())
}

pub fn rgpuAddressFree(state: &State, address: u64, bytes: u64) -> Result<(), CudaError> {
    let range = Range { address, bytes };
    state.shared.virtual_memory().unreserve(range)?;
    // SAFETY: a whole reservation of this session's, in which nothing is mapped.
    unsafe { driver_call!(state.driver.cuMemAddressFree(address, word(bytes)?)) }
}

pub fn rgpuPhysicalCreate(
    state: &State,
    id: u64,
    device: i32,
    bytes: u64,
) -> Result<(), CudaError> {
    state.shared.virtual_memory().may_create(id)?;
    let mut result = create(state, device, bytes);
    // What the client has given back may still wait for work to end.
    if result == Err(CudaError::OUT_OF_MEMORY) && state.shared.reaper.drain() {
        result = create(state, device, bytes);
    }
    state
        .shared
        .virtual_memory()
        .created(id, result?, device, bytes);
    Ok(())
}

fn create(state: &State, device: i32, bytes: u64) -> Result<u64, CudaError> {
    let size = word(bytes)?;
    state.shared.memory().charge(device, bytes)?;
    let make = || memory::create(&state.driver, size, &properties(device));
    state.with_room(bytes, make).inspect_err(|_| {
        state.shared.memory().ledger.give(device, bytes);
    })
}

pub fn rgpuPhysicalRelease(state: &State, id: u64) -> Result<(), CudaError> {
    let Physical {
        handle,
        device,
        bytes,
        ..
    } = state.shared.virtual_memory().release(id)?;
    // SAFETY: made for this session, released once. If the driver refuses that, it stays charged: the device still holds it.
    unsafe { driver_call!(state.driver.cuMemRelease(handle)) }?;
    state.shared.memory().ledger.give(device, bytes);
    Ok(())
}

pub fn rgpuPhysicalMap(state: &State, id: u64, address: u64) -> Result<(), CudaError> {
    let (handle, bytes) = state.shared.virtual_memory().map(id, address)?;
    // SAFETY: in a reservation of this session's, where nothing is mapped.
    let mapped =
        unsafe { driver_call!(state.driver.cuMemMap(address, word(bytes)?, 0, handle, 0)) };
    if mapped.is_err() {
        state.shared.virtual_memory().unmapped(address);
    }
    mapped
}

pub fn rgpuPhysicalUnmap(state: &State, address: u64, bytes: u64) -> Result<(), CudaError> {
    let parts = state
        .shared
        .virtual_memory()
        .parts(Range { address, bytes })?;
    for part in parts {
        if state.shared.clearing.forget(part) {
            state.shared.virtual_memory().set_clear(part.address, false);
        }
        // SAFETY: one whole mapping of this session's. Work that uses it is the program's to wait for, where the driver does not.
        unsafe { driver_call!(state.driver.cuMemUnmap(part.address, word(part.bytes)?)) }?;
        state.shared.virtual_memory().unmapped(part.address);
    }
    Ok(())
}

pub fn rgpuPhysicalAccess(
    state: &State,
    address: u64,
    bytes: u64,
    device: i32,
    flags: u32,
) -> Result<(), CudaError> {
    let range = Range { address, bytes };
    let parts = state.shared.virtual_memory().parts(range)?;
    let flags = match flags {
        0 => sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE,
        3 => sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        _ => return Err(CudaError::INVALID_VALUE),
    };
    set_access(state, range, device, flags)?;
    if flags == sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE {
        return Ok(());
    }
    for part in parts {
        if state.shared.virtual_memory().set_clear(part.address, true) {
            continue;
        }
        let clearing = &state.shared.clearing;
        if let Err(error) = clearing.now(&state.driver, device, part) {
            clearing.forget(part);
            state.shared.virtual_memory().set_clear(part.address, false);
            let none = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE;
            set_access(state, range, device, none)?;
            return Err(error);
        }
    }
    Ok(())
}

fn set_access(
    state: &State,
    range: Range,
    device: i32,
    flags: sys::CUmemAccess_flags,
) -> Result<(), CudaError> {
    let Range { address, bytes } = range;
    let access = sys::CUmemAccessDesc {
        location: location(device),
        flags,
    };
    // SAFETY: mappings of this session's; `access` is one of cuda.h's structs.
    unsafe {
        let access = (&raw const access).cast();
        driver_call!(
            state
                .driver
                .cuMemSetAccess(address, word(bytes)?, access, 1)
        )
    }
}

pub fn rgpuGranularity(
    state: &State,
    device: i32,
    option: u32,
    out: &mut rgpuGranularityReply,
) -> Result<(), CudaError> {
    if option > 1 {
        return Err(CudaError::INVALID_VALUE);
    }
    let properties = properties(device);
    let mut granularity = 0;
    // SAFETY: a place for the number; `properties` is cuda.h's struct.
    unsafe {
        let properties = (&raw const properties).cast();
        driver_call!(state.driver.cuMemGetAllocationGranularity(
            &mut granularity,
            properties,
            option
        ))
    }?;
    out.bytes.set(granularity as u64);
    Ok(())
}
