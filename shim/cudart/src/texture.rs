//! Texture and surface objects.

use std::ffi::c_void;

use crate::abi::{
    ChannelDesc, DriverResourceViewDesc, DriverTextureDesc, ResourceDesc, ResourceDesc13,
    ResourceViewDesc, TextureDesc,
};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, Version, array, format};

/// CU_RESOURCE_TYPE_…, which are cudaResourceType's.
const ARRAY: u32 = 0;
const LINEAR: u32 = 2;
const PITCHED: u32 = 3;

/// Flags of CUDA_TEXTURE_DESC.
const AS_INTEGER: u32 = 1;
const NORMALIZED: u32 = 2;
const SRGB: u32 = 0x10;
const NO_TRILINEAR: u32 = 0x20;
const SEAMLESS: u32 = 0x40;

/// CUDA_RESOURCE_DESC: where the runtime has channels, it has a format and their number, and what is behind moves up.
unsafe fn driver_resource(
    runtime: &Runtime,
    desc: *const c_void,
) -> Result<(ResourceDesc13, Option<u32>)> {
    let common = desc
        .cast::<ResourceDesc>()
        .as_ref()
        .ok_or(Error::INVALID_VALUE)?;
    let mut made = ResourceDesc13 {
        kind: common.kind,
        ..ResourceDesc13::default()
    };
    if runtime.version == Version::V13 {
        made.flags = (*desc.cast::<ResourceDesc13>()).flags;
    }
    made.resource[0] = common.resource[0];
    if !matches!(common.kind, LINEAR | PITCHED) {
        return Ok((made, None));
    }
    let channels = (&raw const common.resource[1]).cast::<ChannelDesc>().read();
    let (format, count) = format::of_channels(&channels)?;
    made.resource[1] = format as u64 | (count as u64) << 32;
    // The description takes two words and a half.
    made.resource[2..5].copy_from_slice(&common.resource[4..7]);
    if common.kind == LINEAR {
        made.resource[3..5].fill(0);
    }
    Ok((made, Some(format)))
}

unsafe fn runtime_resource(runtime: &Runtime, desc: *mut c_void, found: &ResourceDesc13) {
    let mut resource = [0u64; 7];
    resource[0] = found.resource[0];
    if matches!(found.kind, LINEAR | PITCHED) {
        let word = found.resource[1];
        let channels = format::to_channels(word as u32, (word >> 32) as u32);
        (&raw mut resource[1]).cast::<ChannelDesc>().write(channels);
        resource[4..7].copy_from_slice(&found.resource[2..5]);
    }
    match runtime.version {
        Version::V12 => desc.cast::<ResourceDesc>().write(ResourceDesc {
            kind: found.kind,
            resource,
        }),
        Version::V13 => {
            let mut made = ResourceDesc13 {
                kind: found.kind,
                flags: found.flags,
                ..ResourceDesc13::default()
            };
            made.resource[..7].copy_from_slice(&resource);
            desc.cast::<ResourceDesc13>().write(made);
        }
    }
}

/// `integers`: whether what the texture reads can be read as integers at all.
fn driver_texture(desc: &TextureDesc, integers: bool) -> DriverTextureDesc {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let as_elements = desc.read_mode == 0;
    DriverTextureDesc {
        address_mode: desc.address_mode,
        filter: desc.filter,
        flags: flag(as_elements && integers, AS_INTEGER)
            | flag(desc.normalized != 0, NORMALIZED)
            | flag(desc.srgb != 0, SRGB)
            | flag(desc.no_trilinear != 0, NO_TRILINEAR)
            | flag(desc.seamless != 0, SEAMLESS),
        anisotropy: desc.anisotropy,
        mip_filter: desc.mip_filter,
        mip_bias: desc.mip_bias,
        mip_min: desc.mip_min,
        mip_max: desc.mip_max,
        border: desc.border,
        reserved: [0; 12],
    }
}

fn runtime_texture(desc: &DriverTextureDesc, integers: bool) -> TextureDesc {
    let set = |bit: u32| (desc.flags & bit != 0) as i32;
    TextureDesc {
        address_mode: desc.address_mode,
        filter: desc.filter,
        // cudaReadModeNormalizedFloat is what only integers can have.
        read_mode: (integers && set(AS_INTEGER) == 0) as u32,
        srgb: set(SRGB),
        border: desc.border,
        normalized: set(NORMALIZED),
        anisotropy: desc.anisotropy,
        mip_filter: desc.mip_filter,
        mip_bias: desc.mip_bias,
        mip_min: desc.mip_min,
        mip_max: desc.mip_max,
        no_trilinear: set(NO_TRILINEAR),
        seamless: set(SEAMLESS),
    }
}

/// Whether a resource has elements that are integers.
unsafe fn has_integers(
    cu: &Driver,
    resource: &ResourceDesc13,
    format: Option<u32>,
) -> Result<bool> {
    let format = match format {
        Some(format) => format,
        None => {
            let mut array = resource.resource[0] as *mut c_void;
            if resource.kind != ARRAY {
                let levels = array;
                cu.cuMipmappedArrayGetLevel((&raw mut array).cast(), levels, 0)?;
            }
            array::descriptor(cu, array)?.format
        }
    };
    Ok(format::is_integer(format))
}

pub unsafe fn cudaCreateTextureObject(
    runtime: &Runtime,
    texture: *mut u64,
    resource: *const c_void,
    desc: *const TextureDesc,
    view: *const c_void,
) -> Result {
    let cu = runtime.context()?;
    let (resource, format) = driver_resource(runtime, resource)?;
    let desc = desc.as_ref().ok_or(Error::INVALID_VALUE)?;
    let desc = driver_texture(desc, has_integers(cu, &resource, format)?);
    let view = view.cast::<ResourceViewDesc>().as_ref();
    let view = view.map(|common| DriverResourceViewDesc {
        common: *common,
        reserved: [0; 16],
    });
    let view = view.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (resource, desc) = ((&raw const resource).cast(), (&raw const desc).cast());
    cu.cuTexObjectCreate(texture, resource, desc, view.cast())
}

pub unsafe fn cudaGetTextureObjectResourceDesc(
    runtime: &Runtime,
    desc: *mut c_void,
    texture: u64,
) -> Result {
    let cu = runtime.context()?;
    let mut found = ResourceDesc13::default();
    cu.cuTexObjectGetResourceDesc((&raw mut found).cast(), texture)?;
    if desc.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    runtime_resource(runtime, desc, &found);
    Ok(())
}

pub unsafe fn cudaGetTextureObjectTextureDesc(
    runtime: &Runtime,
    desc: *mut TextureDesc,
    texture: u64,
) -> Result {
    let cu = runtime.context()?;
    let mut found = DriverTextureDesc::default();
    cu.cuTexObjectGetTextureDesc((&raw mut found).cast(), texture)?;
    let mut resource = ResourceDesc13::default();
    cu.cuTexObjectGetResourceDesc((&raw mut resource).cast(), texture)?;
    let format = matches!(resource.kind, LINEAR | PITCHED).then_some(resource.resource[1] as u32);
    if desc.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    desc.write(runtime_texture(
        &found,
        has_integers(cu, &resource, format)?,
    ));
    Ok(())
}

pub unsafe fn cudaGetTextureObjectResourceViewDesc(
    runtime: &Runtime,
    desc: *mut c_void,
    texture: u64,
) -> Result {
    let cu = runtime.context()?;
    if desc.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut found = DriverResourceViewDesc::default();
    cu.cuTexObjectGetResourceViewDesc((&raw mut found).cast(), texture)?;
    match runtime.version {
        Version::V12 => desc.cast::<ResourceViewDesc>().write(found.common),
        Version::V13 => desc.cast::<DriverResourceViewDesc>().write(found),
    }
    Ok(())
}

pub unsafe fn cudaCreateSurfaceObject(
    runtime: &Runtime,
    surface: *mut u64,
    resource: *const c_void,
) -> Result {
    let cu = runtime.context()?;
    let (resource, _) = driver_resource(runtime, resource)?;
    cu.cuSurfObjectCreate(surface, (&raw const resource).cast())
}

pub unsafe fn cudaGetSurfaceObjectResourceDesc(
    runtime: &Runtime,
    desc: *mut c_void,
    surface: u64,
) -> Result {
    let cu = runtime.context()?;
    if desc.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut found = ResourceDesc13::default();
    cu.cuSurfObjectGetResourceDesc((&raw mut found).cast(), surface)?;
    runtime_resource(runtime, desc, &found);
    Ok(())
}
