//! The CUDA runtime API written over the driver API of whatever libcuda.so.1 the process finds; libcudart.so.12 and .13 are its names.
//!
//! A function here has the name that cuda_runtime_api.h gives it, stands in the file of its section there, and takes the [`Runtime`] that it was
//! called through: the version whose structures the caller has, and what stream 0 means. A driver's function is a method of the
//! [`driver::Driver`] that [`Runtime::context`] gives.
// Every function that takes pointers is `unsafe` under its C form's contract, which holds for all it does with them: a comment for
// each use would say so again.
#![allow(unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)]
#![allow(non_snake_case)] // The names are CUDA's.
#![allow(clippy::too_many_arguments)]

pub mod abi;
pub mod array;
pub mod batch;
mod context;
pub mod copy;
pub mod copy3d;
pub mod device;
pub mod driver;
pub mod entry_point;
pub mod error;
mod error_names;
pub mod event;
pub mod execution;
pub mod execution_context;
mod format;
#[path = "gen/driver.rs"]
mod functions;
pub mod graph;
pub mod graph_copy;
pub mod graph_node;
pub mod library;
pub mod memory;
pub mod memset;
pub mod newer;
pub mod occupancy;
mod properties;
pub mod registration;
mod registry;
pub mod stream;
pub mod symbol;
pub mod texture;
pub mod unified;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use driver::Driver;
use error::{Error, Result};

/// Whose structures and meanings the caller has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V12,
    V13,
}

/// What stream 0 is to the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    Legacy,
    PerThread,
}

pub struct Runtime {
    pub version: Version,
    pub streams: Streams,
}

impl Runtime {
    pub const fn new(version: Version, streams: Streams) -> Runtime {
        Runtime { version, streams }
    }

    /// The driver, initialised.
    pub fn driver(&self) -> Result<&'static Driver> {
        driver::initialised(self.streams)
    }

    /// The driver, with a context that is current to this thread: the one that is, or the primary one of its device.
    pub fn context(&self) -> Result<&'static Driver> {
        let cu = self.driver()?;
        // SAFETY: what the driver writes to is on the stack there.
        unsafe { context::ensure(cu) }?;
        Ok(cu)
    }
}

/// Runs a call: what it returns is the thread's last error then, and a panic ends here.
pub fn enter(call: impl FnOnce() -> Result) -> u32 {
    match catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Error::UNKNOWN)) {
        Ok(()) => 0,
        Err(error) => {
            error::remember(error);
            error.0
        }
    }
}

/// A name that is not served says so once.
pub fn refused(name: &'static str) -> u32 {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let first = SAID.lock().is_ok_and(|mut said| said.insert(name));
    if first {
        eprintln!("libcudart: {name} is not supported (cudaErrorNotSupported)");
    }
    enter(|| Err(Error::NOT_SUPPORTED))
}
