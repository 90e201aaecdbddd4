//! The hand-written server halves, by the file of the call table that they stand in. Handles are looked up by the generated dispatch,
//! which calls these with the driver's own.
#![allow(non_snake_case)]

pub mod context;
pub mod copy;
pub mod device;
pub mod fill;
pub mod function;
pub mod graph;
mod jit;
pub mod launch;
pub mod library;
pub mod linker;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod vmm;
