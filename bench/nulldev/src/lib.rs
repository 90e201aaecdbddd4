//! The null device: a `libcuda.so.1` that does no work. Kernels are not executed, everything else is as cheap as it can honestly be, so what a
//! benchmark measures over it is the cost of what lies in front of it.
//!
//! Device memory is the process's own (anonymous pages), so copies and fills are real. Modules are read from their PTX for names and layouts of
//! parameters alone. What a benchmark does not need is not exported: graphs of
//! anything but kernels ([`graph`]), pools, managed memory, arrays, textures, imports and exports.
//!
//! # Paced mode
//!
//! `NULLDEV_PACE` names a file of kernels' durations ([`pace`]). The device then has a [`timeline`]: a launch returns at once and its stream is
//! busy until its kernel's time is over. Copies and fills take no time of their own, and wait for their stream as CUDA's do. With `NULLDEV_HOME`,
//! a folder, all processes that name the same one share the device's time. A worker of `rgpud` inherits from its environment only names
//! that begin with `CUDA_` and the like, so `CUDA_NULLDEV_PACE` and `CUDA_NULLDEV_HOME` are the same.

// The names are C's.
#![allow(non_snake_case)]

mod abi;
mod config;
pub mod context;
pub mod copy;
pub mod device;
pub mod errors;
pub mod event;
pub mod fill;
pub mod function;
pub mod graph;
mod handles;
pub mod host;
mod image;
pub mod init;
pub mod launch;
pub mod library;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod pace;
pub mod pointer;
pub mod stream;
pub mod timeline;
pub mod vmm;
