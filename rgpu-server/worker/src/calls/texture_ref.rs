//! Texture and surface references. The driver's state of each is what launches have; the client remembers what it has sent.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuTextureRefAddressReply;
use rgpu_proto::texture::{ReferenceState, part};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{F32, U32};

use crate::calls::function::text;
use crate::handles::Kind;
use crate::state::State;

/// CU_TRSA_OVERRIDE_FORMAT: the only way to bind an array.
const OVERRIDE_FORMAT: u32 = 1;

/// What the driver tells of a texture reference; what it refuses to tell stays 0.
fn told(state: &State, reference: *mut c_void) -> ReferenceState {
    let driver = &state.driver;
    let mut all = ReferenceState::default();
    let (mut format, mut channels, mut number) = (0, 0, 0);
    let (mut first, mut second, mut border) = (0.0, 0.0, [0.0; 4]);
    let note = |asked: Result<(), CudaError>| {
        if let Err(error) = asked {
            tracing::debug!(%error, "a part of a texture reference's state is not told");
        }
    };
    // SAFETY: a reference of the driver's, and places for what is told.
    unsafe {
        note(driver_call!(driver.cuTexRefGetFormat(
            &mut format,
            &mut channels,
            reference
        )));
        (all.format, all.channels) = (U32::new(format), U32::new(channels as u32));
        for (axis, mode) in all.address.iter_mut().enumerate() {
            let (mut told, axis) = (0, axis as i32);
            note(driver_call!(
                driver.cuTexRefGetAddressMode(&mut told, reference, axis)
            ));
            *mode = U32::new(told);
        }
        note(driver_call!(
            driver.cuTexRefGetFilterMode(&mut number, reference)
        ));
        all.filter = U32::new(std::mem::take(&mut number));
        note(driver_call!(
            driver.cuTexRefGetMipmapFilterMode(&mut number, reference)
        ));
        all.mipmap_filter = U32::new(std::mem::take(&mut number));
        note(driver_call!(
            driver.cuTexRefGetMipmapLevelBias(&mut first, reference)
        ));
        all.bias = F32::new(std::mem::take(&mut first));
        note(driver_call!(driver.cuTexRefGetMipmapLevelClamp(
            &mut first,
            &mut second,
            reference
        )));
        (all.min_level, all.max_level) = (F32::new(first), F32::new(second));
        let mut most = 0;
        note(driver_call!(
            driver.cuTexRefGetMaxAnisotropy(&mut most, reference)
        ));
        all.max_anisotropy = U32::new(most as u32);
        note(driver_call!(
            driver.cuTexRefGetBorderColor(border.as_mut_ptr(), reference)
        ));
        all.border = border.map(F32::new);
        note(driver_call!(
            driver.cuTexRefGetFlags(&mut number, reference)
        ));
        all.flags = U32::new(number);
    }
    all
}

pub fn rgpuTextureRefCreate(state: &State, id: u64, reply: &mut Vec<u8>) -> Result<(), CudaError> {
    let mut reference = ptr::null_mut();
    // SAFETY: a place for the handle.
    unsafe { driver_call!(state.driver.cuTexRefCreate(&mut reference)) }?;
    if let Err(error) = state.handles.insert(Kind::TextureRef, id, reference) {
        // SAFETY: it was made above, and nobody knows it.
        let _ = unsafe { driver_call!(state.driver.cuTexRefDestroy(reference)) };
        return Err(error);
    }
    reply.extend_from_slice(told(state, reference).as_bytes());
    Ok(())
}

/// Those of modules end with them: only one that the session has made in this context is taken.
pub fn rgpuTextureRefDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    let owner = state.handles.owner(Kind::TextureRef, id)?;
    if owner != state.handles.context() {
        return Err(CudaError::INVALID_VALUE);
    }
    let reference = state.handles.take(Kind::TextureRef, id)?;
    // SAFETY: made by this session, and its id is gone.
    unsafe { driver_call!(state.driver.cuTexRefDestroy(reference)) }
}

pub fn rgpuModuleTextureRef(
    state: &State,
    id: u64,
    module: *mut c_void,
    name: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let name = text(name)?;
    let mut reference = ptr::null_mut();
    let place = &raw mut reference;
    // SAFETY: a module of the driver's, a terminated name, a place for the handle.
    unsafe { driver_call!(state.driver.cuModuleGetTexRef(place, module, name.as_ptr())) }?;
    let kind = Kind::TextureRef;
    state.handles.insert_owned(kind, id, reference, module)?;
    reply.extend_from_slice(told(state, reference).as_bytes());
    Ok(())
}

pub fn rgpuModuleSurfaceRef(
    state: &State,
    id: u64,
    module: *mut c_void,
    name: &[u8],
) -> Result<(), CudaError> {
    let name = text(name)?;
    let mut reference = ptr::null_mut();
    let place = &raw mut reference;
    // SAFETY: a module of the driver's, a terminated name, a place for the handle.
    unsafe {
        driver_call!(
            state
                .driver
                .cuModuleGetSurfRef(place, module, name.as_ptr())
        )
    }?;
    let kind = Kind::SurfaceRef;
    state.handles.insert_owned(kind, id, reference, module)
}

pub fn rgpuTextureRefSet(
    state: &State,
    reference: *mut c_void,
    what: u32,
    a: u32,
    b: u32,
    c: u32,
    d: u32,
) -> Result<(), CudaError> {
    let driver = &state.driver;
    let float = f32::from_bits;
    let color = [a, b, c, d].map(float);
    // SAFETY: a reference of the driver's, which checks the numbers.
    unsafe {
        match what {
            part::FORMAT => driver_call!(driver.cuTexRefSetFormat(reference, a, b as i32)),
            part::ADDRESS_MODE => {
                driver_call!(driver.cuTexRefSetAddressMode(reference, a as i32, b))
            }
            part::FILTER => driver_call!(driver.cuTexRefSetFilterMode(reference, a)),
            part::MIPMAP_FILTER => driver_call!(driver.cuTexRefSetMipmapFilterMode(reference, a)),
            part::BIAS => driver_call!(driver.cuTexRefSetMipmapLevelBias(reference, float(a))),
            part::CLAMP => {
                driver_call!(driver.cuTexRefSetMipmapLevelClamp(reference, float(a), float(b)))
            }
            part::ANISOTROPY => driver_call!(driver.cuTexRefSetMaxAnisotropy(reference, a)),
            part::BORDER => driver_call!(driver.cuTexRefSetBorderColor(reference, color.as_ptr())),
            part::FLAGS => driver_call!(driver.cuTexRefSetFlags(reference, a)),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }
}

pub fn rgpuTextureRefArray(
    state: &State,
    reference: *mut c_void,
    array: *mut c_void,
) -> Result<(), CudaError> {
    let flags = OVERRIDE_FORMAT;
    // SAFETY: both are the driver's own.
    unsafe { driver_call!(state.driver.cuTexRefSetArray(reference, array, flags)) }
}

pub fn rgpuTextureRefMipmapped(
    state: &State,
    reference: *mut c_void,
    array: *mut c_void,
) -> Result<(), CudaError> {
    let flags = OVERRIDE_FORMAT;
    // SAFETY: both are the driver's own.
    unsafe {
        driver_call!(
            state
                .driver
                .cuTexRefSetMipmappedArray(reference, array, flags)
        )
    }
}

fn word(value: u64) -> Result<usize, CudaError> {
    usize::try_from(value).map_err(|_| CudaError::INVALID_VALUE)
}

pub fn rgpuTextureRefAddress(
    state: &State,
    reference: *mut c_void,
    address: u64,
    bytes: u64,
    out: &mut rgpuTextureRefAddressReply,
) -> Result<(), CudaError> {
    let mut offset = 0;
    let (place, bytes) = (&raw mut offset, word(bytes)?);
    // SAFETY: a reference of the driver's, a place for the number; the driver checks the memory.
    unsafe {
        driver_call!(
            state
                .driver
                .cuTexRefSetAddress_v2(place, reference, address, bytes)
        )
    }?;
    out.offset.set(offset as u64);
    Ok(())
}

pub fn rgpuTextureRefAligned(
    state: &State,
    reference: *mut c_void,
    address: u64,
    bytes: u64,
) -> Result<(), CudaError> {
    rgpuTextureRefAddress(
        state,
        reference,
        address,
        bytes,
        &mut rgpuTextureRefAddressReply::default(),
    )
}

#[expect(clippy::too_many_arguments, reason = "rows have as many numbers")]
pub fn rgpuTextureRefRows(
    state: &State,
    reference: *mut c_void,
    address: u64,
    pitch: u64,
    width: u64,
    height: u64,
    format: u32,
    channels: u32,
) -> Result<(), CudaError> {
    // CUDA_ARRAY_DESCRIPTOR, whose format may be any number here.
    let descriptor = [width, height, u64::from(format) | u64::from(channels) << 32];
    const _: () = assert!(size_of::<[u64; 3]>() == size_of::<sys::CUDA_ARRAY_DESCRIPTOR>());
    let (of, pitch) = ((&raw const descriptor).cast(), word(pitch)?);
    // SAFETY: a reference of the driver's, and a structure that is laid out as cuda.h's; the driver checks the memory.
    unsafe {
        driver_call!(
            state
                .driver
                .cuTexRefSetAddress2D_v3(reference, of, address, pitch)
        )
    }
}

pub fn rgpuSurfaceRefArray(
    state: &State,
    reference: *mut c_void,
    array: *mut c_void,
) -> Result<(), CudaError> {
    // SAFETY: both are the driver's own.
    unsafe { driver_call!(state.driver.cuSurfRefSetArray(reference, array, 0)) }
}
