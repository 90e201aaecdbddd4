//! Sessions against a driver that is made of a few functions, in this process.

mod client;
mod fake;
mod fake_code;
mod guesses;
mod hostile;
mod session;
