//! The client halves that are written by hand, in files named as those of the call table.

pub mod context;
pub mod device;
pub mod graph;
pub mod launch;
pub mod memory;
pub mod module;
pub mod stream;
