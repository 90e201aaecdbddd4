//! Whether what a server counts of a device is what the device holds: a client that takes and gives back memory in every way that there is, and one
//! who looks from both sides meanwhile.

mod driver;
mod look;
mod random;
mod work;

pub use look::look;
pub use work::work;

/// What a client that works has done; it goes on when it is told to by a line.
pub const PAUSED: &str = "paused";
