//! What a copy moves: a box of rows, on each side at its own distances. Pure, but for moving rows to and from the program's memory.

use rgpu_proto::CudaError;

/// One side: where the box begins, bytes from row to row, and rows from slice to slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Address; in an array, the offset as if its rows lay one behind the other.
    pub at: u64,
    pub pitch: u64,
    pub rows: u64,
    /// 0 for memory.
    pub array: u64,
}

impl Side {
    pub fn is_array(&self) -> bool {
        self.array != 0
    }

    /// Bytes, rows and slices of an array in front of the box.
    pub fn corner(&self) -> [u64; 3] {
        let row = self.at / self.pitch;
        [self.at % self.pitch, row % self.rows, row / self.rows]
    }
}

/// What one side of a copy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Memory from this address on.
    Memory(u64),
    /// An array of `slices` slices of `rows` rows of `row` bytes. It is copied by whole texels (bytes each).
    Array {
        id: u64,
        row: u64,
        rows: u64,
        slices: u64,
        texel: u64,
    },
}

/// `depth` slices of `height` rows of `width` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub to: Side,
    pub from: Side,
    pub width: u64,
    pub height: u64,
    pub depth: u64,
}

/// CUDA_MEMCPY3D, of plain numbers: its memory types are the caller's. CUDA_MEMCPY3D_PEER is laid out alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy3d {
    pub src: Corner3d,
    pub src_context: u64,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst: Corner3d,
    pub dst_context: u64,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Corner3d {
    pub x: usize,
    pub y: usize,
    pub z: usize,
    pub lod: usize,
    pub kind: u32,
    pub host: u64,
    pub device: u64,
    pub array: u64,
}

/// CUDA_MEMCPY2D.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcpy2d {
    src: Corner2d,
    dst: Corner2d,
    width: usize,
    height: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Corner2d {
    x: usize,
    y: usize,
    kind: u32,
    host: u64,
    device: u64,
    array: u64,
    pitch: usize,
}

const _: () = {
    use cudarc::driver::sys;
    assert!(size_of::<Memcpy3d>() == size_of::<sys::CUDA_MEMCPY3D_v2>());
    assert!(size_of::<Memcpy3d>() == size_of::<sys::CUDA_MEMCPY3D_PEER>());
    assert!(size_of::<Memcpy2d>() == size_of::<sys::CUDA_MEMCPY2D_v2>());
};

impl From<Memcpy2d> for Memcpy3d {
    fn from(flat: Memcpy2d) -> Memcpy3d {
        let corner = |side: Corner2d| Corner3d {
            x: side.x,
            y: side.y,
            kind: side.kind,
            host: side.host,
            device: side.device,
            array: side.array,
            ..Corner3d::default()
        };
        Memcpy3d {
            src: corner(flat.src),
            src_pitch: flat.src.pitch,
            dst: corner(flat.dst),
            dst_pitch: flat.dst.pitch,
            width: flat.width,
            height: flat.height,
            depth: 1,
            ..Memcpy3d::default()
        }
    }
}

fn in_memory(base: u64, [pitch, rows]: [u64; 2], corner: [u64; 3], size: [u64; 3]) -> Option<Side> {
    let ([x, y, z], [width, height, depth]) = (corner, size);
    let pitch = if pitch == 0 { width } else { pitch };
    let rows = if rows == 0 { height } else { rows };
    let ends = width.checked_add(x)?;
    if (height > 1 || depth > 1) && (pitch < ends || (depth > 1 && rows < height)) {
        return None;
    }
    let slice = pitch.checked_mul(rows)?;
    let at = base
        .checked_add(z.checked_mul(slice)?)?
        .checked_add(y.checked_mul(pitch)?)?
        .checked_add(x)?;
    Some(Side {
        at,
        pitch,
        rows,
        array: 0,
    })
}

/// A box within an array; `None` if it is not, or cuts texels.
pub fn in_array(base: Base, corner: [u64; 3], size: [u64; 3]) -> Option<Side> {
    let Base::Array {
        id,
        row,
        rows,
        slices,
        texel,
    } = base
    else {
        return None;
    };
    for ((at, size), bound) in corner.into_iter().zip(size).zip([row, rows, slices]) {
        if at.checked_add(size)? > bound {
            return None;
        }
    }
    let [x, y, z] = corner;
    if !x.is_multiple_of(texel) || !size[0].is_multiple_of(texel) {
        return None;
    }
    let row_at = z.checked_mul(rows)?.checked_add(y)?;
    Some(Side {
        at: row_at.checked_mul(row)?.checked_add(x)?,
        pitch: row,
        rows,
        array: id,
    })
}

impl Area {
    pub fn line(to: u64, from: u64, bytes: u64) -> Area {
        let side = |at| Side {
            at,
            pitch: bytes,
            rows: 1,
            array: 0,
        };
        Area {
            to: side(to),
            from: side(from),
            width: bytes,
            height: 1,
            depth: 1,
        }
    }

    /// The box that the parameters describe, on these bases. In memory a pitch of 0 is that of one row, a height of 0 that of the box.
    pub fn new(params: &Memcpy3d, to: Base, from: Base) -> Result<Area, CudaError> {
        let size = [params.width, params.height, params.depth].map(|size| size as u64);
        let side = |base: Base, pitch: usize, rows: usize, corner: &Corner3d| {
            let corner = [corner.x, corner.y, corner.z].map(|at| at as u64);
            match base {
                Base::Memory(at) => in_memory(at, [pitch as u64, rows as u64], corner, size),
                Base::Array { .. } => in_array(base, corner, size),
            }
        };
        let invalid = CudaError::INVALID_VALUE;
        let (from_pitch, from_rows) = (params.src_pitch, params.src_height);
        let (to_pitch, to_rows) = (params.dst_pitch, params.dst_height);
        let [width, height, depth] = size;
        Ok(Area {
            from: side(from, from_pitch, from_rows, &params.src).ok_or(invalid)?,
            to: side(to, to_pitch, to_rows, &params.dst).ok_or(invalid)?,
            width,
            height,
            depth,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Bytes that move. What lies in memory ([`Self::reach`]) is no fewer, so this does not overflow there.
    pub fn bytes(&self) -> u64 {
        self.width * self.height * self.depth
    }

    /// Bytes from the side's begin to its end, for a box that is not empty.
    pub fn reach(&self, side: &Side) -> Result<u64, CudaError> {
        let slices = || (self.depth - 1).checked_mul(side.pitch.checked_mul(side.rows)?);
        let rows = || (self.height - 1).checked_mul(side.pitch);
        slices()
            .zip(rows())
            .and_then(|(slices, rows)| slices.checked_add(rows)?.checked_add(self.width))
            .ok_or(CudaError::INVALID_VALUE)
    }

    /// Whether the rows lie one behind the other in memory, without a gap.
    pub fn is_packed(&self, side: &Side) -> bool {
        !side.is_array()
            && ((self.height == 1 && self.depth == 1)
                || side.pitch == self.width && (self.depth == 1 || side.rows == self.height))
    }

    fn part(&self, z: u64, y: u64, x: u64) -> Area {
        let moved = |side: &Side| Side {
            at: side.at + (z * side.rows + y) * side.pitch + x,
            ..*side
        };
        Area {
            to: moved(&self.to),
            from: moved(&self.from),
            ..*self
        }
    }

    /// The box in parts of at most `most` bytes.
    pub fn pieces(&self, most: u64) -> Vec<Area> {
        let mut pieces = Vec::new();
        self.cut(most, &mut pieces);
        pieces
    }

    fn cut(&self, most: u64, pieces: &mut Vec<Area>) {
        let step = |unit: u64| (most / unit).max(1);
        if self.bytes() <= most {
            pieces.push(*self);
        } else if self.depth > 1 {
            let step = step(self.width * self.height);
            for z in (0..self.depth).step_by(step as usize) {
                let depth = step.min(self.depth - z);
                let part = Area {
                    depth,
                    ..self.part(z, 0, 0)
                };
                part.cut(most, pieces);
            }
        } else if self.height > 1 {
            let step = step(self.width);
            for y in (0..self.height).step_by(step as usize) {
                let height = step.min(self.height - y);
                let part = Area {
                    height,
                    ..self.part(0, y, 0)
                };
                part.cut(most, pieces);
            }
        } else {
            for x in (0..self.width).step_by(most as usize) {
                pieces.push(Area {
                    width: most.min(self.width - x),
                    ..self.part(0, 0, x)
                });
            }
        }
    }

    /// Addresses of the rows, of both sides: (to, from).
    pub fn rows(&self) -> impl Iterator<Item = (u64, u64)> {
        let area = *self;
        (0..self.depth).flat_map(move |z| {
            (0..area.height).map(move |y| {
                let row = area.part(z, y, 0);
                (row.to.at, row.from.at)
            })
        })
    }

    /// The rows of the source, packed.
    ///
    /// # Safety
    /// The source is readable host memory.
    pub unsafe fn gather(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.bytes() as usize);
        for (_, from) in self.rows() {
            // SAFETY: the caller's promise.
            let row = unsafe { std::slice::from_raw_parts(from as *const u8, self.width as usize) };
            packed.extend_from_slice(row);
        }
        packed
    }

    /// Puts packed rows where they belong in the target; what lies between them is not touched.
    ///
    /// # Safety
    /// The target is writable host memory.
    pub unsafe fn scatter(&self, packed: &[u8]) {
        for ((to, _), row) in self.rows().zip(packed.chunks_exact(self.width as usize)) {
            // SAFETY: the caller's promise; `packed` is not the program's.
            unsafe { (to as *mut u8).copy_from_nonoverlapping(row.as_ptr(), row.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(width: u64, height: u64, depth: u64, pitch: u64, rows: u64) -> Area {
        let side = |at| Side {
            at,
            pitch,
            rows,
            array: 0,
        };
        Area {
            to: side(0),
            from: Side {
                at: 1 << 20,
                pitch: width,
                rows: height,
                array: 0,
            },
            width,
            height,
            depth,
        }
    }

    #[test]
    fn a_box_that_does_not_fit_its_pitch_is_refused() {
        let good = Memcpy3d {
            src_pitch: 10,
            src_height: 3,
            width: 8,
            height: 3,
            depth: 2,
            ..Memcpy3d::default()
        };
        let (to, from) = (Base::Memory(5), Base::Memory(7));
        let area = Area::new(&good, to, from).unwrap();
        assert_eq!(area.reach(&area.from), Ok(30 + 20 + 8));
        assert_eq!(area.reach(&area.to), Ok(48));
        assert!(area.is_packed(&area.to) && !area.is_packed(&area.from));
        let corner = Corner3d {
            x: 3,
            ..Corner3d::default()
        };
        for bad in [
            Memcpy3d {
                src_pitch: 7,
                ..good
            },
            Memcpy3d {
                src_height: 2,
                ..good
            },
            Memcpy3d {
                src: corner,
                ..good
            },
            Memcpy3d {
                dst: Corner3d {
                    z: usize::MAX,
                    ..corner
                },
                ..good
            },
            Memcpy3d {
                width: usize::MAX,
                ..good
            },
        ] {
            assert!(Area::new(&bad, to, from).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn boxes_in_arrays_are_whole_texels_within_them() {
        let array = Base::Array {
            id: 16,
            row: 32,
            rows: 6,
            slices: 3,
            texel: 4,
        };
        let whole = Memcpy3d {
            width: 32,
            height: 6,
            depth: 3,
            ..Memcpy3d::default()
        };
        let area = Area::new(&whole, array, Base::Memory(0x1000)).unwrap();
        assert!(!area.is_packed(&area.to) && area.is_packed(&area.from));
        let corner = |x, y, z| Corner3d {
            x,
            y,
            z,
            ..Corner3d::default()
        };
        let part = |dst, width, height, depth| {
            let params = Memcpy3d {
                dst,
                width,
                height,
                depth,
                ..Memcpy3d::default()
            };
            Area::new(&params, array, Base::Memory(0))
        };
        let inner = part(corner(8, 2, 1), 16, 3, 2).unwrap();
        assert_eq!((inner.to.corner(), inner.to.array), ([8, 2, 1], 16));
        // Pieces keep their place in the array.
        for piece in inner.pieces(16) {
            let [x, y, z] = piece.to.corner();
            assert_eq!((x, piece.width, piece.height), (8, 16, 1));
            assert_eq!(piece.from.at, ((z - 1) * 3 + (y - 2)) * 16);
        }
        for (dst, width, height, depth) in [
            (corner(4, 0, 0), 32, 1, 1),
            (corner(0, 5, 0), 4, 2, 1),
            (corner(0, 0, 3), 4, 1, 1),
            (corner(2, 0, 0), 4, 1, 1),
            (corner(0, 0, 0), 6, 1, 1),
            (corner(usize::MAX, 0, 0), 4, 1, 1),
        ] {
            assert!(part(dst, width, height, depth).is_err());
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_box_once(
            width in 1u64..40, height in 1u64..6, depth in 1u64..5, gap in 0u64..5, rows in 0u64..3, most in 1u64..200,
        ) {
            let whole = area(width, height, depth, width + gap, height + rows);
            let pieces = whole.pieces(most);
            prop_assert!(pieces.iter().all(|piece| piece.bytes() <= most));
            let bytes = |area: &Area| -> Vec<(u64, u64)> {
                let width = area.width;
                area.rows().flat_map(|(to, from)| (0..width).map(move |x| (to + x, from + x))).collect()
            };
            let parts: Vec<_> = pieces.iter().flat_map(bytes).collect();
            prop_assert_eq!(parts, bytes(&whole));
        }

        #[test]
        fn rows_come_back_and_the_gaps_stay(width in 1u64..20, height in 1u64..5, depth in 1u64..4, gap in 0u64..4, rows in 0u64..3) {
            let shape = area(width, height, depth, width + gap, height + rows);
            let len = shape.reach(&shape.to).unwrap() as usize;
            let source: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut target = vec![0xee; len];
            let at = |at: u64| Side { at, ..shape.to };
            let area = Area { from: at(source.as_ptr() as u64), to: at(target.as_mut_ptr() as u64), ..shape };
            // SAFETY: both have the bytes of the box.
            unsafe {
                let packed = area.gather();
                prop_assert_eq!(packed.len() as u64, area.bytes());
                area.scatter(&packed);
            }
            let inside: std::collections::HashSet<u64> =
                shape.rows().flat_map(|(to, _)| to..to + width).collect();
            for (at, byte) in target.iter().enumerate() {
                let expected = if inside.contains(&(at as u64)) { at as u8 } else { 0xee };
                prop_assert_eq!(*byte, expected);
            }
        }
    }
}
