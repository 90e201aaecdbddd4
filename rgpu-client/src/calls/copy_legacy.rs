//! Boxes as CUDA's first versions described them: sizes and device addresses of 32 bits.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;
use std::mem::offset_of;

use super::copy::boxed;
use crate::area::{Corner3d, Memcpy3d};
use crate::entry::{Needs, required};
use crate::transfer::{NOW, When, ordered};

/// CUDA_MEMCPY2D_v1, whose sides lie without a gap between them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Flat {
    src_x: u32,
    src_y: u32,
    src_kind: u32,
    src_host: u64,
    src_device: u32,
    src_array: u64,
    src_pitch: u32,
    dst_x: u32,
    dst_y: u32,
    dst_kind: u32,
    dst_host: u64,
    dst_device: u32,
    dst_array: u64,
    dst_pitch: u32,
    width: u32,
    height: u32,
}

/// CUDA_MEMCPY3D_v1.
#[repr(C)]
#[derive(Clone, Copy)]
struct Solid {
    src: SolidCorner,
    dst: SolidCorner,
    width: u32,
    height: u32,
    depth: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SolidCorner {
    x: u32,
    y: u32,
    z: u32,
    lod: u32,
    kind: u32,
    host: u64,
    device: u32,
    array: u64,
    reserved: u64,
    pitch: u32,
    height: u32,
}

const _: () = {
    assert!(size_of::<Flat>() == 96 && offset_of!(Flat, dst_x) == 44);
    assert!(size_of::<Solid>() == 144 && offset_of!(Solid, depth) == 136);
};

impl From<Flat> for Memcpy3d {
    fn from(flat: Flat) -> Memcpy3d {
        Memcpy3d {
            src: Corner3d {
                x: flat.src_x as usize,
                y: flat.src_y as usize,
                kind: flat.src_kind,
                host: flat.src_host,
                device: flat.src_device.into(),
                array: flat.src_array,
                ..Corner3d::default()
            },
            src_pitch: flat.src_pitch as usize,
            dst: Corner3d {
                x: flat.dst_x as usize,
                y: flat.dst_y as usize,
                kind: flat.dst_kind,
                host: flat.dst_host,
                device: flat.dst_device.into(),
                array: flat.dst_array,
                ..Corner3d::default()
            },
            dst_pitch: flat.dst_pitch as usize,
            width: flat.width as usize,
            height: flat.height as usize,
            depth: 1,
            ..Memcpy3d::default()
        }
    }
}

impl From<Solid> for Memcpy3d {
    fn from(solid: Solid) -> Memcpy3d {
        let corner = |side: &SolidCorner| Corner3d {
            x: side.x as usize,
            y: side.y as usize,
            z: side.z as usize,
            lod: side.lod as usize,
            kind: side.kind,
            host: side.host,
            device: side.device.into(),
            array: side.array,
        };
        Memcpy3d {
            src: corner(&solid.src),
            src_pitch: solid.src.pitch as usize,
            src_height: solid.src.height as usize,
            dst: corner(&solid.dst),
            dst_pitch: solid.dst.pitch as usize,
            dst_height: solid.dst.height as usize,
            width: solid.width as usize,
            height: solid.height as usize,
            depth: solid.depth as usize,
            ..Memcpy3d::default()
        }
    }
}

/// # Safety
/// `params` is NULL or a `T`.
unsafe fn copy<T: Copy + Into<Memcpy3d>>(
    name: &'static str,
    params: *const c_void,
    when: When,
) -> u32 {
    when.of().enter(name, Needs::Context, |session| {
        required(params)?;
        // SAFETY: the caller's struct, of plain numbers.
        let params = unsafe { params.cast::<T>().read_unaligned() };
        boxed(session, &params.into(), (0, 0), when)
    })
}

pub unsafe fn cuMemcpy2D(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { copy::<Flat>("cuMemcpy2D", params, NOW) }
}

pub unsafe fn cuMemcpy2DUnaligned(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { copy::<Flat>("cuMemcpy2DUnaligned", params, NOW) }
}

pub unsafe fn cuMemcpy2DAsync(params: *const c_void, stream: u64) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { copy::<Flat>("cuMemcpy2DAsync", params, ordered(stream)) }
}

pub unsafe fn cuMemcpy3D(params: *const c_void) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { copy::<Solid>("cuMemcpy3D", params, NOW) }
}

pub unsafe fn cuMemcpy3DAsync(params: *const c_void, stream: u64) -> u32 {
    // SAFETY: the caller's struct.
    unsafe { copy::<Solid>("cuMemcpy3DAsync", params, ordered(stream)) }
}
