//! Execution control: launches, and functions' attributes.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use crate::abi::{Dim3, DriverLaunchConfig, FuncAttributes, Handle, LaunchConfig, LaunchParams};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::registry::{self, Code, Kind};
use crate::{Runtime, context};

/// The function of a kernel in the current context.
pub unsafe fn function(cu: &Driver, code: Code) -> Result<Handle> {
    if code.kind == Kind::Function {
        return Ok(code.handle);
    }
    let mut function: Handle = null_mut();
    cu.cuKernelGetFunction((&raw mut function).cast(), code.handle)?;
    Ok(function)
}

/// What is wrong with a launch that the driver finds invalid: the runtime has a code of its own for a configuration that no kernel
/// can be launched with.
unsafe fn judge(cu: &Driver, error: Error, grid: Dim3, block: Dim3) -> Error {
    const MAX_THREADS: u32 = 1;
    const MAX_BLOCK: u32 = 2;
    const MAX_GRID: u32 = 5;
    if error != Error::INVALID_VALUE {
        return error;
    }
    let limit = |attribute| {
        let mut value = i32::MAX;
        let known = context::device(cu)
            .and_then(|device| cu.cuDeviceGetAttribute(&mut value, attribute, device));
        known.map_or(u32::MAX, |()| value as u32)
    };
    let beyond = |size: Dim3, first: u32| {
        let sizes = [size.x, size.y, size.z].into_iter().zip(first..);
        sizes
            .into_iter()
            .any(|(size, attribute)| size == 0 || size > limit(attribute))
    };
    let threads = block.x as u64 * block.y as u64 * block.z as u64;
    if beyond(block, MAX_BLOCK) || beyond(grid, MAX_GRID) || threads > limit(MAX_THREADS) as u64 {
        Error::INVALID_CONFIGURATION
    } else {
        error
    }
}

/// The driver counts shared memory in 32 bits.
fn shared_bytes(shared: usize) -> Result<u32> {
    u32::try_from(shared).map_err(|_| Error::INVALID_VALUE)
}

pub unsafe fn cudaLaunchKernel(
    runtime: &Runtime,
    host: *const c_void,
    grid: Dim3,
    block: Dim3,
    args: *mut *mut c_void,
    shared: usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let code = registry::code(cu, host)?;
    let (g, b, shared) = (grid, block, shared_bytes(shared)?);
    cu.cuLaunchKernel(
        code.handle,
        g.x,
        g.y,
        g.z,
        b.x,
        b.y,
        b.z,
        shared,
        stream,
        args,
        null_mut(),
    )
    .map_err(|error| judge(cu, error, grid, block))
}

pub unsafe fn cudaLaunchCooperativeKernel(
    runtime: &Runtime,
    host: *const c_void,
    grid: Dim3,
    block: Dim3,
    args: *mut *mut c_void,
    shared: usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let code = registry::code(cu, host)?;
    let (g, b, shared) = (grid, block, shared_bytes(shared)?);
    cu.cuLaunchCooperativeKernel(
        code.handle,
        g.x,
        g.y,
        g.z,
        b.x,
        b.y,
        b.z,
        shared,
        stream,
        args,
    )
    .map_err(|error| judge(cu, error, grid, block))
}

/// Attributes have the driver's numbers and values.
pub fn driver_config(config: &LaunchConfig) -> Result<DriverLaunchConfig> {
    Ok(DriverLaunchConfig {
        grid: config.grid,
        block: config.block,
        shared: shared_bytes(config.shared)?,
        stream: config.stream,
        attributes: config.attributes,
        count: config.count,
    })
}

pub unsafe fn cudaLaunchKernelExC(
    runtime: &Runtime,
    config: *const LaunchConfig,
    host: *const c_void,
    args: *mut *mut c_void,
) -> Result {
    if config.is_null() {
        return Err(Error::INVALID_CONFIGURATION);
    }
    let cu = runtime.context()?;
    let code = registry::code(cu, host)?;
    let config = driver_config(&*config)?;
    cu.cuLaunchKernelEx((&raw const config).cast(), code.handle, args, null_mut())
        .map_err(|error| judge(cu, error, config.grid, config.block))
}

/// One launch for each device, each in its stream.
pub unsafe fn cudaLaunchCooperativeKernelMultiDevice(
    runtime: &Runtime,
    list: *mut LaunchParams,
    count: u32,
    _flags: u32,
) -> Result {
    if list.is_null() || count == 0 {
        return Err(Error::INVALID_VALUE);
    }
    // Grids that wait for each other across devices are not what this driver below has.
    if count > 1 {
        return Err(Error::NOT_SUPPORTED);
    }
    let launch = &*list;
    cudaLaunchCooperativeKernel(
        runtime,
        launch.function,
        launch.grid,
        launch.block,
        launch.args,
        launch.shared,
        launch.stream,
    )
}

/// `mode`: whether the stream's later work waits as usual (0); the driver judges others.
pub unsafe fn cudaLaunchHostFunc_v2(
    runtime: &Runtime,
    stream: Handle,
    function: Handle,
    data: *mut c_void,
    mode: u32,
) -> Result {
    let cu = runtime.context()?;
    match cu.cuLaunchHostFunc_v2(stream, function, data, mode) {
        Err(Error::NOT_SUPPORTED) if mode == 0 => cu.cuLaunchHostFunc(stream, function, data),
        result => result,
    }
}

/// The driver's number of an attribute: the runtime's, but for the last.
pub fn driver_attribute(attribute: u32) -> Result<u32> {
    match attribute {
        8..=15 => Ok(attribute),
        16 => Ok(17),
        _ => Err(Error::INVALID_VALUE),
    }
}

pub unsafe fn cudaFuncGetAttributes(
    runtime: &Runtime,
    attributes: *mut FuncAttributes,
    host: *const c_void,
) -> Result {
    if attributes.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    let get = |attribute| -> Result<i32> {
        let mut value = 0;
        cu.cuFuncGetAttribute(&mut value, attribute, function)?;
        Ok(value)
    };
    // What a driver older than the attribute does not know is 0.
    let newer = |attribute| get(attribute).unwrap_or(0);
    let mut found = FuncAttributes {
        max_threads: get(0)?,
        shared_size: get(1)? as usize,
        const_size: get(2)? as usize,
        local_size: get(3)? as usize,
        registers: get(4)?,
        ptx_version: get(5)?,
        binary_version: get(6)?,
        cache_mode_ca: get(7)?,
        max_dynamic_shared: get(8)?,
        carveout: get(9)?,
        cluster_must_be_set: newer(10),
        cluster_width: newer(11),
        cluster_height: newer(12),
        cluster_depth: newer(13),
        non_portable_cluster: newer(14),
        cluster_scheduling: newer(15),
        ..FuncAttributes::default()
    };
    found.reserved[0] = newer(16);
    attributes.write(found);
    Ok(())
}

pub unsafe fn cudaFuncSetAttribute(
    runtime: &Runtime,
    host: *const c_void,
    attribute: u32,
    value: i32,
) -> Result {
    let cu = runtime.context()?;
    let function = function(cu, registry::code(cu, host)?)?;
    cu.cuFuncSetAttribute(function, driver_attribute(attribute)?, value)
}

pub unsafe fn cudaFuncSetCacheConfig(
    runtime: &Runtime,
    host: *const c_void,
    config: u32,
) -> Result {
    let cu = runtime.context()?;
    cu.cuFuncSetCacheConfig(function(cu, registry::code(cu, host)?)?, config)
}

pub unsafe fn cudaFuncSetSharedMemConfig(
    runtime: &Runtime,
    host: *const c_void,
    config: u32,
) -> Result {
    let cu = runtime.context()?;
    cu.cuFuncSetSharedMemConfig(function(cu, registry::code(cu, host)?)?, config)
}

pub unsafe fn cudaFuncGetName(
    runtime: &Runtime,
    name: *mut *const c_char,
    host: *const c_void,
) -> Result {
    let cu = runtime.context()?;
    let code = registry::code(cu, host)?;
    match code.kind {
        Kind::Kernel => cu.cuKernelGetName(name.cast(), code.handle),
        Kind::Function => cu.cuFuncGetName(name.cast(), code.handle),
    }
}

pub unsafe fn cudaFuncGetParamInfo(
    runtime: &Runtime,
    host: *const c_void,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Result {
    let cu = runtime.context()?;
    let code = registry::code(cu, host)?;
    match code.kind {
        Kind::Kernel => cu.cuKernelGetParamInfo(code.handle, index, offset, size),
        Kind::Function => cu.cuFuncGetParamInfo(code.handle, index, offset, size),
    }
}

pub unsafe fn cudaFuncGetParamCount(
    runtime: &Runtime,
    host: *const c_void,
    count: *mut usize,
) -> Result {
    if count.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    // The driver has a function for this from 13.2 on; before, the parameters are counted by asking for each.
    let (mut offset, mut size, mut found) = (0, 0, 0);
    loop {
        match cudaFuncGetParamInfo(runtime, host, found, &mut offset, &mut size) {
            Ok(()) => found += 1,
            Err(Error::INVALID_VALUE) => break,
            Err(error) => return Err(error),
        }
    }
    count.write(found);
    Ok(())
}

/// Devices have had doubles for long: nothing is to be converted.
pub fn cudaSetDoubleForDevice(_: &Runtime, _value: *mut f64) -> Result {
    Ok(())
}

pub fn cudaSetDoubleForHost(_: &Runtime, _value: *mut f64) -> Result {
    Ok(())
}
