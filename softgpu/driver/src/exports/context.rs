//! Contexts.

use std::ffi::c_void;
use std::sync::atomic::Ordering::*;

use super::memory::named;
use super::{Handle, call};
use crate::abi::{In, Out};
use crate::capture;
use crate::context::{Context, LIMITS, check_flags};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::PRIORITIES;

/// What cuCtxGetApiVersion says of contexts made by cuCtxCreate_v2.
const API_VERSION: u32 = 3020;
const LIMIT_L2_GRANULARITY: usize = 5;

fn create(runtime: &Runtime, context: Out<Handle>, flags: u32, device: i32) -> Result {
    context.check()?;
    let created = Context::create(runtime, runtime.device(device)?, flags, false)?;
    context.put(created.handle)?;
    Context::push(created);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate(context: Out<Handle>, flags: u32, device: i32) -> u32 {
    cuCtxCreate_v2(context, flags, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) -> u32 {
    call(|runtime| create(runtime, context, flags, device))
}

/// With a share of the multiprocessors, which are none.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v3(
    context: Out<Handle>,
    affinities: In<c_void>,
    count: i32,
    flags: u32,
    device: i32,
) -> u32 {
    call(|runtime| match (affinities.is_null(), count) {
        (true, 0) => create(runtime, context, flags, device),
        (false, 1..) => Err(Error::ERROR_UNSUPPORTED_EXEC_AFFINITY),
        _ => Err(Error::ERROR_INVALID_VALUE),
    })
}

/// Parameters: pointer to affinities, their number, pointer to what shares the context with graphics.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(
    context: Out<Handle>,
    params: In<[u64; 3]>,
    flags: u32,
    device: i32,
) -> u32 {
    call(|runtime| {
        let params = if params.is_null() {
            [0; 3]
        } else {
            params.get()?
        };
        if params != [0; 3] {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
        create(runtime, context, flags, device)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: Handle) -> u32 {
    call(|runtime| destroy(runtime, &*runtime.context(context)?))
}

fn destroy(runtime: &Runtime, context: &Context) -> Result {
    if context.primary {
        return Err(Error::ERROR_INVALID_CONTEXT);
    }
    context.destroy(runtime)?;
    if Context::try_current().is_some_and(|current| current.handle == context.handle) {
        Context::pop()?;
    }
    Ok(())
}

/// Once more, and the context needs one more cuCtxDetach.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxAttach(context: Out<Handle>, flags: u32) -> u32 {
    call(|_| {
        context.check()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let current = current()?;
        current.attached.fetch_add(1, AcqRel);
        context.put(current.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDetach(context: Handle) -> u32 {
    call(|runtime| {
        let context = runtime.context(context)?;
        if !Context::is_current(context.handle) {
            return Err(Error::ERROR_INVALID_CONTEXT);
        }
        let attached = context
            .attached
            .fetch_update(AcqRel, Acquire, |users| users.checked_sub(1));
        match attached {
            Ok(_) => Ok(()),
            Err(_) => destroy(runtime, &context),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: Handle) -> u32 {
    call(|runtime| {
        Context::push(runtime.context(context)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(context: Out<Handle>) -> u32 {
    call(|_| {
        let popped = Context::pop()?;
        context.put_if(popped.handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: Handle) -> u32 {
    call(|runtime| {
        // Programs set it before every call: mostly there is nothing to do.
        if Context::is_current(context) {
            return Ok(());
        }
        Context::set_current(if context == 0 {
            None
        } else {
            Some(runtime.context(context)?)
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: Out<Handle>) -> u32 {
    call(|_| context.put(Context::try_current().map_or(0, |current| current.handle)))
}

/// The current context, even one that has failed.
fn current() -> Result<std::sync::Arc<Context>> {
    let context = Context::try_current().ok_or(Error::ERROR_INVALID_CONTEXT)?;
    if context.is_destroyed() {
        Err(Error::ERROR_CONTEXT_IS_DESTROYED)
    } else {
        Ok(context)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(device: Out<i32>) -> u32 {
    call(|runtime| device.put(runtime.visible_ordinal(&current()?.device)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice_v2(device: Out<i32>, context: Handle) -> u32 {
    call(|runtime| {
        let context = if context == 0 {
            current()?
        } else {
            runtime.context(context)?
        };
        device.put(runtime.visible_ordinal(&context.device))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    cuCtxSynchronize_v2(0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize_v2(context: Handle) -> u32 {
    call(|runtime| {
        let context = named(runtime, context)?;
        capture::forbid_in(&context)?;
        context.synchronize()
    })
}

/// Shared memory banks have one width.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetSharedMemConfig(config: Out<u32>) -> u32 {
    const FOUR_BYTES: u32 = 1;
    call(|_| current().and(config.put(FOUR_BYTES)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetSharedMemConfig(config: u32) -> u32 {
    call(|_| {
        Context::current()?;
        if config > 2 {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    })
}

/// No context has a share of the multiprocessors.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetExecAffinity(affinity: Out<u64>, kind: u32) -> u32 {
    call(|_| {
        Context::current()?;
        affinity.check()?;
        if kind > 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Err(Error::ERROR_UNSUPPORTED_EXEC_AFFINITY)
    })
}

/// Nothing persists in a cache.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxResetPersistingL2Cache() -> u32 {
    call(|_| Context::current().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(flags: Out<u32>) -> u32 {
    call(|_| flags.put(current()?.flags.load(Acquire)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(flags: u32) -> u32 {
    call(|_| {
        check_flags(flags)?;
        current()?.flags.store(flags, Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetId(context: Handle, id: Out<u64>) -> u32 {
    call(|runtime| {
        let context = if context == 0 {
            current()?
        } else {
            runtime.context(context)?
        };
        id.put(context.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) -> u32 {
    call(|runtime| {
        let _ = if context == 0 {
            current()?
        } else {
            runtime.context(context)?
        };
        version.put(API_VERSION)
    })
}

fn limit_index(limit: u32) -> Result<usize> {
    let index = limit as usize;
    // Device runtime limits (3, 4) belong to launches from kernels, which are not there.
    if index < LIMITS {
        Ok(index)
    } else {
        Err(Error::ERROR_INVALID_VALUE)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(value: Out<usize>, limit: u32) -> u32 {
    call(|_| {
        let index = limit_index(limit)?;
        let context = current()?;
        let limits = context.limits.lock().unwrap_or_else(|e| e.into_inner());
        value.put(limits[index] as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(limit: u32, value: usize) -> u32 {
    call(|_| {
        let index = limit_index(limit)?;
        let context = Context::current()?;
        if index == LIMIT_L2_GRANULARITY && value > 128 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        context.limits.lock().unwrap_or_else(|e| e.into_inner())[index] = value as u64;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(config: Out<u32>) -> u32 {
    call(|_| config.put(current()?.cache_config.load(Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(config: u32) -> u32 {
    call(|_| {
        if config > 3 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Context::current()?.cache_config.store(config, Relaxed);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) -> u32 {
    call(|_| {
        Context::current()?;
        least.put_if(PRIORITIES.0);
        greatest.put_if(PRIORITIES.1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) -> u32 {
    call(|runtime| {
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let (current, peer) = (Context::current()?, runtime.context(peer)?);
        if current.handle == peer.handle {
            return Err(Error::ERROR_INVALID_CONTEXT);
        }
        if current.device.ordinal == peer.device.ordinal {
            return Err(Error::ERROR_PEER_ACCESS_UNSUPPORTED);
        }
        let mut peers = current.peers.lock().unwrap_or_else(|e| e.into_inner());
        if peers.contains(&peer.handle) {
            return Err(Error::ERROR_PEER_ACCESS_ALREADY_ENABLED);
        }
        peers.push(peer.handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDisablePeerAccess(peer: Handle) -> u32 {
    call(|runtime| {
        let (current, peer) = (Context::current()?, runtime.context(peer)?);
        let mut peers = current.peers.lock().unwrap_or_else(|e| e.into_inner());
        let at = peers.iter().position(|&handle| handle == peer.handle);
        peers.swap_remove(at.ok_or(Error::ERROR_PEER_ACCESS_NOT_ENABLED)?);
        Ok(())
    })
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy(context: Handle) -> u32 {
    cuCtxDestroy_v2(context)
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent(context: Handle) -> u32 {
    cuCtxPushCurrent_v2(context)
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent(context: Out<Handle>) -> u32 {
    cuCtxPopCurrent_v2(context)
}
