//! The client halves that are written by hand, in files named as those of the call table.

pub mod capture;
pub mod context;
pub mod device;
pub mod function;
pub mod graph;
pub mod graph_exec;
pub mod graph_host;
pub mod graph_node;
pub mod host;
pub mod launch;
pub mod legacy;
pub mod library;
pub mod linker;
pub mod memop;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod stream;
pub mod user_object;
