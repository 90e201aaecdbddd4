//! The fake driver's texture and surface objects, whose values are small numbers of each context's own, and its references.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::texture::{KIND, OBJECT, RESOURCE_WORDS};

use super::fake::{Code, OK, alive, current, end, make, put};
use crate::driver::Driver;

#[derive(Default)]
struct World {
    /// Live values by kind (texture or surface) and context.
    objects: HashMap<(bool, usize), Vec<u64>>,
    /// What each reference is bound to, and flags and filter that were set.
    references: HashMap<usize, (usize, u32, u32)>,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn world() -> MutexGuard<'static, Option<World>> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    world.get_or_insert_default();
    world
}

fn create(object: *mut u64, resource: *const c_void, is_texture: bool) -> Code {
    // SAFETY: the worker passes a CUDA_RESOURCE_DESC.
    let resource = unsafe { resource.cast::<[u64; RESOURCE_WORDS]>().read() };
    let context = match current() {
        Ok(context) => context,
        Err(error) => return error,
    };
    if matches!(resource[KIND] as u32, 0 | 1) {
        let array = std::ptr::without_provenance_mut(resource[OBJECT] as usize);
        alive(array, "array of a texture");
    }
    let mut world = world();
    let objects = &mut world.as_mut().unwrap().objects;
    let live = objects.entry((is_texture, context)).or_default();
    // The smallest that is free: values come again.
    let value = (1..).find(|value| !live.contains(value)).unwrap_or(0);
    live.push(value);
    // SAFETY: the worker's own place.
    unsafe { put(object, value) }
}

fn destroy(object: u64, is_texture: bool) -> Code {
    let context = current().unwrap_or(0);
    let mut world = world();
    let objects = &mut world.as_mut().unwrap().objects;
    let live = objects.entry((is_texture, context)).or_default();
    let place = live.iter().position(|value| *value == object);
    let Some(place) = place else {
        panic!("the worker ended a dead object {object}");
    };
    live.swap_remove(place);
    OK
}

extern "C" fn texture_create(
    object: *mut u64,
    resource: *const c_void,
    sampling: *const c_void,
    _view: *const c_void,
) -> Code {
    // SAFETY: the worker passes a CUDA_TEXTURE_DESC.
    let mode = unsafe { sampling.cast::<u32>().read() };
    if mode > 3 {
        return CudaError::INVALID_VALUE.0;
    }
    create(object, resource, true)
}

extern "C" fn texture_destroy(object: u64) -> Code {
    destroy(object, true)
}

extern "C" fn surface_create(object: *mut u64, resource: *const c_void) -> Code {
    create(object, resource, false)
}

extern "C" fn surface_destroy(object: u64) -> Code {
    destroy(object, false)
}

fn made(place: *mut *mut c_void) -> Code {
    let reference = make();
    let mut world = world();
    let references = &mut world.as_mut().unwrap().references;
    references.insert(reference.addr(), (0, 0, 0));
    // SAFETY: the worker's own place.
    unsafe { put(place, reference) }
}

extern "C" fn of_module(place: *mut *mut c_void, module: *mut c_void, name: *const c_char) -> Code {
    alive(module, "module");
    // SAFETY: the worker passes a terminated name.
    match unsafe { CStr::from_ptr(name) }.to_bytes() {
        b"image" => made(place),
        _ => CudaError::NOT_FOUND.0,
    }
}

extern "C" fn reference_create(place: *mut *mut c_void) -> Code {
    made(place)
}

extern "C" fn reference_destroy(reference: *mut c_void) -> Code {
    world()
        .as_mut()
        .unwrap()
        .references
        .remove(&reference.addr());
    end(reference, "texture reference")
}

fn change(reference: *mut c_void, change: impl FnOnce(&mut (usize, u32, u32))) -> Code {
    alive(reference, "reference");
    let mut world = world();
    let references = &mut world.as_mut().unwrap().references;
    references.get_mut(&reference.addr()).map(change);
    OK
}

extern "C" fn set_array(reference: *mut c_void, array: *mut c_void, _flags: u32) -> Code {
    alive(array, "array of a reference");
    change(reference, |held| held.0 = array.addr())
}

extern "C" fn set_address(
    offset: *mut usize,
    reference: *mut c_void,
    address: u64,
    _bytes: usize,
) -> Code {
    let before = address as usize % 512;
    // SAFETY: the worker's own place.
    unsafe { put(offset, before) };
    change(reference, |held| held.0 = address as usize - before)
}

extern "C" fn set_filter(reference: *mut c_void, filter: u32) -> Code {
    match filter {
        0 | 1 => change(reference, |held| held.2 = filter),
        _ => CudaError::INVALID_VALUE.0,
    }
}

extern "C" fn get_filter(filter: *mut u32, reference: *mut c_void) -> Code {
    let mut told = 0;
    change(reference, |held| told = held.2 + 7);
    // SAFETY: the worker's own place.
    unsafe { put(filter, told) }
}

extern "C" fn set_flags(reference: *mut c_void, flags: u32) -> Code {
    change(reference, |held| held.1 = flags)
}

extern "C" fn get_flags(flags: *mut u32, reference: *mut c_void) -> Code {
    let mut told = 0;
    change(reference, |held| told = held.1);
    // SAFETY: the worker's own place.
    unsafe { put(flags, told) }
}

pub fn add_to(driver: &mut Driver) {
    driver.cuTexObjectCreate = Some(texture_create);
    driver.cuTexObjectDestroy = Some(texture_destroy);
    driver.cuSurfObjectCreate = Some(surface_create);
    driver.cuSurfObjectDestroy = Some(surface_destroy);
    driver.cuModuleGetTexRef = Some(of_module);
    driver.cuModuleGetSurfRef = Some(of_module);
    driver.cuTexRefCreate = Some(reference_create);
    driver.cuTexRefDestroy = Some(reference_destroy);
    driver.cuTexRefSetArray = Some(set_array);
    driver.cuSurfRefSetArray = Some(set_array);
    driver.cuTexRefSetAddress_v2 = Some(set_address);
    driver.cuTexRefSetFilterMode = Some(set_filter);
    driver.cuTexRefGetFilterMode = Some(get_filter);
    driver.cuTexRefSetFlags = Some(set_flags);
    driver.cuTexRefGetFlags = Some(get_flags);
}
