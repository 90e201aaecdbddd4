//! One session's worker: plays the client's command stream on a CUDA driver.
//!
//! Invariants: a byte of the client's never names a pointer of this process (handles are ids, looked up); every length is bounded before
//! memory is made for it; whatever happens, the client and the broker are told why the session ended.

/// `driver_call!(driver.cuName(arguments))`: the call's result, CUDA_ERROR_NOT_SUPPORTED if the driver does not have the function. Unsafe like
/// the function itself.
macro_rules! driver_call {
    ($($driver:ident).+ ($($argument:expr),* $(,)?)) => {
        match $($driver).+ {
            Some(function) => ::rgpu_proto::CudaError::check(function($($argument),*)),
            None => Err(::rgpu_proto::CudaError::NOT_SUPPORTED),
        }
    };
}

mod borrowing;
mod bulk;
mod calls;
mod charge;
mod clearing;
mod code_size;
mod content;
mod control;
mod copies;
mod exports;
mod gate;
mod handles;
mod held;
mod hosts;
mod images;
mod imports;
mod isolation;
mod kept;
mod landings;
mod mailbox;
mod memory_map;
mod monitor;
mod page;
mod printed;
mod quota;
mod reader;
mod readings;
mod reaper;
mod session;
mod snapshot;
mod startup;
mod state;
mod swap;
pub mod threads;
mod virtual_memory;
mod zero_copy;

// Generated; comments do not survive the generator, so the SAFETY comments stand in `xtask/src/codegen/server.rs`.
#[path = "gen/dispatch.rs"]
#[allow(clippy::undocumented_unsafe_blocks, clippy::all)]
mod dispatch;
#[path = "gen/driver.rs"]
#[allow(clippy::undocumented_unsafe_blocks, clippy::all)]
mod driver;

#[cfg(test)]
mod testing;

use std::path::PathBuf;

pub use page::{Page, ROWS, Row};
pub use printed::Log;

pub struct WorkerArgs {
    /// The libcuda.so.1 that this worker drives.
    pub driver: PathBuf,
    /// Files and folders that the driver is told to use, by the daemon's environment or configuration.
    pub files: Vec<PathBuf>,
    /// Bytes of memory of its own that this worker may have: not what is shared with the client, nor a device's.
    pub memory: Option<u64>,
    /// Whether memory of devices is cleared before the session uses it; `None`: where the driver has opened a device.
    pub clears: Option<bool>,
}

/// Serves the one session that the broker assigns over the standard input, then ends the process; returns only if no session came about.
pub fn run(args: WorkerArgs) -> anyhow::Result<()> {
    startup::run(&args)
}
