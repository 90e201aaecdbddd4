//! Stream-ordered allocation. Memory that is there at once is there in stream order, too; what a free gives back, the pool decides.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuCaptureAllocReply;

use super::capture;
use super::managed::Sharing;
use super::memory::allocate_for;
use crate::entry::{Needs, put, required};
use crate::handles::Kind;
use crate::heap::{self, Tag};
use crate::pool::{Order, READ_WRITE, Value};
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// CUmemLocation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Location {
    pub kind: u32,
    pub id: i32,
}

pub const LOCATION_DEVICE: u32 = 1;
pub const TYPE_PINNED: u32 = 1;
const MAX_DESCRIPTORS: usize = 1024;

/// CUmemAccessDesc.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AccessDescription {
    pub location: Location,
    pub flags: u32,
}

/// What CUmemPoolProps begins with.
#[repr(C)]
#[derive(Clone, Copy)]
struct PoolProps {
    kind: u32,
    handle_types: u32,
    location: Location,
    win32: u64,
    max_size: usize,
}

/// The order of a stream. CU_STREAM_PER_THREAD is another stream in each thread.
pub fn order(session: &Session, stream: u64) -> Result<Order, CudaError> {
    const LEGACY: u64 = 1;
    const PER_THREAD: u64 = 2;
    let context = match session.handles.context_of(Kind::Stream, stream)? {
        0 => session.owner(),
        owner => session.base_of(owner),
    };
    let stream = match stream {
        0 | LEGACY => Some(LEGACY),
        PER_THREAD => None,
        stream => Some(stream),
    };
    Ok(Order { stream, context })
}

/// Memory of the graph that a stream captures into: the driver places it, and it goes with the graph.
fn allocate_in_graph(
    session: &Session,
    device: usize,
    bytes: u64,
    stream: u64,
) -> Result<u64, CudaError> {
    let ordinal = session.devices.get(device as i32)?.ordinal;
    let mut reply = rgpuCaptureAllocReply::default();
    send::rgpuCaptureAlloc(session, stream, ordinal, bytes, &mut reply)?;
    let (address, graph) = (reply.address.get(), reply.graph.get());
    session.handles.adopt(Kind::Graph, graph)?;
    session.memory().note_graph_memory(address, bytes, graph);
    Ok(address)
}

/// `pool`: its handle, or `None` for the current one of the stream's device.
unsafe fn allocate(
    session: &Session,
    address: *mut u64,
    bytes: usize,
    pool: Option<u64>,
    stream: u64,
) -> Result<(), CudaError> {
    required(address)?;
    let order = order(session, stream)?;
    let captures = capture::status(session, stream)? != capture::NONE;
    let pool = match pool {
        Some(pool) => pool,
        None => {
            let device = session.contexts().device(order.context);
            let device = device.ok_or(CudaError::CONTEXT_IS_DESTROYED)?;
            session.memory().pools.current_of(device)?
        }
    };
    let device = session.memory().pools.get(pool)?.device;
    if bytes == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let size = bytes as u64;
    if captures {
        let at = allocate_in_graph(session, device, size, stream)?;
        // SAFETY: the caller's place.
        return unsafe { put(address, at) };
    }
    let rounded = heap::rounded(size);
    let mut waited = false;
    loop {
        let mut memory = session.memory();
        if let Some(at) = memory.again(pool, size, order)? {
            // SAFETY: the caller's place.
            return unsafe { put(address, at) };
        }
        match memory.admit(session, pool, rounded) {
            // Frees whose work is not known to be done may be all that is missing.
            Err(CudaError::OUT_OF_MEMORY) if !waited => {
                waited = true;
                drop(memory);
                super::context::synchronize(session)?;
            }
            result => break result?,
        }
    }
    let tag = Tag {
        pool,
        ..Tag::default()
    };
    match allocate_for(session, device, 0, size, tag) {
        // SAFETY: the caller's place.
        Ok(at) => unsafe { put(address, at) },
        Err(error) => {
            session.memory().pools.gone(pool, rounded);
            Err(error)
        }
    }
}

pub unsafe fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: u64) -> u32 {
    Of::Handle(stream).enter("cuMemAllocAsync", Needs::Context, |session| {
        // SAFETY: the caller's place.
        unsafe { allocate(session, address, bytes, None, stream) }
    })
}

pub unsafe fn cuMemAllocFromPoolAsync(
    address: *mut u64,
    bytes: usize,
    pool: u64,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemAllocFromPoolAsync", Needs::Context, |session| {
        // SAFETY: the caller's place.
        unsafe { allocate(session, address, bytes, Some(pool), stream) }
    })
}

/// Whether memory that begins here was allocated by a node of a graph's, which is there or from which an executable one is.
pub fn is_graph_memory(session: &Session, address: u64) -> bool {
    let is = |id, kind| session.handles.check(kind, id).is_ok();
    let memory = session.memory();
    memory.graph_memory(address, |id| is(id, Kind::Graph) || is(id, Kind::GraphExec))
}

pub unsafe fn cuMemFreeAsync(address: u64, stream: u64) -> u32 {
    Of::Handle(stream).enter("cuMemFreeAsync", Needs::Context, |session| {
        let order = order(session, stream)?;
        if is_graph_memory(session, address) {
            return send::rgpuGraphMemoryFree(session, stream, address);
        }
        if capture::status(session, stream)? != capture::NONE {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut memory = session.memory();
        if memory
            .find(address)
            .is_some_and(|found| found.sharing() != Sharing::None)
        {
            // Not stream-ordered: cuMemFree and cuMemFreeHost take it back.
            return Err(CudaError::INVALID_VALUE);
        }
        memory.free(session, address, order)
    })
}

pub unsafe fn cuDeviceGetDefaultMemPool(pool: *mut u64, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetDefaultMemPool", Needs::Session, |session| {
        let found = session.memory().pools.default_of(device)?;
        // SAFETY: the caller's place.
        unsafe { put(pool, found) }
    })
}

pub unsafe fn cuDeviceGetMemPool(pool: *mut u64, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetMemPool", Needs::Session, |session| {
        let found = session.memory().pools.current_of(device)?;
        // SAFETY: the caller's place.
        unsafe { put(pool, found) }
    })
}

pub unsafe fn cuDeviceSetMemPool(device: i32, pool: u64) -> u32 {
    Of::Device(device).enter("cuDeviceSetMemPool", Needs::Session, |session| {
        session.devices.get(device)?;
        session.memory().pools.set_current(device, pool)
    })
}

/// The device that a location names.
///
/// # Safety
/// `location` is NULL or a CUmemLocation.
unsafe fn of(location: *const c_void) -> Of {
    if location.is_null() {
        return Of::Current;
    }
    // SAFETY: the caller's struct.
    let location = unsafe { location.cast::<Location>().read_unaligned() };
    match location.kind {
        LOCATION_DEVICE => Of::Device(location.id),
        _ => Of::Current,
    }
}

/// Pools are of devices' memory.
unsafe fn device_of(location: *const c_void, kind: u32) -> Result<i32, CudaError> {
    const MANAGED: u32 = 2;
    const HOST: u32 = 2;
    const HOST_NUMA: u32 = 3;
    required(location)?;
    // SAFETY: the caller's CUmemLocation.
    let location = unsafe { location.cast::<Location>().read_unaligned() };
    match (location.kind, kind) {
        (LOCATION_DEVICE, TYPE_PINNED) => Ok(location.id),
        (LOCATION_DEVICE | HOST | HOST_NUMA, TYPE_PINNED | MANAGED) | (0, MANAGED) => {
            Err(CudaError::NOT_SUPPORTED)
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub unsafe fn cuMemGetDefaultMemPool(pool: *mut u64, location: *const c_void, kind: u32) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { of(location) };
    of.enter("cuMemGetDefaultMemPool", Needs::Session, |session| {
        required(pool)?;
        // SAFETY: the caller's struct and place.
        unsafe {
            let device = device_of(location, kind)?;
            session.devices.get(device)?;
            put(pool, session.memory().pools.default_of(device)?)
        }
    })
}

pub unsafe fn cuMemGetMemPool(pool: *mut u64, location: *const c_void, kind: u32) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { of(location) };
    of.enter("cuMemGetMemPool", Needs::Session, |session| {
        required(pool)?;
        // SAFETY: the caller's struct and place.
        unsafe {
            let device = device_of(location, kind)?;
            session.devices.get(device)?;
            put(pool, session.memory().pools.current_of(device)?)
        }
    })
}

pub unsafe fn cuMemSetMemPool(location: *const c_void, kind: u32, pool: u64) -> u32 {
    // SAFETY: the caller's struct.
    let of = unsafe { of(location) };
    of.enter("cuMemSetMemPool", Needs::Session, |session| {
        // SAFETY: the caller's struct.
        let device = unsafe { device_of(location, kind) }?;
        session.devices.get(device)?;
        session.memory().pools.set_current(device, pool)
    })
}

pub unsafe fn cuMemPoolCreate(pool: *mut u64, props: *const c_void) -> u32 {
    let location = match props.is_null() {
        true => props,
        false => props.wrapping_byte_add(std::mem::offset_of!(PoolProps, location)),
    };
    // SAFETY: in the caller's struct.
    let of = unsafe { of(location) };
    of.enter("cuMemPoolCreate", Needs::Session, |session| {
        required(pool)?;
        required(props)?;
        // SAFETY: the caller's CUmemPoolProps, of plain numbers.
        let props = unsafe { props.cast::<PoolProps>().read_unaligned() };
        if props.kind != TYPE_PINNED {
            return Err(CudaError::INVALID_VALUE);
        }
        if props.location.kind != LOCATION_DEVICE || props.handle_types != 0 {
            return Err(super::device::refuse(
                "cuMemPoolCreate(host memory or shareable handles)",
            ));
        }
        session.devices.get(props.location.id)?;
        let (device, max) = (props.location.id as usize, props.max_size as u64);
        let made = session.memory().pools.create(device, max);
        // SAFETY: the caller's place.
        unsafe { put(pool, made) }
    })
}

pub unsafe fn cuMemPoolDestroy(pool: u64) -> u32 {
    Of::Handle(pool).enter("cuMemPoolDestroy", Needs::Session, |session| {
        session
            .memory()
            .pools_give(session, |pools, back| pools.destroy(pool, back))
    })
}

pub unsafe fn cuMemPoolTrimTo(pool: u64, keep: usize) -> u32 {
    Of::Handle(pool).enter("cuMemPoolTrimTo", Needs::Session, |session| {
        let mut memory = session.memory();
        memory.settle_idle(session);
        memory.pools_give(session, |pools, back| pools.trim(pool, keep as u64, back))
    })
}

pub unsafe fn cuMemPoolGetAttribute(pool: u64, attribute: u32, value: *mut c_void) -> u32 {
    Of::Handle(pool).enter("cuMemPoolGetAttribute", Needs::Session, |session| {
        required(value)?;
        let mut memory = session.memory();
        memory.settle_idle(session);
        // SAFETY: the caller's place has the attribute's type.
        unsafe {
            match memory.pools.get(pool)?.attribute(attribute)? {
                Value::Word(word) => put(value.cast::<u32>(), word),
                Value::Long(long) => put(value.cast::<u64>(), long),
            }
        }
    })
}

pub unsafe fn cuMemPoolSetAttribute(pool: u64, attribute: u32, value: *mut c_void) -> u32 {
    Of::Handle(pool).enter("cuMemPoolSetAttribute", Needs::Session, |session| {
        let mut memory = session.memory();
        let pool = memory.pools.get(pool)?;
        required(value)?;
        // SAFETY: the caller's value has the attribute's type, and only what that has is read.
        let word = || unsafe { value.cast::<u32>().read_unaligned() };
        // SAFETY: as above.
        let long = || unsafe { value.cast::<u64>().read_unaligned() };
        pool.set_attribute(attribute, word, long)
    })
}

pub unsafe fn cuMemPoolSetAccess(pool: u64, access: *const c_void, count: usize) -> u32 {
    const NONE: u32 = 0;
    const READ: u32 = 1;
    Of::Handle(pool).enter("cuMemPoolSetAccess", Needs::Session, |session| {
        session.memory().pools.get(pool)?;
        if count > MAX_DESCRIPTORS {
            return Err(CudaError::INVALID_VALUE);
        }
        if count > 0 {
            required(access)?;
        }
        for number in 0..count {
            let access = access.cast::<AccessDescription>();
            // SAFETY: `count` of the caller's CUmemAccessDesc, of plain numbers.
            let AccessDescription { location, flags } =
                unsafe { access.add(number).read_unaligned() };
            if location.kind != LOCATION_DEVICE {
                return Err(CudaError::INVALID_VALUE);
            }
            session.devices.get(location.id)?;
            match flags {
                NONE | READ_WRITE => {
                    let mut memory = session.memory();
                    memory.pools.get(pool)?.set_access(location.id, flags)?;
                }
                READ => return Err(super::device::refuse("cuMemPoolSetAccess(read only)")),
                _ => return Err(CudaError::INVALID_VALUE),
            }
        }
        Ok(())
    })
}

pub unsafe fn cuMemPoolGetAccess(flags: *mut u32, pool: u64, location: *mut c_void) -> u32 {
    Of::Handle(pool).enter("cuMemPoolGetAccess", Needs::Session, |session| {
        let mut memory = session.memory();
        let pool = memory.pools.get(pool)?;
        required(location)?;
        // SAFETY: the caller's CUmemLocation, of plain numbers.
        let location = unsafe { location.cast::<Location>().read_unaligned() };
        if location.kind != LOCATION_DEVICE {
            return Err(CudaError::INVALID_VALUE);
        }
        session.devices.get(location.id)?;
        // SAFETY: the caller's place.
        unsafe { put(flags, pool.access(location.id)) }
    })
}
