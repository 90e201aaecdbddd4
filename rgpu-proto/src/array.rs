//! CUDA_ARRAY3D_DESCRIPTOR as it travels, and what can be said of an array without asking the driver. Pure.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// CUDA_ARRAY3D_*
pub const LAYERED: u32 = 1;
pub const CUBEMAP: u32 = 4;
/// SPARSE and DEFERRED_MAPPING: memory comes later, by cuMemMapArrayAsync.
pub const MAPPED_LATER: u32 = 0xc0;

/// Texels of formats that are not known here are at most so large.
const LARGEST_TEXEL: u64 = 16;

/// Laid out as cuda.h's.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct ArrayDescriptor {
    /// In elements; 0 where the array has no such dimension.
    pub width: U64,
    pub height: U64,
    /// Or the number of layers.
    pub depth: U64,
    /// CUarray_format.
    pub format: U32,
    pub channels: U32,
    pub flags: U32,
    pub padding: U32,
}

/// Bytes of one channel of a CUarray_format; `None` for planes, compressed blocks, and formats that name their channels.
fn channel_bytes(format: u32) -> Option<u64> {
    match format {
        0x01 | 0x08 => Some(1),
        0x02 | 0x09 | 0x10 => Some(2),
        0x03 | 0x0a | 0x20 => Some(4),
        _ => None,
    }
}

/// Bytes of a texel, where the format is one that every device has.
pub fn texel_bytes(format: u32, channels: u32) -> Option<u64> {
    let channel = channel_bytes(format)?;
    matches!(channels, 1 | 2 | 4).then(|| channel * u64::from(channels))
}

impl ArrayDescriptor {
    pub fn from_bytes(bytes: &[u8]) -> Option<ArrayDescriptor> {
        ArrayDescriptor::read_from_bytes(bytes).ok()
    }

    pub fn texel_bytes(&self) -> Option<u64> {
        texel_bytes(self.format.get(), self.channels.get())
    }

    /// Bytes of a row; more than it has where the format is not known here.
    pub fn row_bytes(&self) -> Option<u64> {
        let texel = self.texel_bytes().unwrap_or(LARGEST_TEXEL);
        self.width.get().checked_mul(texel)
    }

    /// Rows of a slice and slices or layers, at least 1 each.
    pub fn rows(&self) -> u64 {
        self.height.get().max(1)
    }

    pub fn slices(&self) -> u64 {
        self.depth.get().max(1)
    }

    fn is_solid(&self) -> bool {
        self.flags.get() & (LAYERED | CUBEMAP) == 0
    }

    /// Device memory of so many levels of detail, about as devices lay them out: rows of 64 bytes, eight of them together, whole pages
    /// of 64 KiB. What a device really takes only its driver knows. `None` if that is no number.
    pub fn device_bytes(&self, levels: u32) -> Option<u64> {
        const ROW: u64 = 64;
        const ROWS: u64 = 8;
        const PAGE: u64 = 64 << 10;
        let texel = self.texel_bytes().unwrap_or(LARGEST_TEXEL);
        let (width, rows, slices) = (self.width.get(), self.rows(), self.slices());
        // Beyond 64 levels every size is 1.
        let less = |size: u64, level: u32| size.checked_shr(level).unwrap_or(0).max(1);
        let largest = width
            .max(rows)
            .max(if self.is_solid() { slices } else { 1 });
        let levels = levels.clamp(1, largest.max(1).ilog2() + 1);
        let mut total = 0u64;
        for level in 0..levels {
            let row = less(width, level).checked_mul(texel)?;
            let slices = if self.is_solid() {
                less(slices, level)
            } else {
                slices
            };
            let slice = row
                .checked_next_multiple_of(ROW)?
                .checked_mul(less(rows, level).checked_next_multiple_of(ROWS)?)?;
            total = total.checked_add(slice.checked_mul(slices)?)?;
        }
        total.checked_next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(size: [u64; 3], format: u32, channels: u32, flags: u32) -> ArrayDescriptor {
        ArrayDescriptor {
            width: U64::new(size[0]),
            height: U64::new(size[1]),
            depth: U64::new(size[2]),
            format: U32::new(format),
            channels: U32::new(channels),
            flags: U32::new(flags),
            padding: U32::new(0),
        }
    }

    #[test]
    fn sizes_of_texels_and_rows() {
        assert_eq!(texel_bytes(0x20, 4), Some(16));
        assert_eq!(texel_bytes(0x10, 1), Some(2));
        for (format, channels) in [(0x20, 3), (0, 1), (0xb0, 3), (0x91, 4)] {
            assert_eq!(texel_bytes(format, channels), None);
        }
        assert_eq!(descriptor([7, 0, 0], 1, 4, 0).row_bytes(), Some(28));
        assert_eq!(descriptor([u64::MAX, 0, 0], 1, 4, 0).row_bytes(), None);
    }

    #[test]
    fn memory_is_at_least_that_of_the_texels_and_no_sum_wraps() {
        let flat = descriptor([1000, 500, 0], 0x20, 1, 0);
        assert_eq!(flat.device_bytes(1), Some(32 * 65536));
        // A third more for all levels of detail, and not for more levels than there can be.
        let all = flat.device_bytes(10).unwrap();
        assert!(all > 2_000_000 * 4 / 3 && all < 3_000_000, "{all}");
        assert_eq!(flat.device_bytes(u32::MAX), Some(all));
        // Layers stay, slices of a volume get fewer.
        let layers = descriptor([64, 64, 64], 0x20, 1, LAYERED);
        let volume = descriptor([64, 64, 64], 0x20, 1, 0);
        assert!(layers.device_bytes(7) > volume.device_bytes(7));
        assert_eq!(
            descriptor([u64::MAX; 3], 0x20, 4, 0).device_bytes(u32::MAX),
            None
        );
        assert_eq!(descriptor([0; 3], 0x20, 4, 0).device_bytes(0), Some(65536));
    }

    #[test]
    fn bytes_are_taken_whole() {
        let whole = descriptor([1, 2, 3], 4, 5, 6);
        assert_eq!(ArrayDescriptor::from_bytes(whole.as_bytes()), Some(whole));
        assert_eq!(ArrayDescriptor::from_bytes(&whole.as_bytes()[1..]), None);
    }
}
