//! Copies. Addresses are checked by the driver; what is checked here are lengths.

use std::ffi::c_void;
use std::{mem, ptr};

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::frame::{LANDED, LANDS_LATER, MAX_BULK};

use crate::calls::capture;
use crate::gate::Work;
use crate::state::State;

/// Waits until what has just been written is there, if the client asks for that.
pub fn landed(state: &State, stream: *mut c_void, sync: u32) -> Result<(), CudaError> {
    match sync {
        // SAFETY: the stream is the driver's own.
        LANDED => unsafe { driver_call!(state.driver.cuStreamSynchronize(stream)) },
        _ => Ok(()),
    }
}

/// The driver has read `data` when it returns, also for the asynchronous form: the source is pageable memory.
pub fn rgpuCopyIn(
    state: &State,
    dst: u64,
    stream: *mut c_void,
    sync: u32,
    data: &[u8],
) -> Result<(), CudaError> {
    copy_in(state, dst, stream, sync, data)?;
    if let Some(content) = state.shared.content.get() {
        content.sent(data);
    }
    Ok(())
}

/// The same for bytes that may have come some other way.
pub fn copy_in(
    state: &State,
    dst: u64,
    stream: *mut c_void,
    sync: u32,
    data: &[u8],
) -> Result<(), CudaError> {
    capture::forbid(state, stream)?;
    let source = data.as_ptr().cast();
    let _turn = state.work(stream, Work::Bytes(data.len() as u64), false)?;
    // SAFETY: `source` has that many bytes; the destination is checked by the driver.
    unsafe {
        if sync != 0 {
            driver_call!(state.driver.cuMemcpyHtoD_v2(dst, source, data.len()))
        } else {
            driver_call!(
                state
                    .driver
                    .cuMemcpyHtoDAsync_v2(dst, source, data.len(), stream)
            )
        }
    }?;
    landed(state, stream, sync)
}

pub fn rgpuCopyOut(
    state: &State,
    src: u64,
    bytes: u64,
    stream: *mut c_void,
    sync: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let driver = &state.driver;
    fetch(
        state,
        bulk(Some(bytes))?,
        stream,
        sync,
        reply,
        |place, len| {
            // SAFETY: `place` has room for that many bytes; the source is checked by the driver.
            unsafe {
                if sync != 0 {
                    driver_call!(driver.cuMemcpyDtoH_v2(place, src, len))
                } else {
                    driver_call!(driver.cuMemcpyDtoHAsync_v2(place, src, len, stream))
                }
            }
        },
    )
}

/// A length that one frame can carry.
pub fn bulk(bytes: Option<u64>) -> Result<usize, CudaError> {
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|&bytes| bytes <= MAX_BULK)
        .ok_or(CudaError::INVALID_VALUE)
}

/// Appends what `copy` brings to the reply, when it is there.
pub fn fetch(
    state: &State,
    len: usize,
    stream: *mut c_void,
    sync: u32,
    reply: &mut Vec<u8>,
    copy: impl FnOnce(*mut c_void, usize) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    capture::forbid(state, stream)?;
    reply.reserve_exact(len);
    let _turn = state.work(stream, Work::Bytes(len as u64), true)?;
    copy(reply.spare_capacity_mut().as_mut_ptr().cast(), len)?;
    if sync == 0 {
        // SAFETY: the stream is the driver's own.
        if let Err(error) = unsafe { driver_call!(state.driver.cuStreamSynchronize(stream)) } {
            // The driver may still write there.
            mem::forget(mem::take(reply));
            return Err(error);
        }
    }
    // SAFETY: reserved above, and written by the copy, which is done.
    unsafe { reply.set_len(reply.len() + len) };
    Ok(())
}

pub fn rgpuCopyDevice(
    state: &State,
    dst: u64,
    src: u64,
    bytes: u64,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let len = usize::try_from(bytes).map_err(|_| CudaError::INVALID_VALUE)?;
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    // SAFETY: both ranges are checked by the driver.
    unsafe {
        if sync != 0 {
            driver_call!(state.driver.cuMemcpyDtoD_v2(dst, src, len))
        } else {
            driver_call!(state.driver.cuMemcpyDtoDAsync_v2(dst, src, len, stream))
        }
    }
}

/// A box of rows, `pitch` bytes and slices of `rows` rows apart on the device.
pub struct Rows {
    pub at: u64,
    pub pitch: u64,
    pub rows: u64,
}

pub struct Extent {
    pub width: u64,
    pub height: u64,
    pub depth: u64,
}

impl Extent {
    pub fn bytes(&self) -> Option<u64> {
        self.width.checked_mul(self.height)?.checked_mul(self.depth)
    }
}

pub enum End {
    /// Packed rows in this process.
    Here(*mut c_void),
    Device(Rows),
    /// An array of the driver's, from so many bytes, rows and slices on.
    Array(*mut c_void, [u64; 3]),
}

/// One side of a CUDA_MEMCPY3D.
struct Side {
    kind: sys::CUmemorytype,
    host: *mut c_void,
    device: u64,
    array: *mut c_void,
    corner: [usize; 3],
    pitch: usize,
    rows: usize,
}

fn word(value: u64) -> Result<usize, CudaError> {
    usize::try_from(value).map_err(|_| CudaError::INVALID_VALUE)
}

impl Side {
    fn new(end: End, extent: &Extent) -> Result<Side, CudaError> {
        use sys::CUmemorytype::{CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST};
        let none = Side {
            kind: CU_MEMORYTYPE_HOST,
            host: ptr::null_mut(),
            device: 0,
            array: ptr::null_mut(),
            corner: [0; 3],
            pitch: word(extent.width)?,
            rows: word(extent.height)?,
        };
        Ok(match end {
            End::Here(host) => Side { host, ..none },
            End::Device(Rows { at, pitch, rows }) => Side {
                kind: CU_MEMORYTYPE_DEVICE,
                device: at,
                pitch: word(pitch)?,
                rows: word(rows)?,
                ..none
            },
            End::Array(array, [x, y, z]) => Side {
                kind: CU_MEMORYTYPE_ARRAY,
                array,
                corner: [word(x)?, word(y)?, word(z)?],
                ..none
            },
        })
    }
}

/// CUDA_MEMCPY3D of the whole box.
pub fn params(to: End, from: End, extent: &Extent) -> Result<sys::CUDA_MEMCPY3D, CudaError> {
    let (src, dst) = (Side::new(from, extent)?, Side::new(to, extent)?);
    Ok(sys::CUDA_MEMCPY3D {
        srcXInBytes: src.corner[0],
        srcY: src.corner[1],
        srcZ: src.corner[2],
        srcLOD: 0,
        srcMemoryType: src.kind,
        srcHost: src.host,
        srcDevice: src.device,
        srcArray: src.array.cast(),
        reserved0: ptr::null_mut(),
        srcPitch: src.pitch,
        srcHeight: src.rows,
        dstXInBytes: dst.corner[0],
        dstY: dst.corner[1],
        dstZ: dst.corner[2],
        dstLOD: 0,
        dstMemoryType: dst.kind,
        dstHost: dst.host,
        dstDevice: dst.device,
        dstArray: dst.array.cast(),
        reserved1: ptr::null_mut(),
        dstPitch: dst.pitch,
        dstHeight: dst.rows,
        WidthInBytes: word(extent.width)?,
        Height: word(extent.height)?,
        Depth: word(extent.depth)?,
    })
}

/// # Safety
/// What [`End::Here`] names in the parameters has room for the box, until the copy is done.
pub unsafe fn copy_box(
    state: &State,
    params: &sys::CUDA_MEMCPY3D,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let (driver, params) = (&state.driver, (&raw const *params).cast());
    // SAFETY: cuda.h's struct; device addresses are checked by the driver, the rest is the caller's promise.
    unsafe {
        if sync != 0 {
            driver_call!(driver.cuMemcpy3D_v2(params))
        } else {
            driver_call!(driver.cuMemcpy3DAsync_v2(params, stream))
        }
    }
}

/// Copies a frame's bytes into a box.
pub fn box_in(
    state: &State,
    to: End,
    extent: &Extent,
    stream: *mut c_void,
    sync: u32,
    data: &[u8],
) -> Result<(), CudaError> {
    if extent.bytes() != Some(data.len() as u64) {
        return Err(CudaError::INVALID_VALUE);
    }
    capture::forbid(state, stream)?;
    let from = End::Here(data.as_ptr().cast_mut().cast());
    let params = params(to, from, extent)?;
    let _turn = state.work(stream, Work::Bytes(data.len() as u64), false)?;
    // SAFETY: `data` has the bytes of the box. The driver has read them when it returns: they are pageable memory.
    unsafe { copy_box(state, &params, stream, sync) }?;
    landed(state, stream, sync)
}

/// Copies a box's bytes into the reply.
pub fn box_out(
    state: &State,
    from: End,
    extent: &Extent,
    stream: *mut c_void,
    sync: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let bytes = bulk(extent.bytes())?;
    fetch(state, bytes, stream, sync, reply, |place, _| {
        let params = params(End::Here(place), from, extent)?;
        // SAFETY: `place` has room for the bytes of the box.
        unsafe { copy_box(state, &params, stream, sync) }
    })
}

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuBoxIn(
    state: &State,
    at: u64,
    pitch: u64,
    rows: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
    data: &[u8],
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    box_in(
        state,
        End::Device(Rows { at, pitch, rows }),
        &extent,
        stream,
        sync,
        data,
    )
}

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuBoxOut(
    state: &State,
    at: u64,
    pitch: u64,
    rows: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    box_out(
        state,
        End::Device(Rows { at, pitch, rows }),
        &extent,
        stream,
        sync,
        reply,
    )
}

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuBoxLand(
    state: &State,
    at: u64,
    pitch: u64,
    rows: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    land(
        state,
        End::Device(Rows { at, pitch, rows }),
        &extent,
        stream,
    )
}

/// Starts a copy whose bytes go to the client's pinned memory.
pub fn land(
    state: &State,
    from: End,
    extent: &Extent,
    stream: *mut c_void,
) -> Result<(), CudaError> {
    let (driver, landings) = (&state.driver, &state.shared.landings);
    let epoch = state.handles.contexts_ended();
    let seq = match state.wants_reply.get() {
        true => state.seq.get() | LANDS_LATER,
        false => state.seq.get(),
    };
    let started = capture::forbid(state, stream).and_then(|()| {
        let bytes = bulk(extent.bytes())?;
        let _turn = state.work(stream, Work::Bytes(bytes as u64), false)?;
        let copy = |place| {
            let params = params(End::Here(place), from, extent)?;
            // SAFETY: `place` has room for the bytes of the box, and stays until they are there.
            unsafe { copy_box(state, &params, stream, 0) }
        };
        if seq & LANDS_LATER == 0 {
            return landings.start(driver, epoch, seq, stream, bytes, copy);
        }
        let context = state.handles.context();
        landings.start_with_event(driver, epoch, seq, context, stream, bytes, copy)
    });
    if let Err(error) = started {
        landings.failed(seq, error);
    }
    started
}

#[expect(clippy::too_many_arguments, reason = "two boxes have as many numbers")]
pub fn rgpuBoxDevice(
    state: &State,
    dst: u64,
    dst_pitch: u64,
    dst_rows: u64,
    src: u64,
    src_pitch: u64,
    src_rows: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let to = Rows {
        at: dst,
        pitch: dst_pitch,
        rows: dst_rows,
    };
    let from = Rows {
        at: src,
        pitch: src_pitch,
        rows: src_rows,
    };
    let extent = Extent {
        width,
        height,
        depth,
    };
    let params = params(End::Device(to), End::Device(from), &extent)?;
    let bytes = extent.bytes().unwrap_or(u64::MAX);
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    // SAFETY: nothing of this process is named.
    unsafe { copy_box(state, &params, stream, sync) }
}
