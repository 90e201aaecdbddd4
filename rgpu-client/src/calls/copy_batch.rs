//! Lists of copies, and copies with hints. All of a list are judged before the first is made. A source is read as every copy reads it, but for one
//! that is to be read before the call returns.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use super::copy::{UNIFIED, area};
use super::memory::Place;
use crate::area::{Area, Corner3d, Memcpy3d};
use crate::entry::{Needs, put_opt, required};
use crate::handles::Kind;
use crate::servers::{self, Of};
use crate::session::Session;
use crate::transfer::{Transfer, ordered};

/// Most copies of one list.
const MOST: usize = 1 << 20;
/// CUmemcpySrcAccessOrder, of which 0 is invalid, and CUmemcpyFlags.
const DURING_API_CALL: u32 = 2;
const LAST_ORDER: u32 = 3;
const FLAGS: u32 = 1;

/// CUmemcpyAttributes: order, two places, flags. The places are hints for memory that is nowhere for good.
type Attributes = [u32; 6];
/// CUDA_MEMCPY3D_BATCH_OP: two operands of five words, an extent, order and flags.
type Operation = [u64; 14];

const _: () = {
    use cudarc::driver::sys;
    assert!(size_of::<Attributes>() == size_of::<sys::CUmemcpyAttributes>());
    assert!(size_of::<Operation>() == size_of::<sys::CUDA_MEMCPY3D_BATCH_OP>());
};

fn check_hints(order: u32, flags: u32) -> Result<(), CudaError> {
    match (order, flags & !FLAGS) {
        (1..=LAST_ORDER, 0) => Ok(()),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

fn in_order(order: u32, judged: Option<Transfer>) -> Option<Transfer> {
    match order {
        DURING_API_CALL => judged.map(Transfer::reading_now),
        _ => judged,
    }
}

/// A list has a stream: the legacy one could not say in which order its copies are.
fn check_list(session: &Session, count: usize, stream: u64) -> Result<(), CudaError> {
    const LEGACY: u64 = 1;
    session.handles.check(Kind::Stream, stream)?;
    match stream > LEGACY && (1..=MOST).contains(&count) {
        true => Ok(()),
        false => Err(CudaError::INVALID_VALUE),
    }
}

/// Judges all, then makes them; where it fails says which copy was the one, if it was one.
fn perform(
    session: &Session,
    count: usize,
    stream: u64,
    failed: *mut usize,
    judge: impl Fn(usize) -> Result<Option<Transfer>, CudaError>,
) -> Result<(), CudaError> {
    let at = |at: usize| {
        move |error: CudaError| {
            // SAFETY: the caller's place, or NULL.
            unsafe { put_opt(failed, at) };
            error
        }
    };
    let mut transfers = Vec::new();
    for number in 0..count {
        transfers.push(judge(number).map_err(at(number))?);
    }
    for (number, transfer) in transfers.iter().enumerate() {
        if let Some(transfer) = transfer {
            transfer
                .perform(session, ordered(stream))
                .map_err(at(number))?;
        }
    }
    Ok(())
}

/// # Safety
/// Lists of `count` and of `kinds`, or NULL; `failed` is NULL or the caller's place.
#[expect(clippy::too_many_arguments, reason = "cuda.h's own")]
unsafe fn lines(
    name: &'static str,
    dsts: *const u64,
    srcs: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    places: *const usize,
    kinds: usize,
    failed: *mut usize,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter(name, Needs::Context, |session| {
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(failed, usize::MAX) };
        required(dsts)?;
        required(srcs)?;
        required(sizes)?;
        required(attributes)?;
        required(places)?;
        check_list(session, count, stream)?;
        if kinds == 0 || kinds > count {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut last = None;
        let mut orders = Vec::new();
        for number in 0..kinds {
            // SAFETY: the caller's lists of `kinds`.
            let (place, [order, .., flags]) = unsafe {
                (
                    places.add(number).read_unaligned(),
                    attributes.cast::<Attributes>().add(number).read_unaligned(),
                )
            };
            check_hints(order, flags)?;
            let follows = match last {
                None => place == 0,
                Some(last) => place > last && place < count,
            };
            if !follows {
                return Err(CudaError::INVALID_VALUE);
            }
            last = Some(place);
            orders.push((place, order));
        }
        perform(session, count, stream, failed, |number| {
            // SAFETY: the caller's lists of `count`.
            let (dst, src, bytes) = unsafe {
                (
                    dsts.add(number).read_unaligned(),
                    srcs.add(number).read_unaligned(),
                    sizes.add(number).read_unaligned(),
                )
            };
            let area = Area::line(dst, src, bytes as u64);
            let kind = orders.partition_point(|(place, _)| *place <= number) - 1;
            let judged = Transfer::judge(session, area, Place::Any, Place::Any, (0, 0), None)?;
            Ok(in_order(orders[kind].1, judged))
        })
    })
}

#[expect(clippy::too_many_arguments, reason = "cuda.h's own")]
pub unsafe fn cuMemcpyBatchAsync(
    dsts: *const u64,
    srcs: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    places: *const usize,
    kinds: usize,
    failed: *mut usize,
    stream: u64,
) -> u32 {
    const NAME: &str = "cuMemcpyBatchAsync";
    // SAFETY: the caller's lists.
    unsafe {
        lines(
            NAME, dsts, srcs, sizes, count, attributes, places, kinds, failed, stream,
        )
    }
}

#[expect(clippy::too_many_arguments, reason = "cuda.h's own")]
pub unsafe fn cuMemcpyBatchAsync_v2(
    dsts: *const u64,
    srcs: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    places: *const usize,
    kinds: usize,
    stream: u64,
) -> u32 {
    const NAME: &str = "cuMemcpyBatchAsync_v2";
    let failed = std::ptr::null_mut();
    // SAFETY: the caller's lists.
    unsafe {
        lines(
            NAME, dsts, srcs, sizes, count, attributes, places, kinds, failed, stream,
        )
    }
}

/// An operation as the box that it is. It counts in elements: texels of the array that takes part, else bytes.
fn described(session: &Session, operation: &Operation) -> Result<Memcpy3d, CudaError> {
    const POINTER: u32 = 1;
    const ARRAY: u32 = 2;
    let invalid = CudaError::INVALID_VALUE;
    let (operands, [width, height, depth, hints]) = (
        &operation[..10],
        [10, 11, 12, 13].map(|word: usize| operation[word]),
    );
    check_hints(hints as u32, (hints >> 32) as u32)?;
    if width == 0 || height == 0 || depth == 0 {
        return Err(invalid);
    }
    let mut element = None;
    for operand in operands.chunks_exact(5) {
        match operand[0] as u32 {
            POINTER => {}
            ARRAY => {
                let owner = servers::of_id(operand[1]).unwrap_or(session);
                let texel = owner.arrays().get(operand[1])?.descriptor.texel_bytes();
                let texel = texel.ok_or_else(|| {
                    super::device::refuse("a list's copy of an array of such a format")
                })?;
                if element.is_some_and(|other| other != texel) {
                    return Err(invalid);
                }
                element = Some(texel);
            }
            _ => return Err(invalid),
        }
    }
    let element = element.unwrap_or(1);
    let size = |elements: u64| {
        let bytes = elements.checked_mul(element);
        bytes.map(|bytes| bytes as usize).ok_or(invalid)
    };
    let side = |operand: &[u64]| {
        if operand[0] as u32 == ARRAY {
            let corner = Corner3d {
                x: size(operand[2])?,
                y: operand[3] as usize,
                z: operand[4] as usize,
                kind: 3,
                array: operand[1],
                ..Corner3d::default()
            };
            return Ok((corner, 0, 0));
        }
        let (row, rows) = (operand[2], operand[3]);
        if (row != 0 && row < width) || (rows != 0 && rows < height) {
            return Err(invalid);
        }
        let corner = Corner3d {
            kind: UNIFIED,
            device: operand[1],
            ..Corner3d::default()
        };
        Ok((corner, size(row)?, rows as usize))
    };
    let (src, src_pitch, src_height) = side(&operands[..5])?;
    let (dst, dst_pitch, dst_height) = side(&operands[5..])?;
    Ok(Memcpy3d {
        src,
        src_pitch,
        src_height,
        dst,
        dst_pitch,
        dst_height,
        width: size(width)?,
        height: height as usize,
        depth: depth as usize,
        ..Memcpy3d::default()
    })
}

fn judge_box(session: &Session, operation: &Operation) -> Result<Option<Transfer>, CudaError> {
    let params = described(session, operation)?;
    let (area, to, from) = area(session, &params)?;
    let judged = Transfer::judge(session, area, to, from, (0, 0), Some(params))?;
    Ok(in_order(operation[13] as u32, judged))
}

/// # Safety
/// A list of `count`, or NULL; `failed` is NULL or the caller's place.
unsafe fn boxes(
    name: &'static str,
    count: usize,
    operations: *const c_void,
    failed: *mut usize,
    flags: u64,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter(name, Needs::Context, |session| {
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(failed, usize::MAX) };
        required(operations)?;
        check_list(session, count, stream)?;
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        perform(session, count, stream, failed, |number| {
            // SAFETY: the caller's list of `count`.
            let operation = unsafe { operations.cast::<Operation>().add(number).read_unaligned() };
            judge_box(session, &operation)
        })
    })
}

pub unsafe fn cuMemcpy3DBatchAsync(
    count: usize,
    operations: *const c_void,
    failed: *mut usize,
    flags: u64,
    stream: u64,
) -> u32 {
    const NAME: &str = "cuMemcpy3DBatchAsync";
    // SAFETY: the caller's list and place.
    unsafe { boxes(NAME, count, operations, failed, flags, stream) }
}

pub unsafe fn cuMemcpy3DBatchAsync_v2(
    count: usize,
    operations: *const c_void,
    flags: u64,
    stream: u64,
) -> u32 {
    const NAME: &str = "cuMemcpy3DBatchAsync_v2";
    let failed = std::ptr::null_mut();
    // SAFETY: the caller's list.
    unsafe { boxes(NAME, count, operations, failed, flags, stream) }
}

pub unsafe fn cuMemcpyWithAttributesAsync(
    dst: u64,
    src: u64,
    bytes: usize,
    attributes: *const c_void,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemcpyWithAttributesAsync", Needs::Context, |session| {
        required(attributes)?;
        // SAFETY: the caller's struct, of plain numbers.
        let [order, .., flags] = unsafe { attributes.cast::<Attributes>().read_unaligned() };
        check_hints(order, flags)?;
        let area = Area::line(dst, src, bytes as u64);
        session.handles.check(Kind::Stream, stream)?;
        let judged = Transfer::judge(session, area, Place::Any, Place::Any, (0, 0), None)?;
        match in_order(order, judged) {
            Some(copy) => copy.perform(session, ordered(stream)),
            None => Ok(()),
        }
    })
}

pub unsafe fn cuMemcpy3DWithAttributesAsync(
    operation: *const c_void,
    flags: u64,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemcpy3DWithAttributesAsync", Needs::Context, |session| {
        required(operation)?;
        session.handles.check(Kind::Stream, stream)?;
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's struct, of plain numbers.
        let operation = unsafe { operation.cast::<Operation>().read_unaligned() };
        match judge_box(session, &operation)? {
            Some(transfer) => transfer.perform(session, ordered(stream)),
            None => Ok(()),
        }
    })
}
