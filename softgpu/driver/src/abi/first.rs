//! Structures of CUDA's first version, with sizes and device addresses of 32 bits.

use super::{Array3dDescriptor, ArrayDescriptor, Memcpy3d};

/// CUDA_ARRAY_DESCRIPTOR_v1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayDescriptorV1 {
    pub width: u32,
    pub height: u32,
    pub format: u32,
    pub channels: u32,
}

/// CUDA_ARRAY3D_DESCRIPTOR_v1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array3dDescriptorV1 {
    pub width: u32,
    pub height: u32,
    pub depth: u32,
    pub format: u32,
    pub channels: u32,
    pub flags: u32,
}

/// CUDA_MEMCPY2D_v1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy2dV1 {
    pub src_x: u32,
    pub src_y: u32,
    pub src_type: u32,
    pub src_host: u64,
    pub src_device: u32,
    pub src_array: u64,
    pub src_pitch: u32,
    pub dst_x: u32,
    pub dst_y: u32,
    pub dst_type: u32,
    pub dst_host: u64,
    pub dst_device: u32,
    pub dst_array: u64,
    pub dst_pitch: u32,
    pub width: u32,
    pub height: u32,
}

/// CUDA_MEMCPY3D_v1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy3dV1 {
    pub src_x: u32,
    pub src_y: u32,
    pub src_z: u32,
    pub src_lod: u32,
    pub src_type: u32,
    pub src_host: u64,
    pub src_device: u32,
    pub src_array: u64,
    pub reserved0: u64,
    pub src_pitch: u32,
    pub src_height: u32,
    pub dst_x: u32,
    pub dst_y: u32,
    pub dst_z: u32,
    pub dst_lod: u32,
    pub dst_type: u32,
    pub dst_host: u64,
    pub dst_device: u32,
    pub dst_array: u64,
    pub reserved1: u64,
    pub dst_pitch: u32,
    pub dst_height: u32,
    pub width: u32,
    pub height: u32,
    pub depth: u32,
}

impl From<ArrayDescriptorV1> for ArrayDescriptor {
    fn from(first: ArrayDescriptorV1) -> ArrayDescriptor {
        ArrayDescriptor {
            width: first.width as usize,
            height: first.height as usize,
            format: first.format,
            channels: first.channels,
        }
    }
}

impl From<Array3dDescriptorV1> for Array3dDescriptor {
    fn from(first: Array3dDescriptorV1) -> Array3dDescriptor {
        Array3dDescriptor {
            width: first.width as usize,
            height: first.height as usize,
            depth: first.depth as usize,
            format: first.format,
            channels: first.channels,
            flags: first.flags,
        }
    }
}

/// As much of a size as fits.
fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

impl From<ArrayDescriptor> for ArrayDescriptorV1 {
    fn from(of: ArrayDescriptor) -> ArrayDescriptorV1 {
        ArrayDescriptorV1 {
            width: narrow(of.width),
            height: narrow(of.height),
            format: of.format,
            channels: of.channels,
        }
    }
}

impl From<Array3dDescriptor> for Array3dDescriptorV1 {
    fn from(of: Array3dDescriptor) -> Array3dDescriptorV1 {
        Array3dDescriptorV1 {
            width: narrow(of.width),
            height: narrow(of.height),
            depth: narrow(of.depth),
            format: of.format,
            channels: of.channels,
            flags: of.flags,
        }
    }
}

impl From<Memcpy2dV1> for Memcpy3d {
    fn from(flat: Memcpy2dV1) -> Memcpy3d {
        Memcpy3d {
            src_x: flat.src_x as usize,
            src_y: flat.src_y as usize,
            src_type: flat.src_type,
            src_host: flat.src_host,
            src_device: flat.src_device.into(),
            src_array: flat.src_array,
            src_pitch: flat.src_pitch as usize,
            dst_x: flat.dst_x as usize,
            dst_y: flat.dst_y as usize,
            dst_type: flat.dst_type,
            dst_host: flat.dst_host,
            dst_device: flat.dst_device.into(),
            dst_array: flat.dst_array,
            dst_pitch: flat.dst_pitch as usize,
            width: flat.width as usize,
            height: flat.height as usize,
            depth: 1,
            ..Memcpy3d::default()
        }
    }
}

impl From<Memcpy3dV1> for Memcpy3d {
    fn from(solid: Memcpy3dV1) -> Memcpy3d {
        Memcpy3d {
            src_x: solid.src_x as usize,
            src_y: solid.src_y as usize,
            src_z: solid.src_z as usize,
            src_lod: solid.src_lod as usize,
            src_type: solid.src_type,
            src_host: solid.src_host,
            src_device: solid.src_device.into(),
            src_array: solid.src_array,
            src_pitch: solid.src_pitch as usize,
            src_height: solid.src_height as usize,
            dst_x: solid.dst_x as usize,
            dst_y: solid.dst_y as usize,
            dst_z: solid.dst_z as usize,
            dst_lod: solid.dst_lod as usize,
            dst_type: solid.dst_type,
            dst_host: solid.dst_host,
            dst_device: solid.dst_device.into(),
            dst_array: solid.dst_array,
            dst_pitch: solid.dst_pitch as usize,
            dst_height: solid.dst_height as usize,
            width: solid.width as usize,
            height: solid.height as usize,
            depth: solid.depth as usize,
            ..Memcpy3d::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn structures_lie_as_in_cuda_h() {
        assert_eq!(size_of::<Memcpy2dV1>(), 96);
        assert_eq!(
            [
                offset_of!(Memcpy2dV1, src_host),
                offset_of!(Memcpy2dV1, dst_x),
                offset_of!(Memcpy2dV1, dst_host),
                offset_of!(Memcpy2dV1, width)
            ],
            [16, 44, 56, 84]
        );
        assert_eq!(size_of::<Memcpy3dV1>(), 144);
        assert_eq!(
            [
                offset_of!(Memcpy3dV1, src_array),
                offset_of!(Memcpy3dV1, src_pitch),
                offset_of!(Memcpy3dV1, dst_x),
                offset_of!(Memcpy3dV1, depth)
            ],
            [40, 56, 64, 136]
        );
    }
}
