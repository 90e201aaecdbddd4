//! The fake driver's arrays: rows one behind the other, levels and planes as arrays of their own.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUDA_ARRAY3D_DESCRIPTOR_v2 as Raw;
use rgpu_proto::CudaError;
use rgpu_proto::array::ArrayDescriptor;

use super::fake::{Code, TOTAL, alive, code, current, end, make, put, with};
use crate::driver::Driver;

/// A format of two planes, CU_AD_FORMAT_NV12.
pub const PLANAR: u32 = 0xb0;
/// No array of this driver's is larger.
const LARGEST: u64 = 256 << 20;

struct Array {
    descriptor: ArrayDescriptor,
    bytes: Vec<u8>,
    parts: Vec<usize>,
}

static ARRAYS: Mutex<Option<HashMap<usize, Array>>> = Mutex::new(None);

fn arrays() -> MutexGuard<'static, Option<HashMap<usize, Array>>> {
    let mut arrays = ARRAYS.lock().unwrap_or_else(PoisonError::into_inner);
    arrays.get_or_insert_default();
    arrays
}

fn read(descriptor: *const c_void) -> ArrayDescriptor {
    const _: () = assert!(size_of::<Raw>() == size_of::<ArrayDescriptor>());
    // SAFETY: the worker passes cuda.h's structure, of which its own has the layout.
    unsafe { descriptor.cast::<ArrayDescriptor>().read() }
}

fn add(descriptor: ArrayDescriptor, parts: Vec<usize>) -> Result<*mut c_void, Code> {
    current()?;
    let bytes = descriptor
        .row_bytes()
        .and_then(|row| {
            row.checked_mul(descriptor.rows())?
                .checked_mul(descriptor.slices())
        })
        .filter(|bytes| (1..=LARGEST).contains(bytes))
        .ok_or(CudaError::INVALID_VALUE.0)?;
    let fits = with(|world| {
        let fits = world.used + bytes <= TOTAL;
        world.used += if fits { bytes } else { 0 };
        fits
    });
    if !fits {
        return Err(CudaError::OUT_OF_MEMORY.0);
    }
    let made = make();
    let array = Array {
        descriptor,
        bytes: vec![0; bytes as usize],
        parts,
    };
    arrays().as_mut().unwrap().insert(made.addr(), array);
    Ok(made)
}

fn remove(array: *mut c_void, what: &str) -> Code {
    let gone = arrays().as_mut().unwrap().remove(&array.addr());
    let Some(gone) = gone else {
        panic!("the worker ended a dead {what} {array:p}");
    };
    with(|world| world.used -= gone.bytes.len() as u64);
    for part in gone.parts {
        remove(std::ptr::without_provenance_mut(part), "part of an array");
    }
    end(array, what)
}

/// A row of a box in an array.
pub fn row<T>(
    array: *mut c_void,
    [x, y, z]: [usize; 3],
    bytes: usize,
    body: impl FnOnce(&mut [u8]) -> T,
) -> Result<T, Code> {
    alive(array, "array");
    current()?;
    let invalid = CudaError::INVALID_VALUE.0;
    let mut arrays = arrays();
    let held = arrays.as_mut().unwrap().get_mut(&array.addr());
    let held = held.ok_or(invalid)?;
    let (row, rows, slices) = (
        held.descriptor.row_bytes().ok_or(invalid)? as usize,
        held.descriptor.rows() as usize,
        held.descriptor.slices() as usize,
    );
    let end = x.checked_add(bytes).ok_or(invalid)?;
    if end > row || y >= rows || z >= slices {
        return Err(invalid);
    }
    let first = (z * rows + y) * row;
    Ok(body(&mut held.bytes[first + x..first + end]))
}

extern "C" fn array_create(array: *mut *mut c_void, descriptor: *const c_void) -> Code {
    let descriptor = read(descriptor);
    let planes = if descriptor.format.get() == PLANAR {
        let plane = ArrayDescriptor {
            format: 1.into(),
            channels: 1.into(),
            ..descriptor
        };
        [add(plane, Vec::new()), add(plane, Vec::new())].to_vec()
    } else {
        Vec::new()
    };
    let planes: Result<Vec<_>, Code> = planes.into_iter().collect();
    let planes = planes.map(|planes| planes.iter().map(|plane| plane.addr()).collect());
    match planes.and_then(|planes| add(descriptor, planes)) {
        // SAFETY: the worker's own place.
        Ok(made) => unsafe { put(array, made) },
        Err(error) => error,
    }
}

extern "C" fn array_descriptor(descriptor: *mut c_void, array: *mut c_void) -> Code {
    alive(array, "array");
    let known = arrays().as_ref().unwrap()[&array.addr()].descriptor;
    // SAFETY: the worker's own place.
    unsafe { put(descriptor.cast(), known) }
}

extern "C" fn array_destroy(array: *mut c_void) -> Code {
    remove(array, "array")
}

fn part(place: *mut *mut c_void, of: *mut c_void, index: u32) -> Code {
    alive(of, "array");
    let known = arrays().as_ref().unwrap()[&of.addr()]
        .parts
        .get(index as usize)
        .copied();
    code(known.ok_or(CudaError::INVALID_VALUE.0).map(|part| {
        // SAFETY: the worker's own place.
        unsafe { put(place, std::ptr::without_provenance_mut(part)) };
    }))
}

extern "C" fn array_plane(plane: *mut *mut c_void, array: *mut c_void, index: u32) -> Code {
    part(plane, array, index)
}

extern "C" fn mipmapped_create(
    array: *mut *mut c_void,
    descriptor: *const c_void,
    levels: u32,
) -> Code {
    let descriptor = read(descriptor);
    let mut parts = Vec::new();
    for level in 0..levels.clamp(1, 4) {
        let less = |size: u64| (size >> level).max(u64::from(size > 0));
        let of_level = ArrayDescriptor {
            width: less(descriptor.width.get()).into(),
            height: less(descriptor.height.get()).into(),
            ..descriptor
        };
        match add(of_level, Vec::new()) {
            Ok(part) => parts.push(part.addr()),
            Err(error) => return error,
        }
    }
    match add(descriptor, parts) {
        // SAFETY: the worker's own place.
        Ok(made) => unsafe { put(array, made) },
        Err(error) => error,
    }
}

extern "C" fn mipmapped_destroy(array: *mut c_void) -> Code {
    remove(array, "mipmapped array")
}

extern "C" fn mipmapped_level(level: *mut *mut c_void, array: *mut c_void, index: u32) -> Code {
    part(level, array, index)
}

pub fn add_to(driver: &mut Driver) {
    driver.cuArray3DCreate_v2 = Some(array_create);
    driver.cuArray3DGetDescriptor_v2 = Some(array_descriptor);
    driver.cuArrayDestroy = Some(array_destroy);
    driver.cuArrayGetPlane = Some(array_plane);
    driver.cuMipmappedArrayCreate = Some(mipmapped_create);
    driver.cuMipmappedArrayDestroy = Some(mipmapped_destroy);
    driver.cuMipmappedArrayGetLevel = Some(mipmapped_level);
}
