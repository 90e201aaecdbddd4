//! A kernel that is ready to run, and what lowering builds it from.

use std::collections::HashMap;

use crate::lanes::Op;

/// Value of a constant's strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Constant {
    Bits(u64),
    /// Address of a module variable, plus an offset.
    Global(usize, i64),
}

/// Special registers that do not change while a block runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    MaskEq,
    MaskLe,
    MaskLt,
    MaskGe,
    MaskGt,
    DynamicShared,
    TotalShared,
    WorkspaceHigh,
    WorkspaceLow,
    Zero,
    One,
}

impl Special {
    /// Whether all lanes of a block have the same.
    pub fn is_uniform(self) -> bool {
        use Special::*;
        match self {
            Ntid(_) | Ctaid(_) | Nctaid(_) | NWarpId | DynamicShared | TotalShared
            | WorkspaceHigh | WorkspaceLow | Zero | One => true,
            Tid(_) | LaneId | WarpId | MaskEq | MaskLe | MaskLt | MaskGe | MaskGt => false,
        }
    }
}

/// Strips of a function's registers, as half-open ranges of offsets, and its predicates: what a recursive call saves.
#[derive(Debug, Clone, Default)]
pub struct Region {
    pub wide: (u32, u32),
    pub word: (u32, u32),
    pub half: (u32, u32),
    pub preds: (u32, u32),
}

#[derive(Debug, Clone, Default)]
pub struct FunctionCode {
    pub name: String,
    pub entry: u32,
    /// Bytes of its frame in local memory.
    pub frame: u64,
    pub recursive: bool,
    pub region: Region,
}

pub struct Kernel {
    pub name: String,
    pub code: Vec<Op>,
    /// Of each operation: line, and index of its opcode in `opcodes`.
    pub origin: Vec<(u32, u32)>,
    pub opcodes: Vec<String>,
    pub lists: Vec<u32>,
    /// Where registers of 32 and of 16 bits begin, as offsets.
    pub words_from: u32,
    pub halves_from: u32,
    /// What is known of each strip when a block starts.
    pub facts: Vec<u8>,
    /// Bytes of registers of one lane.
    pub reg_bytes: usize,
    pub preds: usize,
    /// (offset, size, value)
    pub constants: Vec<(u32, u32, Constant)>,
    pub specials: Vec<(u32, Special)>,
    pub shared: u64,
    pub local: u64,
    /// The part of it in which frames lie.
    pub frames: u64,
    /// Uses instructions in which the lanes of a warp meet.
    pub warps: bool,
    /// Has barriers.
    pub barriers: bool,
    /// `functions[0]` is the kernel itself.
    pub functions: Vec<FunctionCode>,
    /// Code address of a function to its index.
    pub by_handle: HashMap<u64, usize>,
}

/// The value that stands for a function's address; never a device address, since it lies in no window.
pub fn function_handle(index: usize) -> u64 {
    (index as u64 + 1) << 4
}
