//! What kernels have printed, on the program's own streams.

use rgpu_proto::frame::Print;

unsafe extern "C" {
    /// C's.
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
}

/// As the driver would in this process: behind what the program has printed by the C library before. A closed stream must not disturb the
/// program.
pub fn print(on: Print, text: &[u8]) {
    // SAFETY: the streams are the C library's, which locks them; the bytes are there.
    unsafe {
        let stream = match on {
            Print::Stdout => stdout,
            Print::Stderr => stderr,
        };
        libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream);
        libc::fflush(stream);
    }
}
