//! Sessions against a driver that is made of a few functions, in this process.

mod client;
mod fake;
mod hostile;
mod session;
