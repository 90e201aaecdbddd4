use std::ffi::c_void;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;

use crate::gate::{Stand, Work};
use crate::state::State;

/// Most operations of one batch, as CUDA has it.
const MOST: usize = 256;

/// CU_STREAM_MEM_OP_WAIT_VALUE_32 and _64.
const WAIT_32: u32 = 1;
const WAIT_64: u32 = 4;

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
    let is_wait = |operation: &Operation| matches!(operation[0] as u32, WAIT_32 | WAIT_64);
    let waits = operations.iter().any(is_wait);
    // What is written may let other streams go on.
    let _turn = state.work(stream, Work::Nothing, false)?;
    match state.shared.gates.get() {
        Some(gates) if waits => gates.stand(state, stream, Stand::Surely, || {
            put(state, stream, &mut operations)
        }),
        _ => put(state, stream, &mut operations),
    }
}

fn put(state: &State, stream: *mut c_void, operations: &mut [Operation]) -> Result<(), CudaError> {
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
