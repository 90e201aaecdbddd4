//! Kernel launches: what depends only on the arguments is judged here, so that it returns at the call.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names, contracts and signatures are cuda.h's.

use std::ffi::c_void;

use cudarc::driver::sys::{CUlaunchAttribute, CUlaunchConfig};
use rgpu_proto::CudaError;
use rgpu_proto::launch::{self, Attribute};

use super::context::device_of;
use super::device::refuse;
use super::function::{MAX_DYNAMIC_SHARED_SIZE_BYTES, MAX_THREADS_PER_BLOCK, SHARED_SIZE_BYTES};
use super::library::callee_here;
use super::occupancy::check_cooperative;
use super::reach::reach;
use crate::entry::{Needs, enter, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::{params, send, thread};

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

/// What a launch sends: the function, and its parameters.
pub struct Prepared {
    pub function: u64,
    /// The function's.
    pub context: u64,
    pub params: Vec<u8>,
    /// Only the driver knows whether it takes a block of this shape.
    pub is_unsure: bool,
}

/// Checks a launch against the function and the device, and gathers its parameters. `callee` is a function, or a library's kernel, which
/// then becomes a function of `context`.
///
/// # Safety
/// `values` and `extra` are as cuLaunchKernel documents them.
pub unsafe fn prepare(
    session: &Session,
    callee: u64,
    context: u64,
    shape: &Shape,
    values: *const *const c_void,
    extra: *const *const c_void,
) -> Result<Prepared, CudaError> {
    let callee = callee_here(session, callee)?;
    let mut modules = session.modules();
    let function = modules.callable(session, callee, context)?;
    let held = modules.functions.get_mut(&function);
    let held = held.ok_or(CudaError::INVALID_HANDLE)?;
    let device = session.devices.get(held.device)?;
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
    let params = unsafe { params::gather(&held.entry, values, extra) }?;
    // A kernel may want blocks of one shape (`.reqntid`), which no attribute tells; it then has no more threads than that.
    let most = of_function(MAX_THREADS_PER_BLOCK).unwrap_or(0);
    let has_own = most > 0 && most < limit(1)?;
    let is_usual = u64::from(shape.block[0]) == most && threads == most;
    held.loaded = true;
    let prepared = Prepared {
        function,
        context: held.context,
        params,
        is_unsure: has_own && !is_usual && !held.blocks.contains(&shape.block),
    };
    drop(modules);
    reach(session, &prepared.params)?;
    Ok(prepared)
}

/// The context that a stream's work is in.
fn context_of(session: &Session, stream: u64) -> Result<u64, CudaError> {
    match session.handles.context_of(Kind::Stream, stream)? {
        0 => Ok(session.owner()),
        context => Ok(session.base_of(context)),
    }
}

/// A CUlaunchConfig, with the attributes that say more than a launch without them does.
pub struct Config {
    pub shape: Shape,
    pub stream: u64,
    pub attributes: Vec<Attribute>,
}

impl Config {
    /// # Safety
    /// `config` is NULL or a CUlaunchConfig, whose attributes are as many as it says.
    pub unsafe fn read(session: &Session, config: *const c_void) -> Result<Config, CudaError> {
        const IGNORE: u32 = 0;
        const DEVICE_UPDATABLE_KERNEL_NODE: u32 = 13;
        required(config)?;
        // Read field by field: its attributes' ids are numbers of the caller's.
        let config = config.cast::<CUlaunchConfig>();
        // SAFETY: the caller's struct; none of these fields has an invalid value.
        let (shape, stream, list, count) = unsafe {
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
                (*config).attrs.cast::<u8>(),
                (*config).numAttrs as usize,
            )
        };
        if count > launch::MAX_ATTRIBUTES {
            return Err(CudaError::INVALID_VALUE);
        }
        if count > 0 {
            required(list)?;
        }
        let mut attributes = Vec::new();
        for number in 0..count {
            // SAFETY: `count` attributes, each an id and a value of 64 bytes, 8 behind its beginning.
            let (id, value) = unsafe {
                let attribute = list.add(number * size_of::<CUlaunchAttribute>());
                (
                    attribute.cast::<u32>().read_unaligned(),
                    attribute.add(8).cast::<[u64; 4]>().read_unaligned(),
                )
            };
            let low = value[0] as u32;
            match id {
                // The last ones are hints of later CUDA versions.
                IGNORE | 15..=20 => {}
                launch::COOPERATIVE if low == 0 => {}
                launch::CLUSTER_DIMENSION => {
                    let size = [low, (value[0] >> 32) as u32, value[1] as u32];
                    if size != [1; 3] {
                        // The device says by an attribute of its own whether it has clusters.
                        attributes.push((id, value));
                    }
                }
                DEVICE_UPDATABLE_KERNEL_NODE if low == 0 => {}
                DEVICE_UPDATABLE_KERNEL_NODE => {
                    return Err(refuse("cuLaunchKernelEx(device-updatable node)"));
                }
                _ if launch::is_served(id) => {
                    if launch::has_event(id) {
                        session.handles.check(Kind::Event, value[0])?;
                    }
                    attributes.push((id, value));
                }
                _ => return Err(CudaError::INVALID_VALUE),
            }
        }
        Ok(Config {
            shape,
            stream,
            attributes,
        })
    }
}

/// # Safety
/// `values` and `extra` are as cuLaunchKernel documents them.
pub unsafe fn launch(
    session: &Session,
    callee: u64,
    config: &Config,
    values: *const *const c_void,
    extra: *const *const c_void,
) -> Result<(), CudaError> {
    let context = context_of(session, config.stream)?;
    // SAFETY: the caller's promise.
    let Prepared {
        function,
        context: owner,
        params,
        is_unsure,
    } = unsafe { prepare(session, callee, context, &config.shape, values, extra) }?;
    if owner != context {
        return Err(CudaError::INVALID_HANDLE);
    }
    if is_unsure {
        thread::at_once(|| play(session, function, config, &params))?;
        return note_block(session, function, config.shape.block);
    }
    play(session, function, config, &params)
}

/// The driver has taken a block of this shape: launches of such need not wait any more.
fn note_block(session: &Session, function: u64, block: [u32; 3]) -> Result<(), CudaError> {
    const MOST: usize = 64;
    let mut modules = session.modules();
    if let Some(held) = modules.functions.get_mut(&function)
        && held.blocks.len() < MOST
    {
        held.blocks.push(block);
    }
    Ok(())
}

fn play(session: &Session, function: u64, config: &Config, params: &[u8]) -> Result<(), CudaError> {
    let Shape {
        grid: grid @ [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = config.shape;
    let context = context_of(session, config.stream)?;
    let asks_for = |wanted: u32| config.attributes.iter().any(|(id, _)| *id == wanted);
    if asks_for(launch::CLUSTER_DIMENSION) && !has_clusters(session, context) {
        return Err(CudaError::NOT_SUPPORTED);
    }
    if asks_for(launch::COOPERATIVE) {
        check_cooperative(session, function, grid, bx * by * bz, shared_bytes)?;
    }
    let stream = config.stream;
    if config.attributes.is_empty() {
        return send::rgpuLaunch(
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
            params,
        );
    }
    send::rgpuLaunchEx(
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
        &launch::encode(&config.attributes),
        params,
    )
}

fn has_clusters(session: &Session, context: u64) -> bool {
    const CLUSTER_LAUNCH: i32 = 120;
    let device = device_of(session, context).and_then(|device| session.devices.get(device));
    device.is_ok_and(|device| device.attribute(CLUSTER_LAUNCH).is_ok_and(|can| can != 0))
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
    Of::Handle(stream).enter("cuLaunchKernel", Needs::Context, |session| {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes,
        };
        let config = Config {
            shape,
            stream,
            attributes: Vec::new(),
        };
        // SAFETY: the caller's arguments.
        unsafe {
            launch(
                session,
                function,
                &config,
                params as *const *const c_void,
                extra as *const *const c_void,
            )
        }
    })
}

pub unsafe fn cuLaunchCooperativeKernel(
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
) -> u32 {
    Of::Handle(stream).enter("cuLaunchCooperativeKernel", Needs::Context, |session| {
        let config = Config {
            shape: Shape {
                grid: [grid_x, grid_y, grid_z],
                block: [block_x, block_y, block_z],
                shared_bytes,
            },
            stream,
            attributes: vec![(launch::COOPERATIVE, [1, 0, 0, 0])],
        };
        // SAFETY: the caller's arguments.
        unsafe {
            launch(
                session,
                function,
                &config,
                params as *const *const c_void,
                std::ptr::null(),
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
    enter("cuLaunchKernelEx", Needs::Context, |session| {
        // SAFETY: the caller's arguments.
        unsafe {
            let config = Config::read(session, config)?;
            launch(
                session,
                function,
                &config,
                params as *const *const c_void,
                extra as *const *const c_void,
            )
        }
    })
}

pub unsafe fn cuLaunchKernelEx_ptsz(
    config: *const c_void,
    function: u64,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    enter("cuLaunchKernelEx_ptsz", Needs::Context, |session| {
        // SAFETY: the caller's arguments.
        unsafe {
            let mut config = Config::read(session, config)?;
            config.stream = crate::per_thread(config.stream);
            launch(
                session,
                function,
                &config,
                params as *const *const c_void,
                extra as *const *const c_void,
            )
        }
    })
}
