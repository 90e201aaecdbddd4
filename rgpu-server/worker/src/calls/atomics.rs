use rgpu_proto::CudaError;

use crate::state::State;

/// More than cuda.h has operations, so that one call can ask for all.
const MOST: usize = 1 << 12;

pub fn rgpuPeerAtomics(
    state: &State,
    src: i32,
    dst: i32,
    operations: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let (operations, rest) = operations.as_chunks::<4>();
    if !rest.is_empty() || operations.is_empty() || operations.len() > MOST {
        return Err(CudaError::INVALID_VALUE);
    }
    let operations: Vec<u32> = operations.iter().map(|o| u32::from_le_bytes(*o)).collect();
    let mut found = vec![0_u32; operations.len()];
    // SAFETY: both lists are as long as is said.
    unsafe {
        driver_call!(state.driver.cuDeviceGetP2PAtomicCapabilities(
            found.as_mut_ptr(),
            operations.as_ptr(),
            operations.len() as u32,
            src,
            dst
        ))
    }?;
    reply.extend(found.iter().flat_map(|mask| mask.to_le_bytes()));
    Ok(())
}
