//! The C ABI: argument checks and calls of the rest. `gen/unsupported.rs` has what is not served.

// The names are C's.
#![allow(non_snake_case)]

mod array;
mod capture;
mod conditional;
mod context;
mod copy;
mod copy_batch;
mod coredump;
mod device;
mod event;
mod first;
mod function;
mod graph;
mod graph_exec;
mod graph_id;
mod graph_memop;
mod graph_node;
mod green;
mod init;
mod ipc;
mod launch;
mod legacy;
mod library;
mod linker;
mod logs;
mod managed;
mod managed_batch;
mod memop;
mod memory;
mod module;
mod occupancy;
mod pointer;
mod pool;
mod proc_address;
mod reference;
mod stream;
mod tables;
mod texture;
#[path = "../gen/unsupported.rs"]
mod unsupported;
mod user_object;
mod vmm;

pub use array::*;
pub use capture::*;
pub use conditional::*;
pub use context::*;
pub use copy::*;
pub use copy_batch::*;
pub use coredump::*;
pub use device::*;
pub use event::*;
pub use first::*;
pub use function::*;
pub use graph::*;
pub use graph_exec::*;
pub use graph_id::*;
pub use graph_memop::*;
pub use graph_node::*;
pub use green::*;
pub use init::*;
pub use ipc::*;
pub use launch::*;
pub use legacy::*;
pub use library::*;
pub use linker::*;
pub use logs::*;
pub use managed::*;
pub use managed_batch::*;
pub use memop::*;
pub use memory::*;
pub use module::*;
pub use occupancy::*;
pub use pointer::*;
pub use pool::*;
pub use proc_address::*;
pub use reference::*;
pub use stream::*;
pub use tables::*;
pub use texture::*;
pub use unsupported::*;
pub use user_object::*;
pub use vmm::*;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::host;
use crate::runtime::{self, Runtime};
use crate::say;

/// Any handle of the API.
pub type Handle = u64;

/// A call that needs cuInit.
fn call(body: impl FnOnce(&'static Runtime) -> Result) -> u32 {
    plain(|| {
        let runtime = runtime::get()?;
        if host::in_program() {
            return Err(Error::ERROR_NOT_PERMITTED);
        }
        body(runtime)
    })
}

/// A call that does not.
fn plain(body: impl FnOnce() -> Result) -> u32 {
    // A panic is a bug of this library; the program gets an error.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.0,
        Err(_) => Error::ERROR_UNKNOWN.0,
    }
}

/// What `gen/unsupported.rs` calls: says why once for each function.
fn refuse(said: &AtomicBool, name: &str, reason: &str, code: Error) -> u32 {
    call(|_| {
        if !said.swap(true, Ordering::Relaxed) {
            let because = if reason.is_empty() { "" } else { ": " };
            say!("{name} is not supported{because}{reason}");
        }
        Err(code)
    })
}
