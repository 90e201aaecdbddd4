//! Streams.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::{Handle, call};
use crate::abi::Out;
use crate::capture;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::{LEGACY, PER_THREAD, Stream};

fn create(runtime: &Runtime, stream: Out<Handle>, flags: u32, priority: i32) -> Result {
    stream.check()?;
    let created = Stream::create(&Context::current()?, flags, priority)?;
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
pub extern "C" fn cuStreamGetId(stream: Handle, id: Out<u64>) -> u32 {
    call(|runtime| id.put(any(runtime, stream)?.handle))
}
