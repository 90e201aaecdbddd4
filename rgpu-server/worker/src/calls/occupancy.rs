use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuOccupancyClustersReply, rgpuOccupancySharedReply};

use crate::calls::launch::{Attributes, Shape};
use crate::state::State;

/// Threads of a block, and its dynamic shared memory.
const WIDTH: usize = 12;
/// More sizes of a block than there are.
const MAX_SIZES: usize = 4096;

pub fn rgpuOccupancyBlocks(
    state: &State,
    function: *mut c_void,
    flags: u32,
    sizes: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let (sizes, rest) = sizes.as_chunks::<WIDTH>();
    if !rest.is_empty() || sizes.len() > MAX_SIZES {
        return Err(CudaError::INVALID_VALUE);
    }
    for size in sizes {
        let [t0, t1, t2, t3, shared @ ..] = *size;
        let (threads, shared) = (
            i32::from_le_bytes([t0, t1, t2, t3]),
            u64::from_le_bytes(shared),
        );
        let mut blocks = 0;
        // SAFETY: a function of the driver's, a place for the number.
        unsafe {
            driver_call!(
                state
                    .driver
                    .cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
                        &mut blocks,
                        function,
                        threads,
                        shared as usize,
                        flags
                    )
            )
        }?;
        reply.extend_from_slice(&blocks.to_le_bytes());
    }
    Ok(())
}

pub fn rgpuOccupancyShared(
    state: &State,
    function: *mut c_void,
    blocks: i32,
    block_size: i32,
    out: &mut rgpuOccupancySharedReply,
) -> Result<(), CudaError> {
    let mut bytes = 0;
    // SAFETY: a function of the driver's, a place for the number.
    unsafe {
        driver_call!(
            state
                .driver
                .cuOccupancyAvailableDynamicSMemPerBlock(&mut bytes, function, blocks, block_size)
        )
    }?;
    out.bytes.set(bytes as u64);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a launch's own")]
pub fn rgpuOccupancyClusters(
    state: &State,
    function: *mut c_void,
    what: u32,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    attributes: &[u8],
    out: &mut rgpuOccupancyClustersReply,
) -> Result<(), CudaError> {
    let mut attributes = Attributes::translate(state, attributes)?;
    let shape = Shape {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        shared_bytes,
    };
    let config = attributes.config(&shape, std::ptr::null_mut());
    let config = (&raw const config).cast();
    let mut value = 0;
    // SAFETY: a function of the driver's, a configuration whose attributes live until here, a place for the number.
    unsafe {
        match what {
            0 => driver_call!(
                state
                    .driver
                    .cuOccupancyMaxPotentialClusterSize(&mut value, function, config)
            ),
            _ => driver_call!(
                state
                    .driver
                    .cuOccupancyMaxActiveClusters(&mut value, function, config)
            ),
        }
    }?;
    out.value.set(value);
    Ok(())
}
