//! Texture and surface objects.

use super::{Handle, call};
use crate::abi::{In, Out, ResourceDesc, ResourceViewDesc, TextureDesc};
use crate::context::Context;
use crate::error::Error;
use crate::texture::{SurfaceObject, TextureObject};

#[unsafe(no_mangle)]
pub extern "C" fn cuTexObjectCreate(
    object: Out<Handle>,
    resource: In<ResourceDesc>,
    sampling: In<TextureDesc>,
    view: In<ResourceViewDesc>,
) -> u32 {
    call(|runtime| {
        object.check()?;
        let context = Context::current()?;
        let view = if view.is_null() {
            None
        } else {
            Some(view.get()?)
        };
        let (resource, sampling) = (resource.get()?, sampling.get()?);
        object.put(TextureObject::create(runtime, &context, resource, sampling, view)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexObjectDestroy(object: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        runtime.textures.take(object).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexObjectGetResourceDesc(resource: Out<ResourceDesc>, object: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        resource.put(runtime.textures.get(object)?.resource)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexObjectGetTextureDesc(sampling: Out<TextureDesc>, object: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        sampling.put(runtime.textures.get(object)?.sampling)
    })
}

/// An error where the object was made without one.
#[unsafe(no_mangle)]
pub extern "C" fn cuTexObjectGetResourceViewDesc(
    view: Out<ResourceViewDesc>,
    object: Handle,
) -> u32 {
    call(|runtime| {
        Context::current()?;
        let found = runtime.textures.get(object)?.view;
        view.put(found.ok_or(Error::ERROR_INVALID_VALUE)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuSurfObjectCreate(object: Out<Handle>, resource: In<ResourceDesc>) -> u32 {
    call(|runtime| {
        object.check()?;
        let context = Context::current()?;
        object.put(SurfaceObject::create(runtime, &context, resource.get()?)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuSurfObjectDestroy(object: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        runtime.surfaces.take(object).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuSurfObjectGetResourceDesc(resource: Out<ResourceDesc>, object: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        resource.put(runtime.surfaces.get(object)?.resource)
    })
}
