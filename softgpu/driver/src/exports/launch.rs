//! Launches.

use super::{Handle, call};
use crate::abi::{In, LaunchAttribute, LaunchConfig};
use crate::capture;
use crate::error::{Error, Result};
use crate::graph::Operation;
use crate::launch::{Arguments, Launch};
use crate::library;
use crate::runtime::Runtime;
use crate::stream::Stream;
use crate::task::{HostCall, HostFunction, Work};

const ATTRIBUTE_IGNORE: u32 = 0;
const ATTRIBUTE_COOPERATIVE: u32 = 2;
const ATTRIBUTE_CLUSTER: u32 = 4;
const MAX_ATTRIBUTES: u32 = 64;

struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
}

fn launch(
    runtime: &'static Runtime,
    function: Handle,
    shape: Shape,
    stream: Handle,
    arguments: Arguments,
    cooperative: bool,
) -> Result {
    let stream = Stream::find(runtime, stream)?;
    // A library's kernel runs in the stream's context.
    let function = library::function(runtime, function, || Ok(stream.context.clone()))?;
    let Shape {
        grid,
        block,
        shared,
    } = shape;
    let mut launch = Launch::new(function, grid, block, shared, arguments)?;
    if cooperative {
        launch = launch.cooperative()?;
    }
    launch.enqueue(runtime, &stream)
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: Handle,
    params: In<u64>,
    extra: In<u64>,
) -> u32 {
    call(|runtime| {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
        };
        launch(
            runtime,
            function,
            shape,
            stream,
            Arguments { params, extra },
            false,
        )
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuLaunchCooperativeKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: Handle,
    params: In<u64>,
) -> u32 {
    call(|runtime| {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
        };
        launch(
            runtime,
            function,
            shape,
            stream,
            Arguments {
                params,
                extra: In::null(),
            },
            true,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernelEx(
    config: In<LaunchConfig>,
    function: Handle,
    params: In<u64>,
    extra: In<u64>,
) -> u32 {
    call(|runtime| {
        let config = config.get()?;
        if config.attribute_count > MAX_ATTRIBUTES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        // SAFETY: the C caller's configuration leads to as many attributes as it says.
        let attributes = unsafe { In::<LaunchAttribute>::at(config.attributes) };
        let mut cooperative = false;
        for attribute in attributes.list(config.attribute_count as usize)? {
            match attribute.id {
                ATTRIBUTE_COOPERATIVE => cooperative = attribute.value[0] as u32 != 0,
                ATTRIBUTE_CLUSTER => {
                    let ([a, b], [c, _]) = (halves(attribute.value[0]), halves(attribute.value[1]));
                    // A cluster of one block is none.
                    if [a, b, c] != [1, 1, 1] {
                        return Err(Error::ERROR_NOT_SUPPORTED);
                    }
                }
                // Hints: priority, synchronisation policy, caching, …
                ATTRIBUTE_IGNORE | 1..=20 => {}
                _ => return Err(Error::ERROR_INVALID_VALUE),
            }
        }
        let shape = Shape {
            grid: config.grid,
            block: config.block,
            shared: config.shared,
        };
        launch(
            runtime,
            function,
            shape,
            config.stream,
            Arguments { params, extra },
            cooperative,
        )
    })
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(
    stream: Handle,
    function: Option<extern "C" fn(u64)>,
    data: u64,
) -> u32 {
    call(|runtime| {
        let function = function.ok_or(Error::ERROR_INVALID_VALUE)?;
        let stream = Stream::find(runtime, stream)?;
        if capture::takes(runtime, &stream, || Ok(Operation::Host(function, data)))? {
            return Ok(());
        }
        let function = HostFunction::Plain(function);
        stream.enqueue(Work::Host(HostCall { function, data }), &[]);
        Ok(())
    })
}

/// How the thread that calls the functions waits for them is its own matter.
#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc_v2(
    stream: Handle,
    function: Option<extern "C" fn(u64)>,
    data: u64,
    sync_mode: u32,
) -> u32 {
    const SPIN_WAIT: u32 = 1;
    if sync_mode > SPIN_WAIT {
        return call(|_| Err(Error::ERROR_INVALID_VALUE));
    }
    cuLaunchHostFunc(stream, function, data)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAddCallback(
    stream: Handle,
    callback: Option<extern "C" fn(u64, u32, u64)>,
    data: u64,
    flags: u32,
) -> u32 {
    call(|runtime| {
        let callback = callback
            .filter(|_| flags == 0)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let function = HostFunction::Callback(stream, callback);
        let stream = Stream::find(runtime, stream)?;
        capture::forbid(&stream)?;
        stream.enqueue(Work::Host(HostCall { function, data }), &[]);
        Ok(())
    })
}
