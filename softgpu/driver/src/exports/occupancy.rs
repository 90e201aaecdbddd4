//! How many blocks fit.

use super::{Handle, call};
use crate::abi::{In, LaunchConfig, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::library;
use crate::module::Function;
use crate::runtime::Runtime;

/// A function, or a library's kernel in the current context.
fn function_of(runtime: &Runtime, handle: Handle) -> Result<std::sync::Arc<Function>> {
    let function = library::function(runtime, handle, Context::current)?;
    function.module.context.check()?;
    Ok(function)
}

fn threads_of(block_size: i32) -> Result<u32> {
    u32::try_from(block_size)
        .ok()
        .filter(|&threads| threads > 0)
        .ok_or(Error::ERROR_INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let threads = threads_of(block_size)?;
        blocks.put(function.occupancy(threads, dynamic_shared as u64) as i32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
    flags: u32,
) -> u32 {
    match flags {
        0 | 1 => cuOccupancyMaxActiveBlocksPerMultiprocessor(
            blocks,
            function,
            block_size,
            dynamic_shared,
        ),
        _ => Error::ERROR_INVALID_VALUE.0,
    }
}

/// CUoccupancyB2DSize: dynamic shared memory for a block size.
type SharedForBlock = Option<extern "C" fn(i32) -> usize>;

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    min_grid: Out<i32>,
    block_size: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let most = function.info().max_threads;
        let most = if limit > 0 {
            most.min(limit as u32)
        } else {
            most
        };
        let mut best = (0, 0, 0);
        for threads in (1..=most.div_ceil(32))
            .rev()
            .map(|warps| (warps * 32).min(most))
        {
            let shared = shared_for.map_or(dynamic_shared, |f| f(threads as i32)) as u64;
            let blocks = function.occupancy(threads, shared);
            if blocks * threads > best.0 {
                best = (blocks * threads, threads, blocks);
            }
        }
        let grid = best.2 * function.module.context.device.multiprocessors();
        min_grid.put(grid as i32).and(block_size.put(best.1 as i32))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid: Out<i32>,
    block_size: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
    flags: u32,
) -> u32 {
    match flags {
        0 | 1 => cuOccupancyMaxPotentialBlockSize(
            min_grid,
            block_size,
            function,
            shared_for,
            dynamic_shared,
            limit,
        ),
        _ => Error::ERROR_INVALID_VALUE.0,
    }
}

/// The dynamic shared memory that each of so many blocks on one multiprocessor can have.
#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: Out<usize>,
    function: Handle,
    blocks: i32,
    block_size: i32,
) -> u32 {
    call(|runtime| {
        bytes.check()?;
        let function = function_of(runtime, function)?;
        let (blocks, threads) = (threads_of(blocks)?, threads_of(block_size)?);
        if function.occupancy(threads, 0) < blocks {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let device = &function.module.context.device;
        // A block also takes what the system reserves, in units of 128 bytes.
        let share = (device.max_shared_per_multiprocessor() / blocks) & !127;
        let left = share
            .saturating_sub(1 << 10)
            .saturating_sub(function.info().static_shared);
        bytes.put(left.min(function.max_dynamic_shared()) as usize)
    })
}

/// Clusters have one block, so as many fit as blocks do.
#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveClusters(
    clusters: Out<i32>,
    function: Handle,
    config: In<LaunchConfig>,
) -> u32 {
    call(|runtime| {
        clusters.check()?;
        let (function, config) = (function_of(runtime, function)?, config.get()?);
        let threads = config
            .block
            .iter()
            .try_fold(1u32, |product, &size| product.checked_mul(size))
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let fit = function.occupancy(threads, u64::from(config.shared));
        clusters.put((fit * function.module.context.device.multiprocessors()) as i32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialClusterSize(
    size: Out<i32>,
    function: Handle,
    config: In<LaunchConfig>,
) -> u32 {
    call(|runtime| {
        function_of(runtime, function)?;
        config.get()?;
        size.put(1)
    })
}
