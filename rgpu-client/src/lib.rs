//! The client of remote GPUs: one program-ordered command stream to each worker, a mirror of what the worker holds, and the client half
//! of every CUDA call. The shims put C names on it; tests and benches use it as it is.
//!
//! Invariants: nothing waits unless the call table says why; a call's arguments are judged here, by the mirror, before anything is sent;
//! no signal handler, no allocation trick; no thread of its own until the program gives it a function to run, or one server must wait for
//! another while the program is waited for.

mod ahead;
mod area;
mod arrays;
mod bulk;
pub mod calls;
mod compression;
mod config;
mod content;
mod control;
mod device;
pub mod entry;
mod environment;
mod finished;
#[path = "gen/mod.rs"]
mod generated;
mod greeting;
mod handles;
mod heap;
mod image;
mod ipc;
mod jit;
pub mod log;
pub mod monitor;
mod node_params;
mod pages;
mod params;
mod pool;
mod process;
mod references;
mod relay;
mod servers;
mod session;
mod shared;
mod staging;
mod standing;
mod stats;
mod thread;
mod trace;
mod transfer;
mod virtual_memory;
mod wire;

pub use config::Config;
pub use generated::{send, stubs};
pub use rgpu_proto::CudaError;
pub use rgpu_proto::ipc::IpcHandle;
pub use session::Session;

/// A function of cuda.h without an entry in the table: says its name once, is counted, and returns CUDA_ERROR_NOT_SUPPORTED.
pub fn unsupported(name: &'static str) -> u32 {
    refused(name, "", CudaError::NOT_SUPPORTED)
}

/// A function of cuda.h that is refused: says its name and why once, is counted, and returns the code that CUDA documents.
pub fn refused(name: &'static str, reason: &'static str, code: CudaError) -> u32 {
    entry::enter(name, entry::Needs::Session, |_| {
        stats::unsupported(name, reason, code);
        Err(code)
    })
}

/// The stream that a call's form for the per-thread default stream means: NULL is CU_STREAM_PER_THREAD to it.
pub fn per_thread(stream: u64) -> u64 {
    const PER_THREAD: u64 = 2;
    if stream == 0 { PER_THREAD } else { stream }
}
