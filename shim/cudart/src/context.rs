//! The device of each thread, and primary contexts, which begin with their first use.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Mutex, MutexGuard};

use crate::abi::Handle;
use crate::driver::Driver;
use crate::error::{Error, Result};

thread_local! {
    /// What cudaSetDevice chose.
    static DEVICE: Cell<i32> = const { Cell::new(0) };
}

/// A device's primary context; its handle stays the same for the process's life.
#[derive(Clone, Copy)]
struct Primary {
    context: usize,
    /// Retained by us, and not reset since.
    live: bool,
}

static PRIMARIES: Mutex<Vec<Primary>> = Mutex::new(Vec::new());
/// Whether any was ever reset: then a thread's current context may be a dead one.
static RESET: AtomicBool = AtomicBool::new(false);

fn primaries() -> MutexGuard<'static, Vec<Primary>> {
    PRIMARIES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The context that is current, or NULL.
pub unsafe fn current(cu: &Driver) -> Result<Handle> {
    let mut context: Handle = null_mut();
    cu.cuCtxGetCurrent((&raw mut context).cast())?;
    Ok(context)
}

/// Makes the primary context of the thread's device current if none is. A context that the program made itself is left.
pub unsafe fn ensure(cu: &Driver) -> Result {
    let context = current(cu)?;
    if context.is_null() {
        return bind(cu, chosen());
    }
    if RESET.load(Acquire) {
        let dead = primaries()
            .iter()
            .position(|primary| primary.context == context as usize && !primary.live);
        if let Some(device) = dead {
            return bind(cu, device as i32);
        }
    }
    Ok(())
}

pub fn chosen() -> i32 {
    DEVICE.try_with(Cell::get).unwrap_or(0)
}

/// The device of the current context, or the one that was chosen.
pub unsafe fn device(cu: &Driver) -> Result<i32> {
    if current(cu)?.is_null() {
        return Ok(chosen());
    }
    let mut device = 0;
    cu.cuCtxGetDevice(&mut device)?;
    Ok(device)
}

/// The driver's handle of a device.
pub unsafe fn handle(cu: &Driver, device: i32) -> Result<i32> {
    let mut handle = 0;
    cu.cuDeviceGet(&mut handle, device)
        .map_err(|error| match error {
            Error::INVALID_VALUE => Error::INVALID_DEVICE,
            other => other,
        })?;
    Ok(handle)
}

/// The primary context of a device, alive.
pub unsafe fn primary(cu: &Driver, device: i32) -> Result<Handle> {
    let handle = handle(cu, device)?;
    let mut all = primaries();
    let at = device as usize;
    if all.len() <= at {
        all.resize(
            at + 1,
            Primary {
                context: 0,
                live: false,
            },
        );
    }
    if !all[at].live {
        let mut context: Handle = null_mut();
        cu.cuDevicePrimaryCtxRetain((&raw mut context).cast(), handle)?;
        all[at] = Primary {
            context: context as usize,
            live: true,
        };
    }
    Ok(all[at].context as Handle)
}

unsafe fn bind(cu: &Driver, device: i32) -> Result {
    let context = primary(cu, device)?;
    cu.cuCtxSetCurrent(context)
}

/// Chooses a device for this thread, and makes its primary context current.
pub unsafe fn choose(cu: &Driver, device: i32) -> Result {
    handle(cu, device)?;
    bind(cu, device)?;
    let _ = DEVICE.try_with(|chosen| chosen.set(device));
    Ok(())
}

/// Ends a device's primary context; the next use begins it anew.
pub unsafe fn reset(cu: &Driver, device: i32) -> Result {
    let handle = handle(cu, device)?;
    let mut all = primaries();
    let (mut flags, mut active) = (0, 0);
    cu.cuDevicePrimaryCtxGetState(handle, &mut flags, &mut active)?;
    if active == 0 {
        return Ok(());
    }
    cu.cuDevicePrimaryCtxReset_v2(handle)?;
    RESET.store(true, Release);
    if let Some(primary) = all.get_mut(device as usize) {
        primary.live = false;
        if current(cu)? as usize == primary.context {
            cu.cuCtxSetCurrent(null_mut())?;
        }
    }
    Ok(())
}

/// Runs something with another context current.
pub unsafe fn within<T>(
    cu: &Driver,
    context: Handle,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    cu.cuCtxPushCurrent_v2(context)?;
    let result = run();
    let mut popped: Handle = null_mut();
    cu.cuCtxPopCurrent_v2((&raw mut popped).cast())?;
    result
}
