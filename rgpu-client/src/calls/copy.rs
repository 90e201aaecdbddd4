//! Copies. Where a pointer points to decides what a copy is: between two places on the device, to it, or from it.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use rgpu_proto::frame::{LANDED, MAX_BULK};
use rgpu_proto::{CudaError, calls};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::memory::Place;
use super::{capture, graph_host};
use crate::area::{Area, Corner3d, Memcpy2d, Memcpy3d, Side};
use crate::entry::{Needs, enter, required};
use crate::handles::Kind;
use crate::send;
use crate::session::{Session, Sink};

/// When a copy happens: in stream order, or before the call returns (on the default stream).
#[derive(Clone, Copy)]
pub struct When {
    pub stream: u64,
    pub sync: u32,
}

pub const NOW: When = When { stream: 0, sync: 1 };

pub fn ordered(stream: u64) -> When {
    When { stream, sync: 0 }
}

/// Replies under way at once; bounds what the server holds for a client that reads slowly.
const AHEAD: usize = 4;

fn transfer(
    session: &Session,
    area: &Area,
    to: Place,
    from: Place,
    when: When,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, when.stream)?;
    if area.is_empty() {
        return Ok(());
    }
    let (read, written) = (area.reach(&area.from)?, area.reach(&area.to)?);
    let (from, to, reads_shared, pinned, may_land) = {
        let memory = session.memory();
        let is_shared = |at| memory.host.device_address(at).is_some();
        (
            memory.side(from, area.from.at, read)?,
            memory.side(to, area.to.at, written)?,
            is_shared(area.from.at),
            memory.find(area.from.at).is_some(),
            when.sync == 0 && memory.find(area.to.at).is_some() && !is_shared(area.to.at),
        )
    };
    if when.sync == 0 && is_captured(session, area, (to, from), when.stream)? {
        return Ok(());
    }
    session.before_work()?;
    match (to, from) {
        (Place::Device, Place::Device) => within_device(session, area, when),
        (Place::Device, _) => {
            // An earlier copy that has not landed yet, or a kernel, writes what this one reads.
            if reads_shared || session.lands_in(area.from.at, read) {
                send::cuStreamSynchronize(session, when.stream)?;
            }
            // From pageable memory, CUDA too returns when it has read the bytes; the worker's copy of pinned memory is pageable.
            let sync = match when.sync {
                0 => 0,
                _ if pinned => LANDED,
                sync => sync,
            };
            copy_in(session, area, When { sync, ..when })
        }
        (_, Place::Device) => {
            if may_land && area.is_packed(&area.to) && session.may_land(area.bytes()) {
                land(session, area, when.stream)
            } else {
                copy_out(session, area, when)
            }
        }
        _ => within_host(session, area, when),
    }?;
    after(session, when)
}

/// Whether a capture has taken the copy, which reads or writes the program's memory whenever its graph runs.
fn is_captured(
    session: &Session,
    area: &Area,
    ends: (Place, Place),
    stream: u64,
) -> Result<bool, CudaError> {
    let (to_device, device, host) = match ends {
        (Place::Device, Place::Device) => return Ok(false),
        (Place::Device, _) => (true, &area.to, &area.from),
        (_, Place::Device) => (false, &area.from, &area.to),
        _ => return Ok(false),
    };
    // Boxes are refused by the worker.
    if !area.is_packed(device) || !area.is_packed(host) {
        return Ok(false);
    }
    capture::takes_copy(session, stream, to_device, device.at, host.at, area.bytes())
}

/// The device's copy of memory that is shared may have changed; the host sees that when the call returns, if that is when it happens.
pub fn after(session: &Session, when: When) -> Result<(), CudaError> {
    session.note_change();
    if when.sync != 0 {
        session.after_wait(None)?;
    }
    Ok(())
}

/// Copies to the device. The bytes are read before the call returns.
fn copy_in(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    for piece in area.pieces(MAX_BULK as u64) {
        let Area { to, from, .. } = piece;
        let gathered;
        // SAFETY (both): no memory of CUDA's, or pinned memory that was found to be large enough; else the program's own, whose
        // bytes it promises (cuda.h).
        let data = if piece.is_packed(&from) {
            // SAFETY: see above.
            unsafe { std::slice::from_raw_parts(from.at as *const u8, piece.bytes() as usize) }
        } else {
            // SAFETY: see above.
            gathered = unsafe { piece.gather() };
            &gathered
        };
        let When { stream, sync } = when;
        if piece.is_packed(&to) {
            send::rgpuCopyIn(session, to.at, stream, sync, data)?;
        } else {
            let Side { at, pitch, rows } = to;
            let (width, height, depth) = (piece.width, piece.height, piece.depth);
            send::rgpuBoxIn(
                session, at, pitch, rows, width, height, depth, stream, sync, data,
            )?;
        }
    }
    Ok(())
}

/// Copies from the device and waits: several pieces are asked for before the first is waited for.
fn copy_out(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    session.stats.waits.fetch_add(1, Ordering::Relaxed);
    let mut under_way = VecDeque::new();
    let mut result = Ok(());
    for piece in area.pieces(MAX_BULK as u64) {
        if under_way.len() == AHEAD
            && let Some(earlier) = under_way.pop_front()
        {
            result = result.and(arrive(session, earlier));
        }
        let bytes = piece.bytes() as usize;
        let mut packed = Vec::new();
        let place = if piece.is_packed(&piece.to) {
            piece.to.at as *mut u8
        } else {
            packed.reserve_exact(bytes);
            packed.as_mut_ptr()
        };
        // SAFETY: the program's bytes (cuda.h), or a buffer that is kept, untouched, until its reply is there.
        let place = unsafe { std::slice::from_raw_parts_mut(place, bytes) };
        match ask(session, &piece, when, place) {
            Ok(ticket) => under_way.push_back((ticket, piece, packed)),
            Err(error) => {
                result = result.and(Err(error));
                break;
            }
        }
    }
    // Every reply is waited for, also after an error: they write into the program's memory.
    for earlier in under_way {
        result = result.and(arrive(session, earlier));
    }
    result?;
    graph_host::deliver(session)?;
    session.tell_deferred()
}

/// Copies from the device to pinned memory, in stream order, and waits for nothing. Whoever gives the memory up waits.
fn land(session: &Session, area: &Area, stream: u64) -> Result<(), CudaError> {
    for piece in area.pieces(MAX_BULK as u64) {
        let Side { at, pitch, rows } = piece.from;
        let args = calls::rgpuBoxLandArgs {
            src: U64::new(at),
            pitch: U64::new(pitch),
            rows: U64::new(rows),
            width: U64::new(piece.width),
            height: U64::new(piece.height),
            depth: U64::new(piece.depth),
            stream: U64::new(stream),
        };
        let (op, bytes) = (calls::op::rgpuBoxLand, piece.bytes() as usize);
        // SAFETY: pinned memory, which `host::settle` looks after.
        unsafe { session.land(op, args.as_bytes(), piece.to.at, bytes) }?;
    }
    Ok(())
}

type UnderWay<'a> = (crate::wire::Ticket<'a>, Area, Vec<u8>);

fn arrive(session: &Session, (ticket, piece, mut packed): UnderWay<'_>) -> Result<(), CudaError> {
    session.finish(ticket)?;
    if !piece.is_packed(&piece.to) {
        // SAFETY: the reply has filled them, and the target is the program's (cuda.h).
        unsafe {
            packed.set_len(piece.bytes() as usize);
            piece.scatter(&packed);
        }
    }
    Ok(())
}

fn ask<'a>(
    session: &Session,
    piece: &Area,
    when: When,
    place: &'a mut [u8],
) -> Result<crate::wire::Ticket<'a>, CudaError> {
    let Side { at, pitch, rows } = piece.from;
    let (stream, sync) = (U64::new(when.stream), U32::new(when.sync));
    if piece.is_packed(&piece.from) {
        let args = calls::rgpuCopyOutArgs {
            src: U64::new(at),
            bytes: U64::new(piece.bytes()),
            stream,
            sync,
        };
        let op = calls::op::rgpuCopyOut;
        return session.request(op, args.as_bytes(), &[], &mut [], Sink::Exact(place));
    }
    let args = calls::rgpuBoxOutArgs {
        src: U64::new(at),
        pitch: U64::new(pitch),
        rows: U64::new(rows),
        width: U64::new(piece.width),
        height: U64::new(piece.height),
        depth: U64::new(piece.depth),
        stream,
        sync,
    };
    let op = calls::op::rgpuBoxOut;
    session.request(op, args.as_bytes(), &[], &mut [], Sink::Exact(place))
}

fn within_device(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    let Area { to, from, .. } = area;
    let When { stream, sync } = when;
    if area.is_packed(to) && area.is_packed(from) {
        return send::rgpuCopyDevice(session, to.at, from.at, area.bytes(), stream, sync);
    }
    send::rgpuBoxDevice(
        session,
        to.at,
        to.pitch,
        to.rows,
        from.at,
        from.pitch,
        from.rows,
        area.width,
        area.height,
        area.depth,
        stream,
        sync,
    )
}

/// Between host buffers CUDA copies synchronously, in stream order.
fn within_host(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    send::cuStreamSynchronize(session, when.stream)?;
    for (to, from) in area.rows() {
        // SAFETY: the program's own memory (cuda.h), or pinned memory that was found to be large enough; `copy` allows them to overlap.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, area.width as usize) };
    }
    Ok(())
}

/// A copy of `bytes` bytes from one place to another.
fn line(
    name: &'static str,
    (dst, to): (u64, Place),
    (src, from): (u64, Place),
    bytes: usize,
    when: When,
) -> u32 {
    enter(name, Needs::Context, |session| {
        let area = Area::line(dst, src, bytes as u64);
        transfer(session, &area, to, from, when)
    })
}

pub unsafe fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize) -> u32 {
    let (to, from) = ((dst, Place::Device), (src as u64, Place::Host));
    line("cuMemcpyHtoD_v2", to, from, bytes, NOW)
}

pub unsafe fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: u64) -> u32 {
    let (to, from) = ((dst, Place::Device), (src as u64, Place::Host));
    line("cuMemcpyHtoDAsync_v2", to, from, bytes, ordered(stream))
}

pub unsafe fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize) -> u32 {
    let (to, from) = ((dst as u64, Place::Host), (src, Place::Device));
    line("cuMemcpyDtoH_v2", to, from, bytes, NOW)
}

pub unsafe fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: u64) -> u32 {
    let (to, from) = ((dst as u64, Place::Host), (src, Place::Device));
    line("cuMemcpyDtoHAsync_v2", to, from, bytes, ordered(stream))
}

pub unsafe fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize) -> u32 {
    let (to, from) = ((dst, Place::Device), (src, Place::Device));
    line("cuMemcpyDtoD_v2", to, from, bytes, NOW)
}

pub unsafe fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: u64) -> u32 {
    let (to, from) = ((dst, Place::Device), (src, Place::Device));
    line("cuMemcpyDtoDAsync_v2", to, from, bytes, ordered(stream))
}

pub unsafe fn cuMemcpy(dst: u64, src: u64, bytes: usize) -> u32 {
    line("cuMemcpy", (dst, Place::Any), (src, Place::Any), bytes, NOW)
}

pub unsafe fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: u64) -> u32 {
    let (to, from) = ((dst, Place::Any), (src, Place::Any));
    line("cuMemcpyAsync", to, from, bytes, ordered(stream))
}

/// A context as peer copies name it; 0 is the current one. Addresses are the same in all contexts.
fn check_context(session: &Session, context: u64) -> Result<(), CudaError> {
    if context == 0 {
        return Ok(());
    }
    session.handles.check(Kind::Context, context)
}

fn peer(
    name: &'static str,
    (dst, dst_context): (u64, u64),
    (src, src_context): (u64, u64),
    bytes: usize,
    when: When,
) -> u32 {
    enter(name, Needs::Context, |session| {
        check_context(session, dst_context)?;
        check_context(session, src_context)?;
        let area = Area::line(dst, src, bytes as u64);
        transfer(session, &area, Place::Device, Place::Device, when)
    })
}

pub unsafe fn cuMemcpyPeer(
    dst: u64,
    dst_context: u64,
    src: u64,
    src_context: u64,
    bytes: usize,
) -> u32 {
    let (to, from) = ((dst, dst_context), (src, src_context));
    peer("cuMemcpyPeer", to, from, bytes, NOW)
}

pub unsafe fn cuMemcpyPeerAsync(
    dst: u64,
    dst_context: u64,
    src: u64,
    src_context: u64,
    bytes: usize,
    stream: u64,
) -> u32 {
    let (to, from) = ((dst, dst_context), (src, src_context));
    peer("cuMemcpyPeerAsync", to, from, bytes, ordered(stream))
}

/// Where one side of a box begins, and how the call names that place.
fn begin(name: &'static str, side: &Corner3d) -> Result<(u64, Place), CudaError> {
    const HOST: u32 = 1;
    const DEVICE: u32 = 2;
    const ARRAY: u32 = 3;
    const UNIFIED: u32 = 4;
    match side.kind {
        HOST => Ok((side.host, Place::Host)),
        DEVICE => Ok((side.device, Place::Device)),
        UNIFIED => Ok((side.device, Place::Any)),
        ARRAY => Err(super::device::refuse(name)),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

fn boxed(
    session: &Session,
    name: &'static str,
    params: &Memcpy3d,
    when: When,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, when.stream)?;
    let (src, from) = begin(name, &params.src)?;
    let (dst, to) = begin(name, &params.dst)?;
    if params.src.lod != 0 || params.dst.lod != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    transfer(session, &Area::new(params, dst, src)?, to, from, when)
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY2D.
unsafe fn flat(call: &'static str, arrays: &'static str, params: *const c_void, when: When) -> u32 {
    enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy2d>().read_unaligned() };
        boxed(session, arrays, &params.into(), when)
    })
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D.
unsafe fn solid(
    call: &'static str,
    arrays: &'static str,
    params: *const c_void,
    when: When,
) -> u32 {
    enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy3d>().read_unaligned() };
        boxed(session, arrays, &params, when)
    })
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D_PEER.
unsafe fn solid_peer(
    call: &'static str,
    arrays: &'static str,
    params: *const c_void,
    when: When,
) -> u32 {
    enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy3d>().read_unaligned() };
        check_context(session, params.dst_context)?;
        check_context(session, params.src_context)?;
        boxed(session, arrays, &params, when)
    })
}

pub unsafe fn cuMemcpy2D_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { flat("cuMemcpy2D_v2", "cuMemcpy2D(array)", params, NOW) }
}

pub unsafe fn cuMemcpy2DUnaligned_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe {
        flat(
            "cuMemcpy2DUnaligned_v2",
            "cuMemcpy2DUnaligned(array)",
            params,
            NOW,
        )
    }
}

pub unsafe fn cuMemcpy2DAsync_v2(params: *const c_void, stream: u64) -> u32 {
    let when = ordered(stream);
    // SAFETY: the caller's struct.
    unsafe { flat("cuMemcpy2DAsync_v2", "cuMemcpy2DAsync(array)", params, when) }
}

pub unsafe fn cuMemcpy3D_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid("cuMemcpy3D_v2", "cuMemcpy3D(array)", params, NOW) }
}

pub unsafe fn cuMemcpy3DAsync_v2(params: *const c_void, stream: u64) -> u32 {
    let when = ordered(stream);
    // SAFETY: the caller's struct.
    unsafe { solid("cuMemcpy3DAsync_v2", "cuMemcpy3DAsync(array)", params, when) }
}

pub unsafe fn cuMemcpy3DPeer(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid_peer("cuMemcpy3DPeer", "cuMemcpy3DPeer(array)", params, NOW) }
}

pub unsafe fn cuMemcpy3DPeerAsync(params: *const c_void, stream: u64) -> u32 {
    let (name, arrays) = ("cuMemcpy3DPeerAsync", "cuMemcpy3DPeerAsync(array)");
    // SAFETY: the caller's struct.
    unsafe { solid_peer(name, arrays, params, ordered(stream)) }
}
