//! Tensor maps, which the server's driver makes.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::entry::{Needs, enter, input_bytes, required};
use crate::send;

/// Bytes of a CUtensorMap.
const MAP: usize = 128;
const MOST_DIMENSIONS: u32 = 5;
const TILED: u32 = 0;
const IM2COL: u32 = 1;
const IM2COL_WIDE: u32 = 2;

/// The program's lists, as they travel.
struct Lists {
    bytes: Vec<u8>,
    rank: usize,
}

impl Lists {
    fn new(rank: u32) -> Result<Lists, CudaError> {
        if rank == 0 || rank > MOST_DIMENSIONS {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok(Lists {
            bytes: Vec::new(),
            rank: rank as usize,
        })
    }

    /// # Safety
    /// `list` is NULL or `count` elements.
    unsafe fn add<T>(&mut self, list: *const T, count: usize) -> Result<(), CudaError> {
        if count > 0 {
            required(list)?;
        }
        // SAFETY: the caller's list; numbers are little-endian on both sides.
        let bytes = unsafe { input_bytes(list.cast(), count * size_of::<T>()) }?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// # Safety
    /// Lists of as many elements as there are dimensions, one stride less.
    unsafe fn shape(&mut self, dims: *const u64, strides: *const u64) -> Result<(), CudaError> {
        // SAFETY: the caller's lists.
        unsafe {
            self.add(dims, self.rank)?;
            self.add(strides, self.rank - 1)
        }
    }
}

/// # Safety
/// `map` is the caller's CUtensorMap.
unsafe fn tell(map: *mut c_void, found: &[u8]) -> Result<(), CudaError> {
    let found: &[u8; MAP] = found.try_into().map_err(|_| CudaError::UNKNOWN)?;
    // SAFETY: the caller's 128 bytes.
    unsafe { map.cast::<[u8; MAP]>().write_unaligned(*found) };
    Ok(())
}

pub unsafe fn cuTensorMapEncodeTiled(
    map: *mut c_void,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: *const u64,
    strides: *const u64,
    tile: *const u32,
    element_strides: *const u32,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32 {
    enter("cuTensorMapEncodeTiled", Needs::Context, |session| {
        required(map)?;
        let mut lists = Lists::new(rank)?;
        let mut found = Vec::new();
        // SAFETY: the caller's lists and place.
        unsafe {
            lists.shape(dims, strides)?;
            lists.add(tile, rank as usize)?;
            lists.add(element_strides, rank as usize)?;
            send::rgpuTensorMap(
                session,
                TILED,
                data_type,
                rank,
                address,
                0,
                0,
                interleave,
                0,
                swizzle,
                promotion,
                fill,
                &lists.bytes,
                &mut found,
            )?;
            tell(map, &found)
        }
    })
}

pub unsafe fn cuTensorMapEncodeIm2col(
    map: *mut c_void,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: *const u64,
    strides: *const u64,
    lower: *const i32,
    upper: *const i32,
    channels: u32,
    pixels: u32,
    element_strides: *const u32,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32 {
    enter("cuTensorMapEncodeIm2col", Needs::Context, |session| {
        required(map)?;
        let mut lists = Lists::new(rank)?;
        // The corners are of the dimensions between channels and batch.
        let corners = (rank as usize).saturating_sub(2);
        let mut found = Vec::new();
        // SAFETY: the caller's lists and place.
        unsafe {
            lists.shape(dims, strides)?;
            lists.add(lower, corners)?;
            lists.add(upper, corners)?;
            lists.add(element_strides, rank as usize)?;
            send::rgpuTensorMap(
                session,
                IM2COL,
                data_type,
                rank,
                address,
                channels,
                pixels,
                interleave,
                0,
                swizzle,
                promotion,
                fill,
                &lists.bytes,
                &mut found,
            )?;
            tell(map, &found)
        }
    })
}

pub unsafe fn cuTensorMapEncodeIm2colWide(
    map: *mut c_void,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: *const u64,
    strides: *const u64,
    lower: i32,
    upper: i32,
    channels: u32,
    pixels: u32,
    element_strides: *const u32,
    interleave: u32,
    mode: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32 {
    enter("cuTensorMapEncodeIm2colWide", Needs::Context, |session| {
        required(map)?;
        let mut lists = Lists::new(rank)?;
        let mut found = Vec::new();
        // SAFETY: the caller's lists and place.
        unsafe {
            lists.shape(dims, strides)?;
            lists.add(&raw const lower, 1)?;
            lists.add(&raw const upper, 1)?;
            lists.add(element_strides, rank as usize)?;
            send::rgpuTensorMap(
                session,
                IM2COL_WIDE,
                data_type,
                rank,
                address,
                channels,
                pixels,
                interleave,
                mode,
                swizzle,
                promotion,
                fill,
                &lists.bytes,
                &mut found,
            )?;
            tell(map, &found)
        }
    })
}

pub unsafe fn cuTensorMapReplaceAddress(map: *mut c_void, address: u64) -> u32 {
    enter("cuTensorMapReplaceAddress", Needs::Context, |session| {
        required(map)?;
        let mut found = Vec::new();
        // SAFETY: the caller's CUtensorMap.
        unsafe {
            let before = input_bytes(map, MAP)?;
            send::rgpuTensorMapAddress(session, address, before, &mut found)?;
            tell(map, &found)
        }
    })
}
