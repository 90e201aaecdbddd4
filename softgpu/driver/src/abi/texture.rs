//! Arrays, textures and surfaces.

use crate::error::{Error, Result};

/// CUDA_ARRAY_DESCRIPTOR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayDescriptor {
    pub width: usize,
    pub height: usize,
    pub format: u32,
    pub channels: u32,
}

/// CUDA_ARRAY3D_DESCRIPTOR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array3dDescriptor {
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub format: u32,
    pub channels: u32,
    pub flags: u32,
}

impl From<ArrayDescriptor> for Array3dDescriptor {
    fn from(flat: ArrayDescriptor) -> Array3dDescriptor {
        Array3dDescriptor {
            width: flat.width,
            height: flat.height,
            depth: 0,
            format: flat.format,
            channels: flat.channels,
            flags: 0,
        }
    }
}

/// CUDA_RESOURCE_DESC: a union, of which these fields are the largest members' words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceDesc {
    pub kind: u32,
    /// Of an array or a mipmapped array the handle; else the address.
    pub object: u64,
    pub format: u32,
    pub channels: u32,
    /// Bytes of linear memory, or elements of a row.
    pub size: usize,
    pub height: usize,
    pub pitch: usize,
    pub reserved: [u64; 11],
    pub flags: u32,
}

/// CU_RESOURCE_TYPE_*
pub const RESOURCE_ARRAY: u32 = 0;
pub const RESOURCE_MIPMAPPED: u32 = 1;
pub const RESOURCE_LINEAR: u32 = 2;
pub const RESOURCE_PITCH2D: u32 = 3;

impl ResourceDesc {
    pub fn array(handle: u64) -> ResourceDesc {
        ResourceDesc {
            kind: RESOURCE_ARRAY,
            object: handle,
            ..ResourceDesc::default()
        }
    }

    pub fn mipmapped(handle: u64) -> ResourceDesc {
        ResourceDesc {
            kind: RESOURCE_MIPMAPPED,
            object: handle,
            ..ResourceDesc::default()
        }
    }
}

/// CUDA_TEXTURE_DESC.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextureDesc {
    pub address: [u32; 3],
    pub filter: u32,
    pub flags: u32,
    pub max_anisotropy: u32,
    pub mipmap_filter: u32,
    pub mipmap_bias: f32,
    pub min_level: f32,
    pub max_level: f32,
    pub border: [f32; 4],
    pub reserved: [u32; 12],
}

/// CU_TRSF_*
pub const READ_AS_INTEGER: u32 = 1;
pub const NORMALIZED_COORDINATES: u32 = 2;
pub const SRGB: u32 = 0x10;
pub const SEAMLESS_CUBEMAP: u32 = 0x40;
const TEXTURE_FLAGS: u32 = 0x73;

impl TextureDesc {
    pub fn check(&self) -> Result {
        let known = self.flags & !TEXTURE_FLAGS == 0
            && self.address.iter().all(|&mode| mode <= 3)
            && self.filter <= 1
            && self.mipmap_filter <= 1;
        match known {
            true => Ok(()),
            false => Err(Error::ERROR_INVALID_VALUE),
        }
    }
}

/// CUDA_RESOURCE_VIEW_DESC.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceViewDesc {
    pub format: u32,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub first_level: u32,
    pub last_level: u32,
    pub first_layer: u32,
    pub last_layer: u32,
    pub reserved: [u32; 16],
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys;
    use std::mem::offset_of;

    #[test]
    fn structures_lie_as_in_cuda_h() {
        macro_rules! same {
            ($($ours:ty, $theirs:ty;)*) => {
                $(assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));)*
            };
        }
        same! {
            ArrayDescriptor, sys::CUDA_ARRAY_DESCRIPTOR;
            Array3dDescriptor, sys::CUDA_ARRAY3D_DESCRIPTOR;
            ResourceDesc, sys::CUDA_RESOURCE_DESC;
            TextureDesc, sys::CUDA_TEXTURE_DESC;
            ResourceViewDesc, sys::CUDA_RESOURCE_VIEW_DESC;
        }
        assert_eq!(
            [
                offset_of!(ResourceDesc, object),
                offset_of!(ResourceDesc, flags)
            ],
            [
                offset_of!(sys::CUDA_RESOURCE_DESC, res),
                offset_of!(sys::CUDA_RESOURCE_DESC, flags)
            ]
        );
        assert_eq!(
            [
                offset_of!(TextureDesc, mipmap_bias),
                offset_of!(TextureDesc, border)
            ],
            [
                offset_of!(sys::CUDA_TEXTURE_DESC, mipmapLevelBias),
                offset_of!(sys::CUDA_TEXTURE_DESC, borderColor)
            ]
        );
    }
}
