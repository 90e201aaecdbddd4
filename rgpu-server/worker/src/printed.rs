//! What kernels print. The driver writes it to this process's stdout when work has been waited for; it goes to the client ahead of the
//! reply that tells so.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes that wait for the client's next reply. Beyond them output is lost, as it is in CUDA's own buffer.
const MOST: usize = 1 << 20;

static STDOUT: OnceLock<Printed> = OnceLock::new();

/// From here on, what this process prints is the client's. Of a process that has one session.
pub fn begin() -> std::io::Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let printed = Printed::behind(read)?;
    // SAFETY: both are open descriptors, and nothing here depends on what stdout was.
    if unsafe { libc::dup2(write.as_raw_fd(), libc::STDOUT_FILENO) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let _ = STDOUT.set(printed);
    Ok(())
}

/// What has been printed and not been taken yet.
pub fn take() -> Vec<u8> {
    let Some(printed) = STDOUT.get() else {
        return Vec::new();
    };
    // SAFETY: NULL is all streams; a driver in C prints through one of them.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    printed.take()
}

struct Output {
    source: std::fs::File,
    bytes: Vec<u8>,
}

struct Printed(Arc<Mutex<Output>>);

impl Printed {
    /// A thread keeps the pipe empty, so that no printing waits for the client.
    fn behind(read: OwnedFd) -> std::io::Result<Printed> {
        rustix::io::ioctl_fionbio(&read, true)?;
        let watched = read.try_clone()?;
        let output = Arc::new(Mutex::new(Output {
            source: read.into(),
            bytes: Vec::new(),
        }));
        let kept = output.clone();
        std::thread::Builder::new()
            .name("printed".into())
            .spawn(move || watch(&watched, &kept))?;
        Ok(Printed(output))
    }

    fn take(&self) -> Vec<u8> {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.drain();
        std::mem::take(&mut output.bytes)
    }
}

impl Output {
    /// False when nobody can print any more. A kernel that prints all the time keeps nobody here.
    fn drain(&mut self) -> bool {
        let mut part = [0; 4096];
        for _ in 0..MOST / part.len() {
            match self.source.read(&mut part) {
                Ok(0) => return false,
                Ok(count) => {
                    let room = MOST - self.bytes.len();
                    self.bytes.extend_from_slice(&part[..count.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn watch(pipe: &impl AsFd, output: &Mutex<Output>) {
    loop {
        let mut waited = [PollFd::new(pipe, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        if !output.drain() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pipe() -> (Printed, std::fs::File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (Printed::behind(read).unwrap(), write.into())
    }

    #[test]
    fn what_was_printed_is_taken_once() {
        let (printed, mut write) = pipe();
        write.write_all(b"one\n").unwrap();
        assert_eq!(printed.take(), b"one\n");
        assert_eq!(printed.take(), b"");
        write.write_all(b"two\nthree\n").unwrap();
        drop(write);
        assert_eq!(printed.take(), b"two\nthree\n");
    }

    /// More than a pipe and than the buffer hold: printing neither waits nor takes memory without an end.
    #[test]
    fn printing_waits_for_nobody_and_is_bounded() {
        let (printed, mut write) = pipe();
        for _ in 0..3 * MOST / 4096 {
            write.write_all(&[b'x'; 4096]).unwrap();
        }
        assert_eq!(printed.take().len(), MOST);
        write.write_all(b"afterwards").unwrap();
        assert_eq!(printed.take(), b"afterwards");
    }

    #[test]
    fn a_process_without_a_session_has_printed_nothing() {
        assert!(take().is_empty());
    }
}
