//! One-line messages on stderr: a library has no other place to say what went wrong.

use std::io::Write;

/// Writes `softgpu: MESSAGE` in one write, so that lines of several processes do not mix.
pub fn line(message: std::fmt::Arguments<'_>) {
    let text = format!("softgpu: {message}\n");
    // A closed stderr must not disturb the program.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[macro_export]
#[doc(hidden)]
macro_rules! say {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}
