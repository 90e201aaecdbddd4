//! A CUDA driver that runs PTX on the CPU: `libcuda.so.1` over `softgpu-engine`.
//!
//! [`exports`] is the C ABI, thin; everything else is plain Rust. Work that a program enqueues is a [`task::Task`] with
//! the tasks it waits for; [`executor`] runs what is ready on a few threads, kernels only while the process holds the
//! device's [`slot`]. [`runtime`] is what all calls share. No panic and no signal leaves this library.

pub mod abi;
mod array;
mod attributes;
mod capture;
mod code;
mod config;
mod context;
mod copy;
mod coredump;
mod descriptors;
mod device;
mod error;
mod event;
mod executor;
pub mod exports;
mod fatbin;
mod futex;
mod graph;
mod green;
mod handles;
mod host;
pub mod ipc;
mod jit;
mod kernel;
mod launch;
mod ledger;
mod library;
mod limits;
mod link;
mod log;
mod memory;
mod module;
mod pool;
mod ranges;
mod runtime;
mod slot;
mod stream;
mod task;
mod texture;
mod waits;
mod workspace;
