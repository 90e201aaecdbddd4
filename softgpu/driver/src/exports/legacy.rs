//! Launches as CUDA's first versions had them: shape and parameters are set one by one, and stay with the function.

use std::ffi::c_void;
use std::sync::MutexGuard;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::launch::{Arguments, Launch};
use crate::runtime::Runtime;
use crate::stream::Stream;

/// What has been set of a function.
#[derive(Clone, Default)]
pub struct Legacy {
    block: [u32; 3],
    shared: u32,
    /// As far as they were set.
    params: Vec<u8>,
    /// What cuParamSetSize said.
    size: usize,
}

/// Most bytes of parameters.
const MAX_PARAMS: usize = 4096;

fn with(function: Handle, body: impl FnOnce(&mut Legacy) -> Result) -> u32 {
    call(|runtime| {
        Context::current()?;
        let function = runtime.functions.get(function)?;
        let mut legacy: MutexGuard<'_, Legacy> =
            function.legacy.lock().unwrap_or_else(|e| e.into_inner());
        body(&mut legacy)
    })
}

fn positive(size: i32) -> Result<u32> {
    let size = u32::try_from(size).ok().filter(|&size| size > 0);
    size.ok_or(Error::ERROR_INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetBlockShape(function: Handle, x: i32, y: i32, z: i32) -> u32 {
    with(function, |legacy| {
        legacy.block = [positive(x)?, positive(y)?, positive(z)?];
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetSharedSize(function: Handle, bytes: u32) -> u32 {
    with(function, |legacy| {
        legacy.shared = bytes;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuParamSetSize(function: Handle, bytes: u32) -> u32 {
    with(function, |legacy| {
        if bytes as usize > MAX_PARAMS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        legacy.size = bytes as usize;
        Ok(())
    })
}

fn set(legacy: &mut Legacy, offset: i32, value: &[u8]) -> Result {
    let at = usize::try_from(offset).map_err(|_| Error::ERROR_INVALID_VALUE)?;
    let end = at.saturating_add(value.len());
    if end > MAX_PARAMS {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    if legacy.params.len() < end {
        legacy.params.resize(end, 0);
    }
    legacy.params[at..end].copy_from_slice(value);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuParamSeti(function: Handle, offset: i32, value: u32) -> u32 {
    with(function, |legacy| set(legacy, offset, &value.to_le_bytes()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuParamSetf(function: Handle, offset: i32, value: f32) -> u32 {
    with(function, |legacy| set(legacy, offset, &value.to_le_bytes()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuParamSetv(function: Handle, offset: i32, data: In<c_void>, bytes: u32) -> u32 {
    with(function, |legacy| {
        if bytes as usize > MAX_PARAMS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        set(legacy, offset, data.bytes(bytes as usize)?)
    })
}

/// A function finds its module's references by itself.
#[unsafe(no_mangle)]
pub extern "C" fn cuParamSetTexRef(function: Handle, unit: i32, reference: Handle) -> u32 {
    const DEFAULT: i32 = -1;
    call(|runtime| {
        Context::current()?;
        runtime.functions.get(function)?;
        if unit != DEFAULT {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.texture_references.get(reference).map(|_| ())
    })
}

fn launch(runtime: &'static Runtime, function: Handle, grid: [u32; 2], stream: Handle) -> Result {
    const BUFFER_POINTER: u64 = 1;
    const BUFFER_SIZE: u64 = 2;
    let stream = Stream::find(runtime, stream)?;
    let function = runtime.functions.get(function)?;
    let legacy = function.legacy.lock().unwrap_or_else(|e| e.into_inner());
    let Legacy {
        block,
        shared,
        mut params,
        size,
    } = legacy.clone();
    drop(legacy);
    params.resize(size, 0);
    let extra = [
        BUFFER_POINTER,
        params.as_ptr() as u64,
        BUFFER_SIZE,
        std::ptr::from_ref(&size) as u64,
        0,
    ];
    let arguments = Arguments {
        params: In::null(),
        extra: In::of_slice(&extra),
    };
    let grid = [grid[0], grid[1], 1];
    Launch::new(function, grid, block, shared, arguments)?.enqueue(runtime, &stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunch(function: Handle) -> u32 {
    call(|runtime| launch(runtime, function, [1, 1], 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchGrid(function: Handle, width: i32, height: i32) -> u32 {
    call(|runtime| launch(runtime, function, [positive(width)?, positive(height)?], 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchGridAsync(
    function: Handle,
    width: i32,
    height: i32,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        let grid = [positive(width)?, positive(height)?];
        launch(runtime, function, grid, stream)
    })
}

/// The first form has 32 bits for the size.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem(bytes: Out<u32>, device: i32) -> u32 {
    call(|runtime| {
        let total = runtime.device(device)?.memory;
        bytes.put(u32::try_from(total).unwrap_or(u32::MAX))
    })
}
