use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuTexture1DWidthReply;

use crate::state::State;

pub fn rgpuTexture1DWidth(
    state: &State,
    format: u32,
    channels: u32,
    device: i32,
    out: &mut rgpuTexture1DWidthReply,
) -> Result<(), CudaError> {
    let mut width = 0;
    // SAFETY: a place for the number.
    unsafe {
        driver_call!(
            state
                .driver
                .cuDeviceGetTexture1DLinearMaxWidth(&mut width, format, channels, device)
        )
    }?;
    out.width.set(width as u64);
    Ok(())
}
