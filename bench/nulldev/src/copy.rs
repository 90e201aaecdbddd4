//! Copies. They take no time of the device's: bytes move when the stream's host functions have returned, which is at once if there are none.

use std::ptr;

use crate::abi::{In, answer};
use crate::context;
use crate::errors::{Error, Result};
use crate::memory::{Blocks, blocks};
use crate::stream;

/// What an address is said to be: the device's, the program's, or either.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Host,
    Device,
    Any,
}

/// One side of a box: where it begins, bytes from a row to the next and from a slice to the next.
#[derive(Clone, Copy)]
struct Side {
    place: Place,
    at: u64,
    pitch: u64,
    slice: u64,
}

#[derive(Clone, Copy)]
struct Copy {
    from: Side,
    to: Side,
    /// Bytes, rows, slices.
    size: [u64; 3],
}

impl Side {
    fn line(place: Place, at: u64) -> Side {
        Side {
            place,
            at,
            pitch: 0,
            slice: 0,
        }
    }

    /// Bytes from its beginning to its end; `None` beyond all addresses.
    fn extent(&self, [width, rows, slices]: [u64; 3]) -> Option<u64> {
        let rows = self.pitch.checked_mul(rows.checked_sub(1)?)?;
        let slices = self.slice.checked_mul(slices.checked_sub(1)?)?;
        rows.checked_add(slices)?.checked_add(width)
    }

    fn row(&self, row: u64, slice: u64) -> u64 {
        self.at + slice * self.slice + row * self.pitch
    }
}

impl Copy {
    fn line(to: (Place, u64), from: (Place, u64), bytes: usize) -> Copy {
        Copy {
            from: Side::line(from.0, from.1),
            to: Side::line(to.0, to.1),
            size: [bytes as u64, 1, 1],
        }
    }

    fn is_empty(&self) -> bool {
        self.size.contains(&0)
    }

    fn check(&self, memory: &Blocks) -> Result {
        let valid = |side: Side| {
            let extent = side.extent(self.size)?;
            side.at.checked_add(extent)?;
            let usable = match side.place {
                Place::Host => side.at != 0,
                Place::Device => memory.cover(side.at, extent),
                // What is no block is the program's own.
                Place::Any => {
                    side.at != 0
                        && memory
                            .find(side.at)
                            .is_none_or(|_| memory.cover(side.at, extent))
                }
            };
            usable.then_some(())
        };
        match self.is_empty() || valid(self.from).and(valid(self.to)).is_some() {
            true => Ok(()),
            false => Err(Error::INVALID_VALUE),
        }
    }

    fn perform(&self) -> Result {
        // No block goes while this is held.
        let memory = blocks();
        self.check(&memory)?;
        let [width, rows, slices] = match self.is_empty() {
            true => [0; 3],
            false => self.size,
        };
        for slice in 0..slices {
            for row in 0..rows {
                let (from, to) = (self.from.row(row, slice), self.to.row(row, slice));
                // SAFETY: blocks of this library's, or memory that the program vouches for.
                unsafe { ptr::copy(from as *const u8, to as *mut u8, width as usize) };
            }
        }
        Ok(())
    }

    /// The caller waits: for what its default stream comes behind, and for the bytes.
    fn run(self) -> Result {
        context::current()?.legacy().wait();
        self.perform()
    }

    fn enqueue(mut self, stream: u64) -> Result {
        let stream = stream::find(stream)?;
        if !stream.is_standing() {
            return self.perform();
        }
        let memory = blocks();
        self.check(&memory)?;
        // The program may change memory that is not pinned as soon as this has returned.
        let pinned = memory.find(self.from.at).is_some();
        drop(memory);
        let extent = self.from.extent(self.size).unwrap_or(0) as usize;
        let staged = match pinned || self.is_empty() {
            true => None,
            false => Some(In::<u8>::from(self.from.at).bytes(extent)?.to_vec()),
        };
        stream.perform(move || {
            if let Some(bytes) = &staged {
                self.from.at = bytes.as_ptr().expose_provenance() as u64;
            }
            // Memory that is gone by then is not touched.
            let _ = self.perform();
        });
        Ok(())
    }
}

/// One side of CUDA_MEMCPY3D.
#[repr(C)]
#[derive(Clone, Copy)]
struct Side3d {
    corner: [usize; 3],
    lod: usize,
    kind: u32,
    host: u64,
    device: u64,
    array: u64,
    reserved: u64,
    pitch: usize,
    rows: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memcpy3d {
    from: Side3d,
    to: Side3d,
    size: [usize; 3],
}

/// One side of CUDA_MEMCPY2D.
#[repr(C)]
#[derive(Clone, Copy)]
struct Side2d {
    corner: [usize; 2],
    kind: u32,
    host: u64,
    device: u64,
    array: u64,
    pitch: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memcpy2d {
    from: Side2d,
    to: Side2d,
    size: [usize; 2],
}

impl From<Side2d> for Side3d {
    fn from(side: Side2d) -> Side3d {
        Side3d {
            corner: [side.corner[0], side.corner[1], 0],
            lod: 0,
            kind: side.kind,
            host: side.host,
            device: side.device,
            array: side.array,
            reserved: 0,
            pitch: side.pitch,
            rows: 0,
        }
    }
}

impl From<Memcpy2d> for Memcpy3d {
    fn from(flat: Memcpy2d) -> Memcpy3d {
        Memcpy3d {
            from: flat.from.into(),
            to: flat.to.into(),
            size: [flat.size[0], flat.size[1], 1],
        }
    }
}

impl Side3d {
    /// A pitch of 0 is that of one row. There are no arrays.
    fn side(&self, size: [u64; 3]) -> Option<Side> {
        let (place, base) = match self.kind {
            1 => (Place::Host, self.host),
            2 => (Place::Device, self.device),
            4 => (Place::Any, self.device),
            _ => return None,
        };
        let or = |value: usize, other: u64| if value == 0 { other } else { value as u64 };
        let pitch = or(self.pitch, size[0]);
        let slice = pitch.checked_mul(or(self.rows, size[1]))?;
        let [x, y, z] = self.corner.map(|at| at as u64);
        let at = base
            .checked_add(z.checked_mul(slice)?)?
            .checked_add(y.checked_mul(pitch)?)?
            .checked_add(x)?;
        Some(Side {
            place,
            at,
            pitch,
            slice,
        })
    }
}

impl TryFrom<Memcpy3d> for Copy {
    type Error = Error;

    fn try_from(copy: Memcpy3d) -> Result<Copy> {
        let size = copy.size.map(|size| size as u64);
        let (from, to) = (copy.from.side(size), copy.to.side(size));
        Ok(Copy {
            from: from.ok_or(Error::INVALID_VALUE)?,
            to: to.ok_or(Error::INVALID_VALUE)?,
            size,
        })
    }
}

fn box_of(copy: Result<Memcpy3d>) -> Result<Copy> {
    Copy::try_from(copy?)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) -> u32 {
    answer(|| Copy::line((Place::Device, to), (Place::Host, from), bytes).run())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    answer(|| Copy::line((Place::Device, to), (Place::Host, from), bytes).enqueue(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) -> u32 {
    answer(|| Copy::line((Place::Host, to), (Place::Device, from), bytes).run())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    answer(|| Copy::line((Place::Host, to), (Place::Device, from), bytes).enqueue(stream))
}

/// Within the device nobody waits.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> u32 {
    cuMemcpyDtoDAsync_v2(to, from, bytes, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    answer(|| Copy::line((Place::Device, to), (Place::Device, from), bytes).enqueue(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy(to: u64, from: u64, bytes: usize) -> u32 {
    answer(|| Copy::line((Place::Any, to), (Place::Any, from), bytes).run())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    answer(|| Copy::line((Place::Any, to), (Place::Any, from), bytes).enqueue(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2D_v2(copy: In<Memcpy2d>) -> u32 {
    answer(|| box_of(copy.get().map(Memcpy3d::from))?.run())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DUnaligned_v2(copy: In<Memcpy2d>) -> u32 {
    cuMemcpy2D_v2(copy)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DAsync_v2(copy: In<Memcpy2d>, stream: u64) -> u32 {
    answer(|| box_of(copy.get().map(Memcpy3d::from))?.enqueue(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3D_v2(copy: In<Memcpy3d>) -> u32 {
    answer(|| box_of(copy.get())?.run())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DAsync_v2(copy: In<Memcpy3d>, stream: u64) -> u32 {
    answer(|| box_of(copy.get())?.enqueue(stream))
}
