//! Occupancy, by threads alone.

use std::ffi::c_void;

use crate::abi::{In, Out, answer};
use crate::device;
use crate::errors::{Error, Result};
use crate::function::{self, Function};

fn blocks(function: &Function, threads: i32) -> Result<i32> {
    match threads {
        ..=0 => Err(Error::INVALID_VALUE),
        _ if threads > function.threads => Ok(0),
        _ => {
            Ok((device::THREADS_PER_MULTIPROCESSOR / threads)
                .min(device::BLOCKS_PER_MULTIPROCESSOR))
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    count: Out<i32>,
    function: u64,
    threads: i32,
    _shared: usize,
) -> u32 {
    answer(|| count.put(blocks(function::find(function)?, threads)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    count: Out<i32>,
    function: u64,
    threads: i32,
    shared: usize,
    _flags: u32,
) -> u32 {
    cuOccupancyMaxActiveBlocksPerMultiprocessor(count, function, threads, shared)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: Out<usize>,
    function: u64,
    blocks: i32,
    _threads: i32,
) -> u32 {
    answer(|| {
        function::find(function)?;
        match blocks {
            1.. => bytes.put((device::SHARED_OPTIN / blocks) as usize),
            _ => Err(Error::INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Out<i32>,
    block: Out<i32>,
    function: u64,
    _shared_of_block: In<c_void>,
    _shared: usize,
    limit: i32,
) -> u32 {
    answer(|| {
        let function = function::find(function)?;
        let threads = match limit {
            1.. => limit.min(function.threads),
            _ => function.threads,
        };
        grid.put(device::MULTIPROCESSORS * blocks(function, threads)?)?;
        block.put(threads)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: Out<i32>,
    block: Out<i32>,
    function: u64,
    shared_of_block: In<c_void>,
    shared: usize,
    limit: i32,
    _flags: u32,
) -> u32 {
    cuOccupancyMaxPotentialBlockSize(grid, block, function, shared_of_block, shared, limit)
}
