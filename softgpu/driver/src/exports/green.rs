//! Green contexts and what they are made of.

use std::sync::Arc;

use super::stream::any;
use super::{Handle, call};
use crate::abi::{DevResource, In, Out, SmGroup};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::green::{self, Green, SM};
use crate::handles;
use crate::runtime::Runtime;
use crate::stream::{NON_BLOCKING, Stream};

/// CU_GREEN_CTX_DEFAULT_STREAM
const DEFAULT_STREAM: u32 = 1;
const MAX_RESOURCES: u32 = 1 << 12;

fn green_of(runtime: &Runtime, green: Handle) -> Result<Arc<Green>> {
    runtime
        .greens
        .find(green)
        .ok_or(Error::ERROR_INVALID_CONTEXT)
}

fn whole(runtime: &Runtime, device: i32) -> Result<DevResource> {
    let found = runtime.device(device)?;
    let (capability, _) = found.capability;
    Ok(DevResource::whole(
        device as u32,
        capability,
        found.multiprocessors(),
    ))
}

/// Multiprocessors alone are counted.
fn check_kind(kind: u32) -> Result {
    if kind == SM {
        Ok(())
    } else {
        Err(Error::ERROR_INVALID_RESOURCE_TYPE)
    }
}

fn of_context(runtime: &Runtime, context: &Context) -> Result<DevResource> {
    match context.green() {
        Some(green) => Ok(green_of(runtime, green)?.resource),
        None => whole(runtime, runtime.visible_ordinal(&context.device)),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDevResource(
    device: i32,
    resource: Out<DevResource>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        resource.check()?;
        let whole = whole(runtime, device)?;
        check_kind(kind)?;
        resource.put(whole)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevResource(
    context: Handle,
    resource: Out<DevResource>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        resource.check()?;
        let context = runtime.context(context)?;
        check_kind(kind)?;
        resource.put(of_context(runtime, &context)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxGetDevResource(
    green: Handle,
    resource: Out<DevResource>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        resource.check()?;
        let green = green_of(runtime, green)?;
        check_kind(kind)?;
        resource.put(green.resource)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetDevResource(
    stream: Handle,
    resource: Out<DevResource>,
    kind: u32,
) -> u32 {
    call(|runtime| {
        resource.check()?;
        let stream = Stream::find(runtime, stream)?;
        check_kind(kind)?;
        resource.put(of_context(runtime, &stream.context)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevSmResourceSplitByCount(
    result: Out<DevResource>,
    count: Out<u32>,
    input: In<DevResource>,
    rest: Out<DevResource>,
    flags: u32,
    least: u32,
) -> u32 {
    call(|_| {
        let most = count.read_at(0)?;
        let (possible, parts, left) = green::split_by_count(&input.get()?, flags, least, most)?;
        if result.is_null() {
            return count.put(possible);
        }
        count.put(parts.len() as u32)?;
        for (at, part) in parts.into_iter().enumerate() {
            result.put_at(at, part)?;
        }
        rest.put_if(left);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevSmResourceSplit(
    result: Out<DevResource>,
    count: u32,
    input: In<DevResource>,
    rest: Out<DevResource>,
    flags: u32,
    groups: Out<SmGroup>,
) -> u32 {
    call(|_| {
        if flags != 0 || count == 0 || count > MAX_RESOURCES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let read: Result<Vec<SmGroup>> = (0..count as usize).map(|at| groups.read_at(at)).collect();
        let mut wanted = read?;
        let (parts, left) = green::split(&input.get()?, &mut wanted, !result.is_null())?;
        for (at, (group, part)) in wanted.into_iter().zip(parts).enumerate() {
            groups.put_at(at, group)?;
            if !result.is_null() {
                result.put_at(at, part)?;
            }
        }
        rest.put_if(left);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevResourceGenerateDesc(
    description: Out<Handle>,
    resources: In<DevResource>,
    count: u32,
) -> u32 {
    call(|runtime| {
        description.check()?;
        if count == 0 || count > MAX_RESOURCES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let made = green::describe(&resources.list(count as usize)?)?;
        let handle = handles::fresh();
        runtime.resource_descriptions.insert(handle, Arc::new(made));
        description.put(handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxCreate(
    green: Out<Handle>,
    description: Handle,
    device: i32,
    flags: u32,
) -> u32 {
    call(|runtime| {
        green.check()?;
        let owner = runtime.device(device)?;
        let found = runtime.resource_descriptions.find(description);
        let found = found.filter(|found| found.device == device as u32);
        let found = found.ok_or(Error::ERROR_INVALID_VALUE)?;
        if flags & !DEFAULT_STREAM != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let base = owner.retain_primary(runtime)?;
        let handle = handles::fresh();
        let made = Green {
            handle,
            device,
            context: Context::create_green(runtime, &base, handle),
            resource: found.resource,
        };
        runtime.greens.insert(handle, Arc::new(made));
        green.put(handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxDestroy(green: Handle) -> u32 {
    call(|runtime| {
        let gone = runtime.greens.take(green);
        let gone = gone.map_err(|_| Error::ERROR_INVALID_CONTEXT)?;
        gone.context.destroy(runtime)?;
        // It may be gone by cuDevicePrimaryCtxReset.
        let _ = runtime.device(gone.device)?.release_primary(runtime);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxFromGreenCtx(context: Out<Handle>, green: Handle) -> u32 {
    call(|runtime| {
        context.check()?;
        context.put(green_of(runtime, green)?.context.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxGetId(green: Handle, id: Out<u64>) -> u32 {
    call(|runtime| {
        id.check()?;
        let green = match green {
            0 => Context::try_current()
                .and_then(|current| current.green())
                .unwrap_or(0),
            green => green,
        };
        id.put(green_of(runtime, green)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxStreamCreate(
    stream: Out<Handle>,
    green: Handle,
    flags: u32,
    priority: i32,
) -> u32 {
    call(|runtime| {
        stream.check()?;
        let green = green_of(runtime, green)?;
        green.context.check()?;
        if flags != NON_BLOCKING {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let made = Stream::create(&green.context, flags, priority)?;
        let handle = made.handle;
        runtime.streams.insert(handle, made);
        stream.put(handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetGreenCtx(stream: Handle, green: Out<Handle>) -> u32 {
    call(|runtime| {
        green.check()?;
        green.put(any(runtime, stream)?.context.green().unwrap_or(0))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxRecordEvent(green: Handle, event: Handle) -> u32 {
    call(|runtime| {
        let context = green_of(runtime, green)?.context.clone();
        runtime.events.get(event)?.record_in_context(&context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGreenCtxWaitEvent(green: Handle, event: Handle) -> u32 {
    call(|runtime| {
        let context = green_of(runtime, green)?.context.clone();
        runtime.events.get(event)?.wait_in_context(&context)
    })
}
