//! Elements of arrays and textures: cudaChannelFormatDesc and the driver's format with a number of channels.

use crate::abi::ChannelDesc;
use crate::error::{Error, Result};

/// cudaChannelFormatKind.
const SIGNED: u32 = 0;
const UNSIGNED: u32 = 1;
const FLOAT: u32 = 2;

/// (kind, bits of a channel, CUarray_format) of what has 1, 2 or 4 channels of one kind.
const PLAIN: [(u32, i32, u32); 8] = [
    (UNSIGNED, 8, 0x01),
    (UNSIGNED, 16, 0x02),
    (UNSIGNED, 32, 0x03),
    (SIGNED, 8, 0x08),
    (SIGNED, 16, 0x09),
    (SIGNED, 32, 0x0a),
    (FLOAT, 16, 0x10),
    (FLOAT, 32, 0x20),
];

/// (kind, CUarray_format, channels, bits of each) of kinds that say all of it. Blocks of compressed formats have as many channels as
/// a texture gives.
const WHOLE: [(u32, u32, u32, i32); 26] = [
    (5, 0xc0, 1, 8),
    (6, 0xc1, 2, 8),
    (7, 0xc2, 4, 8),
    (8, 0xc3, 1, 16),
    (9, 0xc4, 2, 16),
    (10, 0xc5, 4, 16),
    (11, 0xc6, 1, 8),
    (12, 0xc7, 2, 8),
    (13, 0xc8, 4, 8),
    (14, 0xc9, 1, 16),
    (15, 0xca, 2, 16),
    (16, 0xcb, 4, 16),
    (17, 0x91, 4, 8),
    (18, 0x92, 4, 8),
    (19, 0x93, 4, 8),
    (20, 0x94, 4, 8),
    (21, 0x95, 4, 8),
    (22, 0x96, 4, 8),
    (23, 0x97, 1, 8),
    (24, 0x98, 1, 8),
    (25, 0x99, 2, 8),
    (26, 0x9a, 2, 8),
    (27, 0x9b, 3, 16),
    (28, 0x9c, 3, 16),
    (29, 0x9d, 4, 8),
    (30, 0x9e, 4, 8),
];

/// The driver's format and number of channels.
pub fn of_channels(desc: &ChannelDesc) -> Result<(u32, u32)> {
    let bits = [desc.x, desc.y, desc.z, desc.w];
    let channels = bits.iter().take_while(|bits| **bits != 0).count();
    if let Some((_, format, channels, _)) = WHOLE.iter().find(|row| row.0 == desc.kind) {
        return Ok((*format, *channels));
    }
    // Channels are alike, and none comes behind one that is not there. Three of them no array can have; the driver says so.
    let alike = bits
        .iter()
        .enumerate()
        .all(|(at, size)| *size == if at < channels { desc.x } else { 0 });
    let found = PLAIN
        .iter()
        .find(|row| (row.0, row.1) == (desc.kind, desc.x));
    match found {
        Some((_, _, format)) if alike && channels > 0 => Ok((*format, channels as u32)),
        _ => Err(Error::INVALID_CHANNEL_DESCRIPTOR),
    }
}

pub fn to_channels(format: u32, channels: u32) -> ChannelDesc {
    let plain = PLAIN
        .iter()
        .find(|row| row.2 == format)
        .map(|row| (row.0, row.1));
    let whole = || {
        WHOLE
            .iter()
            .find(|row| row.1 == format)
            .map(|row| (row.0, row.3))
    };
    let Some((kind, bits)) = plain.or_else(whole) else {
        return ChannelDesc::default();
    };
    let size = |at: u32| if channels > at { bits } else { 0 };
    ChannelDesc {
        x: size(0),
        y: size(1),
        z: size(2),
        w: size(3),
        kind,
    }
}

/// Bytes of an element; what is compressed has blocks instead, and is copied by other calls.
pub fn element_size(format: u32, channels: u32) -> usize {
    let channel = match format {
        0x01 | 0x08 | 0xc0..=0xc2 | 0xc6..=0xc8 => 1,
        0x02 | 0x09 | 0x10 | 0xc3..=0xc5 | 0xc9..=0xcb => 2,
        0x03 | 0x0a | 0x20 => 4,
        0x91 | 0x92 | 0x97 | 0x98 => return 8,
        0x93..=0x9e => return 16,
        _ => 1,
    };
    channel * channels as usize
}

/// Whether a texture can read it as numbers that are no fractions.
pub fn is_integer(format: u32) -> bool {
    matches!(format, 0x01..=0x03 | 0x08..=0x0a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (kind, bits, format) in PLAIN {
            for channels in [1, 2, 4] {
                let desc = to_channels(format, channels);
                assert_eq!((desc.kind, desc.x), (kind, bits));
                assert_eq!(of_channels(&desc), Ok((format, channels)));
                assert_eq!(
                    element_size(format, channels) as u32 * 8,
                    bits as u32 * channels
                );
            }
        }
        for (kind, format, channels, _) in WHOLE {
            let desc = to_channels(format, channels);
            assert_eq!(desc.kind, kind);
            assert_eq!(of_channels(&desc), Ok((format, channels)));
        }
    }

    #[test]
    fn what_no_array_can_have() {
        let desc = |x, y, z, w, kind| ChannelDesc { x, y, z, w, kind };
        for bad in [
            desc(0, 0, 0, 0, UNSIGNED),
            desc(8, 16, 0, 0, UNSIGNED),
            desc(8, 0, 8, 0, UNSIGNED),
            desc(64, 0, 0, 0, FLOAT),
            desc(8, 8, 8, 8, FLOAT),
            desc(32, 0, 0, 0, 3),
        ] {
            assert_eq!(of_channels(&bad), Err(Error::INVALID_CHANNEL_DESCRIPTOR));
        }
    }
}
