//! What comes back with a module load, so that no later look-up in the module has to wait: its functions with their parameter
//! layouts and attributes, and its global variables.

use serde::{Deserialize, Serialize};

/// Most functions or globals of one module that a server reports and a client takes.
pub const MAX_SYMBOLS: usize = 65_536;
/// Most parameters of one kernel (CUDA's 32,764-byte parameter space holds no more than one byte each).
pub const MAX_PARAMS: usize = 32_764;

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ModuleTable {
    pub functions: Vec<FunctionEntry>,
    /// Whether the driver could list all functions; if not, a name that is missing here must be asked for.
    pub complete: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct FunctionEntry {
    pub name: String,
    /// (offset, size) of each parameter in the parameter buffer, in bytes.
    pub params: Vec<(u32, u32)>,
    /// CUfunction_attribute values, indexed by attribute number.
    pub attributes: Vec<i32>,
}

impl FunctionEntry {
    pub fn param_bytes(&self) -> usize {
        param_bytes(&self.params)
    }
}

/// Bytes of the buffer for parameters of these offsets and sizes: up to the end of the last one.
pub fn param_bytes(params: &[(u32, u32)]) -> usize {
    params
        .iter()
        .map(|&(offset, size)| offset as usize + size as usize)
        .max()
        .unwrap_or(0)
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct GlobalEntry {
    pub address: u64,
    pub size: u64,
}

/// Longest encoded table that either side takes.
pub const MAX_ENCODED: usize = 16 << 20;

/// bincode with the table's bound; the same settings on both sides.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_ENCODED>()
}

pub fn encode(table: &ModuleTable) -> Result<Vec<u8>, bincode::error::EncodeError> {
    bincode::serde::encode_to_vec(table, config())
}

pub fn decode(bytes: &[u8]) -> Result<ModuleTable, bincode::error::DecodeError> {
    bincode::serde::decode_from_slice(bytes, config()).map(|(table, _)| table)
}
