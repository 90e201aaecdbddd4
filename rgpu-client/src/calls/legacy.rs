//! Spellings and calls of CUDA's first versions, on those that took their places.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use super::context;
use super::launch::{Config, Shape, launch};
use crate::entry::{Needs, enter, input_bytes, put};
use crate::servers::Of;
use crate::session::Session;

pub unsafe fn cuCtxCreate(context: *mut u64, flags: u32, device: i32) -> u32 {
    // SAFETY: the same contract.
    unsafe { context::cuCtxCreate_v2(context, flags, device) }
}

pub unsafe fn cuCtxDestroy(context: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { context::cuCtxDestroy_v2(context) }
}

pub unsafe fn cuCtxPushCurrent(context: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { context::cuCtxPushCurrent_v2(context) }
}

pub unsafe fn cuCtxPopCurrent(context: *mut u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { context::cuCtxPopCurrent_v2(context) }
}

/// Once more, and the context needs one more cuCtxDetach.
pub unsafe fn cuCtxAttach(context: *mut u64, flags: u32) -> u32 {
    enter("cuCtxAttach", Needs::Context, |session| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's place.
        unsafe { put(context, session.context()) }?;
        session.contexts().attach(session.context())
    })
}

pub unsafe fn cuCtxDetach(context: u64) -> u32 {
    let last = std::cell::Cell::new(false);
    let code = Of::Context(context).enter("cuCtxDetach", Needs::Session, |session| {
        let mut contexts = session.contexts();
        contexts.check(context)?;
        if context != session.context() {
            return Err(CudaError::INVALID_CONTEXT);
        }
        last.set(contexts.detach(context)?);
        Ok(())
    });
    if last.get() {
        // SAFETY: no pointers.
        return unsafe { context::cuCtxDestroy_v2(context) };
    }
    code
}

/// The first form has 32 bits for the size.
pub unsafe fn cuDeviceTotalMem(bytes: *mut u32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceTotalMem", Needs::Session, |session| {
        let total = session.devices.get(device)?.snapshot.total_memory;
        // SAFETY: the caller's place.
        unsafe { put(bytes, u32::try_from(total).unwrap_or(u32::MAX)) }
    })
}

/// Shape and parameters that the program has set for a function's next launches.
#[derive(Default)]
pub struct Legacy {
    block: [u32; 3],
    shared_bytes: u32,
    /// As far as they were set.
    params: Vec<u8>,
    /// What cuParamSetSize said.
    param_bytes: usize,
}

/// Most bytes of parameters.
const MAX_PARAMS: usize = 4096;

fn with(
    name: &'static str,
    function: u64,
    body: impl FnOnce(&mut Legacy) -> Result<(), CudaError>,
) -> u32 {
    Of::Handle(function).enter(name, Needs::Context, |session| {
        let mut modules = session.modules();
        let held = modules.functions.get_mut(&function);
        body(&mut held.ok_or(CudaError::INVALID_HANDLE)?.legacy)
    })
}

fn positive(size: i32) -> Result<u32, CudaError> {
    let size = u32::try_from(size).ok().filter(|size| *size > 0);
    size.ok_or(CudaError::INVALID_VALUE)
}

pub unsafe fn cuFuncSetBlockShape(function: u64, x: i32, y: i32, z: i32) -> u32 {
    with("cuFuncSetBlockShape", function, |legacy| {
        legacy.block = [positive(x)?, positive(y)?, positive(z)?];
        Ok(())
    })
}

pub unsafe fn cuFuncSetSharedSize(function: u64, bytes: u32) -> u32 {
    with("cuFuncSetSharedSize", function, |legacy| {
        legacy.shared_bytes = bytes;
        Ok(())
    })
}

pub unsafe fn cuParamSetSize(function: u64, bytes: u32) -> u32 {
    with("cuParamSetSize", function, |legacy| {
        if bytes as usize > MAX_PARAMS {
            return Err(CudaError::INVALID_VALUE);
        }
        legacy.param_bytes = bytes as usize;
        Ok(())
    })
}

impl Legacy {
    fn set(&mut self, offset: i32, value: &[u8]) -> Result<(), CudaError> {
        let at = usize::try_from(offset).map_err(|_| CudaError::INVALID_VALUE)?;
        let end = at.saturating_add(value.len());
        if end > MAX_PARAMS {
            return Err(CudaError::INVALID_VALUE);
        }
        if self.params.len() < end {
            self.params.resize(end, 0);
        }
        self.params[at..end].copy_from_slice(value);
        Ok(())
    }
}

pub unsafe fn cuParamSeti(function: u64, offset: i32, value: u32) -> u32 {
    with("cuParamSeti", function, |legacy| {
        legacy.set(offset, &value.to_le_bytes())
    })
}

pub unsafe fn cuParamSetf(function: u64, offset: i32, value: f32) -> u32 {
    with("cuParamSetf", function, |legacy| {
        legacy.set(offset, &value.to_le_bytes())
    })
}

pub unsafe fn cuParamSetv(function: u64, offset: i32, data: *const c_void, bytes: u32) -> u32 {
    with("cuParamSetv", function, |legacy| {
        if bytes as usize > MAX_PARAMS {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's `bytes`.
        legacy.set(offset, unsafe { input_bytes(data, bytes as usize) }?)
    })
}

fn run(session: &Session, function: u64, grid: [u32; 2], stream: u64) -> Result<(), CudaError> {
    const BUFFER_POINTER: *const c_void = std::ptr::without_provenance(1);
    const BUFFER_SIZE: *const c_void = std::ptr::without_provenance(2);
    let (config, params) = {
        let modules = session.modules();
        let legacy = &modules.function(function)?.legacy;
        let mut params = legacy.params.clone();
        params.resize(legacy.param_bytes, 0);
        let shape = Shape {
            grid: [grid[0], grid[1], 1],
            block: legacy.block,
            shared_bytes: legacy.shared_bytes,
        };
        let attributes = Vec::new();
        (
            Config {
                shape,
                stream,
                attributes,
            },
            params,
        )
    };
    let size = params.len();
    let extra = [
        BUFFER_POINTER,
        params.as_ptr().cast(),
        BUFFER_SIZE,
        (&raw const size).cast(),
        std::ptr::null(),
    ];
    // SAFETY: a list as cuLaunchKernel documents it.
    unsafe { launch(session, function, &config, std::ptr::null(), extra.as_ptr()) }
}

pub unsafe fn cuLaunch(function: u64) -> u32 {
    enter("cuLaunch", Needs::Context, |session| {
        run(session, function, [1, 1], 0)
    })
}

pub unsafe fn cuLaunchGrid(function: u64, width: i32, height: i32) -> u32 {
    enter("cuLaunchGrid", Needs::Context, |session| {
        let grid = [positive(width)?, positive(height)?];
        run(session, function, grid, 0)
    })
}

pub unsafe fn cuLaunchGridAsync(function: u64, width: i32, height: i32, stream: u64) -> u32 {
    Of::Handle(stream).enter("cuLaunchGridAsync", Needs::Context, |session| {
        let grid = [positive(width)?, positive(height)?];
        run(session, function, grid, stream)
    })
}
