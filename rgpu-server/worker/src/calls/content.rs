use std::ffi::c_void;

use rgpu_content::What;
use rgpu_proto::CudaError;

use crate::calls::{copy, library, module};
use crate::content::Contents;
use crate::handles::Kind;
use crate::state::State;

/// Who was told nothing can name nothing.
fn contents(state: &State) -> Result<&Contents, CudaError> {
    state.shared.content.get().ok_or(CudaError::INVALID_VALUE)
}

pub fn rgpuModuleLoadKnown(state: &State, id: u64, known: u32) -> Result<(), CudaError> {
    let found = contents(state).and_then(|contents| contents.code(known));
    match found {
        Ok((What::Module { max_registers, .. }, image)) => {
            module::load(state, id, image, 0, *max_registers).0?;
            Ok(())
        }
        other => {
            let error = other.err().unwrap_or(CudaError::INVALID_VALUE);
            state.handles.poison(Kind::Module, id, error);
            Err(error)
        }
    }
}

pub fn rgpuLibraryLoadKnown(state: &State, id: u64, known: u32) -> Result<(), CudaError> {
    match contents(state)?.code(known)? {
        (What::Library { options, .. }, image) => library::load_known(state, id, image, options),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub fn rgpuCopyInKnown(
    state: &State,
    dst: u64,
    stream: *mut c_void,
    sync: u32,
    known: u32,
) -> Result<(), CudaError> {
    let bytes = contents(state)?.piece(known)?;
    copy::copy_in(state, dst, stream, sync, bytes)
}
