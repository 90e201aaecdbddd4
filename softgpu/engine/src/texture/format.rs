//! Texels as they lie in memory, and as values.

use crate::float::{f16_to_f32, f32_to_f16};

use super::MAX_TEXEL;

/// CUarray_format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    U8,
    U16,
    U32,
    S8,
    S16,
    S32,
    F16,
    F32,
}

/// One, two or four equal channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub channel: Channel,
    pub channels: u8,
}

/// Four components; those that an image does not have are 0, as on NVIDIA's devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Texel {
    Floats([f32; 4]),
    Integers([u32; 4]),
}

impl Texel {
    pub fn bits(self) -> [u32; 4] {
        match self {
            Texel::Floats(values) => values.map(f32::to_bits),
            Texel::Integers(values) => values,
        }
    }
}

impl Channel {
    pub fn size(self) -> usize {
        match self {
            Channel::U8 | Channel::S8 => 1,
            Channel::U16 | Channel::S16 | Channel::F16 => 2,
            Channel::U32 | Channel::S32 | Channel::F32 => 4,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Channel::F16 | Channel::F32)
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Channel::S8 | Channel::S16 | Channel::S32)
    }

    /// Integers of 8 and 16 bits can be read as fractions.
    pub fn is_fraction(self) -> bool {
        !self.is_float() && self.size() < 4
    }

    /// Integers of 32 bits are not.
    pub fn is_filtered(self) -> bool {
        self.is_float() || self.is_fraction()
    }

    /// The value at the start of `bytes`, extended to 32 bits; of floats, their bits as f32.
    fn integer(self, bytes: &[u8]) -> u32 {
        let short = || u16::from_le_bytes([bytes[0], bytes[1]]);
        match self {
            Channel::U8 => u32::from(bytes[0]),
            Channel::S8 => i32::from(bytes[0] as i8) as u32,
            Channel::U16 => u32::from(short()),
            Channel::S16 => i32::from(short() as i16) as u32,
            Channel::F16 => f16_to_f32(short()).to_bits(),
            Channel::U32 | Channel::S32 | Channel::F32 => {
                u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
        }
    }

    fn float(self, bytes: &[u8]) -> f32 {
        let value = self.integer(bytes);
        match self {
            Channel::F16 | Channel::F32 => f32::from_bits(value),
            Channel::U8 => value as f32 / 255.0,
            Channel::U16 => value as f32 / 65535.0,
            // Both -128 and -127 are -1.
            Channel::S8 => (value as i32 as f32 / 127.0).max(-1.0),
            Channel::S16 => (value as i32 as f32 / 32767.0).max(-1.0),
            Channel::U32 => value as f32,
            Channel::S32 => value as i32 as f32,
        }
    }

    /// A 32-bit value of a formatted store, as the channel keeps it: f32 for floats, integers saturate.
    fn stored(self, value: u32) -> u32 {
        let clamped = |low: i32, high: i32| (value as i32).clamp(low, high) as u32;
        match self {
            Channel::U8 => value.min(0xff),
            Channel::U16 => value.min(0xffff),
            Channel::S8 => clamped(-128, 127),
            Channel::S16 => clamped(-32768, 32767),
            Channel::F16 => u32::from(f32_to_f16(f32::from_bits(value))),
            Channel::U32 | Channel::S32 | Channel::F32 => value,
        }
    }
}

/// From sRGB to linear (IEC 61966-2-1).
fn linear(value: f32) -> f32 {
    if value <= 0.04045 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

impl Format {
    /// Bytes of a texel.
    pub fn size(self) -> usize {
        self.channel.size() * usize::from(self.channels)
    }

    fn parts(self, bytes: &[u8; MAX_TEXEL]) -> impl Iterator<Item = &[u8]> {
        let channels = usize::from(self.channels).min(4);
        bytes.chunks_exact(self.channel.size()).take(channels)
    }

    pub(super) fn integers(self, bytes: &[u8; MAX_TEXEL]) -> [u32; 4] {
        let mut values = [0; 4];
        for (value, part) in values.iter_mut().zip(self.parts(bytes)) {
            *value = self.channel.integer(part);
        }
        values
    }

    pub(super) fn floats(self, bytes: &[u8; MAX_TEXEL], srgb: bool) -> [f32; 4] {
        let mut values = [0.0; 4];
        for (at, (value, part)) in values.iter_mut().zip(self.parts(bytes)).enumerate() {
            *value = self.channel.float(part);
            if srgb && at < 3 {
                *value = linear(*value);
            }
        }
        values
    }

    /// The border's colour as a texel: fractions are within their range, integers are the low bits of what stands for the
    /// float (both seen on NVIDIA's devices).
    pub(super) fn border(self, color: [f32; 4], floats: bool) -> Texel {
        let has = |at: usize| at < usize::from(self.channels);
        let parts = [0, 1, 2, 3].map(|at| if has(at) { color[at] } else { 0.0 });
        if !floats {
            let mut bytes = [0; MAX_TEXEL];
            for (part, value) in bytes.chunks_exact_mut(self.channel.size()).zip(parts) {
                let bits = value.to_bits().to_le_bytes();
                part.copy_from_slice(&bits[..self.channel.size()]);
            }
            return Texel::Integers(self.integers(&bytes));
        }
        let low = if self.channel.is_signed() { -1.0 } else { 0.0 };
        Texel::Floats(match self.channel.is_float() {
            true => parts,
            false => parts.map(|value| value.max(low).min(1.0)),
        })
    }

    /// Bytes of a texel with these components.
    pub(super) fn encode(self, values: [u32; 4]) -> [u8; MAX_TEXEL] {
        let mut bytes = [0; MAX_TEXEL];
        let size = self.channel.size();
        let parts = bytes[..self.size().min(MAX_TEXEL)].chunks_exact_mut(size);
        for (part, value) in parts.zip(values) {
            let value = self.channel.stored(value).to_le_bytes();
            part.copy_from_slice(&value[..size]);
        }
        bytes
    }
}
