use std::ptr;

use rgpu_proto::CudaError;

use crate::handles::Kind;
use crate::reaper::{Action, Pointer};
use crate::state::{SOME, State};

pub fn rgpuContextCreate(state: &State, id: u64, flags: u32, device: i32) -> Result<(), CudaError> {
    let context = state.with_room(SOME, || {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is a place for the handle.
        unsafe { driver_call!(state.driver.cuCtxCreate_v2(&mut context, flags, device)) }
            .map(|()| context)
    })?;
    // The driver makes a new context current.
    state.became_current(0);
    let cleared = state.shared.clearing.catch_up(&state.driver);
    let known = cleared.and_then(|()| state.handles.insert(Kind::Context, id, context));
    if let Err(error) = known {
        // SAFETY: it was made above, and nobody knows it.
        unsafe { driver_call!(state.driver.cuCtxDestroy_v2(context)) }?;
        return Err(error);
    }
    state.became_current(id);
    Ok(())
}

/// A session holds the primary context of a device at most once in the driver: only that it is active matters.
pub fn rgpuPrimaryRetain(state: &State, id: u64, flags: u32, device: i32) -> Result<(), CudaError> {
    if let Some(&known) = state.shared.primaries().get(&id) {
        return if known == device {
            Ok(())
        } else {
            Err(CudaError::INVALID_VALUE)
        };
    }
    // If it was let go of just now, that comes first: the program expects a fresh context.
    state.shared.reaper.drain();
    // SAFETY: no pointers.
    unsafe { driver_call!(state.driver.cuDevicePrimaryCtxSetFlags_v2(device, flags)) }?;
    let context = state.with_room(SOME, || {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is a place for the handle.
        unsafe { driver_call!(state.driver.cuDevicePrimaryCtxRetain(&mut context, device)) }
            .map(|()| context)
    })?;
    if let Err(error) = state.handles.insert(Kind::Context, id, context) {
        // SAFETY: it was retained above.
        unsafe { driver_call!(state.driver.cuDevicePrimaryCtxRelease_v2(device)) }?;
        return Err(error);
    }
    state.shared.primaries().insert(id, device);
    Ok(())
}

pub fn rgpuContextDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    let (context, modules) = state.handles.end_context(id)?;
    state.shared.functions().retain(|_, function| {
        !modules
            .iter()
            .any(|module| module.addr() == function.module)
    });
    let action = match state.shared.primaries().remove(&id) {
        Some(device) => Action::ReleasePrimary(device),
        None => Action::DestroyContext(Pointer(context)),
    };
    let charges = state.shared.images().end_context(id);
    if let Some(leaving) = state.shared.landings.leave(id) {
        let action = Action::Drop(Box::new(leaving));
        state.shared.reaper.after(vec![context], action);
    }
    if let Some(gates) = state.shared.gates.get() {
        let action = Action::Drop(Box::new(gates.end_context(context)));
        state.shared.reaper.after(vec![context], action);
    }
    state.shared.reaper.after(vec![context], action);
    if !charges.is_empty() {
        // Behind it, and not before: until then the device holds the arrays.
        let action = Action::GiveBack(charges);
        state.shared.reaper.after(Vec::new(), action);
    }
    Ok(())
}

pub fn rgpuContextSynchronize(state: &State) -> Result<(), CudaError> {
    // SAFETY: no pointers.
    unsafe { driver_call!(state.driver.cuCtxSynchronize()) }?;
    // The client takes it that what it had in contexts which it has ended is free now.
    state.shared.reaper.wait_for_ends();
    Ok(())
}
