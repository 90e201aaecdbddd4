//! Tables of functions that NVIDIA's own libraries ask the driver for. They are not public, and none is here.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;
use std::sync::Once;

use rgpu_proto::CudaError;

use crate::entry::{anywhere, required};
use crate::log;

/// The first table that NVIDIA's runtime library wants once cuInit has succeeded.
const OF_RUNTIME: [u8; 16] = [
    0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9,
];

/// The first table that CUPTI wants, of which NVIDIA's profilers and those of frameworks are made.
const OF_PROFILERS: [u8; 16] = [
    0x7c, 0xb6, 0x3f, 0x9b, 0x9c, 0xa4, 0x8e, 0x42, 0xa4, 0x84, 0xbe, 0xb6, 0x6e, 0x6a, 0xed, 0x7f,
];

pub unsafe fn cuGetExportTable(table: *mut *const c_void, id: *const c_void) -> u32 {
    static SAID: [Once; 2] = [Once::new(), Once::new()];
    anywhere(|| {
        required(table)?;
        required(id)?;
        // SAFETY: the caller's CUuuid, of 16 bytes.
        match unsafe { id.cast::<[u8; 16]>().read_unaligned() } {
            OF_RUNTIME => SAID[0].call_once(|| {
                log::error(
                    "NVIDIA's CUDA runtime library works with NVIDIA's own driver alone; build the program with `nvcc --cudart shared`, so \
                     that it loads libcudart.so from where rgpu's is first in LD_LIBRARY_PATH",
                );
            }),
            OF_PROFILERS => SAID[1].call_once(|| {
                log::error(
                    "NVIDIA's profiling library (CUPTI) works with NVIDIA's own driver alone, so nothing is profiled; RGPU_TRACE=FILE shows \
                     each call, its waits and its bytes",
                );
            }),
            _ => {}
        }
        Err(CudaError::NOT_FOUND)
    })
}
