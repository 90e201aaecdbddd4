use std::ffi::c_void;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;

use crate::state::State;

/// Most operations of one batch, as CUDA has it.
const MOST: usize = 256;

/// CUstreamBatchMemOpParams.
pub type Operation = [u64; 6];

/// Operations as they travel.
pub fn operations(bytes: &[u8]) -> Result<Vec<Operation>, CudaError> {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (operations, odd) = words.as_chunks::<6>();
    if !rest.is_empty() || !odd.is_empty() || operations.len() > MOST {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(operations.to_vec())
}

pub fn rgpuStreamMemOps(state: &State, stream: *mut c_void, bytes: &[u8]) -> Result<(), CudaError> {
    let mut operations = operations(bytes)?;
    state.shared.stands.store(true, Ordering::Relaxed);
    // SAFETY: the stream is the driver's own; addresses are device memory, which the driver checks.
    unsafe {
        driver_call!(state.driver.cuStreamBatchMemOp_v2(
            stream,
            operations.len() as u32,
            operations.as_mut_ptr().cast(),
            0
        ))
    }
}
