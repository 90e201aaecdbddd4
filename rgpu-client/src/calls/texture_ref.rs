//! Texture and surface references: their state is kept here, and changes of it go out one-way.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::{c_char, c_void};

use rgpu_proto::CudaError;
use rgpu_proto::array::texel_bytes;
use rgpu_proto::calls::rgpuTextureRefAddressReply;
use rgpu_proto::texture::{ReferenceState, part};
use zerocopy::FromBytes;
use zerocopy::little_endian::{F32, U32};

use super::array::Flat;
use super::context::current_device;
use crate::entry::{Needs, enter, input_str, put, put_opt, required};
use crate::handles::Kind;
use crate::references::{Bound, References, Surface, Texture};
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

/// The state in a reply.
fn told(bytes: &[u8]) -> Result<ReferenceState, CudaError> {
    ReferenceState::read_from_bytes(bytes).map_err(|_| CudaError::UNKNOWN)
}

/// Finds a reference of a module by its name; `ask` has the server find it.
///
/// # Safety
/// `reference` is NULL or the caller's place, `name` NULL or a string.
unsafe fn of_module(
    call: &'static str,
    kind: Kind,
    reference: *mut u64,
    module: u64,
    name: *const c_char,
    ask: impl Fn(&'static Session, &mut References, u64, u64, &[u8]) -> Result<(), CudaError>,
) -> u32 {
    Of::Handle(module).enter(call, Needs::Context, |session| {
        required(reference)?;
        // Held, so that the module does not end meanwhile.
        let modules = session.modules();
        let held = modules.live.get(&module).ok_or(CudaError::INVALID_HANDLE)?;
        // SAFETY: the caller's string.
        let name = unsafe { input_str(name) }?;
        let mut references = session.references();
        let key = (kind, module, name.to_vec());
        let id = match references.names.get(&key) {
            Some(id) => *id,
            None => {
                let id = session.handles.make(kind, held.context);
                let found = thread::within(held.context, || {
                    ask(session, &mut references, id, held.context, name)
                });
                if let Err(error) = found {
                    session.handles.forget(id);
                    return Err(error);
                }
                references.names.insert(key, id);
                id
            }
        };
        // SAFETY: the caller's place.
        unsafe { put(reference, id) }
    })
}

pub unsafe fn cuModuleGetTexRef(reference: *mut u64, module: u64, name: *const c_char) -> u32 {
    let ask = |session: &Session, held: &mut References, id: u64, context: u64, name: &[u8]| {
        let mut bytes = Vec::new();
        send::rgpuModuleTextureRef(session, id, module, name, &mut bytes)?;
        let texture = Texture {
            context,
            module,
            state: told(&bytes)?,
            bound: Bound::Nothing,
        };
        held.textures.insert(id, texture);
        Ok(())
    };
    let (call, kind) = ("cuModuleGetTexRef", Kind::TextureRef);
    // SAFETY: the caller's place and string.
    unsafe { of_module(call, kind, reference, module, name, ask) }
}

pub unsafe fn cuModuleGetSurfRef(reference: *mut u64, module: u64, name: *const c_char) -> u32 {
    let ask = |session: &Session, held: &mut References, id: u64, context: u64, name: &[u8]| {
        send::rgpuModuleSurfaceRef(session, id, module, name)?;
        let surface = Surface {
            context,
            module,
            array: 0,
        };
        held.surfaces.insert(id, surface);
        Ok(())
    };
    let (call, kind) = ("cuModuleGetSurfRef", Kind::SurfaceRef);
    // SAFETY: the caller's place and string.
    unsafe { of_module(call, kind, reference, module, name, ask) }
}

/// A function finds its module's references by itself.
pub unsafe fn cuParamSetTexRef(function: u64, unit: i32, reference: u64) -> u32 {
    const DEFAULT: i32 = -1;
    Of::Handle(function).enter("cuParamSetTexRef", Needs::Context, |session| {
        session.modules().function(function)?;
        if unit != DEFAULT {
            return Err(CudaError::INVALID_VALUE);
        }
        session.references().texture(reference).map(|_| ())
    })
}

pub unsafe fn cuTexRefCreate(reference: *mut u64) -> u32 {
    enter("cuTexRefCreate", Needs::Context, |session| {
        required(reference)?;
        let context = session.context();
        let id = session.handles.make(Kind::TextureRef, context);
        let mut bytes = Vec::new();
        let made = send::rgpuTextureRefCreate(session, id, &mut bytes).and_then(|()| told(&bytes));
        let state = made.inspect_err(|_| session.handles.forget(id))?;
        let texture = Texture {
            context,
            module: 0,
            state,
            bound: Bound::Nothing,
        };
        session.references().textures.insert(id, texture);
        // SAFETY: the caller's place.
        unsafe { put(reference, id) }
    })
}

pub unsafe fn cuTexRefDestroy(reference: u64) -> u32 {
    Of::Handle(reference).enter("cuTexRefDestroy", Needs::Context, |session| {
        let mut references = session.references();
        let held = references.texture(reference)?;
        if held.module != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let owner = held.context;
        references.textures.remove(&reference);
        session.handles.forget(reference);
        thread::within(owner, || send::rgpuTextureRefDestroy(session, reference))
    })
}

/// Changes a texture reference: `change` judges, sends, and gives the new state to be remembered. The lock is held so that both sides have
/// the same order of changes.
fn change(
    name: &'static str,
    reference: u64,
    change: impl FnOnce(&'static Session, &mut Texture) -> Result<(), CudaError>,
) -> u32 {
    Of::Handle(reference).enter(name, Needs::Context, |session| {
        change(session, session.references().texture(reference)?)
    })
}

/// One part of the state, of so many numbers. `unsure`: the driver is to judge it.
fn set(
    session: &Session,
    reference: u64,
    part: u32,
    [a, b, c, d]: [u32; 4],
    unsure: bool,
) -> Result<(), CudaError> {
    let send = || send::rgpuTextureRefSet(session, reference, part, a, b, c, d);
    if unsure {
        thread::at_once(send)
    } else {
        send()
    }
}

/// CU_TRSA_OVERRIDE_FORMAT: the only way to bind an array.
const OVERRIDE_FORMAT: u32 = 1;

pub unsafe fn cuTexRefSetArray(reference: u64, array: u64, flags: u32) -> u32 {
    change("cuTexRefSetArray", reference, |session, held| {
        if flags != OVERRIDE_FORMAT {
            return Err(CudaError::INVALID_VALUE);
        }
        let descriptor = session.arrays().get(array)?.descriptor;
        send::rgpuTextureRefArray(session, reference, array)?;
        (held.state.format, held.state.channels) = (descriptor.format, descriptor.channels);
        held.bound = Bound::Array(array);
        Ok(())
    })
}

pub unsafe fn cuTexRefSetMipmappedArray(reference: u64, array: u64, flags: u32) -> u32 {
    change("cuTexRefSetMipmappedArray", reference, |session, held| {
        if flags != OVERRIDE_FORMAT {
            return Err(CudaError::INVALID_VALUE);
        }
        let descriptor = *session.arrays().mipmapped(array)?;
        send::rgpuTextureRefMipmapped(session, reference, array)?;
        (held.state.format, held.state.channels) = (descriptor.format, descriptor.channels);
        held.bound = Bound::Mipmapped(array);
        Ok(())
    })
}

/// A limit of the current device's.
fn limit(session: &Session, attribute: i32) -> Result<u64, CudaError> {
    let device = session.devices.get(current_device(session)?)?;
    Ok(device.attribute(attribute)?.max(1) as u64)
}

// CUdevice_attribute.
const TEXTURE_ALIGNMENT: i32 = 14;
const PITCH_ALIGNMENT: i32 = 51;
const LINEAR_WIDTH: i32 = 69;
const ROWS_WIDTH: i32 = 70;
const ROWS_HEIGHT: i32 = 71;
const ROWS_PITCH: i32 = 72;

/// Binds memory; returns how many bytes before the address the texture begins.
fn bind_memory(
    session: &Session,
    held: &mut Texture,
    reference: u64,
    address: u64,
    bytes: usize,
    offset_wanted: bool,
) -> Result<u64, CudaError> {
    let invalid = CudaError::INVALID_VALUE;
    let before = address % limit(session, TEXTURE_ALIGNMENT)?;
    if before != 0 && !offset_wanted {
        return Err(invalid);
    }
    let (format, channels) = (held.state.format.get(), held.state.channels.get());
    let texel = texel_bytes(format, channels).unwrap_or(1);
    let texels = (bytes as u64).checked_add(before).ok_or(invalid)? / texel;
    if texels == 0 || texels > limit(session, LINEAR_WIDTH)? {
        return Err(invalid);
    }
    session.memory().check(address - before, texels * texel)?;
    let mut offset = 0;
    if before == 0 {
        send::rgpuTextureRefAligned(session, reference, address, bytes as u64)?;
    } else {
        let mut reply = rgpuTextureRefAddressReply::default();
        send::rgpuTextureRefAddress(session, reference, address, bytes as u64, &mut reply)?;
        offset = reply.offset.get();
    }
    held.bound = Bound::Memory(address - offset.min(address));
    Ok(offset)
}

pub unsafe fn cuTexRefSetAddress_v2(
    offset: *mut usize,
    reference: u64,
    address: u64,
    bytes: usize,
) -> u32 {
    change("cuTexRefSetAddress_v2", reference, |session, held| {
        let wanted = !offset.is_null();
        let before = bind_memory(session, held, reference, address, bytes, wanted)?;
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(offset, before as usize) };
        Ok(())
    })
}

pub unsafe fn cuTexRefSetAddress(
    offset: *mut u32,
    reference: u64,
    address: u32,
    bytes: u32,
) -> u32 {
    change("cuTexRefSetAddress", reference, |session, held| {
        let (address, bytes, wanted) = (address.into(), bytes as usize, !offset.is_null());
        let before = bind_memory(session, held, reference, address, bytes, wanted)?;
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(offset, before as u32) };
        Ok(())
    })
}

/// # Safety
/// `descriptor` is NULL or a CUDA_ARRAY_DESCRIPTOR with sizes of this type.
unsafe fn set_rows<S: Copy + TryInto<u64>>(
    name: &'static str,
    reference: u64,
    descriptor: *const c_void,
    address: u64,
    pitch: u64,
) -> u32 {
    change(name, reference, |session, held| {
        let invalid = CudaError::INVALID_VALUE;
        required(descriptor)?;
        // SAFETY: the caller's struct, of plain numbers.
        let flat = unsafe { descriptor.cast::<Flat<S>>().read_unaligned() };
        let size = |size: S| size.try_into().map_err(|_| invalid);
        let (width, height) = (size(flat.width)?, size(flat.height)?);
        let aligned = address.is_multiple_of(limit(session, TEXTURE_ALIGNMENT)?)
            && pitch.is_multiple_of(limit(session, PITCH_ALIGNMENT)?);
        let fits = (1..=limit(session, ROWS_WIDTH)?).contains(&width)
            && (1..=limit(session, ROWS_HEIGHT)?).contains(&height)
            && pitch <= limit(session, ROWS_PITCH)?;
        if !aligned || !fits {
            return Err(invalid);
        }
        let texel = texel_bytes(flat.format, flat.channels);
        if let Some(texel) = texel {
            // The limits keep these products within 64 bits.
            let row = width * texel;
            if row > pitch {
                return Err(invalid);
            }
            session
                .memory()
                .check(address, pitch * (height - 1) + row)?;
        }
        let (format, channels) = (flat.format, flat.channels);
        let send = || {
            send::rgpuTextureRefRows(
                session, reference, address, pitch, width, height, format, channels,
            )
        };
        if texel.is_some() {
            send()
        } else {
            thread::at_once(send)
        }?;
        (held.state.format, held.state.channels) = (U32::new(format), U32::new(channels));
        held.bound = Bound::Memory(address);
        Ok(())
    })
}

pub unsafe fn cuTexRefSetAddress2D(
    reference: u64,
    descriptor: *const c_void,
    address: u32,
    pitch: u32,
) -> u32 {
    let (name, address, pitch) = ("cuTexRefSetAddress2D", address.into(), pitch.into());
    // SAFETY: the caller's struct, of the first version.
    unsafe { set_rows::<u32>(name, reference, descriptor, address, pitch) }
}

pub unsafe fn cuTexRefSetAddress2D_v2(
    reference: u64,
    descriptor: *const c_void,
    address: u64,
    pitch: usize,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuTexRefSetAddress2D_v3(reference, descriptor, address, pitch) }
}

pub unsafe fn cuTexRefSetAddress2D_v3(
    reference: u64,
    descriptor: *const c_void,
    address: u64,
    pitch: usize,
) -> u32 {
    let (name, pitch) = ("cuTexRefSetAddress2D_v3", pitch as u64);
    // SAFETY: the caller's struct.
    unsafe { set_rows::<u64>(name, reference, descriptor, address, pitch) }
}

pub unsafe fn cuTexRefSetFormat(reference: u64, format: u32, channels: i32) -> u32 {
    change("cuTexRefSetFormat", reference, |session, held| {
        let channels = u32::try_from(channels).map_err(|_| CudaError::INVALID_VALUE)?;
        let unsure = texel_bytes(format, channels).is_none();
        let numbers = [format, channels, 0, 0];
        set(session, reference, part::FORMAT, numbers, unsure)?;
        (held.state.format, held.state.channels) = (U32::new(format), U32::new(channels));
        Ok(())
    })
}

fn axis(dimension: i32) -> Result<usize, CudaError> {
    let axis = usize::try_from(dimension).ok().filter(|axis| *axis < 3);
    axis.ok_or(CudaError::INVALID_VALUE)
}

/// A number of an enumeration that ends with `last`.
fn one_of(number: u32, last: u32) -> Result<U32, CudaError> {
    match number <= last {
        true => Ok(U32::new(number)),
        false => Err(CudaError::INVALID_VALUE),
    }
}

pub unsafe fn cuTexRefSetAddressMode(reference: u64, dimension: i32, mode: u32) -> u32 {
    const BORDER: u32 = 3;
    change("cuTexRefSetAddressMode", reference, |session, held| {
        let (axis, known) = (axis(dimension)?, one_of(mode, BORDER)?);
        let numbers = [axis as u32, mode, 0, 0];
        set(session, reference, part::ADDRESS_MODE, numbers, false)?;
        held.state.address[axis] = known;
        Ok(())
    })
}

const LINEAR: u32 = 1;

pub unsafe fn cuTexRefSetFilterMode(reference: u64, mode: u32) -> u32 {
    change("cuTexRefSetFilterMode", reference, |session, held| {
        let known = one_of(mode, LINEAR)?;
        set(session, reference, part::FILTER, [mode, 0, 0, 0], false)?;
        held.state.filter = known;
        Ok(())
    })
}

pub unsafe fn cuTexRefSetMipmapFilterMode(reference: u64, mode: u32) -> u32 {
    change("cuTexRefSetMipmapFilterMode", reference, |session, held| {
        let (known, numbers) = (one_of(mode, LINEAR)?, [mode, 0, 0, 0]);
        set(session, reference, part::MIPMAP_FILTER, numbers, false)?;
        held.state.mipmap_filter = known;
        Ok(())
    })
}

pub unsafe fn cuTexRefSetMipmapLevelBias(reference: u64, bias: f32) -> u32 {
    change("cuTexRefSetMipmapLevelBias", reference, |session, held| {
        let numbers = [bias.to_bits(), 0, 0, 0];
        set(session, reference, part::BIAS, numbers, false)?;
        held.state.bias = F32::new(bias);
        Ok(())
    })
}

pub unsafe fn cuTexRefSetMipmapLevelClamp(reference: u64, min: f32, max: f32) -> u32 {
    change("cuTexRefSetMipmapLevelClamp", reference, |session, held| {
        let numbers = [min.to_bits(), max.to_bits(), 0, 0];
        set(session, reference, part::CLAMP, numbers, false)?;
        (held.state.min_level, held.state.max_level) = (F32::new(min), F32::new(max));
        Ok(())
    })
}

pub unsafe fn cuTexRefSetMaxAnisotropy(reference: u64, most: u32) -> u32 {
    change("cuTexRefSetMaxAnisotropy", reference, |session, held| {
        set(session, reference, part::ANISOTROPY, [most, 0, 0, 0], false)?;
        held.state.max_anisotropy = U32::new(most);
        Ok(())
    })
}

pub unsafe fn cuTexRefSetBorderColor(reference: u64, color: *const f32) -> u32 {
    change("cuTexRefSetBorderColor", reference, |session, held| {
        required(color)?;
        // SAFETY: the caller's four numbers.
        let color = unsafe { color.cast::<[f32; 4]>().read_unaligned() };
        let numbers = color.map(f32::to_bits);
        set(session, reference, part::BORDER, numbers, false)?;
        held.state.border = color.map(F32::new);
        Ok(())
    })
}

pub unsafe fn cuTexRefSetFlags(reference: u64, flags: u32) -> u32 {
    /// CU_TRSF_*
    const KNOWN: u32 = 0x73;
    change("cuTexRefSetFlags", reference, |session, held| {
        if flags & !KNOWN != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        set(session, reference, part::FLAGS, [flags, 0, 0, 0], false)?;
        held.state.flags = U32::new(flags);
        Ok(())
    })
}

/// Tells something of a texture reference.
fn tell(
    name: &'static str,
    reference: u64,
    tell: impl FnOnce(&Texture) -> Result<(), CudaError>,
) -> u32 {
    Of::Handle(reference).enter(name, Needs::Context, |session| {
        tell(session.references().texture(reference)?)
    })
}

macro_rules! tells {
    ($($name:ident: $type:ty = $what:expr;)*) => {$(
        pub unsafe fn $name(place: *mut $type, reference: u64) -> u32 {
            tell(stringify!($name), reference, |held| {
                let what: fn(&Texture) -> Option<$type> = $what;
                // SAFETY: the caller's place.
                unsafe { put(place, what(held).ok_or(CudaError::INVALID_VALUE)?) }
            })
        }
    )*};
}

tells! {
    cuTexRefGetArray: u64 = |held| match held.bound { Bound::Array(array) => Some(array), _ => None };
    cuTexRefGetMipmappedArray: u64 = |held| match held.bound { Bound::Mipmapped(array) => Some(array), _ => None };
    cuTexRefGetAddress_v2: u64 = |held| match held.bound { Bound::Memory(address) => Some(address), _ => None };
    // An address that the first version cannot hold is none to it.
    cuTexRefGetAddress: u32 = |held| match held.bound { Bound::Memory(address) => u32::try_from(address).ok(), _ => None };
    cuTexRefGetFilterMode: u32 = |held| Some(held.state.filter.get());
    cuTexRefGetMipmapFilterMode: u32 = |held| Some(held.state.mipmap_filter.get());
    cuTexRefGetMipmapLevelBias: f32 = |held| Some(held.state.bias.get());
    cuTexRefGetMaxAnisotropy: i32 = |held| Some(held.state.max_anisotropy.get() as i32);
    cuTexRefGetFlags: u32 = |held| Some(held.state.flags.get());
}

pub unsafe fn cuTexRefGetFormat(format: *mut u32, channels: *mut i32, reference: u64) -> u32 {
    tell("cuTexRefGetFormat", reference, |held| {
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(format, held.state.format.get());
            put_opt(channels, held.state.channels.get() as i32);
        }
        Ok(())
    })
}

pub unsafe fn cuTexRefGetAddressMode(mode: *mut u32, reference: u64, dimension: i32) -> u32 {
    tell("cuTexRefGetAddressMode", reference, |held| {
        let known = held.state.address[axis(dimension)?].get();
        // SAFETY: the caller's place.
        unsafe { put(mode, known) }
    })
}

pub unsafe fn cuTexRefGetMipmapLevelClamp(min: *mut f32, max: *mut f32, reference: u64) -> u32 {
    tell("cuTexRefGetMipmapLevelClamp", reference, |held| {
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(min, held.state.min_level.get());
            put_opt(max, held.state.max_level.get());
        }
        Ok(())
    })
}

pub unsafe fn cuTexRefGetBorderColor(color: *mut f32, reference: u64) -> u32 {
    tell("cuTexRefGetBorderColor", reference, |held| {
        // SAFETY: the caller's four numbers.
        unsafe { put(color.cast(), held.state.border.map(F32::get)) }
    })
}

pub unsafe fn cuSurfRefSetArray(reference: u64, array: u64, flags: u32) -> u32 {
    /// CUDA_ARRAY3D_SURFACE_LDST.
    const FOR_SURFACES: u32 = 2;
    Of::Handle(reference).enter("cuSurfRefSetArray", Needs::Context, |session| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut references = session.references();
        let held = references.surface(reference)?;
        let descriptor = session.arrays().get(array)?.descriptor;
        if descriptor.flags.get() & FOR_SURFACES == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        send::rgpuSurfaceRefArray(session, reference, array)?;
        held.array = array;
        Ok(())
    })
}

pub unsafe fn cuSurfRefGetArray(array: *mut u64, reference: u64) -> u32 {
    Of::Handle(reference).enter("cuSurfRefGetArray", Needs::Context, |session| {
        let bound = session.references().surface(reference)?.array;
        if bound == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's place.
        unsafe { put(array, bound) }
    })
}
