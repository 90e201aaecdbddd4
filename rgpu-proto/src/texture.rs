//! What textures are made of, as it travels: cuda.h's structures byte by byte, with arrays as ids.

use zerocopy::little_endian::{F32, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Words of a CUDA_RESOURCE_DESC; its type, and the array or address that it begins with.
pub const RESOURCE_WORDS: usize = 18;
pub const KIND: usize = 0;
pub const OBJECT: usize = 1;
/// Format and channels of memory; bytes of linear memory, or elements of a row, then rows and pitch.
pub const FORMAT: usize = 2;
pub const SIZE: usize = 3;
pub const HEIGHT: usize = 4;
pub const PITCH: usize = 5;
pub const FLAGS: usize = 17;
pub type Resource = [u64; RESOURCE_WORDS];

/// Bytes of a CUDA_TEXTURE_DESC and of a CUDA_RESOURCE_VIEW_DESC.
pub const SAMPLING_BYTES: usize = 104;
pub const VIEW_BYTES: usize = 112;

// CUresourcetype.
pub const ARRAY: u32 = 0;
pub const MIPMAPPED: u32 = 1;
pub const LINEAR: u32 = 2;
pub const PITCH2D: u32 = 3;

pub fn resource_to_bytes(resource: &Resource) -> Vec<u8> {
    resource
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

pub fn resource_from_bytes(bytes: &[u8]) -> Option<Resource> {
    let (words, []) = bytes.as_chunks::<8>() else {
        return None;
    };
    let words: &[[u8; 8]; RESOURCE_WORDS] = words.try_into().ok()?;
    Some(words.map(u64::from_le_bytes))
}

/// How a texture reference samples, and the format of linear memory that it will be bound to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReferenceState {
    pub format: U32,
    pub channels: U32,
    pub address: [U32; 3],
    pub filter: U32,
    pub mipmap_filter: U32,
    pub bias: F32,
    pub min_level: F32,
    pub max_level: F32,
    pub max_anisotropy: U32,
    pub border: [F32; 4],
    pub flags: U32,
}

/// What of it a command changes, and from how many numbers.
pub mod part {
    pub const FORMAT: u32 = 0;
    pub const ADDRESS_MODE: u32 = 1;
    pub const FILTER: u32 = 2;
    pub const MIPMAP_FILTER: u32 = 3;
    pub const BIAS: u32 = 4;
    pub const CLAMP: u32 = 5;
    pub const ANISOTROPY: u32 = 6;
    pub const BORDER: u32 = 7;
    pub const FLAGS: u32 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_taken_whole() {
        let mut resource = [0; RESOURCE_WORDS];
        (resource[KIND], resource[FLAGS]) = (3, 7);
        let bytes = resource_to_bytes(&resource);
        assert_eq!(resource_from_bytes(&bytes), Some(resource));
        assert_eq!(resource_from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(resource_from_bytes(&bytes[..bytes.len() - 8]), None);
    }
}
