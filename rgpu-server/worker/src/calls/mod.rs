//! The hand-written server halves, by the file of the call table that they stand in. Handles are looked up by the generated dispatch,
//! which calls these with the driver's own.
#![allow(non_snake_case)]

pub mod array;
pub mod array_copy;
pub mod atomics;
pub mod capture;
pub mod conditional;
pub mod content;
pub mod context;
pub mod context_event;
pub mod copy;
pub mod device;
pub mod fill;
pub mod function;
pub mod graph;
pub mod graph_exec;
pub mod graph_host;
pub mod graph_node;
pub mod green;
pub mod host;
pub mod host_function;
pub mod ipc;
mod jit;
pub mod launch;
pub mod library;
pub mod linker;
pub mod memop;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod pool;
pub mod stream;
pub mod tensor_map;
pub mod texture;
pub mod texture_ref;
pub mod user_object;
pub mod vmm;
