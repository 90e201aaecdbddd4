//! Launches: nothing but checks that are cheap, and the kernel's time in paced mode.

use std::ffi::c_void;

use crate::abi::{In, answer};
use crate::config;
use crate::errors::{Error, Result};
use crate::function::{self, Function};
use crate::stream;

/// What a launch with a configuration (CUlaunchConfig) has of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: u64,
    // Attributes follow, which say nothing here.
}

pub fn check(function: &Function, grid: [u32; 3], block: [u32; 3]) -> Result {
    let threads = block.iter().map(|&count| u64::from(count)).product();
    match grid.contains(&0) || !(1..=function.threads as u64).contains(&threads) {
        true => Err(Error::INVALID_VALUE),
        false => Ok(()),
    }
}

fn launch(function: u64, grid: [u32; 3], block: [u32; 3], stream: u64) -> Result {
    let function = function::find(function)?;
    let stream = stream::find(stream)?;
    check(function, grid, block)?;
    if let Some(paced) = config::paced()? {
        stream.launch(paced, function.time);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    _shared: u32,
    stream: u64,
    _params: In<*mut c_void>,
    _extra: In<*mut c_void>,
) -> u32 {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    answer(|| launch(function, grid, block, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchCooperativeKernel(
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    _shared: u32,
    stream: u64,
    _params: In<*mut c_void>,
) -> u32 {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    answer(|| launch(function, grid, block, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernelEx(
    config: In<Config>,
    function: u64,
    _params: In<*mut c_void>,
    _extra: In<*mut c_void>,
) -> u32 {
    answer(|| {
        let config = config.get()?;
        launch(function, config.grid, config.block, config.stream)
    })
}
