//! Events.

use super::{Handle, call};
use crate::abi::Out;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handles;
use crate::runtime::Runtime;
use crate::stream::Stream;

/// CU_EVENT_RECORD_EXTERNAL, which has a meaning in captures alone.
const EXTERNAL: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: Out<Handle>, flags: u32) -> u32 {
    call(|runtime| {
        event.check()?;
        let created = Event::create(&Context::current()?, flags)?;
        let handle = handles::fresh();
        runtime.events.insert(handle, created);
        event.put(handle)
    })
}

fn record(runtime: &Runtime, event: Handle, stream: Handle, external: bool) -> Result {
    let stream = Stream::find(runtime, stream)?;
    let found = runtime.events.get(event)?;
    found.record(runtime, event, &stream, external)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> u32 {
    call(|runtime| record(runtime, event, stream, false))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) -> u32 {
    call(|runtime| {
        if flags > EXTERNAL {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            record(runtime, event, stream, flags == EXTERNAL)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxRecordEvent(context: Handle, event: Handle) -> u32 {
    call(|runtime| {
        let context = runtime.context(context)?;
        runtime.events.get(event)?.record_in_context(&context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxWaitEvent(context: Handle, event: Handle) -> u32 {
    call(|runtime| {
        let context = runtime.context(context)?;
        runtime.events.get(event)?.wait_in_context(&context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: Handle) -> u32 {
    call(|runtime| runtime.events.get(event)?.query())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: Handle) -> u32 {
    call(|runtime| runtime.events.get(event)?.synchronize())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) -> u32 {
    call(|runtime| {
        milliseconds.check()?;
        let (start, end) = (runtime.events.get(start)?, runtime.events.get(end)?);
        milliseconds.put(start.elapsed(&end)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) -> u32 {
    cuEventElapsedTime(milliseconds, start, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: Handle) -> u32 {
    call(|runtime| runtime.events.take(event).map(drop))
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy(event: Handle) -> u32 {
    cuEventDestroy_v2(event)
}
