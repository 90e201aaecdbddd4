use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::state::State;

/// A CUtensorMap; drivers want it aligned.
#[repr(C, align(128))]
struct Map([u8; 128]);

const MOST_DIMENSIONS: u32 = 5;

/// Numbers of one size from the beginning of the lists.
fn take<const N: usize, T>(
    lists: &mut &[u8],
    count: usize,
    number: fn([u8; N]) -> T,
) -> Result<Vec<T>, CudaError> {
    let (taken, rest) = lists
        .split_at_checked(count * N)
        .ok_or(CudaError::INVALID_VALUE)?;
    *lists = rest;
    Ok(taken
        .as_chunks::<N>()
        .0
        .iter()
        .map(|bytes| number(*bytes))
        .collect())
}

#[expect(clippy::too_many_arguments, reason = "the map's own")]
pub fn rgpuTensorMap(
    state: &State,
    kind: u32,
    data_type: u32,
    rank: u32,
    address: u64,
    channels: u32,
    pixels: u32,
    interleave: u32,
    mode: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
    mut lists: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    if !(1..=MOST_DIMENSIONS).contains(&rank) {
        return Err(CudaError::INVALID_VALUE);
    }
    let dimensions = rank as usize;
    let lists = &mut lists;
    let dims = take(lists, dimensions, u64::from_le_bytes)?;
    let mut strides = take(lists, dimensions - 1, u64::from_le_bytes)?;
    // A list of none has no place.
    strides.push(0);
    let driver = &state.driver;
    let mut map = Map([0; 128]);
    let place: *mut c_void = (&raw mut map).cast();
    match kind {
        0 => {
            let tile = take(lists, dimensions, u32::from_le_bytes)?;
            let steps = take(lists, dimensions, u32::from_le_bytes)?;
            // SAFETY: lists of as many elements as there are dimensions; the address is only encoded.
            unsafe {
                driver_call!(driver.cuTensorMapEncodeTiled(
                    place,
                    data_type,
                    rank,
                    address,
                    dims.as_ptr(),
                    strides.as_ptr(),
                    tile.as_ptr(),
                    steps.as_ptr(),
                    interleave,
                    swizzle,
                    promotion,
                    fill
                ))
            }?;
        }
        1 => {
            let corners = dimensions.saturating_sub(2);
            let mut lower = take(lists, corners, i32::from_le_bytes)?;
            let mut upper = take(lists, corners, i32::from_le_bytes)?;
            // Whatever a driver reads for a rank that it refuses.
            lower.resize(MOST_DIMENSIONS as usize, 0);
            upper.resize(MOST_DIMENSIONS as usize, 0);
            let steps = take(lists, dimensions, u32::from_le_bytes)?;
            // SAFETY: lists of as many elements as there are dimensions, or more; the address is only encoded.
            unsafe {
                driver_call!(driver.cuTensorMapEncodeIm2col(
                    place,
                    data_type,
                    rank,
                    address,
                    dims.as_ptr(),
                    strides.as_ptr(),
                    lower.as_ptr(),
                    upper.as_ptr(),
                    channels,
                    pixels,
                    steps.as_ptr(),
                    interleave,
                    swizzle,
                    promotion,
                    fill
                ))
            }?;
        }
        2 => {
            let corners = take(lists, 2, i32::from_le_bytes)?;
            let steps = take(lists, dimensions, u32::from_le_bytes)?;
            // SAFETY: as above.
            unsafe {
                driver_call!(driver.cuTensorMapEncodeIm2colWide(
                    place,
                    data_type,
                    rank,
                    address,
                    dims.as_ptr(),
                    strides.as_ptr(),
                    corners[0],
                    corners[1],
                    channels,
                    pixels,
                    steps.as_ptr(),
                    interleave,
                    mode,
                    swizzle,
                    promotion,
                    fill
                ))
            }?;
        }
        _ => return Err(CudaError::INVALID_VALUE),
    }
    reply.extend(map.0);
    Ok(())
}

pub fn rgpuTensorMapAddress(
    state: &State,
    address: u64,
    before: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut map = Map(before.try_into().map_err(|_| CudaError::INVALID_VALUE)?);
    // SAFETY: a map's bytes, whatever they say: the driver changes their address.
    unsafe {
        driver_call!(
            state
                .driver
                .cuTensorMapReplaceAddress((&raw mut map).cast(), address)
        )
    }?;
    reply.extend(map.0);
    Ok(())
}
