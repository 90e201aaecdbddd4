//! Texture and surface references, which are deprecated and still in programs.

use std::ffi::c_char;
use std::sync::Arc;

use super::module::name_of;
use super::{Handle, call};
use crate::abi::*;
use crate::array;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::runtime::Runtime;
use crate::texture::{Bound, Reference, TextureReference};

/// CU_TRSA_OVERRIDE_FORMAT: the only way to bind an array.
const OVERRIDE_FORMAT: u32 = 1;

fn find(runtime: &Runtime, handle: Handle) -> Result<Arc<TextureReference>> {
    Context::current()?;
    runtime.texture_references.get(handle)
}

/// A reference's state.
fn state(runtime: &Runtime, handle: Handle) -> Result<Bound> {
    Ok(find(runtime, handle)?.get())
}

fn change(handle: Handle, change: impl FnOnce(&Runtime, &mut Bound) -> Result) -> u32 {
    call(|runtime| find(runtime, handle)?.change(|state| change(runtime, state)))
}

/// Tells the handle of a module's reference, where `handle` finds that it is of the kind that was asked for.
fn tell(
    reference: Out<Handle>,
    module: Handle,
    name: In<c_char>,
    handle: fn(&Reference) -> Option<Handle>,
) -> u32 {
    call(|runtime| {
        reference.check()?;
        let module = runtime.modules.get(module)?;
        module.context.check()?;
        let found = handle(module.reference(name_of(name)?)?);
        reference.put(found.ok_or(Error::ERROR_NOT_FOUND)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetTexRef(
    reference: Out<Handle>,
    module: Handle,
    name: In<c_char>,
) -> u32 {
    tell(reference, module, name, |found| match found {
        Reference::Texture(found) => Some(found.handle),
        _ => None,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetSurfRef(
    reference: Out<Handle>,
    module: Handle,
    name: In<c_char>,
) -> u32 {
    tell(reference, module, name, |found| match found {
        Reference::Surface(found) => Some(found.handle),
        _ => None,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefCreate(reference: Out<Handle>) -> u32 {
    call(|runtime| {
        reference.check()?;
        let made = TextureReference::alone(Context::current()?.handle);
        runtime.texture_references.insert(made.handle, made.clone());
        reference.put(made.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefDestroy(reference: Handle) -> u32 {
    call(|runtime| {
        if find(runtime, reference)?.owner.module != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.texture_references.take(reference).map(|_| ())
    })
}

fn bind(runtime: &Runtime, state: &mut Bound, resource: ResourceDesc) -> Result {
    TextureReference::check(runtime, &resource)?;
    state.resource = Some(resource);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetArray(reference: Handle, array: Handle, flags: u32) -> u32 {
    change(reference, |runtime, state| {
        if flags != OVERRIDE_FORMAT {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let descriptor = runtime.arrays.get(array)?.descriptor;
        (state.format, state.channels) = (descriptor.format, descriptor.channels);
        bind(runtime, state, ResourceDesc::array(array))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMipmappedArray(reference: Handle, array: Handle, flags: u32) -> u32 {
    change(reference, |runtime, state| {
        if flags != OVERRIDE_FORMAT {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let descriptor = runtime.mipmapped.get(array)?.descriptor;
        (state.format, state.channels) = (descriptor.format, descriptor.channels);
        bind(runtime, state, ResourceDesc::mipmapped(array))
    })
}

/// Textures begin at aligned addresses: who cannot say by how much lookups are to move must have one.
#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddress_v2(
    offset: Out<usize>,
    reference: Handle,
    address: u64,
    bytes: usize,
) -> u32 {
    change(reference, |runtime, state| {
        let before = address % u64::from(limits::ALIGNMENT);
        if before != 0 && offset.is_null() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let resource = ResourceDesc {
            kind: RESOURCE_LINEAR,
            object: address - before,
            format: state.format,
            channels: state.channels,
            size: bytes.saturating_add(before as usize),
            ..ResourceDesc::default()
        };
        bind(runtime, state, resource)?;
        offset.put_if(before as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddress2D_v3(
    reference: Handle,
    descriptor: In<ArrayDescriptor>,
    address: u64,
    pitch: usize,
) -> u32 {
    change(reference, |runtime, state| {
        let descriptor = descriptor.get()?;
        (state.format, state.channels) = (descriptor.format, descriptor.channels);
        let resource = ResourceDesc {
            kind: RESOURCE_PITCH2D,
            object: address,
            format: descriptor.format,
            channels: descriptor.channels,
            size: descriptor.width,
            height: descriptor.height,
            pitch,
            ..ResourceDesc::default()
        };
        bind(runtime, state, resource)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddress2D_v2(
    reference: Handle,
    descriptor: In<ArrayDescriptor>,
    address: u64,
    pitch: usize,
) -> u32 {
    cuTexRefSetAddress2D_v3(reference, descriptor, address, pitch)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetFormat(reference: Handle, format: u32, channels: i32) -> u32 {
    change(reference, |_, state| {
        let channels = u32::try_from(channels).map_err(|_| Error::ERROR_INVALID_VALUE)?;
        array::format(format, channels)?;
        (state.format, state.channels) = (format, channels);
        // Memory that is bound already is read so from now on.
        if let Some(resource) = &mut state.resource
            && resource.kind == RESOURCE_LINEAR
        {
            (resource.format, resource.channels) = (format, channels);
        }
        Ok(())
    })
}

fn axis(dimension: i32) -> Result<usize> {
    let axis = usize::try_from(dimension).ok().filter(|&axis| axis < 3);
    axis.ok_or(Error::ERROR_INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddressMode(reference: Handle, dimension: i32, mode: u32) -> u32 {
    change(reference, |_, state| {
        state.sampling.address[axis(dimension)?] = mode;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetFilterMode(reference: Handle, mode: u32) -> u32 {
    change(reference, |_, state| {
        state.sampling.filter = mode;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMipmapFilterMode(reference: Handle, mode: u32) -> u32 {
    change(reference, |_, state| {
        state.sampling.mipmap_filter = mode;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMipmapLevelBias(reference: Handle, bias: f32) -> u32 {
    change(reference, |_, state| {
        state.sampling.mipmap_bias = bias;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMipmapLevelClamp(reference: Handle, min: f32, max: f32) -> u32 {
    change(reference, |_, state| {
        (state.sampling.min_level, state.sampling.max_level) = (min, max);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMaxAnisotropy(reference: Handle, most: u32) -> u32 {
    change(reference, |_, state| {
        state.sampling.max_anisotropy = most;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetBorderColor(reference: Handle, color: In<[f32; 4]>) -> u32 {
    change(reference, |_, state| {
        state.sampling.border = color.get()?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetFlags(reference: Handle, flags: u32) -> u32 {
    change(reference, |_, state| {
        state.sampling.flags = flags;
        Ok(())
    })
}

/// What is bound, if it is of the kind.
fn bound(runtime: &Runtime, reference: Handle, kind: u32) -> Result<ResourceDesc> {
    let resource = state(runtime, reference)?.resource;
    let found = resource.filter(|resource| resource.kind == kind);
    found.ok_or(Error::ERROR_INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetArray(array: Out<Handle>, reference: Handle) -> u32 {
    call(|runtime| array.put(bound(runtime, reference, RESOURCE_ARRAY)?.object))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetMipmappedArray(array: Out<Handle>, reference: Handle) -> u32 {
    call(|runtime| array.put(bound(runtime, reference, RESOURCE_MIPMAPPED)?.object))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetAddress_v2(address: Out<u64>, reference: Handle) -> u32 {
    call(|runtime| {
        let linear = bound(runtime, reference, RESOURCE_LINEAR);
        let found = linear.or_else(|_| bound(runtime, reference, RESOURCE_PITCH2D))?;
        address.put(found.object)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetFormat(
    format: Out<u32>,
    channels: Out<i32>,
    reference: Handle,
) -> u32 {
    call(|runtime| {
        let state = state(runtime, reference)?;
        format.put_if(state.format);
        channels.put_if(state.channels as i32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetAddressMode(mode: Out<u32>, reference: Handle, dimension: i32) -> u32 {
    call(|runtime| mode.put(state(runtime, reference)?.sampling.address[axis(dimension)?]))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetFilterMode(mode: Out<u32>, reference: Handle) -> u32 {
    call(|runtime| mode.put(state(runtime, reference)?.sampling.filter))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetMipmapFilterMode(mode: Out<u32>, reference: Handle) -> u32 {
    call(|runtime| mode.put(state(runtime, reference)?.sampling.mipmap_filter))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetMipmapLevelBias(bias: Out<f32>, reference: Handle) -> u32 {
    call(|runtime| bias.put(state(runtime, reference)?.sampling.mipmap_bias))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetMipmapLevelClamp(
    min: Out<f32>,
    max: Out<f32>,
    reference: Handle,
) -> u32 {
    call(|runtime| {
        let sampling = state(runtime, reference)?.sampling;
        min.put_if(sampling.min_level);
        max.put_if(sampling.max_level);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetMaxAnisotropy(most: Out<i32>, reference: Handle) -> u32 {
    call(|runtime| most.put(state(runtime, reference)?.sampling.max_anisotropy as i32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetBorderColor(color: Out<[f32; 4]>, reference: Handle) -> u32 {
    call(|runtime| color.put(state(runtime, reference)?.sampling.border))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetFlags(flags: Out<u32>, reference: Handle) -> u32 {
    call(|runtime| flags.put(state(runtime, reference)?.sampling.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuSurfRefSetArray(reference: Handle, array: Handle, flags: u32) -> u32 {
    call(|runtime| {
        Context::current()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let reference = runtime.surface_references.get(reference)?;
        reference.bind(runtime, array)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuSurfRefGetArray(array: Out<Handle>, reference: Handle) -> u32 {
    call(|runtime| {
        Context::current()?;
        array.put(runtime.surface_references.get(reference)?.array()?)
    })
}
