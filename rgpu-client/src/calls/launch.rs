//! Kernel launches: what depends only on the arguments is judged here, so that it returns at the call.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names, contracts and signatures are cuda.h's.

use std::ffi::c_void;

use cudarc::driver::sys::CUlaunchConfig;
use rgpu_proto::CudaError;

use super::context::current_device;
use super::module::{MAX_DYNAMIC_SHARED_SIZE_BYTES, MAX_THREADS_PER_BLOCK, SHARED_SIZE_BYTES};
use crate::entry::{Needs, enter, required};
use crate::handles::Kind;
use crate::session::Session;
use crate::{params, send};

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

/// Checks a launch against the function and the device, and gathers its parameters.
///
/// # Safety
/// `values` and `extra` are as cuLaunchKernel documents them.
pub unsafe fn prepare(
    session: &Session,
    function: u64,
    shape: &Shape,
    values: *const *const c_void,
    extra: *const *const c_void,
) -> Result<Vec<u8>, CudaError> {
    let modules = session.modules();
    let held = modules.function(function)?;
    let device = session.devices.get(current_device(session)?)?;
    // CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, MAX_BLOCK_DIM_X…Z, MAX_GRID_DIM_X…Z, MAX_SHARED_MEMORY_PER_BLOCK.
    let limit = |attribute: i32| device.attribute(attribute).map(|value| value.max(0) as u64);
    for axis in 0..3 {
        let (block, grid) = (u64::from(shape.block[axis]), u64::from(shape.grid[axis]));
        if block == 0
            || grid == 0
            || block > limit(2 + axis as i32)?
            || grid > limit(5 + axis as i32)?
        {
            return Err(CudaError::INVALID_VALUE);
        }
    }
    let threads = shape
        .block
        .iter()
        .map(|count| u64::from(*count))
        .product::<u64>();
    if threads > limit(1)? {
        return Err(CudaError::INVALID_VALUE);
    }
    let of_function = |attribute: u32| held.attribute(attribute).map(|value| value.max(0) as u64);
    if of_function(MAX_THREADS_PER_BLOCK).is_some_and(|most| threads > most) {
        return Err(CudaError::INVALID_VALUE);
    }
    let fixed = of_function(SHARED_SIZE_BYTES).unwrap_or(0);
    let dynamic = of_function(MAX_DYNAMIC_SHARED_SIZE_BYTES)
        .unwrap_or(0)
        .max(limit(8)?.saturating_sub(fixed));
    if u64::from(shape.shared_bytes) > dynamic {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    unsafe { params::gather(&held.entry, values, extra) }
}

unsafe fn launch(
    session: &Session,
    function: u64,
    shape: &Shape,
    stream: u64,
    values: *const *const c_void,
    extra: *const *const c_void,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    // SAFETY: the caller's promise.
    let buffer = unsafe { prepare(session, function, shape, values, extra) }?;
    let Shape {
        grid: [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = *shape;
    send::rgpuLaunch(
        session,
        function,
        gx,
        gy,
        gz,
        bx,
        by,
        bz,
        shared_bytes,
        stream,
        &buffer,
    )
}

pub unsafe fn cuLaunchKernel(
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: u64,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    enter("cuLaunchKernel", Needs::Context, |session| {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes,
        };
        // SAFETY: the caller's arguments.
        unsafe {
            launch(
                session,
                function,
                &shape,
                stream,
                params as *const *const c_void,
                extra as *const *const c_void,
            )
        }
    })
}

pub unsafe fn cuLaunchKernelEx(
    config: *const c_void,
    function: u64,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    const IGNORE: u32 = 0;
    const PRIORITY: u32 = 8;
    enter("cuLaunchKernelEx", Needs::Context, |session| {
        required(config)?;
        // SAFETY: the caller's CUlaunchConfig, read field by field: its attributes' ids are numbers of the caller's.
        let config = unsafe { &*config.cast::<std::mem::MaybeUninit<CUlaunchConfig>>() }.as_ptr();
        // SAFETY: as above; none of these fields has an invalid value.
        let (shape, stream, attributes, count) = unsafe {
            (
                Shape {
                    grid: [(*config).gridDimX, (*config).gridDimY, (*config).gridDimZ],
                    block: [
                        (*config).blockDimX,
                        (*config).blockDimY,
                        (*config).blockDimZ,
                    ],
                    shared_bytes: (*config).sharedMemBytes,
                },
                (*config).hStream as u64,
                (*config).attrs,
                (*config).numAttrs,
            )
        };
        if count > 0 {
            required(attributes)?;
        }
        for number in 0..count as usize {
            // SAFETY: `count` attributes; the id is read as a number.
            match unsafe { attributes.add(number).cast::<u32>().read_unaligned() } {
                IGNORE | PRIORITY => {}
                _ => return Err(super::device::refuse("cuLaunchKernelEx(attribute)")),
            }
        }
        // SAFETY: the caller's arguments.
        unsafe {
            launch(
                session,
                function,
                &shape,
                stream,
                params as *const *const c_void,
                extra as *const *const c_void,
            )
        }
    })
}
