//! Texture and surface references: variables of modules, or made by cuTexRefCreate, that the program binds to something.

use std::sync::{Arc, Mutex, MutexGuard};

use softgpu_engine::texture::{AddressMode, Opaque, Sampler, Surface, Texture};
use softgpu_engine::{GlobalInfo, Program};

use crate::abi::*;
use crate::error::{Error, Result};
use crate::handles;
use crate::runtime::Runtime;

/// CU_AD_FORMAT_UNSIGNED_INT8.
const BYTES: u32 = 1;

/// With whom a reference ends: handles of a context and of a module; 0: no module.
#[derive(Clone, Copy)]
pub struct Owner {
    pub context: u64,
    pub module: u64,
}

pub struct TextureReference {
    pub handle: u64,
    pub owner: Owner,
    state: Mutex<Bound>,
}

/// What a reference is bound to, and how it samples.
#[derive(Clone)]
pub struct Bound {
    pub resource: Option<ResourceDesc>,
    pub sampling: TextureDesc,
    /// Of linear memory to come.
    pub format: u32,
    pub channels: u32,
    /// Made from the rest, when first asked for.
    texture: Option<Option<Arc<Texture>>>,
}

pub struct SurfaceReference {
    pub handle: u64,
    pub owner: Owner,
    array: Mutex<Option<u64>>,
}

/// A variable of a module of an opaque type.
pub enum Reference {
    Texture(Arc<TextureReference>),
    /// Programs cannot change it.
    Sampler(Sampler),
    Surface(Arc<SurfaceReference>),
}

/// Those of a module by the addresses of the variables.
pub type References = Vec<(u64, Reference)>;

/// Makes the references of a module and lets the program find them by their handles.
pub fn of_module(
    runtime: &Runtime,
    owner: Owner,
    program: &dyn Program,
    addresses: &[u64],
) -> References {
    let globals = program.globals().iter().zip(addresses);
    let opaque = globals.filter_map(|(global, &address)| {
        let (kind, sampler) = global.opaque?;
        let reference = match kind {
            Opaque::Texture => {
                let reference = TextureReference::new(owner, declared(global, &sampler));
                runtime
                    .texture_references
                    .insert(reference.handle, reference.clone());
                Reference::Texture(reference)
            }
            Opaque::Sampler => Reference::Sampler(sampler),
            Opaque::Surface => {
                let reference = Arc::new(SurfaceReference {
                    handle: handles::fresh(),
                    owner,
                    array: Mutex::default(),
                });
                runtime
                    .surface_references
                    .insert(reference.handle, reference.clone());
                Reference::Surface(reference)
            }
        };
        Some((address, reference))
    });
    opaque.collect()
}

/// How a reference samples at first: as its declaration says, else by clamping and the nearest texel.
fn declared(global: &GlobalInfo, sampler: &Sampler) -> TextureDesc {
    let mode = |mode: AddressMode| match mode {
        AddressMode::Wrap => 0,
        AddressMode::Clamp => 1,
        AddressMode::Mirror => 2,
        AddressMode::Border => 3,
    };
    let normalized = global.initialised && sampler.normalized;
    TextureDesc {
        address: sampler.address.map(mode),
        filter: u32::from(sampler.linear),
        flags: if normalized {
            NORMALIZED_COORDINATES
        } else {
            0
        },
        ..unbound()
    }
}

/// What cuTexRefCreate makes.
fn unbound() -> TextureDesc {
    TextureDesc {
        address: [1; 3],
        max_level: f32::MAX,
        max_anisotropy: 1,
        ..TextureDesc::default()
    }
}

impl TextureReference {
    fn new(owner: Owner, sampling: TextureDesc) -> Arc<TextureReference> {
        Arc::new(TextureReference {
            handle: handles::fresh(),
            owner,
            state: Mutex::new(Bound {
                resource: None,
                sampling,
                format: BYTES,
                channels: 1,
                texture: None,
            }),
        })
    }

    /// One that no module has.
    pub fn alone(context: u64) -> Arc<TextureReference> {
        TextureReference::new(Owner { context, module: 0 }, unbound())
    }

    fn state(&self) -> MutexGuard<'_, Bound> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn get(&self) -> Bound {
        self.state().clone()
    }

    /// Launches from now on see the change, if all of it holds.
    pub fn change(&self, change: impl FnOnce(&mut Bound) -> Result) -> Result {
        let mut state = self.state();
        let mut new = state.clone();
        change(&mut new)?;
        new.sampling.check()?;
        new.texture = None;
        *state = new;
        Ok(())
    }

    /// Checks a resource before it is bound.
    pub fn check(runtime: &Runtime, resource: &ResourceDesc) -> Result {
        super::image(runtime, resource).map(|_| ())
    }

    pub fn sampler(&self) -> Sampler {
        super::sampler(&self.state().sampling)
    }

    /// Nothing where nothing is bound, or no longer there.
    pub fn texture(&self, runtime: &Runtime) -> Option<Arc<Texture>> {
        let mut state = self.state();
        if state.texture.is_none() {
            let image = state
                .resource
                .and_then(|resource| super::image(runtime, &resource).ok());
            let texture = image.map(|image| Arc::new(super::texture(image, &state.sampling)));
            state.texture = Some(texture);
        }
        state.texture.clone().flatten()
    }
}

impl SurfaceReference {
    fn array_now(&self) -> MutexGuard<'_, Option<u64>> {
        self.array.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn bind(&self, runtime: &Runtime, array: u64) -> Result {
        super::surface(runtime, array)?;
        *self.array_now() = Some(array);
        Ok(())
    }

    pub fn array(&self) -> Result<u64> {
        self.array_now().ok_or(Error::ERROR_INVALID_VALUE)
    }

    pub fn surface(&self, runtime: &Runtime) -> Option<Arc<Surface>> {
        super::surface(runtime, self.array().ok()?).ok()
    }
}
