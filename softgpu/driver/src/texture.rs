//! Texture and surface objects, and what the engine needs of them. References of modules are in `reference`.

mod reference;

use std::collections::HashMap;
use std::sync::Arc;

use softgpu_engine::texture::{
    AddressMode, Channel, Image, Kind, Level, Objects, Opaque, Sampler, Surface, Texture,
};

pub use reference::{
    Bound, Owner, Reference, References, SurfaceReference, TextureReference, of_module,
};

use crate::abi::*;
use crate::array::{self, SURFACE_LDST};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handles;
use crate::limits;
use crate::runtime::Runtime;

pub struct TextureObject {
    pub handle: u64,
    pub context: Arc<Context>,
    pub resource: ResourceDesc,
    pub sampling: TextureDesc,
    pub view: Option<ResourceViewDesc>,
    texture: Arc<Texture>,
}

pub struct SurfaceObject {
    pub handle: u64,
    pub context: Arc<Context>,
    pub resource: ResourceDesc,
    surface: Arc<Surface>,
}

/// Memory of the program's as an image.
fn memory_image(runtime: &Runtime, resource: &ResourceDesc) -> Result<Image> {
    let invalid = Error::ERROR_INVALID_VALUE;
    let format = array::format(resource.format, resource.channels)?;
    let texel = format.size() as u64;
    if !resource.object.is_multiple_of(u64::from(limits::ALIGNMENT)) {
        return Err(invalid);
    }
    let (width, height, pitch) = match resource.kind {
        RESOURCE_LINEAR => {
            let width = resource.size as u64 / texel;
            (width, 1, resource.size as u64)
        }
        _ => (
            resource.size as u64,
            resource.height as u64,
            resource.pitch as u64,
        ),
    };
    let linear = resource.kind == RESOURCE_LINEAR;
    let fits = match linear {
        true => width <= limits::LINEAR_1D,
        false => {
            let sizes = [width, height, pitch];
            let limits = limits::LINEAR_2D.map(u64::from);
            sizes.iter().zip(limits).all(|(&size, limit)| size <= limit)
                && pitch.is_multiple_of(u64::from(limits::PITCH_ALIGNMENT))
                && width * texel <= pitch
        }
    };
    if width == 0 || height == 0 || !fits {
        return Err(invalid);
    }
    let bytes = pitch * (height - 1) + width * texel;
    if runtime.memory.classify(resource.object, bytes)?.is_none() {
        return Err(invalid);
    }
    let level = Level {
        base: resource.object,
        width: width as u32,
        height: height as u32,
        slices: 1,
        pitch,
        slice: pitch * height,
    };
    Ok(Image {
        format,
        kind: if linear { Kind::Linear } else { Kind::Plain(2) },
        layers: 0,
        levels: vec![level],
        mipmapped: false,
    })
}

fn image(runtime: &Runtime, resource: &ResourceDesc) -> Result<Image> {
    if resource.flags != 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    match resource.kind {
        RESOURCE_ARRAY => Ok(runtime.arrays.get(resource.object)?.image.clone()),
        RESOURCE_MIPMAPPED => Ok(runtime.mipmapped.get(resource.object)?.image.clone()),
        RESOURCE_LINEAR | RESOURCE_PITCH2D => memory_image(runtime, resource),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// CUresourceViewFormat as CUarray_format and channels; those of compressed blocks are not there.
fn view_format(format: u32) -> Result<(u32, u32)> {
    const FORMATS: [u32; 8] = [0x01, 0x08, 0x02, 0x09, 0x03, 0x0a, 0x10, 0x20];
    match format {
        1..=24 => {
            let at = format - 1;
            Ok((FORMATS[at as usize / 3], 1 << (at % 3)))
        }
        25..=38 => Err(Error::ERROR_NOT_SUPPORTED),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// A part of an image, or the same bytes under another format.
fn viewed(image: Image, view: &ResourceViewDesc) -> Result<Image> {
    let invalid = Error::ERROR_INVALID_VALUE;
    let mut image = image;
    if view.format != 0 {
        let (number, channels) = view_format(view.format)?;
        let format = array::format(number, channels)?;
        if format.size() != image.format.size() {
            return Err(invalid);
        }
        image.format = format;
    }
    let (first, last) = (view.first_level as usize, view.last_level as usize);
    if first > last || last >= image.levels.len() {
        return Err(invalid);
    }
    image.levels = image.levels[first..=last].to_vec();
    let layers = image.layers.max(1);
    if view.first_layer > view.last_layer || view.last_layer >= layers {
        return Err(invalid);
    }
    if image.layers > 0 {
        let count = view.last_layer - view.first_layer + 1;
        let faces = if image.kind == Kind::Cube { 6 } else { 1 };
        image.layers = count;
        for level in &mut image.levels {
            level.base += u64::from(view.first_layer * faces) * level.slice;
            level.slices = count * faces;
        }
    }
    Ok(image)
}

/// How the engine is to sample.
fn sampler(sampling: &TextureDesc) -> Sampler {
    let mode = |mode: u32| match mode {
        0 => AddressMode::Wrap,
        2 => AddressMode::Mirror,
        3 => AddressMode::Border,
        _ => AddressMode::Clamp,
    };
    Sampler {
        address: sampling.address.map(mode),
        linear: sampling.filter == 1,
        normalized: sampling.flags & NORMALIZED_COORDINATES != 0,
        mip_linear: sampling.mipmap_filter == 1,
        bias: sampling.mipmap_bias,
        min_lod: sampling.min_level,
        max_lod: sampling.max_level,
        border: sampling.border,
        seamless: sampling.flags & SEAMLESS_CUBEMAP != 0,
    }
}

fn texture(image: Image, sampling: &TextureDesc) -> Texture {
    let as_integers = sampling.flags & READ_AS_INTEGER != 0;
    Texture {
        srgb: sampling.flags & SRGB != 0 && image.format.channel == Channel::U8 && !as_integers,
        image,
        sampler: sampler(sampling),
        as_integers,
    }
}

impl TextureObject {
    pub fn create(
        runtime: &Runtime,
        context: &Arc<Context>,
        resource: ResourceDesc,
        sampling: TextureDesc,
        view: Option<ResourceViewDesc>,
    ) -> Result<Arc<TextureObject>> {
        sampling.check()?;
        let mut image = image(runtime, &resource)?;
        if let Some(view) = &view {
            if !matches!(resource.kind, RESOURCE_ARRAY | RESOURCE_MIPMAPPED) {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            image = viewed(image, view)?;
        }
        let texture = texture(image, &sampling);
        let object = Arc::new(TextureObject {
            handle: handles::fresh(),
            context: context.clone(),
            resource,
            sampling,
            view,
            texture: Arc::new(texture),
        });
        runtime.textures.insert(object.handle, object.clone());
        Ok(object)
    }
}

impl SurfaceObject {
    pub fn create(
        runtime: &Runtime,
        context: &Arc<Context>,
        resource: ResourceDesc,
    ) -> Result<Arc<SurfaceObject>> {
        if resource.kind != RESOURCE_ARRAY || resource.flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let object = Arc::new(SurfaceObject {
            handle: handles::fresh(),
            context: context.clone(),
            resource,
            surface: surface(runtime, resource.object)?,
        });
        runtime.surfaces.insert(object.handle, object.clone());
        Ok(object)
    }
}

/// An array that was made for it, as a surface.
fn surface(runtime: &Runtime, array: u64) -> Result<Arc<Surface>> {
    let array = runtime.arrays.get(array)?;
    if array.descriptor.flags & SURFACE_LDST == 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(Arc::new(Surface {
        image: array.image.clone(),
    }))
}

/// What a launch's handles stand for: objects as they are when a lookup is made, references as they were at the launch.
pub struct Bindings {
    runtime: &'static Runtime,
    bound: HashMap<u64, Binding>,
}

enum Binding {
    Texture(Option<Arc<Texture>>, Sampler),
    Sampler(Sampler),
    Surface(Option<Arc<Surface>>),
}

impl Bindings {
    pub fn new(runtime: &'static Runtime, references: &References) -> Bindings {
        let bound = references.iter().map(|(address, reference)| {
            let binding = match reference {
                Reference::Texture(reference) => {
                    Binding::Texture(reference.texture(runtime), reference.sampler())
                }
                Reference::Sampler(sampler) => Binding::Sampler(*sampler),
                Reference::Surface(reference) => Binding::Surface(reference.surface(runtime)),
            };
            (*address, binding)
        });
        Bindings {
            runtime,
            bound: bound.collect(),
        }
    }
}

impl Objects for Bindings {
    fn texture(&self, handle: u64) -> Option<Arc<Texture>> {
        match self.bound.get(&handle) {
            Some(Binding::Texture(texture, _)) => texture.clone(),
            Some(_) => None,
            None => {
                let object = self.runtime.textures.find(handle)?;
                Some(object.texture.clone())
            }
        }
    }

    fn sampler(&self, handle: u64) -> Option<Sampler> {
        match self.bound.get(&handle) {
            Some(Binding::Texture(_, sampler) | Binding::Sampler(sampler)) => Some(*sampler),
            Some(Binding::Surface(_)) => None,
            None => Some(self.runtime.textures.find(handle)?.texture.sampler),
        }
    }

    fn surface(&self, handle: u64) -> Option<Arc<Surface>> {
        match self.bound.get(&handle) {
            Some(Binding::Surface(surface)) => surface.clone(),
            Some(_) => None,
            None => {
                let object = self.runtime.surfaces.find(handle)?;
                Some(object.surface.clone())
            }
        }
    }

    fn is(&self, handle: u64, kind: Opaque) -> bool {
        match (self.bound.get(&handle), kind) {
            (Some(binding), kind) => matches!(
                (binding, kind),
                (Binding::Texture(..), Opaque::Texture)
                    | (Binding::Sampler(_), Opaque::Sampler)
                    | (Binding::Surface(_), Opaque::Surface)
            ),
            (None, Opaque::Texture) => self.runtime.textures.find(handle).is_some(),
            (None, Opaque::Surface) => self.runtime.surfaces.find(handle).is_some(),
            (None, Opaque::Sampler) => false,
        }
    }
}
