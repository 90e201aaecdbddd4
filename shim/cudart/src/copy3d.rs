//! Copies in three dimensions.

use crate::abi::{Copy3D, DriverCopy3D, Extent, Handle, PeerCopy3D, PitchedPtr, Position, Side3D};
use crate::copy::{kind, memory, sides};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, array, context, format};

/// One end of a copy, with the size of its elements, which are bytes unless it is an array.
unsafe fn side(
    cu: &Driver,
    array: Handle,
    at: Position,
    pointer: &PitchedPtr,
    kind: u32,
) -> Result<(Side3D, Option<usize>)> {
    // Either, not both.
    if array.is_null() == pointer.ptr.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut side = Side3D {
        y: at.y,
        z: at.z,
        ..Side3D::default()
    };
    if array.is_null() {
        side.x = at.x;
        side.memory = kind;
        side.host = pointer.ptr;
        side.device = pointer.ptr as u64;
        (side.pitch, side.height) = (pointer.pitch, pointer.ysize);
        return Ok((side, None));
    }
    let found = array::descriptor(cu, array)?;
    let size = format::element_size(found.format, found.channels);
    side.x = at.x.checked_mul(size).ok_or(Error::INVALID_VALUE)?;
    side.memory = memory::ARRAY;
    side.array = array;
    Ok((side, Some(size)))
}

/// The extent counts elements if an array takes part, of that array.
unsafe fn joined(
    (src, src_element): (Side3D, Option<usize>),
    (dst, dst_element): (Side3D, Option<usize>),
    extent: Extent,
) -> Result<DriverCopy3D> {
    let element = match (src_element, dst_element) {
        (Some(one), Some(other)) if one != other => return Err(Error::INVALID_VALUE),
        (one, other) => one.or(other).unwrap_or(1),
    };
    Ok(DriverCopy3D {
        src,
        dst,
        width: extent
            .width
            .checked_mul(element)
            .ok_or(Error::INVALID_VALUE)?,
        height: extent.height,
        depth: extent.depth,
    })
}

/// The driver's description of a copy.
pub unsafe fn of_parameters(cu: &Driver, copy: &Copy3D) -> Result<DriverCopy3D> {
    let (from, to) = sides(copy.kind)?;
    let src = side(cu, copy.src_array, copy.src_pos, &copy.src, from)?;
    let dst = side(cu, copy.dst_array, copy.dst_pos, &copy.dst, to)?;
    joined(src, dst, copy.extent)
}

/// And back, as a node of a graph tells it.
pub unsafe fn to_parameters(cu: &Driver, copy: &DriverCopy3D) -> Result<Copy3D> {
    let mut found = Copy3D {
        extent: Extent {
            width: copy.width,
            height: copy.height,
            depth: copy.depth,
        },
        ..Copy3D::default()
    };
    let mut element = 1;
    for (side, array, at, pointer) in [
        (
            &copy.src,
            &mut found.src_array,
            &mut found.src_pos,
            &mut found.src,
        ),
        (
            &copy.dst,
            &mut found.dst_array,
            &mut found.dst_pos,
            &mut found.dst,
        ),
    ] {
        (at.x, at.y, at.z) = (side.x, side.y, side.z);
        match side.memory {
            memory::ARRAY => {
                let desc = array::descriptor(cu, side.array)?;
                element = format::element_size(desc.format, desc.channels);
                at.x /= element;
                *array = side.array;
            }
            memory => {
                pointer.ptr = if memory == self::memory::HOST {
                    side.host
                } else {
                    side.device as Handle
                };
                (pointer.pitch, pointer.ysize) = (side.pitch, side.height);
                pointer.xsize = side.pitch;
            }
        }
    }
    found.extent.width /= element;
    let on_host = |side: &Side3D| side.memory == memory::HOST;
    let unified = |side: &Side3D| side.memory == memory::UNIFIED;
    found.kind = match (on_host(&copy.src), on_host(&copy.dst)) {
        _ if unified(&copy.src) || unified(&copy.dst) => kind::DEFAULT,
        (true, true) => kind::HOST_TO_HOST,
        (true, false) => kind::HOST_TO_DEVICE,
        (false, true) => kind::DEVICE_TO_HOST,
        (false, false) => kind::DEVICE_TO_DEVICE,
    };
    Ok(found)
}

fn is_empty(extent: &Extent) -> bool {
    extent.width == 0 || extent.height == 0 || extent.depth == 0
}

pub unsafe fn cudaMemcpy3D(runtime: &Runtime, copy: *const Copy3D) -> Result {
    let copy = copy.as_ref().ok_or(Error::INVALID_VALUE)?;
    let cu = runtime.context()?;
    let made = of_parameters(cu, copy)?;
    if is_empty(&copy.extent) {
        return Ok(());
    }
    cu.cuMemcpy3D_v2((&raw const made).cast())
}

pub unsafe fn cudaMemcpy3DAsync(runtime: &Runtime, copy: *const Copy3D, stream: Handle) -> Result {
    let copy = copy.as_ref().ok_or(Error::INVALID_VALUE)?;
    let cu = runtime.context()?;
    let made = of_parameters(cu, copy)?;
    if is_empty(&copy.extent) {
        return Ok(());
    }
    cu.cuMemcpy3DAsync_v2((&raw const made).cast(), stream)
}

unsafe fn of_peers(cu: &Driver, copy: &PeerCopy3D) -> Result<DriverCopy3D> {
    let src = side(cu, copy.src_array, copy.src_pos, &copy.src, memory::DEVICE)?;
    let dst = side(cu, copy.dst_array, copy.dst_pos, &copy.dst, memory::DEVICE)?;
    let mut made = joined(src, dst, copy.extent)?;
    made.src.context = context::primary(cu, copy.src_device)?;
    made.dst.context = context::primary(cu, copy.dst_device)?;
    Ok(made)
}

pub unsafe fn cudaMemcpy3DPeer(runtime: &Runtime, copy: *const PeerCopy3D) -> Result {
    let copy = copy.as_ref().ok_or(Error::INVALID_VALUE)?;
    let cu = runtime.context()?;
    let made = of_peers(cu, copy)?;
    if is_empty(&copy.extent) {
        return Ok(());
    }
    cu.cuMemcpy3DPeer((&raw const made).cast())
}

pub unsafe fn cudaMemcpy3DPeerAsync(
    runtime: &Runtime,
    copy: *const PeerCopy3D,
    stream: Handle,
) -> Result {
    let copy = copy.as_ref().ok_or(Error::INVALID_VALUE)?;
    let cu = runtime.context()?;
    let made = of_peers(cu, copy)?;
    if is_empty(&copy.extent) {
        return Ok(());
    }
    cu.cuMemcpy3DPeerAsync((&raw const made).cast(), stream)
}
