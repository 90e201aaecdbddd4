//! Runs PTX modules on the CPU.
//!
//! An [`Engine`] compiles a module to a [`Program`]; a program starts blocks; a [`Block`] runs for a budget of
//! instructions and says whether it is done. Blocks of one launch may run on several threads at once, and may be put
//! aside between runs, so that blocks that wait for each other make progress. No I/O here, no signal handlers: a bad
//! access is an [`Outcome::Fault`].

use std::sync::Arc;

mod access;
mod arena;
mod arith;
mod atomics;
mod bits;
mod block;
mod build;
mod calls;
mod compare;
mod compute;
mod control;
mod copies;
mod cvt;
mod facts;
mod float;
pub mod forms;
mod half;
mod heap;
mod instructions;
mod kernel;
mod lanes;
mod layout;
mod lower;
mod matrix;
mod mbarrier;
pub mod memory;
mod pattern;
mod print;
mod program;
mod rare;
mod residue;
mod small_formats;
mod special;
mod splits;
mod stack;
pub mod texture;
mod transfer;
mod uncommon;
mod video;
mod warps;

pub use heap::Heap;
pub use memory::AddressSpace;
use softgpu_ptx::Module;

/// Why a module or a kernel cannot be run, naming what the engine does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{function}, line {line}: {message}")]
pub struct CompileError {
    pub function: String,
    pub line: u32,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    pub offset: u32,
    pub size: u32,
    pub align: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelInfo {
    pub name: String,
    pub params: Vec<ParamInfo>,
    /// Bytes of the parameter buffer, up to the end of the last parameter.
    pub param_bytes: u32,
    pub static_shared: u32,
    /// Local memory of one thread, in bytes.
    pub local_bytes: u32,
    /// 32-bit registers of one thread, an estimate for cuFuncGetAttribute.
    pub registers: u32,
    /// Largest block that can be launched.
    pub max_threads: u32,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    /// Calls device-side `malloc` or `free`.
    pub uses_heap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalSpace {
    Global,
    Const,
}

/// A variable that the driver places in device memory before the first launch.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalInfo {
    pub name: String,
    pub space: GlobalSpace,
    pub size: u64,
    pub align: u64,
    /// False when the variable is all zeroes at start.
    pub initialised: bool,
    /// Whether cuModuleGetGlobal may name it.
    pub visible: bool,
    /// For textures, samplers and surfaces: with how lookups go unless the program says otherwise. The address is then
    /// a handle, and what is there is of no interest.
    pub opaque: Option<(texture::Opaque, texture::Sampler)>,
    /// Host and device share it.
    pub managed: bool,
}

/// How closely accesses are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckLevel {
    /// Residency of pages.
    #[default]
    Pages,
}

/// What all blocks of a launch have in common.
#[derive(Clone, Copy)]
pub struct LaunchContext<'a> {
    /// Index into [`Program::kernels`].
    pub kernel: usize,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter buffer; bytes beyond its end read as zero.
    pub params: &'a [u8],
    /// Addresses of the variables of [`Program::globals`], in that order.
    pub globals: &'a [u64],
    pub memory: &'a AddressSpace,
    pub check: CheckLevel,
    /// What device-side `malloc` allocates from; without one it gives no memory.
    pub heap: Option<&'a Heap>,
    /// What the blocks of a cooperative launch wait for each other by, as `%envreg1` and `%envreg2` say; 0: there is none.
    pub workspace: u64,
    /// Receives what device printf prints.
    pub print: Option<&'a (dyn Fn(&str) + Sync)>,
    /// Textures, samplers and surfaces; without it no handle is one.
    pub objects: Option<&'a dyn texture::Objects>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    IllegalAddress,
    Misaligned,
    IllegalInstruction,
    InvalidAddressSpace,
    /// A handle that stands for no texture, sampler or surface; it takes the place of the address.
    Object(&'static str),
    /// `trap`
    Trap,
    /// Device-side assert, with its text.
    Assert(String),
    /// Calls nested too deep, or a parameter that cannot be launched; with what it was.
    Launch(String),
}

/// What ended a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    /// The address that was accessed, where there is one.
    pub address: u64,
    /// Line of the instruction in the PTX text.
    pub line: u32,
    /// The instruction's opcode.
    pub instruction: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [bx, by, bz] = self.block;
        let [tx, ty, tz] = self.thread;
        write!(
            f,
            "{:?} at address {:#x} by {} of kernel {}, line {}, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})",
            self.kind, self.address, self.instruction, self.kernel, self.line
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The budget is spent, or the block waits for others; run it again.
    Yielded,
    Fault(Fault),
}

pub trait Engine: Send + Sync {
    /// Take a module. Kernels are compiled when they are first prepared, so that an instruction which the engine does
    /// not know costs only those who launch it.
    fn compile(&self, module: &Module) -> Result<Arc<dyn Program>, CompileError>;
}

pub trait Program: Send + Sync {
    fn kernels(&self) -> &[KernelInfo];

    fn globals(&self) -> &[GlobalInfo];

    /// First contents of a variable, with the addresses of others filled in from `placed`.
    fn initial_image(&self, global: usize, placed: &[u64]) -> Vec<u8>;

    /// Compile a kernel, once. A launch of one that was refused faults with the same message.
    fn prepare(&self, kernel: usize) -> Result<(), CompileError>;

    /// How many blocks of a launch are best run as one: small blocks side by side fill the vector registers.
    fn gang(&self, launch: &LaunchContext<'_>) -> usize;

    /// Start up to [`Self::gang`] blocks that run together and are done together.
    fn start_blocks<'a>(
        &'a self,
        launch: &'a LaunchContext<'a>,
        blocks: &[[u32; 3]],
    ) -> Box<dyn Block + 'a>;

    fn start_block<'a>(
        &'a self,
        launch: &'a LaunchContext<'a>,
        block: [u32; 3],
    ) -> Box<dyn Block + 'a> {
        self.start_blocks(launch, &[block])
    }
}

pub trait Block: Send {
    /// Run about `budget` instructions (of the whole block, not per thread).
    fn run(&mut self, budget: u64) -> Outcome;

    /// Instructions run so far.
    fn instructions(&self) -> u64;

    /// Let threads that went other ways run after so many backward branches at most. What a program may rely on does not
    /// depend on it.
    fn rotate_after(&mut self, _branches: u32) {}
}

/// The engine that is there: a lockstep interpreter over all lanes of a block.
pub fn interpreter() -> Box<dyn Engine> {
    Box::new(program::Interpreter)
}
