//! How large textures, surfaces and arrays may be: those of devices of compute capability 8.6, and the attributes that
//! tell them.

/// Largest width, height, and depth or layers; 0 where there is no such axis.
pub type Extent = [u32; 3];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub d1: Extent,
    pub d2: Extent,
    pub d3: Extent,
    pub layered_1d: Extent,
    pub layered_2d: Extent,
    pub cube: Extent,
    pub layered_cube: Extent,
}

pub const TEXTURE: Limits = Limits {
    d1: [131_072, 0, 0],
    d2: [131_072, 65_536, 0],
    d3: [16_384, 16_384, 16_384],
    layered_1d: [32_768, 0, 2048],
    layered_2d: [32_768, 32_768, 2048],
    cube: [32_768, 32_768, 6],
    layered_cube: [32_768, 32_768, 2046],
};

pub const SURFACE: Limits = Limits {
    d1: [32_768, 0, 0],
    d2: [131_072, 65_536, 0],
    ..TEXTURE
};

pub const GATHER: Extent = [32_768, 32_768, 0];
pub const MIPMAPPED_1D: Extent = [32_768, 0, 0];
pub const MIPMAPPED_2D: Extent = [32_768, 32_768, 0];
/// Elements of linear memory.
pub const LINEAR_1D: u64 = 1 << 28;
/// Width and height in elements, pitch in bytes.
pub const LINEAR_2D: Extent = [131_072, 65_000, 2_097_120];
/// CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT and TEXTURE_PITCH_ALIGNMENT, in bytes.
pub const ALIGNMENT: u32 = 512;
pub const PITCH_ALIGNMENT: u32 = 32;

/// CUdevice_attribute.
pub fn attribute(number: u32) -> Option<u32> {
    let (t, s) = (TEXTURE, SURFACE);
    Some(match number {
        14 | 30 => ALIGNMENT,
        51 => PITCH_ALIGNMENT,
        21 => t.d1[0],
        22 | 23 => t.d2[number as usize - 22],
        24..=26 => t.d3[number as usize - 24],
        27..=29 => t.layered_2d[number as usize - 27],
        42 => t.layered_1d[0],
        43 => t.layered_1d[2],
        44 => 1, // CAN_TEX2D_GATHER
        45 | 46 => GATHER[number as usize - 45],
        // No other form of a volume is larger.
        47..=49 => t.d3[number as usize - 47],
        52 => t.cube[0],
        53 => t.layered_cube[0],
        54 => t.layered_cube[2],
        55 => s.d1[0],
        56 | 57 => s.d2[number as usize - 56],
        58..=60 => s.d3[number as usize - 58],
        61 => s.layered_1d[0],
        62 => s.layered_1d[2],
        63..=65 => s.layered_2d[number as usize - 63],
        66 => s.cube[0],
        67 => s.layered_cube[0],
        68 => s.layered_cube[2],
        69 => LINEAR_1D as u32,
        70..=72 => LINEAR_2D[number as usize - 70],
        73 | 74 => MIPMAPPED_2D[number as usize - 73],
        77 => MIPMAPPED_1D[0],
        _ => return None,
    })
}
