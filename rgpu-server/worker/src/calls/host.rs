//! Pinned memory of the client's program.

use rgpu_proto::CudaError;

use crate::state::State;

pub fn rgpuHostShare(state: &State, base: u64, bytes: u64, inode: u64) -> Result<(), CudaError> {
    let file = state.shared.descriptors.take(inode);
    let mut blocks = state.shared.zero_copy();
    blocks.add(&state.driver, file, base, bytes)
}

pub fn rgpuHostUnshare(state: &State, base: u64) -> Result<(), CudaError> {
    state.shared.zero_copy().remove(&state.driver, base)
}
