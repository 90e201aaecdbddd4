//! Execution contexts: a device's primary context, and green ones, which have a part of a device, where the driver makes such.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

use crate::abi::Handle;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, context};

/// What a handle of the program's stands for; the handle is one more than its place here.
#[derive(Clone, Copy)]
struct Execution {
    device: i32,
    /// 0: it was destroyed.
    context: usize,
    /// 0: the primary one.
    green: usize,
}

static ALL: Mutex<Vec<Execution>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Execution>> {
    ALL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn add(made: Execution) -> Handle {
    let mut all = all();
    let same = |known: &Execution| (known.context, known.green) == (made.context, made.green);
    let at = all.iter().position(same).unwrap_or_else(|| {
        all.push(made);
        all.len() - 1
    });
    (at + 1) as Handle
}

fn find(handle: Handle) -> Result<Execution> {
    let found = all().get((handle as usize).wrapping_sub(1)).copied();
    match found {
        Some(found) if found.context != 0 => Ok(found),
        _ => Err(Error::INVALID_VALUE),
    }
}

/// The driver's context; NULL is the current one.
pub unsafe fn driver_context(cu: &Driver, handle: Handle) -> Result<Handle> {
    if handle.is_null() {
        return context::current(cu);
    }
    Ok(find(handle)?.context as Handle)
}

pub unsafe fn cudaDeviceGetExecutionCtx(
    runtime: &Runtime,
    handle: *mut Handle,
    device: i32,
) -> Result {
    if handle.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let context = context::primary(runtime.driver()?, device)? as usize;
    handle.write(add(Execution {
        device,
        context,
        green: 0,
    }));
    Ok(())
}

pub unsafe fn cudaGreenCtxCreate(
    runtime: &Runtime,
    handle: *mut Handle,
    resources: Handle,
    device: i32,
    flags: u32,
) -> Result {
    /// CU_GREEN_CTX_DEFAULT_STREAM, without which the driver makes none.
    const DEFAULT_STREAM: u32 = 1;
    if handle.is_null() || flags != 0 {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    context::primary(cu, device)?;
    let (mut green, mut context): (Handle, Handle) = (null_mut(), null_mut());
    let of = context::handle(cu, device)?;
    cu.cuGreenCtxCreate((&raw mut green).cast(), resources, of, DEFAULT_STREAM)?;
    cu.cuCtxFromGreenCtx((&raw mut context).cast(), green)?;
    let (context, green) = (context as usize, green as usize);
    handle.write(add(Execution {
        device,
        context,
        green,
    }));
    Ok(())
}

/// Of a green one; the primary one is the device's.
pub unsafe fn cudaExecutionCtxDestroy(runtime: &Runtime, handle: Handle) -> Result {
    let found = find(handle)?;
    if found.green == 0 {
        return Err(Error::INVALID_VALUE);
    }
    runtime.driver()?.cuGreenCtxDestroy(found.green as Handle)?;
    if let Some(slot) = all().get_mut(handle as usize - 1) {
        slot.context = 0;
    }
    Ok(())
}

pub unsafe fn cudaExecutionCtxGetDevResource(
    runtime: &Runtime,
    handle: Handle,
    resource: *mut c_void,
    kind: u32,
) -> Result {
    let (cu, found) = (runtime.driver()?, find(handle)?);
    match found.green {
        0 => cu.cuCtxGetDevResource(found.context as Handle, resource, kind),
        green => cu.cuGreenCtxGetDevResource(green as Handle, resource, kind),
    }
}

pub unsafe fn cudaExecutionCtxGetDevice(_: &Runtime, device: *mut i32, handle: Handle) -> Result {
    if device.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    device.write(find(handle)?.device);
    Ok(())
}

pub unsafe fn cudaExecutionCtxGetId(runtime: &Runtime, handle: Handle, id: *mut u64) -> Result {
    let cu = runtime.driver()?;
    cu.cuCtxGetId(find(handle)?.context as Handle, id)
}

pub unsafe fn cudaExecutionCtxStreamCreate(
    runtime: &Runtime,
    stream: *mut Handle,
    handle: Handle,
    flags: u32,
    priority: i32,
) -> Result {
    let (cu, found) = (runtime.driver()?, find(handle)?);
    match found.green {
        0 => context::within(cu, found.context as Handle, || {
            cu.cuStreamCreateWithPriority(stream.cast(), flags, priority)
        }),
        green => cu.cuGreenCtxStreamCreate(stream.cast(), green as Handle, flags, priority),
    }
}

pub unsafe fn cudaExecutionCtxSynchronize(runtime: &Runtime, handle: Handle) -> Result {
    let (cu, found) = (runtime.driver()?, find(handle)?);
    context::within(cu, found.context as Handle, || cu.cuCtxSynchronize())
}

pub unsafe fn cudaExecutionCtxRecordEvent(
    runtime: &Runtime,
    handle: Handle,
    event: Handle,
) -> Result {
    let (cu, found) = (runtime.driver()?, find(handle)?);
    cu.cuCtxRecordEvent(found.context as Handle, event)
}

pub unsafe fn cudaExecutionCtxWaitEvent(
    runtime: &Runtime,
    handle: Handle,
    event: Handle,
) -> Result {
    let (cu, found) = (runtime.driver()?, find(handle)?);
    cu.cuCtxWaitEvent(found.context as Handle, event)
}
