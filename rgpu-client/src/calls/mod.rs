//! The client halves that are written by hand, in files named as those of the call table.

pub mod advice;
pub mod context;
pub mod copy;
pub mod device;
pub mod fill;
pub mod function;
pub mod graph;
pub mod host;
pub mod launch;
pub mod legacy;
pub mod library;
pub mod linker;
pub mod managed;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod pointer;
pub mod pool;
pub mod stream;
pub mod vmm;
