//! The client halves that are written by hand, in files named as those of the call table.

pub mod context;
pub mod device;
pub mod function;
pub mod graph;
pub mod launch;
pub mod legacy;
pub mod library;
pub mod linker;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod stream;
