//! Copies. Where a pointer points to decides what a copy is: between two places on the device, to it, or from it.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use super::memory::Place;
use crate::area::{Area, Base, Corner3d, Memcpy2d, Memcpy3d};
use crate::entry::{Needs, required};
use crate::handles::Kind;
use crate::servers;
use crate::session::Session;
use crate::transfer::{NOW, When, ordered, transfer};

/// A copy of `bytes` bytes from one place to another.
fn line(
    name: &'static str,
    (dst, to): (u64, Place),
    (src, from): (u64, Place),
    bytes: usize,
    when: When,
) -> u32 {
    when.of().enter(name, Needs::Context, |session| {
        let area = Area::line(dst, src, bytes as u64);
        transfer(session, area, to, from, when, (0, 0), None)
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
    let owner = servers::of_id(context).unwrap_or(session);
    owner.handles.check(Kind::Context, context)
}

fn peer(
    name: &'static str,
    (dst, dst_context): (u64, u64),
    (src, src_context): (u64, u64),
    bytes: usize,
    when: When,
) -> u32 {
    when.of().enter(name, Needs::Context, |session| {
        check_context(session, dst_context)?;
        check_context(session, src_context)?;
        let area = Area::line(dst, src, bytes as u64);
        let (to, from) = (Place::Device, Place::Device);
        transfer(
            session,
            area,
            to,
            from,
            when,
            (dst_context, src_context),
            None,
        )
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

// CUmemorytype.
const HOST: u32 = 1;
const DEVICE: u32 = 2;
const ARRAY: u32 = 3;
pub const UNIFIED: u32 = 4;

/// What one side of a box is in, and how the call names memory there.
fn base(session: &Session, side: &Corner3d) -> Result<(Base, Place), CudaError> {
    if side.lod != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    match side.kind {
        HOST => Ok((Base::Memory(side.host), Place::Host)),
        DEVICE => Ok((Base::Memory(side.device), Place::Device)),
        UNIFIED => Ok((Base::Memory(side.device), Place::Any)),
        ARRAY => {
            let owner = servers::of_id(side.array).unwrap_or(session);
            Ok((owner.arrays().base(side.array)?, Place::Device))
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

/// The box that the parameters describe, and how they name memory: that of the target, then that of the source.
pub fn area(session: &Session, params: &Memcpy3d) -> Result<(Area, Place, Place), CudaError> {
    let (src, from) = base(session, &params.src)?;
    let (dst, to) = base(session, &params.dst)?;
    Ok((Area::new(params, dst, src)?, to, from))
}

/// `named`: the contexts of target and source, where the call names such.
pub fn boxed(
    session: &Session,
    params: &Memcpy3d,
    named: (u64, u64),
    when: When,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, when.stream)?;
    let (area, to, from) = area(session, params)?;
    transfer(session, area, to, from, when, named, Some(*params))
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY2D.
unsafe fn flat(call: &'static str, params: *const c_void, when: When) -> u32 {
    when.of().enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy2d>().read_unaligned() };
        boxed(session, &params.into(), (0, 0), when)
    })
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D.
unsafe fn solid(call: &'static str, params: *const c_void, when: When) -> u32 {
    when.of().enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy3d>().read_unaligned() };
        boxed(session, &params, (0, 0), when)
    })
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D_PEER.
unsafe fn solid_peer(call: &'static str, params: *const c_void, when: When) -> u32 {
    when.of().enter(call, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<Memcpy3d>().read_unaligned() };
        check_context(session, params.dst_context)?;
        check_context(session, params.src_context)?;
        let named = (params.dst_context, params.src_context);
        boxed(session, &params, named, when)
    })
}

pub unsafe fn cuMemcpy2D_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { flat("cuMemcpy2D_v2", params, NOW) }
}

pub unsafe fn cuMemcpy2DUnaligned_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { flat("cuMemcpy2DUnaligned_v2", params, NOW) }
}

pub unsafe fn cuMemcpy2DAsync_v2(params: *const c_void, stream: u64) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { flat("cuMemcpy2DAsync_v2", params, ordered(stream)) }
}

pub unsafe fn cuMemcpy3D_v2(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid("cuMemcpy3D_v2", params, NOW) }
}

pub unsafe fn cuMemcpy3DAsync_v2(params: *const c_void, stream: u64) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid("cuMemcpy3DAsync_v2", params, ordered(stream)) }
}

pub unsafe fn cuMemcpy3DPeer(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid_peer("cuMemcpy3DPeer", params, NOW) }
}

pub unsafe fn cuMemcpy3DPeerAsync(params: *const c_void, stream: u64) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { solid_peer("cuMemcpy3DPeerAsync", params, ordered(stream)) }
}
