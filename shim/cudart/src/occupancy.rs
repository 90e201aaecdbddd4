//! Occupancy: the driver's, for the function in the current context.

use std::ffi::c_void;

use crate::abi::LaunchConfig;
use crate::error::{Error, Result};
use crate::execution::{driver_config, function};
use crate::{Runtime, registry};

pub unsafe fn cudaOccupancyMaxActiveBlocksPerMultiprocessor(
    runtime: &Runtime,
    blocks: *mut i32,
    host: *const c_void,
    block: i32,
    shared: usize,
) -> Result {
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block, shared)
}

pub unsafe fn cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    runtime: &Runtime,
    blocks: *mut i32,
    host: *const c_void,
    block: i32,
    shared: usize,
    flags: u32,
) -> Result {
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block, shared, flags)
}

pub unsafe fn cudaOccupancyAvailableDynamicSMemPerBlock(
    runtime: &Runtime,
    shared: *mut usize,
    host: *const c_void,
    blocks: i32,
    block: i32,
) -> Result {
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuOccupancyAvailableDynamicSMemPerBlock(shared, function, blocks, block)
}

pub unsafe fn cudaOccupancyMaxPotentialClusterSize(
    runtime: &Runtime,
    size: *mut i32,
    host: *const c_void,
    config: *const LaunchConfig,
) -> Result {
    let config = driver_config(config.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuOccupancyMaxPotentialClusterSize(size, function, (&raw const config).cast())
}

pub unsafe fn cudaOccupancyMaxActiveClusters(
    runtime: &Runtime,
    clusters: *mut i32,
    host: *const c_void,
    config: *const LaunchConfig,
) -> Result {
    let config = driver_config(config.as_ref().ok_or(Error::INVALID_VALUE)?)?;
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuOccupancyMaxActiveClusters(clusters, function, (&raw const config).cast())
}
