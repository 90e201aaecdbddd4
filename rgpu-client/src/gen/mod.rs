//! What `cargo xtask codegen` makes of the call table.

pub mod send;
pub mod stubs;
