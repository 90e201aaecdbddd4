//! Streams.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::capture;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::{LEGACY, PER_THREAD, Stream};

fn create(runtime: &Runtime, stream: Out<Handle>, flags: u32, priority: i32) -> Result {
    stream.check()?;
    let created = Stream::create(&Context::current_lane()?, flags, priority)?;
    runtime.streams.insert(created.handle, created.clone());
    stream.put(created.handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: Out<Handle>, flags: u32) -> u32 {
    call(|runtime| create(runtime, stream, flags, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(
    stream: Out<Handle>,
    flags: u32,
    priority: i32,
) -> u32 {
    call(|runtime| create(runtime, stream, flags, priority))
}

/// Work that is enqueued still runs.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: Handle) -> u32 {
    call(|runtime| {
        if matches!(stream, 0 | LEGACY | PER_THREAD) {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        let stream = runtime.streams.take(stream)?;
        stream.gone.store(true, Release);
        if let Some(capture) = stream.capture() {
            capture.leave(runtime, &stream);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: Handle) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        capture::forbid(&stream)?;
        stream.synchronize()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: Handle) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        capture::forbid(&stream)?;
        if !stream.is_idle() {
            return Err(Error::ERROR_NOT_READY);
        }
        stream.context.check()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) -> u32 {
    call(|runtime| {
        // CU_EVENT_WAIT_EXTERNAL has a meaning in captures alone.
        if flags > 1 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let stream = Stream::find(runtime, stream)?;
        let found = runtime.events.get(event)?;
        found.wait_in(runtime, event, &stream, flags == 1)
    })
}

/// For questions that a failed context answers, too.
pub fn any(runtime: &Runtime, handle: Handle) -> Result<Arc<Stream>> {
    match handle {
        0 | LEGACY | PER_THREAD => Stream::find(runtime, handle),
        _ => runtime.streams.get(handle),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) -> u32 {
    call(|runtime| flags.put(any(runtime, stream)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) -> u32 {
    call(|runtime| priority.put(any(runtime, stream)?.priority))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) -> u32 {
    call(|runtime| context.put(any(runtime, stream)?.context.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx_v2(
    stream: Handle,
    context: Out<Handle>,
    green: Out<Handle>,
) -> u32 {
    call(|runtime| {
        let owner = any(runtime, stream)?.context.clone();
        context.put(owner.handle)?;
        green.put_if(owner.green().unwrap_or(0));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetId(stream: Handle, id: Out<u64>) -> u32 {
    call(|runtime| id.put(any(runtime, stream)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetDevice(stream: Handle, device: Out<i32>) -> u32 {
    call(|runtime| {
        let stream = any(runtime, stream)?;
        device.put(runtime.visible_ordinal(&stream.context.device))
    })
}

// Attributes: hints, kept for those who ask.

/// CU_LAUNCH_ATTRIBUTE_PRIORITY of a stream is fixed when it is made.
const PRIORITY: u32 = 8;

/// ACCESS_POLICY_WINDOW, SYNCHRONIZATION_POLICY, MEM_SYNC_DOMAIN_MAP, MEM_SYNC_DOMAIN.
fn check_attribute(attribute: u32) -> Result {
    match attribute {
        1 | 3 | 9 | 10 => Ok(()),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetAttribute(
    stream: Handle,
    attribute: u32,
    value: Out<[u64; 8]>,
) -> u32 {
    call(|runtime| {
        let stream = any(runtime, stream)?;
        let mut found = [0; 8];
        if attribute == PRIORITY {
            found[0] = u64::from(stream.priority as u32);
        } else {
            check_attribute(attribute)?;
            let attributes = stream.attributes.lock().unwrap_or_else(|e| e.into_inner());
            found = attributes.get(&attribute).copied().unwrap_or(found);
        }
        value.put(found)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSetAttribute(stream: Handle, attribute: u32, value: In<[u64; 8]>) -> u32 {
    call(|runtime| {
        check_attribute(attribute)?;
        let (stream, value) = (Stream::find(runtime, stream)?, value.get()?);
        let mut attributes = stream.attributes.lock().unwrap_or_else(|e| e.into_inner());
        attributes.insert(attribute, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCopyAttributes(to: Handle, from: Handle) -> u32 {
    call(|runtime| {
        let (to, from) = (Stream::find(runtime, to)?, Stream::find(runtime, from)?);
        if to.context.handle != from.context.handle {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let copied = from
            .attributes
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        *to.attributes.lock().unwrap_or_else(|e| e.into_inner()) = copied;
        Ok(())
    })
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy(stream: Handle) -> u32 {
    cuStreamDestroy_v2(stream)
}
