//! Arrays: the driver's, charged by what their texels take.

use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::array::{ArrayDescriptor, MAPPED_LATER};
use zerocopy::IntoBytes;

use crate::charge::Charge;
use crate::handles::Kind;
use crate::reaper::{Action, Pointer};
use crate::state::{SOME, State};

/// Sizes that no memory of the device holds: whether they are wrong or only too many, the driver is to say.
fn exceeds_device(state: &State, bytes: Option<u64>) -> bool {
    let (mut free, mut total) = (0, 0);
    // SAFETY: places for the two numbers.
    let told = unsafe { driver_call!(state.driver.cuMemGetInfo_v2(&mut free, &mut total)) };
    told.is_ok() && bytes.is_none_or(|bytes| bytes > total as u64)
}

/// Charges the session and makes an array of the driver's.
fn charged(
    state: &State,
    bytes: Option<u64>,
    make: impl Fn() -> Result<*mut c_void, CudaError>,
    destroy: impl Fn(*mut c_void),
) -> Result<(*mut c_void, Charge), CudaError> {
    let mut device = 0;
    // SAFETY: a place for the device of the current context.
    unsafe { driver_call!(state.driver.cuCtxGetDevice(&mut device)) }?;
    let attempt = || {
        let out_of_memory = CudaError::OUT_OF_MEMORY;
        let charge = bytes.ok_or(out_of_memory);
        let charge =
            charge.and_then(|bytes| Charge::take(state.shared.memory_map(), device, bytes));
        if charge.is_err() && !exceeds_device(state, bytes) {
            return Err(out_of_memory);
        }
        let array = state.with_room(bytes.unwrap_or(SOME), &make)?;
        let charge = charge.and_then(|charge| state.shared.check_quota().map(|()| charge));
        match charge {
            Ok(charge) => Ok((array, charge)),
            Err(error) => {
                destroy(array);
                Err(error)
            }
        }
    };
    let mut made = attempt();
    // What the client has given back may still wait for work to end.
    if let Err(CudaError::OUT_OF_MEMORY) = made
        && state.shared.reaper.drain()
    {
        made = attempt();
    }
    made
}

/// Remembers a new array under its id.
fn remember(
    state: &State,
    kind: Kind,
    id: u64,
    (array, charge): (*mut c_void, Charge),
    destroy: impl Fn(*mut c_void),
) -> Result<(), CudaError> {
    if let Err(error) = state.handles.insert(kind, id, array) {
        // It was made just now, and nobody knows it.
        destroy(array);
        return Err(error);
    }
    let context = state.handles.context();
    state.shared.images().add(id, context, charge);
    Ok(())
}

fn read(descriptor: &[u8]) -> Result<ArrayDescriptor, CudaError> {
    let descriptor = ArrayDescriptor::from_bytes(descriptor).ok_or(CudaError::INVALID_VALUE)?;
    match descriptor.flags.get() & MAPPED_LATER {
        0 => Ok(descriptor),
        // Its memory would be mapped by a call that is not served.
        _ => Err(CudaError::NOT_SUPPORTED),
    }
}

/// What the driver tells of an array; `given` where it tells nothing.
fn describe(state: &State, array: *mut c_void, given: ArrayDescriptor, reply: &mut Vec<u8>) {
    let mut told = given;
    let place = (&raw mut told).cast();
    // SAFETY: an array of the driver's, and a place that is laid out as its structure.
    let asked = unsafe { driver_call!(state.driver.cuArray3DGetDescriptor_v2(place, array)) };
    let told = if asked.is_ok() { told } else { given };
    reply.extend_from_slice(told.as_bytes());
}

pub fn rgpuArrayCreate(
    state: &State,
    id: u64,
    descriptor: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let descriptor = read(descriptor)?;
    let make = || {
        let mut array = ptr::null_mut();
        let descriptor = (&raw const descriptor).cast();
        // SAFETY: a place for the handle, and a structure that is laid out as cuda.h's.
        unsafe { driver_call!(state.driver.cuArray3DCreate_v2(&mut array, descriptor)) }?;
        Ok(array)
    };
    let destroy = |array| {
        // SAFETY: made above.
        let _ = unsafe { driver_call!(state.driver.cuArrayDestroy(array)) };
    };
    let made = charged(state, descriptor.device_bytes(1), make, destroy)?;
    let array = made.0;
    remember(state, Kind::Array, id, made, destroy)?;
    describe(state, array, descriptor, reply);
    Ok(())
}

pub fn rgpuMipmappedCreate(
    state: &State,
    id: u64,
    levels: u32,
    descriptor: &[u8],
) -> Result<(), CudaError> {
    let descriptor = read(descriptor)?;
    let make = || {
        let mut array = ptr::null_mut();
        let (place, of) = (&raw mut array, (&raw const descriptor).cast());
        // SAFETY: a place for the handle, and a structure that is laid out as cuda.h's.
        unsafe { driver_call!(state.driver.cuMipmappedArrayCreate(place, of, levels)) }?;
        Ok(array)
    };
    let destroy = |array| {
        // SAFETY: made above.
        let _ = unsafe { driver_call!(state.driver.cuMipmappedArrayDestroy(array)) };
    };
    let made = charged(state, descriptor.device_bytes(levels), make, destroy)?;
    remember(state, Kind::MipmappedArray, id, made, destroy)
}

/// Hands an array over to be destroyed when the work that may use it is done. Levels and planes are not in the list: they end with their whole.
fn destroy(
    state: &State,
    kind: Kind,
    id: u64,
    action: fn(Pointer, Charge) -> Action,
) -> Result<(), CudaError> {
    // First, so that an id of another kind changes nothing.
    state.handles.get(kind, id)?;
    let charge = state.shared.images().take(id)?;
    let array = state.handles.take(kind, id)?;
    // Any context of the session may have work that uses it.
    let contexts = state.handles.contexts();
    state
        .shared
        .reaper
        .after(contexts, action(Pointer(array), charge));
    Ok(())
}

pub fn rgpuArrayDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    destroy(state, Kind::Array, id, Action::DestroyArray)
}

pub fn rgpuMipmappedDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    destroy(state, Kind::MipmappedArray, id, Action::DestroyMipmapped)
}

pub fn rgpuArrayPlane(
    state: &State,
    id: u64,
    array: *mut c_void,
    index: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut plane = ptr::null_mut();
    // SAFETY: an array of the driver's, and a place for the handle.
    unsafe { driver_call!(state.driver.cuArrayGetPlane(&mut plane, array, index)) }?;
    state.handles.insert_owned(Kind::Array, id, plane, array)?;
    describe(state, plane, ArrayDescriptor::default(), reply);
    Ok(())
}

pub fn rgpuMipmappedLevel(
    state: &State,
    id: u64,
    array: *mut c_void,
    index: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut level = ptr::null_mut();
    let place = &raw mut level;
    // SAFETY: a mipmapped array of the driver's, and a place for the handle.
    unsafe { driver_call!(state.driver.cuMipmappedArrayGetLevel(place, array, index)) }?;
    state.handles.insert_owned(Kind::Array, id, level, array)?;
    describe(state, level, ArrayDescriptor::default(), reply);
    Ok(())
}
