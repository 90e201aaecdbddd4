//! `libcuda.so.1`: C names on `rgpu-client`. Generated, but for cuGetProcAddress, which needs the list of names.

#[path = "gen/exports.rs"]
mod exports;
mod proc_address;
