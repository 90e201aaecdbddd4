//! Textures, samplers and surfaces: what they are, and what a lookup in one finds.
//!
//! A texture is a description of an image in memory and of how it is sampled; [`sample`] makes texel values of both and of
//! bytes, and knows nothing of lanes or instructions. Filtering is CUDA's: weights in fixed point with 8 bits of fraction.
//! An address that is not there is an answer.

mod address;
mod cube;
mod format;
pub(crate) mod instructions;
mod sample;
mod surface;
#[cfg(test)]
mod tests;

use std::ptr::read_volatile;
use std::sync::Arc;

use softgpu_ptx::Init;

pub use address::AddressMode;
pub use format::{Channel, Format, Texel};
pub use sample::{Coordinates, Lod, Lookup};
pub use softgpu_ptx::Opaque;
pub use surface::{Outside, Place};

use crate::AddressSpace;

/// Largest texel, in bytes.
pub const MAX_TEXEL: usize = 16;

/// What the handles are that kernels have. The handle of a variable of a module is its address.
pub trait Objects: Sync {
    fn texture(&self, handle: u64) -> Option<Arc<Texture>>;

    /// Of a texture, or a sampler alone.
    fn sampler(&self, handle: u64) -> Option<Sampler>;

    fn surface(&self, handle: u64) -> Option<Arc<Surface>>;

    /// Whether this is a handle of the kind, bound or not.
    fn is(&self, handle: u64, kind: Opaque) -> bool;
}

/// Memory that images lie in.
pub trait Memory {
    /// `size` bytes, up to [`MAX_TEXEL`], if they are there.
    fn read(&self, address: u64, size: usize) -> Option<[u8; MAX_TEXEL]>;
}

impl Memory for AddressSpace {
    fn read(&self, address: u64, size: usize) -> Option<[u8; MAX_TEXEL]> {
        let size = size.min(MAX_TEXEL);
        if !self.check(address, size as u64) {
            return None;
        }
        let mut bytes = [0; MAX_TEXEL];
        // SAFETY: the bytes are there; others may write them at the same time, so each unit is read once.
        unsafe {
            if size.is_multiple_of(4) && address.is_multiple_of(4) {
                for (at, part) in bytes[..size].chunks_exact_mut(4).enumerate() {
                    part.copy_from_slice(
                        &read_volatile((address as *const u32).add(at)).to_le_bytes(),
                    );
                }
            } else if size == 2 && address.is_multiple_of(2) {
                bytes[..2].copy_from_slice(&read_volatile(address as *const u16).to_le_bytes());
            } else {
                for (at, byte) in bytes[..size].iter_mut().enumerate() {
                    *byte = read_volatile((address as *const u8).add(at));
                }
            }
        }
        Some(bytes)
    }
}

/// How an image's texels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Memory of the program's, one row; what lies outside is zero, whatever the sampler says.
    Linear,
    /// Of so many dimensions.
    Plain(u8),
    Cube,
}

/// One level of detail. Slices are those of a volume, the layers of a layered image, the faces of cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub base: u64,
    pub width: u32,
    pub height: u32,
    pub slices: u32,
    /// Bytes from a row to the next, from a slice to the next.
    pub pitch: u64,
    pub slice: u64,
}

impl Level {
    pub(crate) fn row(&self, y: u32, slice: u32) -> u64 {
        self.base
            .wrapping_add(u64::from(slice).wrapping_mul(self.slice))
            .wrapping_add(u64::from(y).wrapping_mul(self.pitch))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub format: Format,
    pub kind: Kind,
    /// Layers, of cubes each; 0: not layered.
    pub layers: u32,
    /// At least one.
    pub levels: Vec<Level>,
    pub mipmapped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    pub address: [AddressMode; 3],
    pub linear: bool,
    /// Coordinates from 0 to 1; a sampler that stands alone may only forbid them.
    pub normalized: bool,
    pub mip_linear: bool,
    pub bias: f32,
    pub min_lod: f32,
    pub max_lod: f32,
    pub border: [f32; 4],
    /// Filters across the edges of a cube.
    pub seamless: bool,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler {
            address: [AddressMode::Clamp; 3],
            linear: false,
            normalized: false,
            mip_linear: false,
            bias: 0.0,
            min_lod: 0.0,
            max_lod: f32::MAX,
            border: [0.0; 4],
            seamless: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Texture {
    pub image: Image,
    pub sampler: Sampler,
    /// Integers stay what they are; else those of 8 and 16 bits become fractions.
    pub as_integers: bool,
    /// The first three components are sRGB's.
    pub srgb: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Surface {
    pub image: Image,
}

/// What the initialiser of a variable says of sampling. Coordinates are normalized unless it says otherwise; what it says
/// of the image is the driver's to know.
pub(crate) fn declared(fields: &[Init]) -> Sampler {
    let mut sampler = Sampler {
        normalized: true,
        ..Sampler::default()
    };
    let axes = ["addr_mode_0", "addr_mode_1", "addr_mode_2"];
    for field in fields {
        let Init::Field { name, value } = field else {
            continue;
        };
        match name.as_str() {
            "filter_mode" => sampler.linear = value == "linear",
            "normalized_coords" => sampler.normalized = value != "0",
            "force_unnormalized_coords" => sampler.normalized = value == "0",
            name => {
                let mode = match value.as_str() {
                    "wrap" => AddressMode::Wrap,
                    "mirror" => AddressMode::Mirror,
                    "clamp_to_border" => AddressMode::Border,
                    _ => AddressMode::Clamp,
                };
                if let Some(axis) = axes.iter().position(|axis| *axis == name) {
                    sampler.address[axis] = mode;
                }
            }
        }
    }
    sampler
}
