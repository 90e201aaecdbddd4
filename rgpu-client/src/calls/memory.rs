//! Memory: allocations placed by the client, copies and fills.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use rgpu_proto::frame::MAX_BULK;
use rgpu_proto::handshake::{AddressWindow, Limits};
use rgpu_proto::{CudaError, calls};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::capture;
use super::context::current_device;
use crate::device::Device;
use crate::entry::{Needs, enter, input_bytes, output_bytes, put, put_opt, required};
use crate::handles::Kind;
use crate::heap::{Allocation, Heap, Plan};
use crate::send;
use crate::session::{Session, Sink, granted};

/// `kind` of rgpuMemoryMap: in the window, or where the driver likes.
const IN_WINDOW: u32 = 0;
const BY_DRIVER: u32 = 1;

/// Where one device's memory comes from.
enum Place {
    Window(Heap),
    /// The driver chooses addresses: (size, context) by address.
    Driver(BTreeMap<u64, (u64, u64)>),
}

struct DeviceMemory {
    ordinal: i32,
    place: Place,
}

/// Pinned host memory, by address.
struct HostBlock {
    len: usize,
    flags: u32,
    context: u64,
}

/// The mirror of the program's memory.
pub struct Memory {
    devices: Vec<DeviceMemory>,
    host: BTreeMap<u64, HostBlock>,
    /// Variables of loaded modules: size by address, and the module.
    globals: BTreeMap<u64, (u64, u64)>,
}

impl Memory {
    pub fn new<'a>(
        devices: impl Iterator<Item = &'a Device>,
        windows: &[AddressWindow],
        limits: &Limits,
    ) -> Memory {
        let devices = devices
            .map(|device| {
                let place = match granted(windows, device.ordinal as usize) {
                    Some((base, len)) => {
                        let mut heap = Heap::new(base, len);
                        if device.ordinal == 0 {
                            heap.credit(limits.memory_credit);
                        }
                        Place::Window(heap)
                    }
                    None => Place::Driver(BTreeMap::new()),
                };
                DeviceMemory {
                    ordinal: device.ordinal,
                    place,
                }
            })
            .collect();
        Memory {
            devices,
            host: BTreeMap::new(),
            globals: BTreeMap::new(),
        }
    }

    /// Notes a module's variable, so that copies may reach it.
    pub fn note_global(&mut self, address: u64, size: u64, module: u64) {
        self.globals.insert(address, (size, module));
    }

    pub fn forget_globals(&mut self, module: u64) {
        self.globals.retain(|_, (_, owner)| *owner != module);
    }

    /// The device allocation or variable that holds the address: (base, size, context or 0).
    pub fn find(&self, address: u64) -> Option<(u64, u64, u64)> {
        let allocated = self.devices.iter().find_map(|device| match &device.place {
            Place::Window(heap) => heap
                .find(address)
                .map(|(base, Allocation { size, context, .. })| (base, size, context)),
            Place::Driver(list) => {
                let (base, (size, context)) = list.range(..=address).next_back()?;
                (address - base < *size).then_some((*base, *size, *context))
            }
        });
        allocated.or_else(|| {
            let (base, (size, _)) = self.globals.range(..=address).next_back()?;
            (address - base < *size).then_some((*base, *size, 0))
        })
    }

    /// The pinned host block that holds the address.
    fn find_host(&self, address: u64) -> Option<(u64, &HostBlock)> {
        let (base, block) = self.host.range(..=address).next_back()?;
        (address - base < block.len as u64).then_some((*base, block))
    }

    /// INVALID_VALUE unless all bytes lie in one allocation.
    pub fn check(&self, address: u64, bytes: u64) -> Result<(), CudaError> {
        let (base, size, _) = self.find(address).ok_or(CudaError::INVALID_VALUE)?;
        if bytes <= size - (address - base) {
            Ok(())
        } else {
            Err(CudaError::INVALID_VALUE)
        }
    }

    /// The context's work is done up to the command of that number: memory that it freed before may be used again, and large memory
    /// goes back.
    pub fn settle(&mut self, session: &Session, context: u64, done: u64) {
        self.settle_by(session, |heap| heap.settle(context, done));
    }

    /// The same for all that was freed, if the session has nothing to do.
    pub fn settle_idle(&mut self, session: &Session) {
        // Under the lock: a free that is seen here comes after the work that it follows, which is seen too.
        if session.is_idle() {
            self.settle_by(session, Heap::settle_all);
        }
    }

    fn settle_by(&mut self, session: &Session, settle: impl Fn(&mut Heap)) {
        for device in &mut self.devices {
            if let Place::Window(heap) = &mut device.place
                && heap.resting_bytes() > 0
            {
                settle(heap);
                for (address, len) in heap.trim_large() {
                    // The connection may just have broken; then nothing is left to give back.
                    let _ = send::rgpuMemoryUnmap(session, device.ordinal, IN_WINDOW, address, len);
                }
            }
        }
    }

    /// Gives back, before a context is destroyed, what the driver has placed for it.
    pub fn leave_context(&mut self, session: &Session, context: u64) {
        for device in &mut self.devices {
            if let Place::Driver(list) = &mut device.place {
                list.retain(|address, (size, owner)| {
                    if *owner == context {
                        let _ = send::rgpuMemoryUnmap(
                            session,
                            device.ordinal,
                            BY_DRIVER,
                            *address,
                            *size,
                        );
                    }
                    *owner != context
                });
            }
        }
    }

    /// Frees what a context had that has been destroyed, by the command of that number or an earlier one.
    pub fn end_context(&mut self, context: u64, sent: u64) {
        for device in &mut self.devices {
            if let Place::Window(heap) = &mut device.place {
                heap.end_context(context, sent);
            }
        }
    }
}

/// So many freed bytes may wait for work to end before an allocation that needs new memory waits for it.
const MOST_RESTING: u64 = 64 << 20;

/// Allocates on the current context's device.
fn allocate(session: &Session, bytes: u64) -> Result<u64, CudaError> {
    let at = current_device(session)? as usize;
    let context = session.context();
    let mut drained = false;
    let mut waited = false;
    loop {
        let mut memory = session.memory();
        let DeviceMemory { ordinal, place } = memory
            .devices
            .get_mut(at)
            .ok_or(CudaError::INVALID_DEVICE)?;
        let ordinal = *ordinal;
        let mut reply = calls::rgpuMemoryMapReply::default();
        let refused = match place {
            Place::Driver(list) => {
                match send::rgpuMemoryMap(session, ordinal, BY_DRIVER, 0, bytes, &mut reply) {
                    Ok(()) => {
                        let address = reply.placed.get();
                        list.insert(address, (bytes, context));
                        return Ok(address);
                    }
                    Err(error) => error,
                }
            }
            Place::Window(heap) => match heap.allocate(bytes, context) {
                Plan::Ready(address) => return Ok(address),
                Plan::Full => CudaError::OUT_OF_MEMORY,
                // A program that never synchronises must not grow by what it has freed.
                Plan::Map { .. } if !waited && heap.resting_bytes() >= MOST_RESTING => {
                    waited = true;
                    drop(memory);
                    super::context::synchronize(session)?;
                    continue;
                }
                Plan::Map {
                    address,
                    len,
                    minimum,
                } => {
                    let mut result =
                        send::rgpuMemoryMap(session, ordinal, IN_WINDOW, address, len, &mut reply);
                    let mut mapped = len;
                    if result == Err(CudaError::OUT_OF_MEMORY) && minimum < len {
                        mapped = minimum;
                        result = send::rgpuMemoryMap(
                            session, ordinal, IN_WINDOW, address, minimum, &mut reply,
                        );
                    }
                    match result {
                        Ok(()) => {
                            heap.mapped(address, mapped);
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            },
        };
        if refused != CudaError::OUT_OF_MEMORY || drained {
            return Err(refused);
        }
        drained = true;
        drop(memory);
        // What was freed may be all that is missing: wait for the work that uses it, give whole handles back, and try again.
        super::context::synchronize(session)?;
        let mut memory = session.memory();
        for device in &mut memory.devices {
            if let Place::Window(heap) = &mut device.place {
                for (address, len) in heap.trim(0) {
                    send::rgpuMemoryUnmap(session, device.ordinal, IN_WINDOW, address, len)?;
                }
            }
        }
    }
}

pub unsafe fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> u32 {
    enter("cuMemAlloc_v2", Needs::Context, |session| {
        required(address)?;
        if bytes == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        capture::probe(session)?;
        let placed = allocate(session, bytes as u64)?;
        // SAFETY: the caller's place.
        unsafe { put(address, placed) }
    })
}

pub unsafe fn cuMemAllocPitch_v2(
    address: *mut u64,
    pitch: *mut usize,
    width: usize,
    height: usize,
    element: u32,
) -> u32 {
    /// Rows begin at multiples of this, as on current devices.
    const ROW: usize = 512;
    enter("cuMemAllocPitch_v2", Needs::Context, |session| {
        required(address)?;
        required(pitch)?;
        if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(CudaError::INVALID_VALUE);
        }
        let row = width
            .checked_next_multiple_of(ROW)
            .ok_or(CudaError::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(CudaError::OUT_OF_MEMORY)?;
        capture::probe(session)?;
        let placed = allocate(session, bytes as u64)?;
        // SAFETY: the caller's places.
        unsafe {
            put(address, placed)?;
            put(pitch, row)
        }
    })
}

/// Returns at once; the memory is used again when earlier work is known to be done.
pub unsafe fn cuMemFree_v2(address: u64) -> u32 {
    enter("cuMemFree_v2", Needs::Session, |session| {
        if address == 0 {
            return Ok(());
        }
        session.fault()?;
        capture::probe(session)?;
        let mut memory = session.memory();
        for device in &mut memory.devices {
            let found = match &mut device.place {
                Place::Window(heap) => heap.free(address, session.sent()).is_some(),
                Place::Driver(list) => {
                    let found = list.remove(&address);
                    if let Some((size, _)) = found {
                        send::rgpuMemoryUnmap(session, device.ordinal, BY_DRIVER, address, size)?;
                    }
                    found.is_some()
                }
            };
            if found {
                memory.settle_idle(session);
                return Ok(());
            }
        }
        Err(CudaError::INVALID_VALUE)
    })
}

pub unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    enter("cuMemGetInfo_v2", Needs::Context, |session| {
        let at = current_device(session)? as usize;
        let ordinal = session.devices.get(at as i32)?.ordinal;
        // The session's own memory and what the program holds of it is known here; what other sessions leave is not.
        let mut reply = calls::rgpuMemoryInfoReply::default();
        send::rgpuMemoryInfo(session, ordinal, &mut reply)?;
        let memory = session.memory();
        let unused = match &memory.devices[at].place {
            // What waits for work to end is free: an allocation that needs it waits for that work.
            Place::Window(heap) => heap.mapped_bytes() - heap.used() + heap.resting_bytes(),
            Place::Driver(_) => 0,
        };
        let all = reply.total.get();
        let left = (reply.free.get() + unused).min(all);
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(free, left as usize);
            put_opt(total, all as usize);
        }
        Ok(())
    })
}

pub unsafe fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64) -> u32 {
    enter("cuMemGetAddressRange_v2", Needs::Context, |session| {
        let (found, bytes, _) = session.memory().find(address).ok_or(CudaError::NOT_FOUND)?;
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(base, found);
            put_opt(size, bytes as usize);
        }
        Ok(())
    })
}

pub unsafe fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32) -> u32 {
    const DEVICEMAP: u32 = 2;
    const KNOWN: u32 = 1 | DEVICEMAP | 4;
    enter("cuMemHostAlloc", Needs::Context, |session| {
        required(pointer)?;
        if bytes == 0 || flags & !KNOWN != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        capture::probe(session)?;
        if flags & DEVICEMAP != 0 {
            return Err(super::device::refuse(
                "cuMemHostAlloc(CU_MEMHOSTALLOC_DEVICEMAP)",
            ));
        }
        let len = bytes
            .checked_next_multiple_of(4096)
            .ok_or(CudaError::OUT_OF_MEMORY)?;
        // SAFETY: a new mapping, at an address of the kernel's choosing.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::PRIVATE,
            )
        }
        .map_err(|_| CudaError::OUT_OF_MEMORY)?;
        session.memory().host.insert(
            mapped as u64,
            HostBlock {
                len,
                flags,
                context: session.context(),
            },
        );
        // SAFETY: the caller's place.
        unsafe { put(pointer, mapped) }
    })
}

pub unsafe fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuMemHostAlloc(pointer, bytes, 0) }
}

pub unsafe fn cuMemFreeHost(pointer: *mut c_void) -> u32 {
    enter("cuMemFreeHost", Needs::Session, |session| {
        capture::probe(session)?;
        let block = session
            .memory()
            .host
            .remove(&(pointer as u64))
            .ok_or(CudaError::INVALID_VALUE)?;
        // Copies read pinned memory at the call and write it before they return, so nothing uses it any more.
        // SAFETY: the mapping that cuMemHostAlloc made, of this length; the program gives it up.
        unsafe { rustix::mm::munmap(pointer, block.len) }.map_err(|_| CudaError::INVALID_VALUE)
    })
}

pub unsafe fn cuMemHostGetFlags(flags: *mut u32, pointer: *mut c_void) -> u32 {
    enter("cuMemHostGetFlags", Needs::Context, |session| {
        let known = session
            .memory()
            .host
            .get(&(pointer as u64))
            .ok_or(CudaError::INVALID_VALUE)?
            .flags;
        // SAFETY: the caller's place.
        unsafe { put(flags, known) }
    })
}

pub unsafe fn cuPointerGetAttribute(data: *mut c_void, attribute: u32, pointer: u64) -> u32 {
    const CONTEXT: u32 = 1;
    const MEMORY_TYPE: u32 = 2;
    const DEVICE_POINTER: u32 = 3;
    const HOST_POINTER: u32 = 4;
    const IS_MANAGED: u32 = 8;
    const DEVICE_ORDINAL: u32 = 9;
    const RANGE_START_ADDR: u32 = 11;
    const RANGE_SIZE: u32 = 12;
    enter("cuPointerGetAttribute", Needs::Session, |session| {
        required(data)?;
        let memory = session.memory();
        let device = memory.find(pointer);
        let host = memory.find_host(pointer);
        let (base, size, context) = match (device, &host) {
            (Some(range), _) => range,
            (None, Some((base, block))) => (*base, block.len as u64, block.context),
            (None, None) => return Err(CudaError::INVALID_VALUE),
        };
        // SAFETY: for each attribute the caller gives a place of the type that cuda.h names.
        unsafe {
            match attribute {
                CONTEXT => put(data.cast::<u64>(), context),
                MEMORY_TYPE => put(data.cast::<u32>(), if device.is_some() { 2 } else { 1 }),
                DEVICE_POINTER if device.is_some() => put(data.cast::<u64>(), pointer),
                HOST_POINTER if device.is_none() => put(data.cast::<u64>(), pointer),
                IS_MANAGED => put(data.cast::<u32>(), 0),
                DEVICE_ORDINAL => {
                    let owner = if device.is_some() {
                        memory.devices.iter().position(|place| match &place.place {
                            Place::Window(heap) => heap.find(pointer).is_some(),
                            Place::Driver(list) => list.contains_key(&base),
                        })
                    } else {
                        None
                    };
                    put(data.cast::<i32>(), owner.unwrap_or(0) as i32)
                }
                RANGE_START_ADDR => put(data.cast::<u64>(), base),
                RANGE_SIZE => put(data.cast::<u64>(), size),
                _ => Err(CudaError::INVALID_VALUE),
            }
        }
    })
}

/// Copies to the device. The bytes are read before the call returns.
fn copy_in(
    session: &Session,
    dst: u64,
    data: &[u8],
    stream: u64,
    sync: u32,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    if data.is_empty() {
        return Ok(());
    }
    session.memory().check(dst, data.len() as u64)?;
    let (host, len) = (data.as_ptr() as u64, data.len() as u64);
    if sync == 0 && capture::takes_copy(session, stream, true, dst, host, len)? {
        return Ok(());
    }
    let mut at = dst;
    for piece in data.chunks(MAX_BULK) {
        send::rgpuCopyIn(session, at, stream, sync, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Copies from the device and waits: all pieces are asked for before the first is waited for.
fn copy_out(
    session: &Session,
    data: &mut [u8],
    src: u64,
    stream: u64,
    sync: u32,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    if data.is_empty() {
        return Ok(());
    }
    session.memory().check(src, data.len() as u64)?;
    let (host, len) = (data.as_ptr() as u64, data.len() as u64);
    if sync == 0 && capture::takes_copy(session, stream, false, src, host, len)? {
        return Ok(());
    }
    session.stats.waits.fetch_add(1, Ordering::Relaxed);
    /// Replies under way at once; bounds what the server holds for a client that reads slowly.
    const AHEAD: usize = 4;
    let mut tickets = std::collections::VecDeque::new();
    let mut result = Ok(());
    let mut at = src;
    for piece in data.chunks_mut(MAX_BULK) {
        if tickets.len() == AHEAD
            && let Some(ticket) = tickets.pop_front()
        {
            result = result.and(session.finish(ticket));
        }
        let bytes = piece.len() as u64;
        let args = calls::rgpuCopyOutArgs {
            src: U64::new(at),
            bytes: U64::new(bytes),
            stream: U64::new(stream),
            sync: U32::new(sync),
        };
        match session.request(
            calls::op::rgpuCopyOut,
            args.as_bytes(),
            &[],
            &mut [],
            Sink::Exact(piece),
        ) {
            Ok(ticket) => tickets.push_back(ticket),
            Err(error) => {
                result = result.and(Err(error));
                break;
            }
        }
        at += bytes;
    }
    // Every reply is waited for, also after an error: they write into the program's memory.
    for ticket in tickets {
        result = result.and(session.finish(ticket));
    }
    result?;
    super::graph_host::deliver(session)?;
    session.tell_deferred()
}

fn copy_device(
    session: &Session,
    dst: u64,
    src: u64,
    bytes: u64,
    stream: u64,
    sync: u32,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    if bytes == 0 {
        return Ok(());
    }
    {
        let memory = session.memory();
        memory.check(dst, bytes)?;
        memory.check(src, bytes)?;
    }
    send::rgpuCopyDevice(session, dst, src, bytes, stream, sync)
}

pub unsafe fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize) -> u32 {
    enter("cuMemcpyHtoD_v2", Needs::Context, |session| {
        // SAFETY: the caller's bytes.
        copy_in(session, dst, unsafe { input_bytes(src, bytes) }?, 0, 1)
    })
}

pub unsafe fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: u64) -> u32 {
    enter("cuMemcpyHtoDAsync_v2", Needs::Context, |session| {
        // SAFETY: the caller's bytes.
        copy_in(session, dst, unsafe { input_bytes(src, bytes) }?, stream, 0)
    })
}

pub unsafe fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize) -> u32 {
    enter("cuMemcpyDtoH_v2", Needs::Context, |session| {
        // SAFETY: the caller's bytes.
        copy_out(session, unsafe { output_bytes(dst, bytes) }?, src, 0, 1)
    })
}

pub unsafe fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: u64) -> u32 {
    enter("cuMemcpyDtoHAsync_v2", Needs::Context, |session| {
        // SAFETY: the caller's bytes.
        copy_out(
            session,
            unsafe { output_bytes(dst, bytes) }?,
            src,
            stream,
            0,
        )
    })
}

pub unsafe fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize) -> u32 {
    enter("cuMemcpyDtoD_v2", Needs::Context, |session| {
        copy_device(session, dst, src, bytes as u64, 0, 1)
    })
}

pub unsafe fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: u64) -> u32 {
    enter("cuMemcpyDtoDAsync_v2", Needs::Context, |session| {
        copy_device(session, dst, src, bytes as u64, stream, 0)
    })
}

/// The direction follows from where the pointers point to.
fn copy_any(
    session: &Session,
    dst: u64,
    src: u64,
    bytes: usize,
    stream: u64,
    sync: u32,
) -> Result<(), CudaError> {
    let (to_device, from_device) = {
        let memory = session.memory();
        (memory.find(dst).is_some(), memory.find(src).is_some())
    };
    // SAFETY (all three): an address that is no device memory is the program's own, of `bytes` bytes (cuda.h).
    match (to_device, from_device) {
        (true, true) => copy_device(session, dst, src, bytes as u64, stream, sync),
        // SAFETY: see above.
        (true, false) => copy_in(
            session,
            dst,
            unsafe { input_bytes(src as *const c_void, bytes) }?,
            stream,
            sync,
        ),
        // SAFETY: see above.
        (false, true) => copy_out(
            session,
            unsafe { output_bytes(dst as *mut c_void, bytes) }?,
            src,
            stream,
            sync,
        ),
        (false, false) => {
            // Between host buffers CUDA copies synchronously, in stream order.
            send::cuStreamSynchronize(session, stream)?;
            required(dst as *const c_void)?;
            required(src as *const c_void)?;
            // SAFETY: see above; `copy` allows them to overlap.
            unsafe { std::ptr::copy(src as *const u8, dst as *mut u8, bytes) };
            Ok(())
        }
    }
}

pub unsafe fn cuMemcpy(dst: u64, src: u64, bytes: usize) -> u32 {
    enter("cuMemcpy", Needs::Context, |session| {
        copy_any(session, dst, src, bytes, 0, 1)
    })
}

pub unsafe fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: u64) -> u32 {
    enter("cuMemcpyAsync", Needs::Context, |session| {
        copy_any(session, dst, src, bytes, stream, 0)
    })
}

fn fill(
    session: &Session,
    dst: u64,
    width: u32,
    value: u32,
    count: usize,
    stream: u64,
    sync: u32,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    if !dst.is_multiple_of(u64::from(width)) {
        return Err(CudaError::INVALID_VALUE);
    }
    if count == 0 {
        return Ok(());
    }
    let bytes = (count as u64)
        .checked_mul(u64::from(width))
        .ok_or(CudaError::INVALID_VALUE)?;
    session.memory().check(dst, bytes)?;
    send::rgpuMemset(session, dst, width, value, count as u64, stream, sync)
}

pub unsafe fn cuMemsetD8_v2(dst: u64, value: u8, count: usize) -> u32 {
    enter("cuMemsetD8_v2", Needs::Context, |session| {
        fill(session, dst, 1, value.into(), count, 0, 1)
    })
}

pub unsafe fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: u64) -> u32 {
    enter("cuMemsetD8Async", Needs::Context, |session| {
        fill(session, dst, 1, value.into(), count, stream, 0)
    })
}

pub unsafe fn cuMemsetD16_v2(dst: u64, value: u16, count: usize) -> u32 {
    enter("cuMemsetD16_v2", Needs::Context, |session| {
        fill(session, dst, 2, value.into(), count, 0, 1)
    })
}

pub unsafe fn cuMemsetD16Async(dst: u64, value: u16, count: usize, stream: u64) -> u32 {
    enter("cuMemsetD16Async", Needs::Context, |session| {
        fill(session, dst, 2, value.into(), count, stream, 0)
    })
}

pub unsafe fn cuMemsetD32_v2(dst: u64, value: u32, count: usize) -> u32 {
    enter("cuMemsetD32_v2", Needs::Context, |session| {
        fill(session, dst, 4, value, count, 0, 1)
    })
}

pub unsafe fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: u64) -> u32 {
    enter("cuMemsetD32Async", Needs::Context, |session| {
        fill(session, dst, 4, value, count, stream, 0)
    })
}
