//! Fills. Addresses are checked by the driver.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::calls::copy::landed;
use crate::gate::Work;
use crate::state::State;

pub fn rgpuMemset(
    state: &State,
    dst: u64,
    width: u32,
    value: u32,
    count: u64,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let count = usize::try_from(count).map_err(|_| CudaError::INVALID_VALUE)?;
    let driver = &state.driver;
    let bytes = (count as u64).saturating_mul(width.into());
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    // SAFETY: the range is checked by the driver.
    unsafe {
        match (width, sync != 0) {
            (1, true) => driver_call!(driver.cuMemsetD8_v2(dst, value as u8, count)),
            (1, false) => driver_call!(driver.cuMemsetD8Async(dst, value as u8, count, stream)),
            (2, true) => driver_call!(driver.cuMemsetD16_v2(dst, value as u16, count)),
            (2, false) => driver_call!(driver.cuMemsetD16Async(dst, value as u16, count, stream)),
            (4, true) => driver_call!(driver.cuMemsetD32_v2(dst, value, count)),
            (4, false) => driver_call!(driver.cuMemsetD32Async(dst, value, count, stream)),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }?;
    landed(state, stream, sync)
}

#[expect(clippy::too_many_arguments, reason = "cuMemsetD2D…'s own")]
pub fn rgpuMemset2D(
    state: &State,
    dst: u64,
    pitch: u64,
    element: u32,
    value: u32,
    width: u64,
    height: u64,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let word = |value: u64| usize::try_from(value).map_err(|_| CudaError::INVALID_VALUE);
    let (pitch, width, height) = (word(pitch)?, word(width)?, word(height)?);
    let bytes = pitch.saturating_mul(height) as u64;
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    let (driver, byte, short) = (&state.driver, value as u8, value as u16);
    // SAFETY: the range is checked by the driver.
    unsafe {
        match (element, sync != 0) {
            (1, true) => driver_call!(driver.cuMemsetD2D8_v2(dst, pitch, byte, width, height)),
            (1, false) => {
                driver_call!(driver.cuMemsetD2D8Async(dst, pitch, byte, width, height, stream))
            }
            (2, true) => driver_call!(driver.cuMemsetD2D16_v2(dst, pitch, short, width, height)),
            (2, false) => {
                driver_call!(driver.cuMemsetD2D16Async(dst, pitch, short, width, height, stream))
            }
            (4, true) => driver_call!(driver.cuMemsetD2D32_v2(dst, pitch, value, width, height)),
            (4, false) => {
                driver_call!(driver.cuMemsetD2D32Async(dst, pitch, value, width, height, stream))
            }
            _ => Err(CudaError::INVALID_VALUE),
        }
    }
}
