//! Copies as C programs describe them: CUDA_MEMCPY3D, and offsets into arrays.

use super::{Copy, Place};
use crate::abi::Memcpy3d;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::runtime::Runtime;

const TYPE_HOST: u32 = 1;
const TYPE_DEVICE: u32 = 2;
const TYPE_ARRAY: u32 = 3;
const TYPE_UNIFIED: u32 = 4;

/// One side of CUDA_MEMCPY3D.
struct Side {
    kind: u32,
    host: u64,
    device: u64,
    array: u64,
    pitch: usize,
    rows: usize,
    /// Bytes, rows, slices.
    corner: [u64; 3],
    level: usize,
}

/// Where the box begins, bytes from a row to the next, from a slice to the next.
struct Start {
    place: Place,
    at: u64,
    pitch: u64,
    slice: u64,
}

impl Side {
    fn source(params: &Memcpy3d) -> Side {
        Side {
            kind: params.src_type,
            host: params.src_host,
            device: params.src_device,
            array: params.src_array,
            pitch: params.src_pitch,
            rows: params.src_height,
            corner: [params.src_x, params.src_y, params.src_z].map(|at| at as u64),
            level: params.src_lod,
        }
    }

    fn target(params: &Memcpy3d) -> Side {
        Side {
            kind: params.dst_type,
            host: params.dst_host,
            device: params.dst_device,
            array: params.dst_array,
            pitch: params.dst_pitch,
            rows: params.dst_height,
            corner: [params.dst_x, params.dst_y, params.dst_z].map(|at| at as u64),
            level: params.dst_lod,
        }
    }

    fn start(&self, runtime: &Runtime, size: [u64; 3]) -> Result<Start> {
        let invalid = Error::ERROR_INVALID_VALUE;
        if self.level != 0 {
            return Err(invalid);
        }
        match self.kind {
            TYPE_HOST => self.in_memory(Place::Host, self.host, size).ok_or(invalid),
            TYPE_DEVICE => self
                .in_memory(Place::Device, self.device, size)
                .ok_or(invalid),
            TYPE_UNIFIED => self.in_memory(Place::Any, self.device, size).ok_or(invalid),
            TYPE_ARRAY => {
                let array = runtime.arrays.get(self.array)?;
                in_array(&array, self.corner, size).ok_or(invalid)
            }
            _ => Err(invalid),
        }
    }

    /// A pitch of 0 is that of one row.
    fn in_memory(&self, place: Place, base: u64, size: [u64; 3]) -> Option<Start> {
        let [width, height, depth] = size;
        let [x, y, z] = self.corner;
        let pitch = if self.pitch == 0 {
            width
        } else {
            self.pitch as u64
        };
        let rows = if self.rows == 0 {
            height
        } else {
            self.rows as u64
        };
        if (height > 1 || depth > 1)
            && (pitch < width.checked_add(x)? || (depth > 1 && rows < height))
        {
            return None;
        }
        let slice = pitch.checked_mul(rows)?;
        let at = base
            .checked_add(z.checked_mul(slice)?)?
            .checked_add(y.checked_mul(pitch)?)?
            .checked_add(x)?;
        Some(Start {
            place,
            at,
            pitch,
            slice,
        })
    }
}

/// A box of whole texels within an array.
fn in_array(array: &Array, corner: [u64; 3], size: [u64; 3]) -> Option<Start> {
    let level = array.level();
    let texel = array.image.format.size() as u64;
    let bounds = [array.row_bytes(), level.height.into(), level.slices.into()];
    for axis in 0..3 {
        if corner[axis].checked_add(size[axis])? > bounds[axis] {
            return None;
        }
    }
    let [x, y, z] = corner;
    if !x.is_multiple_of(texel) || !size[0].is_multiple_of(texel) {
        return None;
    }
    Some(Start {
        place: Place::Array,
        at: level.base + z * level.slice + y * level.pitch + x,
        pitch: level.pitch,
        slice: level.slice,
    })
}

/// Address of `bytes` bytes of an array's first row, its only one where it has one dimension.
pub fn in_line(array: &Array, offset: u64, bytes: u64) -> Result<u64> {
    let start = in_array(array, [offset, 0, 0], [bytes, 1, 1]);
    start
        .map(|start| start.at)
        .ok_or(Error::ERROR_INVALID_VALUE)
}

impl Copy {
    pub fn from_params(runtime: &Runtime, params: &Memcpy3d) -> Result<Copy> {
        Copy::between(runtime, params).map(|(copy, _, _)| copy)
    }

    /// The same, with the kinds of memory that the parameters name.
    pub fn between(runtime: &Runtime, params: &Memcpy3d) -> Result<(Copy, Place, Place)> {
        let size = [params.width, params.height, params.depth].map(|size| size as u64);
        let from = Side::source(params).start(runtime, size)?;
        let to = Side::target(params).start(runtime, size)?;
        let [width, height, depth] = size;
        let mut copy = Copy {
            from: from.at,
            to: to.at,
            width,
            height,
            depth,
            from_pitch: from.pitch,
            to_pitch: to.pitch,
            from_slice: from.slice,
            to_slice: to.slice,
            from_ours: false,
            to_ours: false,
        };
        copy.check(runtime, from.place, to.place)?;
        Ok((copy, from.place, to.place))
    }

    /// As CUDA_MEMCPY3D of whole boxes, between places that are no arrays.
    pub fn params(&self, from: Place, to: Place) -> Memcpy3d {
        let side = |place: Place, at: u64| match place {
            Place::Host => (TYPE_HOST, at, 0),
            Place::Device => (TYPE_DEVICE, 0, at),
            Place::Any | Place::Array => (TYPE_UNIFIED, 0, at),
        };
        let (src_type, src_host, src_device) = side(from, self.from);
        let (dst_type, dst_host, dst_device) = side(to, self.to);
        let rows = |slice: u64, pitch: u64| slice.checked_div(pitch).unwrap_or(0) as usize;
        Memcpy3d {
            src_type,
            src_host,
            src_device,
            src_pitch: self.from_pitch as usize,
            src_height: rows(self.from_slice, self.from_pitch),
            dst_type,
            dst_host,
            dst_device,
            dst_pitch: self.to_pitch as usize,
            dst_height: rows(self.to_slice, self.to_pitch),
            width: self.width as usize,
            height: self.height as usize,
            depth: self.depth as usize,
            ..Memcpy3d::default()
        }
    }
}
