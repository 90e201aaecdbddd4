//! Sessions against a driver that is made of a few functions, in this process.

mod arrays;
mod client;
mod compression;
mod content;
mod fake;
mod fake_arrays;
mod fake_code;
mod fake_ipc;
mod fake_memory;
mod fake_textures;
mod gate;
mod guesses;
mod hostile;
mod lending;
mod session;
mod swap;
