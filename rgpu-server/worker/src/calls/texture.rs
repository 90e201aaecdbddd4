//! Texture and surface objects: the driver's own values go to the client, and only those that it was given can be destroyed.

use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuSurfaceCreateReply, rgpuTextureCreateReply};
use rgpu_proto::texture::{self as at, Resource, SAMPLING_BYTES, VIEW_BYTES};

use crate::handles::Kind;
use crate::images::Object;
use crate::state::State;

/// The driver's CUDA_RESOURCE_DESC: an array by its handle. Addresses are device memory's, which the driver checks.
fn resource(state: &State, bytes: &[u8]) -> Result<Resource, CudaError> {
    let mut resource = at::resource_from_bytes(bytes).ok_or(CudaError::INVALID_VALUE)?;
    let object = |kind: Kind, id: u64| Ok::<_, CudaError>(state.handles.get(kind, id)?.addr());
    match resource[at::KIND] as u32 {
        at::ARRAY => resource[at::OBJECT] = object(Kind::Array, resource[at::OBJECT])? as u64,
        at::MIPMAPPED => {
            resource[at::OBJECT] = object(Kind::MipmappedArray, resource[at::OBJECT])? as u64;
        }
        at::LINEAR | at::PITCH2D => {}
        _ => return Err(CudaError::INVALID_VALUE),
    }
    Ok(resource)
}

/// Bytes of a structure of this length, where the driver may look at them as one.
fn words<const WORDS: usize>(bytes: &[u8], len: usize) -> Result<[u64; WORDS], CudaError> {
    if bytes.len() != len {
        return Err(CudaError::INVALID_VALUE);
    }
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Ok(words)
}

pub fn rgpuTextureCreate(
    state: &State,
    of: &[u8],
    sampling: &[u8],
    view: &[u8],
    out: &mut rgpuTextureCreateReply,
) -> Result<(), CudaError> {
    state.shared.images().may_add_object()?;
    let resource = resource(state, of)?;
    let sampling = words::<{ SAMPLING_BYTES / 8 }>(sampling, SAMPLING_BYTES)?;
    let view = match view.is_empty() {
        true => None,
        false => Some(words::<{ VIEW_BYTES / 8 }>(view, VIEW_BYTES)?),
    };
    let view = view.as_ref().map_or(ptr::null(), |view| view.as_ptr());
    let mut object = 0;
    // SAFETY: a place for the value, and structures as long as cuda.h's.
    unsafe {
        driver_call!(state.driver.cuTexObjectCreate(
            &mut object,
            resource.as_ptr().cast(),
            sampling.as_ptr().cast(),
            view.cast::<c_void>()
        ))
    }?;
    let context = state.handles.context();
    let mut images = state.shared.images();
    images.add_object(Object::Texture, context, object);
    out.object.set(object);
    Ok(())
}

pub fn rgpuTextureDestroy(state: &State, object: u64) -> Result<(), CudaError> {
    let context = state.handles.context();
    let mut images = state.shared.images();
    images.take_object(Object::Texture, context, object)?;
    // SAFETY: an object of this session's, of the current context.
    unsafe { driver_call!(state.driver.cuTexObjectDestroy(object)) }
}

pub fn rgpuSurfaceCreate(
    state: &State,
    of: &[u8],
    out: &mut rgpuSurfaceCreateReply,
) -> Result<(), CudaError> {
    state.shared.images().may_add_object()?;
    let resource = resource(state, of)?;
    let mut object = 0;
    let (place, of) = (&raw mut object, resource.as_ptr().cast());
    // SAFETY: a place for the value, and a structure as long as cuda.h's.
    unsafe { driver_call!(state.driver.cuSurfObjectCreate(place, of)) }?;
    let context = state.handles.context();
    let mut images = state.shared.images();
    images.add_object(Object::Surface, context, object);
    out.object.set(object);
    Ok(())
}

pub fn rgpuSurfaceDestroy(state: &State, object: u64) -> Result<(), CudaError> {
    let context = state.handles.context();
    let mut images = state.shared.images();
    images.take_object(Object::Surface, context, object)?;
    // SAFETY: an object of this session's, of the current context.
    unsafe { driver_call!(state.driver.cuSurfObjectDestroy(object)) }
}
