//! Pinned memory of the client's program.

use rgpu_proto::CudaError;

use crate::state::State;

pub fn rgpuHostShare(state: &State, base: u64, bytes: u64, inode: u64) -> Result<(), CudaError> {
    let descriptors = &state.shared.descriptors;
    let file = descriptors.take(inode);
    if file.is_none() && !descriptors.expect() {
        return Err(CudaError::NOT_READY);
    }
    let mut blocks = state.shared.zero_copy();
    blocks.add(&state.driver, file, base, bytes)
}

pub fn rgpuHostUnshare(state: &State, base: u64) -> Result<(), CudaError> {
    state.shared.zero_copy().remove(&state.driver, base)
}
