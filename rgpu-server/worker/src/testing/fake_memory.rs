//! The fake driver's memory: allocations, mappings, copies and fills.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;

use super::fake::{Code, GRANULARITY, NEXT, OK, TOTAL, alive, code, current, end, make, put, with};
use crate::driver::Driver;

/// The bytes at an address, if they lie in one piece of memory.
pub fn at<T>(address: u64, len: usize, body: impl FnOnce(&mut [u8]) -> T) -> Result<T, Code> {
    current()?;
    with(|world| {
        let (&base, bytes) = world
            .memory
            .range_mut(..=address)
            .next_back()
            .ok_or(CudaError::INVALID_VALUE.0)?;
        let offset = (address - base) as usize;
        let end = offset.checked_add(len).ok_or(CudaError::INVALID_VALUE.0)?;
        Ok(body(
            bytes
                .get_mut(offset..end)
                .ok_or(CudaError::INVALID_VALUE.0)?,
        ))
    })
}

/// Adds memory, up to [`TOTAL`].
fn add(address: u64, bytes: u64) -> Code {
    with(|world| {
        if world.used + bytes > TOTAL {
            return CudaError::OUT_OF_MEMORY.0;
        }
        world.used += bytes;
        let before = world.memory.insert(address, vec![0; bytes as usize]);
        assert!(before.is_none(), "mapped twice at {address:#x}");
        OK
    })
}

pub fn remove(address: u64) -> Code {
    with(|world| match world.memory.remove(&address) {
        Some(bytes) => {
            world.used -= bytes.len() as u64;
            OK
        }
        None => CudaError::INVALID_VALUE.0,
    })
}

extern "C" fn mem_alloc(address: *mut u64, bytes: usize) -> Code {
    let at = 0x7000_0000_0000 + ((NEXT.fetch_add(16, Ordering::Relaxed) as u64) << 20);
    match add(at, bytes as u64) {
        // SAFETY: the worker's own place.
        OK => unsafe { put(address, at) },
        error => error,
    }
}

extern "C" fn mem_free(address: u64) -> Code {
    remove(address)
}

extern "C" fn mem_get_info(free: *mut usize, total: *mut usize) -> Code {
    let used = with(|world| world.used);
    // SAFETY: the worker's own places.
    unsafe {
        put(free, (TOTAL - used) as usize);
        put(total, TOTAL as usize)
    }
}

extern "C" fn granularity(granularity: *mut usize, _prop: *const c_void, _option: u32) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(granularity, GRANULARITY as usize) }
}

extern "C" fn address_reserve(
    address: *mut u64,
    _bytes: usize,
    _alignment: usize,
    hint: u64,
    _flags: u64,
) -> Code {
    // As a driver does where something is in the way.
    let given = match hint >> 40 {
        0x66 => hint + (1 << 40),
        _ => hint,
    };
    // SAFETY: the worker's own place.
    unsafe { put(address, given) }
}

extern "C" fn address_free(_address: u64, _bytes: usize) -> Code {
    OK
}

extern "C" fn mem_create(
    handle: *mut u64,
    _bytes: usize,
    _prop: *const c_void,
    _flags: u64,
) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(handle, make().addr() as u64) }
}

extern "C" fn mem_release(handle: u64) -> Code {
    end(
        ptr::without_provenance_mut(handle as usize),
        "memory handle",
    )
}

extern "C" fn mem_map(
    address: u64,
    bytes: usize,
    _offset: usize,
    handle: u64,
    _flags: u64,
) -> Code {
    alive(
        ptr::without_provenance_mut(handle as usize),
        "memory handle",
    );
    match with(|world| world.full.remove(&address)) {
        true => CudaError::OUT_OF_MEMORY.0,
        false => add(address, bytes as u64),
    }
}

extern "C" fn mem_unmap(address: u64, _bytes: usize) -> Code {
    remove(address)
}

extern "C" fn mem_set_access(
    _address: u64,
    _bytes: usize,
    _access: *const c_void,
    _count: usize,
) -> Code {
    OK
}

/// What the default stream still had to write is written.
pub fn settle() {
    let Ok(context) = current() else { return };
    if let Some((address, bytes)) = with(|world| world.late.remove(&context)) {
        // That memory may have ended.
        let _ = at(address, bytes.len(), |place| place.copy_from_slice(&bytes));
    }
}

/// Bytes that end with this one: the synchronous form has read them when it returns, and writes the last one later, as drivers may.
pub const LATE: u8 = 0xee;

extern "C" fn copy_in(dst: u64, src: *const c_void, bytes: usize) -> Code {
    settle();
    let Some(last) = bytes.checked_sub(1) else {
        return OK;
    };
    // SAFETY: the worker passes that many bytes.
    let data = unsafe { std::slice::from_raw_parts(src.cast::<u8>(), bytes) };
    if data[last] != LATE {
        return copy_in_now(dst, src, bytes);
    }
    code(
        at(dst, bytes, |place| {
            place[..last].copy_from_slice(&data[..last])
        })
        .and_then(|()| {
            let (context, late) = (current()?, (dst + last as u64, data[last..].to_vec()));
            with(|world| world.late.insert(context, late));
            Ok(())
        }),
    )
}

fn copy_in_now(dst: u64, src: *const c_void, bytes: usize) -> Code {
    code(at(dst, bytes, |place| {
        // SAFETY: the worker passes that many bytes.
        place.copy_from_slice(unsafe { std::slice::from_raw_parts(src.cast(), bytes) });
    }))
}

extern "C" fn copy_in_async(
    dst: u64,
    src: *const c_void,
    bytes: usize,
    _stream: *mut c_void,
) -> Code {
    copy_in_now(dst, src, bytes)
}

extern "C" fn copy_out(dst: *mut c_void, src: u64, bytes: usize) -> Code {
    settle();
    code(at(src, bytes, |place| {
        // SAFETY: the worker has room for that many bytes.
        unsafe { ptr::copy_nonoverlapping(place.as_ptr(), dst.cast(), bytes) };
    }))
}

extern "C" fn copy_out_async(
    dst: *mut c_void,
    src: u64,
    bytes: usize,
    _stream: *mut c_void,
) -> Code {
    copy_out(dst, src, bytes)
}

/// Reads or writes a row on one side of a box.
enum Row<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

impl Row<'_> {
    fn with(self, place: &mut [u8]) {
        match self {
            Row::Read(row) => row.copy_from_slice(place),
            Row::Write(row) => place.copy_from_slice(row),
        }
    }
}

/// Of rows, on either side in memory of the device, in an array, or of the worker.
extern "C" fn copy_3d(params: *const c_void) -> Code {
    use cudarc::driver::sys::CUmemorytype::{CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_HOST};
    settle();
    // SAFETY: the worker passes cuda.h's struct.
    let params = unsafe { &*params.cast::<cudarc::driver::sys::CUDA_MEMCPY3D>() };
    let bytes = params.WidthInBytes;
    if params.Depth.saturating_mul(params.Height) > 1 << 20 || bytes > 64 << 20 {
        return CudaError::INVALID_VALUE.0;
    }
    let touch = |is_source: bool, z: usize, y: usize, row: Row<'_>| {
        let (kind, host, device, array, x, first_y, first_z, pitch, rows) = match is_source {
            true => (
                params.srcMemoryType,
                params.srcHost.cast_mut(),
                params.srcDevice,
                params.srcArray,
                params.srcXInBytes,
                params.srcY,
                params.srcZ,
                params.srcPitch,
                params.srcHeight,
            ),
            false => (
                params.dstMemoryType,
                params.dstHost,
                params.dstDevice,
                params.dstArray,
                params.dstXInBytes,
                params.dstY,
                params.dstZ,
                params.dstPitch,
                params.dstHeight,
            ),
        };
        let offset = z.wrapping_mul(rows).wrapping_add(y).wrapping_mul(pitch);
        match kind {
            CU_MEMORYTYPE_HOST => {
                // SAFETY: the worker's own bytes of the box.
                let place = unsafe {
                    std::slice::from_raw_parts_mut(host.cast::<u8>().wrapping_add(offset), bytes)
                };
                row.with(place);
                Ok(())
            }
            CU_MEMORYTYPE_ARRAY => {
                let corner = [x, first_y.wrapping_add(y), first_z.wrapping_add(z)];
                super::fake_arrays::row(array.cast(), corner, bytes, |place| row.with(place))
            }
            _ => at(device.wrapping_add(offset as u64), bytes, |place| {
                row.with(place)
            }),
        }
    };
    let mut row = vec![0; bytes];
    for (z, y) in (0..params.Depth).flat_map(|z| (0..params.Height).map(move |y| (z, y))) {
        let copied = touch(true, z, y, Row::Read(&mut row))
            .and_then(|()| touch(false, z, y, Row::Write(&row)));
        if let Err(error) = copied {
            return error;
        }
    }
    OK
}

extern "C" fn copy_3d_async(params: *const c_void, _stream: *mut c_void) -> Code {
    copy_3d(params)
}

extern "C" fn memset_2d_32(
    dst: u64,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
) -> Code {
    (0..height.min(1 << 20))
        .map(|row| {
            memset_32(
                dst.wrapping_add(row.wrapping_mul(pitch) as u64),
                value,
                width,
            )
        })
        .find(|&result| result != OK)
        .unwrap_or(OK)
}

extern "C" fn memset_32(dst: u64, value: u32, count: usize) -> Code {
    let Some(bytes) = count.checked_mul(4) else {
        return CudaError::INVALID_VALUE.0;
    };
    code(at(dst, bytes, |place| {
        for word in place.chunks_exact_mut(4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }))
}

pub fn add_to(driver: &mut Driver) {
    driver.cuMemAlloc_v2 = Some(mem_alloc);
    driver.cuMemFree_v2 = Some(mem_free);
    driver.cuMemGetInfo_v2 = Some(mem_get_info);
    driver.cuMemGetAllocationGranularity = Some(granularity);
    driver.cuMemAddressReserve = Some(address_reserve);
    driver.cuMemAddressFree = Some(address_free);
    driver.cuMemCreate = Some(mem_create);
    driver.cuMemRelease = Some(mem_release);
    driver.cuMemMap = Some(mem_map);
    driver.cuMemUnmap = Some(mem_unmap);
    driver.cuMemSetAccess = Some(mem_set_access);
    driver.cuMemcpyHtoD_v2 = Some(copy_in);
    driver.cuMemcpyHtoDAsync_v2 = Some(copy_in_async);
    driver.cuMemcpyDtoH_v2 = Some(copy_out);
    driver.cuMemcpyDtoHAsync_v2 = Some(copy_out_async);
    driver.cuMemcpy3D_v2 = Some(copy_3d);
    driver.cuMemcpy3DAsync_v2 = Some(copy_3d_async);
    driver.cuMemsetD32_v2 = Some(memset_32);
    driver.cuMemsetD2D32_v2 = Some(memset_2d_32);
}
