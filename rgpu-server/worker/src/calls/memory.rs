use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuMemoryInfoReply, rgpuMemoryMapReply};

use crate::driver::Driver;
use crate::memory_map::Range;
use crate::reaper::Action;
use crate::state::State;

pub const KIND_WINDOW: u32 = 0;
pub const KIND_DRIVER: u32 = 1;

type HandleType = sys::CUmemAllocationHandleType;

/// What memory of this device is made with: pinned there, not for export.
pub fn properties(device: i32) -> sys::CUmemAllocationProp {
    properties_for(device, HandleType::CU_MEM_HANDLE_TYPE_NONE)
}

/// What the memory of the windows is made with: as descriptors other sessions of the tenant can have it, where the driver has such.
pub fn shareable(driver: &Driver, device: i32) -> sys::CUmemAllocationProp {
    const POSIX_FILES_SUPPORTED: i32 = 103;
    let mut supported = 0;
    // SAFETY: a place for the value.
    let asked = unsafe {
        driver_call!(driver.cuDeviceGetAttribute(&mut supported, POSIX_FILES_SUPPORTED, device))
    };
    let kind = match asked {
        Ok(()) if supported != 0 => HandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        _ => HandleType::CU_MEM_HANDLE_TYPE_NONE,
    };
    properties_for(device, kind)
}

fn properties_for(device: i32, handles: HandleType) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: handles,
        location: location(device),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

pub fn location(device: i32) -> sys::CUmemLocation {
    sys::CUmemLocation {
        type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
        id: device,
    }
}

pub fn create(
    driver: &Driver,
    bytes: usize,
    properties: &sys::CUmemAllocationProp,
) -> Result<u64, CudaError> {
    let properties = std::ptr::from_ref(properties).cast();
    let mut handle = 0;
    // SAFETY: `handle` is a place for the handle; `properties` is cuda.h's struct.
    unsafe { driver_call!(driver.cuMemCreate(&mut handle, bytes, properties, 0)) }?;
    Ok(handle)
}

/// Makes memory and maps it at a place in a reservation. The handle is released at once: the mapping alone keeps the memory.
pub fn map(driver: &Driver, device: i32, range: Range) -> Result<(), CudaError> {
    let bytes = usize::try_from(range.bytes).map_err(|_| CudaError::INVALID_VALUE)?;
    let handle = match create(driver, bytes, &shareable(driver, device)) {
        // It has the attribute, and does not do it here.
        Err(CudaError::NOT_SUPPORTED | CudaError::NOT_PERMITTED | CudaError::INVALID_VALUE) => {
            create(driver, bytes, &properties(device))
        }
        made => made,
    }?;
    // SAFETY: `range` lies in a reservation of this session's and nothing is mapped there.
    let mapped = unsafe { driver_call!(driver.cuMemMap(range.address, bytes, 0, handle, 0)) };
    // SAFETY: made above, released once.
    let released = unsafe { driver_call!(driver.cuMemRelease(handle)) };
    mapped?;
    let access = sys::CUmemAccessDesc {
        location: location(device),
        flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    let ready = released.and_then(|()| {
        // SAFETY: mapped above; `access` is one of cuda.h's structs.
        unsafe {
            driver_call!(driver.cuMemSetAccess(range.address, bytes, (&raw const access).cast(), 1))
        }
    });
    if ready.is_err() {
        // SAFETY: mapped above; nobody knows it yet.
        unsafe { driver_call!(driver.cuMemUnmap(range.address, bytes)) }?;
    }
    ready
}

pub fn rgpuMemoryMap(
    state: &State,
    device: i32,
    kind: u32,
    address: u64,
    bytes: u64,
    out: &mut rgpuMemoryMapReply,
) -> Result<(), CudaError> {
    let attempt = || match kind {
        KIND_WINDOW => place(state, device, Range { address, bytes }),
        KIND_DRIVER => allocate(state, device, bytes),
        _ => Err(CudaError::INVALID_VALUE),
    };
    let mut result = attempt();
    // What the client has given back may still wait for work to end.
    if let Err(CudaError::OUT_OF_MEMORY | CudaError::ALREADY_MAPPED) = result
        && state.shared.reaper.drain()
    {
        result = attempt();
    }
    out.placed.set(result?);
    Ok(())
}

fn place(state: &State, device: i32, range: Range) -> Result<u64, CudaError> {
    state.shared.memory().plan(device, range)?;
    match map_clear(state, device, range) {
        Ok(()) => {
            state.shared.memory().mapped(range.address);
            Ok(range.address)
        }
        Err(error) => {
            state.shared.memory().unmapped(range.address);
            Err(error)
        }
    }
}

fn map_clear(state: &State, device: i32, range: Range) -> Result<(), CudaError> {
    let swap = state.shared.swap.get();
    let make = || map(&state.driver, device, range);
    match swap {
        Some(swap) => swap.placed(range.bytes, state.patience(), make),
        None => make(),
    }?;
    let clearing = &state.shared.clearing;
    clearing.now(&state.driver, device, range).inspect_err(|_| {
        clearing.forget(range);
        // SAFETY: mapped above; nobody knows it yet.
        let unmapped =
            unsafe { driver_call!(state.driver.cuMemUnmap(range.address, range.bytes as usize)) };
        match (unmapped, swap) {
            (Ok(()), Some(swap)) => swap.give(range.bytes),
            (Ok(()), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "memory that cannot be cleared stays mapped");
            }
        }
    })
}

fn allocate(state: &State, device: i32, bytes: u64) -> Result<u64, CudaError> {
    let size = usize::try_from(bytes).map_err(|_| CudaError::INVALID_VALUE)?;
    state.shared.memory().charge(device, bytes)?;
    let made = state.with_room(bytes, || {
        let mut address = 0;
        // SAFETY: `address` is a place for the address.
        unsafe { driver_call!(state.driver.cuMemAlloc_v2(&mut address, size)) }.map(|()| address)
    });
    let within = made.and_then(|address| {
        let checked = state.shared.check_quota().inspect_err(|_| {
            // SAFETY: made above, and nobody knows it.
            let _ = unsafe { driver_call!(state.driver.cuMemFree_v2(address)) };
        });
        checked.map(|()| address)
    });
    match within {
        Ok(address) => {
            let range = Range { address, bytes };
            state.shared.memory().allocated(device, range);
            state.shared.clearing.now(&state.driver, device, range)?;
            Ok(address)
        }
        Err(error) => {
            state.shared.memory().ledger.give(device, bytes);
            Err(error)
        }
    }
}

pub fn rgpuMemoryUnmap(
    state: &State,
    _device: i32,
    kind: u32,
    address: u64,
    bytes: u64,
) -> Result<(), CudaError> {
    let range = Range { address, bytes };
    let action = match kind {
        KIND_WINDOW => {
            let parts = state.shared.memory().plan_unmap(range)?;
            for part in &parts {
                state.shared.clearing.forget(*part);
            }
            Action::Unmap(parts)
        }
        KIND_DRIVER => {
            state.shared.memory().plan_free(range)?;
            state.shared.clearing.forget(range);
            Action::Free(address)
        }
        _ => return Err(CudaError::INVALID_VALUE),
    };
    // Any context of the session may have work that uses it.
    state.shared.reaper.after(state.handles.contexts(), action);
    Ok(())
}

pub fn rgpuMemoryUnused(state: &State, device: i32, bytes: u64) -> Result<(), CudaError> {
    state.shared.memory().note_unused(device, bytes)
}

pub fn rgpuMemoryInfo(
    state: &State,
    device: i32,
    out: &mut rgpuMemoryInfoReply,
) -> Result<(), CudaError> {
    state.shared.reaper.wait_for_frees();
    let (mut free, mut total) = (0, 0);
    // SAFETY: places for the two numbers.
    unsafe { driver_call!(state.driver.cuMemGetInfo_v2(&mut free, &mut total)) }?;
    let mut memory = state.shared.memory();
    memory.ledger.note();
    memory.refresh();
    let ledger = &memory.ledger;
    let free = match state.shared.swap.get() {
        // What others have there goes when it is needed.
        Some(_) => total as u64,
        None => free as u64,
    };
    out.free
        .set(free.min(ledger.left()).min(ledger.left_of(device)));
    out.total
        .set((total as u64).min(ledger.limit().unwrap_or(u64::MAX)));
    out.limit.set(ledger.limit().unwrap_or(0));
    out.mapped.set(ledger.used());
    Ok(())
}
