//! Green contexts. The client knows which there are, and which primary context each belongs to; of what they are made, the server.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuDevResourceDescReply, rgpuSmSplitByCountReply};
use rgpu_proto::dev_resource::{BYTES, DevResource, GROUP, MOST_PARTS, kind, number, renumber};
use rgpu_proto::id::MARK;

use super::stream::context_of;
use super::{across, context};
use crate::entry::{Needs, input_bytes, put, required};
use crate::handles::{Kind, mark, server_of};
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

/// CUdevResourceType.
const INVALID: u32 = 0;
const SM: u32 = 1;

/// What rgpuDevResource asks about.
const DEVICE: u32 = 0;
const CONTEXT: u32 = 1;
const GREEN: u32 = 2;
const STREAM: u32 = 3;

/// CU_GREEN_CTX_DEFAULT_STREAM
const DEFAULT_STREAM: u32 = 1;
/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: u32 = 1;

/// The live green contexts.
#[derive(Default)]
pub struct Greens(HashMap<u64, Green>);

#[derive(Clone, Copy)]
struct Green {
    /// The context that stands for it, and the primary one that it belongs to.
    context: u64,
    base: u64,
    device: i32,
}

impl Greens {
    fn get(&self, green: u64) -> Result<Green, CudaError> {
        self.0
            .get(&green)
            .copied()
            .ok_or(CudaError::INVALID_CONTEXT)
    }

    /// The green context for which a context stands, 0 for none.
    pub fn of_context(&self, context: u64) -> u64 {
        let mut all = self.0.iter();
        all.find(|(_, green)| green.context == context)
            .map_or(0, |(id, _)| *id)
    }
}

unsafe fn read(resource: *const c_void, at: usize) -> DevResource {
    // SAFETY: the caller's array of CUdevResource.
    unsafe { resource.cast::<DevResource>().add(at).read_unaligned() }
}

unsafe fn write(
    session: &Session,
    resource: *mut c_void,
    at: usize,
    value: &[u8],
) -> Result<(), CudaError> {
    let mut value: DevResource = value.try_into().map_err(|_| CudaError::UNKNOWN)?;
    let number = number(&value);
    renumber(&mut value, number | mark(session.number));
    // SAFETY: the caller's array of CUdevResource.
    unsafe {
        resource
            .cast::<DevResource>()
            .add(at)
            .write_unaligned(value)
    };
    Ok(())
}

/// The server that a resource is of.
///
/// # Safety
/// `resource` is NULL or a CUdevResource.
unsafe fn server_of_resource(resource: *const c_void) -> Of {
    if resource.is_null() {
        return Of::Current;
    }
    // SAFETY: the caller's struct.
    let resource = unsafe { read(resource, 0) };
    Of::Server(server_of(number(&resource)))
}

/// A number as the session's server knows it: one of another server's is none there.
fn own(session: &Session, number: u64) -> u64 {
    match server_of(number) == session.number {
        true => number & !MARK,
        false => u64::MAX,
    }
}

/// A resource of multiprocessors, as the server knows it.
unsafe fn input(session: &Session, resource: *const c_void) -> Result<u64, CudaError> {
    required(resource)?;
    // SAFETY: the caller's struct.
    let resource = unsafe { read(resource, 0) };
    if kind(&resource) != SM {
        return Err(CudaError::INVALID_RESOURCE_TYPE);
    }
    Ok(own(session, number(&resource)))
}

unsafe fn resource_of(
    session: &Session,
    of: u32,
    id: u64,
    what: u32,
    place: *mut c_void,
) -> Result<(), CudaError> {
    let mut found = Vec::new();
    send::rgpuDevResource(session, of, id, what, &mut found)?;
    // SAFETY: the caller's place.
    unsafe { write(session, place, 0, &found) }
}

pub unsafe fn cuDeviceGetDevResource(device: i32, resource: *mut c_void, what: u32) -> u32 {
    Of::Device(device).enter("cuDeviceGetDevResource", Needs::Session, |session| {
        required(resource)?;
        let ordinal = session.devices.get(device)?.ordinal;
        // SAFETY: the caller's place.
        unsafe { resource_of(session, DEVICE, ordinal as u64, what, resource) }
    })
}

pub unsafe fn cuCtxGetDevResource(of: u64, resource: *mut c_void, what: u32) -> u32 {
    Of::Handle(of).enter("cuCtxGetDevResource", Needs::Session, |session| {
        required(resource)?;
        session.contexts().check(of)?;
        // SAFETY: the caller's place.
        unsafe { resource_of(session, CONTEXT, of, what, resource) }
    })
}

pub unsafe fn cuGreenCtxGetDevResource(green: u64, resource: *mut c_void, what: u32) -> u32 {
    Of::Handle(green).enter("cuGreenCtxGetDevResource", Needs::Session, |session| {
        required(resource)?;
        session.greens().get(green)?;
        // SAFETY: the caller's place.
        unsafe { resource_of(session, GREEN, green, what, resource) }
    })
}

pub unsafe fn cuStreamGetDevResource(stream: u64, resource: *mut c_void, what: u32) -> u32 {
    Of::Handle(stream).enter("cuStreamGetDevResource", Needs::Context, |session| {
        required(resource)?;
        session.handles.check(Kind::Stream, stream)?;
        // SAFETY: the caller's place.
        unsafe { resource_of(session, STREAM, stream, what, resource) }
    })
}

pub unsafe fn cuDevSmResourceSplitByCount(
    result: *mut c_void,
    count: *mut u32,
    source: *const c_void,
    rest: *mut c_void,
    flags: u32,
    least: u32,
) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { server_of_resource(source) };
    of.enter("cuDevSmResourceSplitByCount", Needs::Session, |session| {
        required(count)?;
        // SAFETY: the caller's places, and an array as long as the count says.
        unsafe {
            let source = input(session, source)?;
            let most = if result.is_null() { 0 } else { count.read() };
            let mut reply = rgpuSmSplitByCountReply::default();
            let mut found = Vec::new();
            send::rgpuSmSplitByCount(session, source, flags, least, most, &mut found, &mut reply)?;
            if result.is_null() {
                return put(count, reply.count.get());
            }
            let (parts, []) = found.as_chunks::<BYTES>() else {
                return Err(CudaError::UNKNOWN);
            };
            let Some((left, parts)) = parts.split_last() else {
                return put(count, 0);
            };
            if parts.len() > most as usize {
                return Err(CudaError::UNKNOWN);
            }
            for (at, part) in parts.iter().enumerate() {
                write(session, result, at, part)?;
            }
            if !rest.is_null() {
                write(session, rest, 0, left)?;
            }
            put(count, parts.len() as u32)
        }
    })
}

pub unsafe fn cuDevSmResourceSplit(
    result: *mut c_void,
    count: u32,
    source: *const c_void,
    rest: *mut c_void,
    flags: u32,
    groups: *mut c_void,
) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { server_of_resource(source) };
    of.enter("cuDevSmResourceSplit", Needs::Session, |session| {
        if flags != 0 || count == 0 || count > MOST_PARTS {
            return Err(CudaError::INVALID_VALUE);
        }
        let count = count as usize;
        // SAFETY: the caller's places, and arrays as long as the count says.
        unsafe {
            let wanted = input_bytes(groups, count * GROUP)?.to_vec();
            let source = input(session, source)?;
            let parts = !result.is_null();
            let mut found = Vec::new();
            send::rgpuSmSplit(session, source, flags, parts.into(), &wanted, &mut found)?;
            let (filled, found) = found
                .split_at_checked(count * GROUP)
                .ok_or(CudaError::UNKNOWN)?;
            let (found, []) = found.as_chunks::<BYTES>() else {
                return Err(CudaError::UNKNOWN);
            };
            let (left, found) = found.split_last().ok_or(CudaError::UNKNOWN)?;
            if found.len() != if parts { count } else { 0 } {
                return Err(CudaError::UNKNOWN);
            }
            let place = groups.cast::<u8>();
            place.copy_from_nonoverlapping(filled.as_ptr(), filled.len());
            for (at, part) in found.iter().enumerate() {
                write(session, result, at, part)?;
            }
            if !rest.is_null() {
                write(session, rest, 0, left)?;
            }
        }
        Ok(())
    })
}

pub unsafe fn cuDevResourceGenerateDesc(
    description: *mut u64,
    resources: *const c_void,
    count: u32,
) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { server_of_resource(resources) };
    of.enter("cuDevResourceGenerateDesc", Needs::Session, |session| {
        required(description)?;
        required(resources)?;
        if count == 0 || count > MOST_PARTS {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut numbers = Vec::new();
        for at in 0..count as usize {
            // SAFETY: the caller's array of that many.
            let resource = unsafe { read(resources, at) };
            if kind(&resource) == INVALID {
                return Err(CudaError::INVALID_RESOURCE_TYPE);
            }
            numbers.extend(own(session, number(&resource)).to_le_bytes());
        }
        let mut reply = rgpuDevResourceDescReply::default();
        send::rgpuDevResourceDesc(session, &numbers, &mut reply)?;
        // SAFETY: the caller's place.
        unsafe { put(description, reply.description.get() | mark(session.number)) }
    })
}

pub unsafe fn cuGreenCtxCreate(green: *mut u64, description: u64, device: i32, flags: u32) -> u32 {
    Of::Device(device).enter("cuGreenCtxCreate", Needs::Session, |session| {
        required(green)?;
        let ordinal = session.devices.get(device)?.ordinal;
        if flags & !DEFAULT_STREAM != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let description = own(session, description);
        let base = context::retain(session, device)?;
        let id = session.handles.make(Kind::GreenContext, 0);
        let stands = session.handles.make(Kind::Context, 0);
        let made = send::rgpuGreenCreate(session, id, stands, base, description, ordinal, flags);
        if let Err(error) = made {
            session.handles.forget(id);
            session.handles.forget(stands);
            context::release(session, device)?;
            return Err(error);
        }
        session.contexts().add_green(stands, base)?;
        session.set_base(stands, Some(base));
        let known = Green {
            context: stands,
            base,
            device,
        };
        session.greens().0.insert(id, known);
        // SAFETY: the caller's place.
        unsafe { put(green, id) }
    })
}

/// Ends one here and on the server. Its streams stay.
fn end(session: &Session, id: u64) -> Result<Green, CudaError> {
    let gone = session
        .greens()
        .0
        .remove(&id)
        .ok_or(CudaError::INVALID_CONTEXT)?;
    session.handles.forget(id);
    session.handles.forget(gone.context);
    session.contexts().remove_green(gone.context);
    session.standing.end_context(gone.context);
    send::rgpuGreenDestroy(session, id)?;
    session.set_base(gone.context, None);
    Ok(gone)
}

/// The primary context is about to end, and its green ones with it.
pub fn end_all(session: &Session, base: u64) -> Result<(), CudaError> {
    let of_base: Vec<u64> = {
        let greens = session.greens();
        let all = greens.0.iter().filter(|(_, green)| green.base == base);
        all.map(|(id, _)| *id).collect()
    };
    for id in of_base {
        let gone = end(session, id)?;
        session.handles.forget_context(gone.context);
    }
    Ok(())
}

pub unsafe fn cuGreenCtxDestroy(green: u64) -> u32 {
    Of::Handle(green).enter("cuGreenCtxDestroy", Needs::Session, |session| {
        let gone = end(session, green)?;
        context::release(session, gone.device)
    })
}

pub unsafe fn cuCtxFromGreenCtx(of: *mut u64, green: u64) -> u32 {
    Of::Handle(green).enter("cuCtxFromGreenCtx", Needs::Session, |session| {
        required(of)?;
        let green = session.greens().get(green)?;
        // SAFETY: the caller's place.
        unsafe { put(of, green.context) }
    })
}

/// A handle is never used again, so that it is an id, too.
pub unsafe fn cuGreenCtxGetId(green: u64, id: *mut u64) -> u32 {
    Of::Handle(green).enter("cuGreenCtxGetId", Needs::Session, |session| {
        required(id)?;
        let greens = session.greens();
        let green = match green {
            0 => greens.of_context(thread::context()),
            green => green,
        };
        greens.get(green)?;
        // SAFETY: the caller's place.
        unsafe { put(id, green) }
    })
}

pub unsafe fn cuGreenCtxStreamCreate(
    stream: *mut u64,
    green: u64,
    flags: u32,
    priority: i32,
) -> u32 {
    Of::Handle(green).enter("cuGreenCtxStreamCreate", Needs::Session, |session| {
        required(stream)?;
        let owner = session.greens().get(green)?;
        session.fault()?;
        if flags != NON_BLOCKING {
            return Err(CudaError::INVALID_VALUE);
        }
        let id = session.handles.make(Kind::Stream, owner.context);
        if let Err(error) = send::rgpuGreenStreamCreate(session, id, green, flags, priority) {
            session.handles.forget(id);
            return Err(error);
        }
        // SAFETY: the caller's place.
        unsafe { put(stream, id) }
    })
}

pub unsafe fn cuStreamGetGreenCtx(stream: u64, green: *mut u64) -> u32 {
    Of::Handle(stream).enter("cuStreamGetGreenCtx", Needs::Context, |session| {
        required(green)?;
        let owner = context_of(session, stream)?;
        let found = session.greens().of_context(owner);
        // SAFETY: the caller's place.
        unsafe { put(green, found) }
    })
}

fn event(name: &'static str, green: u64, event: u64, wait: bool) -> u32 {
    Of::Handle(green).enter(name, Needs::Session, |session| {
        let green_context = session.greens().get(green)?;
        session.fault()?;
        if wait && let Some(waited) = across::wait_in_context(session, event) {
            return waited;
        }
        let owner = session.handles.context_of(Kind::Event, event)?;
        if !wait && session.base_of(owner) != green_context.base {
            return Err(CudaError::INVALID_HANDLE);
        }
        thread::within(green_context.context, || {
            send::rgpuGreenEvent(session, green, event, wait.into())
        })
    })
}

pub unsafe fn cuGreenCtxRecordEvent(green: u64, of: u64) -> u32 {
    event("cuGreenCtxRecordEvent", green, of, false)
}

pub unsafe fn cuGreenCtxWaitEvent(green: u64, of: u64) -> u32 {
    event("cuGreenCtxWaitEvent", green, of, true)
}
