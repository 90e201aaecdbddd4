//! Texture and surface objects. Kernels get them as numbers, so they are the driver's own; what the program has described is kept here.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::array::texel_bytes;
use rgpu_proto::calls::{rgpuSurfaceCreateReply, rgpuTextureCreateReply};
use rgpu_proto::texture::{
    self as at, RESOURCE_WORDS, Resource, SAMPLING_BYTES, VIEW_BYTES, resource_to_bytes,
};

use crate::entry::{Needs, enter, put, required};
use crate::session::Session;
use crate::{send, thread};

type Sampling = [u8; SAMPLING_BYTES];
type View = [u8; VIEW_BYTES];

const _: () = {
    use cudarc::driver::sys;
    assert!(RESOURCE_WORDS * 8 == size_of::<sys::CUDA_RESOURCE_DESC>());
    assert!(SAMPLING_BYTES == size_of::<sys::CUDA_TEXTURE_DESC>());
    assert!(VIEW_BYTES == size_of::<sys::CUDA_RESOURCE_VIEW_DESC>());
};

#[derive(Clone)]
struct Texture {
    resource: Resource,
    sampling: Sampling,
    view: Option<View>,
}

/// The program's objects by context and value: a driver may use a value again in another context.
struct ByContext<T>(HashMap<(u64, u64), T>);

impl<T> Default for ByContext<T> {
    fn default() -> ByContext<T> {
        ByContext(HashMap::new())
    }
}

impl<T> ByContext<T> {
    /// That of the current context; else whichever has the value.
    fn key(&self, context: u64, object: u64) -> Result<(u64, u64), CudaError> {
        if self.0.contains_key(&(context, object)) {
            return Ok((context, object));
        }
        let mut keys = self.0.keys();
        let found = keys.find(|(_, value)| *value == object).copied();
        found.ok_or(CudaError::INVALID_HANDLE)
    }

    fn get(&self, context: u64, object: u64) -> Result<&T, CudaError> {
        Ok(&self.0[&self.key(context, object)?])
    }

    /// Takes it out; its context.
    fn take(&mut self, context: u64, object: u64) -> Result<u64, CudaError> {
        let key = self.key(context, object)?;
        self.0.remove(&key);
        Ok(key.0)
    }

    fn end_context(&mut self, context: u64) {
        self.0.retain(|(owner, _), _| *owner != context);
    }
}

#[derive(Default)]
pub struct Objects {
    textures: ByContext<Texture>,
    surfaces: ByContext<Resource>,
}

impl Objects {
    pub fn end_context(&mut self, context: u64) {
        self.textures.end_context(context);
        self.surfaces.end_context(context);
    }
}

/// # Safety
/// `place` is NULL or a `T` of plain numbers, some of which may be padding.
unsafe fn read<T: Copy>(place: *const c_void) -> Result<T, CudaError> {
    required(place)?;
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { place.cast::<T>().read_unaligned() })
}

/// # Safety
/// `place` is NULL or a CUDA_RESOURCE_DESC.
unsafe fn read_resource(place: *const c_void) -> Result<Resource, CudaError> {
    // SAFETY: the caller's promise.
    let mut resource: Resource = unsafe { read(place) }?;
    // What lies beside numbers of 32 bits is padding.
    for word in [at::KIND, at::FLAGS] {
        resource[word] &= u64::from(u32::MAX);
    }
    Ok(resource)
}

/// Bytes that the texels of memory take, from the first to the last; `None` where the driver is to say what is wrong.
fn reach(resource: &Resource, kind: u32) -> Option<u64> {
    let (format, channels) = (
        resource[at::FORMAT] as u32,
        (resource[at::FORMAT] >> 32) as u32,
    );
    let texel = texel_bytes(format, channels)?;
    if kind == at::LINEAR {
        return Some(resource[at::SIZE] / texel * texel);
    }
    let rows = resource[at::HEIGHT].checked_sub(1)?;
    let last = resource[at::SIZE].checked_mul(texel)?;
    rows.checked_mul(resource[at::PITCH])?.checked_add(last)
}

/// Judges what only is known here: which array an id is, and where the program's memory ends.
fn check_resource(session: &Session, resource: &Resource) -> Result<(), CudaError> {
    let object = resource[at::OBJECT];
    match resource[at::KIND] as u32 {
        at::ARRAY => session.arrays().get(object).map(|_| ()),
        at::MIPMAPPED => session.arrays().mipmapped(object).map(|_| ()),
        kind @ (at::LINEAR | at::PITCH2D) => match reach(resource, kind) {
            Some(bytes) if bytes > 0 => session.memory().check(object, bytes),
            _ => Ok(()),
        },
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub unsafe fn cuTexObjectCreate(
    object: *mut u64,
    resource: *const c_void,
    sampling: *const c_void,
    view: *const c_void,
) -> u32 {
    enter("cuTexObjectCreate", Needs::Context, |session| {
        required(object)?;
        // SAFETY: the caller's structs, the last of which may be left out.
        let (resource, sampling, view): (_, Sampling, Option<View>) = unsafe {
            let view = match view.is_null() {
                true => None,
                false => Some(read(view)?),
            };
            (read_resource(resource)?, read(sampling)?, view)
        };
        check_resource(session, &resource)?;
        let mut reply = rgpuTextureCreateReply::default();
        send::rgpuTextureCreate(
            session,
            &resource_to_bytes(&resource),
            &sampling,
            view.as_ref().map_or(&[], |view| &view[..]),
            &mut reply,
        )?;
        let value = reply.object.get();
        let texture = Texture {
            resource,
            sampling,
            view,
        };
        let key = (session.context(), value);
        session.objects().textures.0.insert(key, texture);
        // SAFETY: the caller's place.
        unsafe { put(object, value) }
    })
}

pub unsafe fn cuTexObjectDestroy(object: u64) -> u32 {
    enter("cuTexObjectDestroy", Needs::Context, |session| {
        let context = session.context();
        let owner = session.objects().textures.take(context, object)?;
        thread::within(owner, || send::rgpuTextureDestroy(session, object))
    })
}

pub unsafe fn cuTexObjectGetResourceDesc(resource: *mut c_void, object: u64) -> u32 {
    enter("cuTexObjectGetResourceDesc", Needs::Context, |session| {
        let objects = session.objects();
        let known = objects.textures.get(session.context(), object)?.resource;
        // SAFETY: the caller's place.
        unsafe { put(resource.cast(), known) }
    })
}

pub unsafe fn cuTexObjectGetTextureDesc(sampling: *mut c_void, object: u64) -> u32 {
    enter("cuTexObjectGetTextureDesc", Needs::Context, |session| {
        let objects = session.objects();
        let known = objects.textures.get(session.context(), object)?.sampling;
        // SAFETY: the caller's place.
        unsafe { put(sampling.cast(), known) }
    })
}

/// An error where the object was made without one.
pub unsafe fn cuTexObjectGetResourceViewDesc(view: *mut c_void, object: u64) -> u32 {
    const NAME: &str = "cuTexObjectGetResourceViewDesc";
    enter(NAME, Needs::Context, |session| {
        let objects = session.objects();
        let known = objects.textures.get(session.context(), object)?.view;
        // SAFETY: the caller's place.
        unsafe { put(view.cast(), known.ok_or(CudaError::INVALID_VALUE)?) }
    })
}

pub unsafe fn cuSurfObjectCreate(object: *mut u64, resource: *const c_void) -> u32 {
    enter("cuSurfObjectCreate", Needs::Context, |session| {
        required(object)?;
        // SAFETY: the caller's struct.
        let resource = unsafe { read_resource(resource) }?;
        if resource[at::KIND] as u32 != at::ARRAY || resource[at::FLAGS] != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        check_resource(session, &resource)?;
        let mut reply = rgpuSurfaceCreateReply::default();
        send::rgpuSurfaceCreate(session, &resource_to_bytes(&resource), &mut reply)?;
        let value = reply.object.get();
        let key = (session.context(), value);
        session.objects().surfaces.0.insert(key, resource);
        // SAFETY: the caller's place.
        unsafe { put(object, value) }
    })
}

pub unsafe fn cuSurfObjectDestroy(object: u64) -> u32 {
    enter("cuSurfObjectDestroy", Needs::Context, |session| {
        let context = session.context();
        let owner = session.objects().surfaces.take(context, object)?;
        thread::within(owner, || send::rgpuSurfaceDestroy(session, object))
    })
}

pub unsafe fn cuSurfObjectGetResourceDesc(resource: *mut c_void, object: u64) -> u32 {
    enter("cuSurfObjectGetResourceDesc", Needs::Context, |session| {
        let objects = session.objects();
        let known = *objects.surfaces.get(session.context(), object)?;
        // SAFETY: the caller's place.
        unsafe { put(resource.cast(), known) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_by_context() {
        let mut objects = ByContext::default();
        objects.0.insert((7, 1), 'a');
        objects.0.insert((8, 1), 'b');
        objects.0.insert((8, 2), 'c');
        assert_eq!(objects.get(8, 1), Ok(&'b'));
        assert_eq!(objects.get(7, 2), Ok(&'c'));
        assert_eq!(objects.take(7, 1), Ok(7));
        assert_eq!(objects.take(7, 1), Ok(8));
        assert_eq!(objects.take(7, 1), Err(CudaError::INVALID_HANDLE));
        objects.end_context(8);
        assert_eq!(objects.get(8, 2), Err(CudaError::INVALID_HANDLE));
    }

    #[test]
    fn texels_reach_to_the_end_of_the_last_row() {
        let resource = |format: u64, channels: u64, size, height, pitch| {
            let mut words = [0; RESOURCE_WORDS];
            words[at::FORMAT] = format | channels << 32;
            (words[at::SIZE], words[at::HEIGHT], words[at::PITCH]) = (size, height, pitch);
            words
        };
        assert_eq!(reach(&resource(0x20, 4, 100, 0, 0), at::LINEAR), Some(96));
        let rows = resource(0x20, 1, 10, 6, 64);
        assert_eq!(reach(&rows, at::PITCH2D), Some(5 * 64 + 40));
        for bad in [
            resource(0x20, 1, 10, 0, 64),
            resource(0x20, 3, 10, 6, 64),
            resource(0x20, 1, u64::MAX, 6, 64),
            resource(0x20, 1, 10, u64::MAX, 64),
        ] {
            assert_eq!(reach(&bad, at::PITCH2D), None);
        }
    }
}
