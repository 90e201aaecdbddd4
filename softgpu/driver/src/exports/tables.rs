//! Tables of functions that NVIDIA's own libraries ask the driver for. They are not public, and none is here; but one is of our own, for who accounts
//! for memory: it tells what this process holds of a device.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{call, plain};
use crate::abi::{In, Out};
use crate::error::Error;
use crate::say;

/// The first table that NVIDIA's runtime library wants once cuInit has succeeded.
const OF_RUNTIME: [u8; 16] = [
    0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9,
];

/// The first table that CUPTI wants, of which NVIDIA's profilers and those of frameworks are made.
const OF_PROFILERS: [u8; 16] = [
    0x7c, 0xb6, 0x3f, 0x9b, 0x9c, 0xa4, 0x8e, 0x42, 0xa4, 0x84, 0xbe, 0xb6, 0x6e, 0x6a, 0xed, 0x7f,
];

/// Ours: what the process holds of each device, in the pieces that it is taken in.
const OF_HELD_MEMORY: [u8; 16] = *b"rgpu held memory";

#[repr(C)]
struct HeldMemory {
    /// Of this table.
    bytes: usize,
    held: extern "C" fn(device: i32, bytes: Out<u64>) -> u32,
}

static HELD_MEMORY: HeldMemory = HeldMemory {
    bytes: size_of::<HeldMemory>(),
    held,
};

extern "C" fn held(device: i32, bytes: Out<u64>) -> u32 {
    call(|runtime| {
        let device = runtime.device(device)?.ordinal;
        bytes.put(runtime.memory.held(device))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetExportTable(table: Out<*const c_void>, id: In<[u8; 16]>) -> u32 {
    static SAID: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    plain(|| {
        table.check()?;
        match id.get()? {
            OF_HELD_MEMORY => return table.put((&raw const HELD_MEMORY).cast()),
            OF_RUNTIME if !SAID[0].swap(true, Relaxed) => say!(
                "NVIDIA's CUDA runtime library works with NVIDIA's driver alone; build the program with `nvcc --cudart shared`, and put softgpu's \
                 own libcudart.so first in LD_LIBRARY_PATH"
            ),
            OF_PROFILERS if !SAID[1].swap(true, Relaxed) => say!(
                "NVIDIA's profiling library (CUPTI) works with NVIDIA's driver alone, so nothing is profiled"
            ),
            _ => {}
        }
        Err(Error::ERROR_NOT_FOUND)
    })
}
