//! What kernels print, and what the driver says of them. It comes to this process's stdout and stderr when work has been waited for, and goes to
//! the client ahead of the reply that tells so. What is said on stderr goes to the server's log too.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes that wait for the client's next reply. Beyond them output is lost, as it is in CUDA's own buffer.
const MOST: usize = 1 << 20;

unsafe extern "C" {
    /// C's.
    static stdout: *mut libc::FILE;
}

static PRINTED: OnceLock<[Output; 2]> = OnceLock::new();
static LOG: OnceLock<File> = OnceLock::new();

/// From here on, what this process prints is the client's. Of a process that has one session.
pub fn begin() -> std::io::Result<()> {
    let log = duplicate(libc::STDERR_FILENO)?;
    let (out, print) = pipe()?;
    let (errors, complain) = pipe()?;
    on_abort(&errors, &log);
    let _ = LOG.set(log.try_clone()?.into());
    let outputs = [
        Output::new(out, None),
        Output::new(errors, Some(log.into())),
    ];
    for (write, stream) in [
        (print, libc::STDOUT_FILENO),
        (complain, libc::STDERR_FILENO),
    ] {
        // SAFETY: both are open descriptors, and nothing here depends on what the stream was: the log has a descriptor of its own.
        if unsafe { libc::dup2(write.as_raw_fd(), stream) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // A driver in C prints through this: what it has printed is in the pipe then.
    // SAFETY: C's own stream, before anybody has used it.
    unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IONBF, 0) };
    let _ = PRINTED.set(outputs.clone());
    std::thread::Builder::new()
        .name("printed".into())
        .spawn(move || watch(&outputs))?;
    Ok(())
}

fn duplicate(fd: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: borrowed for this call; if it is not open, that is an error.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned()
}

/// Reading does not block.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// What has been printed on stdout and on stderr, and not been taken yet.
pub fn take() -> [Vec<u8>; 2] {
    match PRINTED.get() {
        Some(outputs) => take_of(outputs),
        None => Default::default(),
    }
}

/// Whether something has come of which a look need not be taken: that costs system calls.
pub fn is_there() -> bool {
    PRINTED
        .get()
        .is_some_and(|outputs| outputs.iter().any(Output::is_there))
}

/// Whether kernels of this image may print. They do so by `vprintf`, whose name PTX and machine code have; what is compressed may hide it.
pub fn may_print(image: &[u8]) -> bool {
    const NAME: &[u8] = b"vprintf";
    let start = &image[..image.len().min(64)];
    let is_text = start
        .strip_suffix(b"\0")
        .unwrap_or(start)
        .iter()
        .all(|byte| *byte != 0);
    let is_plain = image.starts_with(b"\x7fELF") || is_text;
    !is_plain || memchr::memmem::find(image, NAME).is_some()
}

fn take_of(outputs: &[Output; 2]) -> [Vec<u8>; 2] {
    outputs.each_ref().map(|output| {
        let mut kept = output.kept();
        // Seldom is there anything, and nothing says so for less.
        if rustix::io::ioctl_fionread(&kept.source) != Ok(0) {
            kept.drain();
        }
        output.0.there.store(false, Ordering::Relaxed);
        std::mem::take(&mut kept.bytes)
    })
}

/// The server's log, for a process that prints for its client; stderr for others.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match LOG.get() {
            Some(mut log) => log.write(bytes),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

static ERRORS: AtomicI32 = AtomicI32::new(-1);
static LOG_FILE: AtomicI32 = AtomicI32::new(-1);

/// The last words of a process that aborts are still in the log.
fn on_abort(errors: &OwnedFd, log: &OwnedFd) {
    ERRORS.store(errors.as_raw_fd(), Ordering::Relaxed);
    LOG_FILE.store(log.as_raw_fd(), Ordering::Relaxed);
    // SAFETY: the handler makes system calls only; then the signal does what it would have done.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = aborts as *const () as usize;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
        libc::sigaction(libc::SIGABRT, &action, std::ptr::null_mut());
    }
}

extern "C" fn aborts(signal: i32) {
    let (from, to) = (
        ERRORS.load(Ordering::Relaxed),
        LOG_FILE.load(Ordering::Relaxed),
    );
    let mut part = [0u8; 512];
    // SAFETY: descriptors that stay open, and a buffer of its own.
    unsafe {
        loop {
            let count = libc::read(from, part.as_mut_ptr().cast(), part.len());
            if count <= 0 || libc::write(to, part.as_ptr().cast(), count as usize) < 0 {
                break;
            }
        }
        libc::raise(signal);
    }
}

struct Kept {
    source: File,
    bytes: Vec<u8>,
    /// Gets it all, too.
    copy: Option<File>,
}

struct Shared {
    kept: Mutex<Kept>,
    /// Whether there are bytes.
    there: AtomicBool,
}

#[derive(Clone)]
struct Output(Arc<Shared>);

impl Output {
    fn new(read: OwnedFd, copy: Option<File>) -> Output {
        let kept = Kept {
            source: read.into(),
            bytes: Vec::new(),
            copy,
        };
        Output(Arc::new(Shared {
            kept: Mutex::new(kept),
            there: AtomicBool::new(false),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_there(&self) -> bool {
        self.0.there.load(Ordering::Relaxed)
    }

    /// Keeps the pipe empty; false when nobody can print any more.
    fn empty(&self) -> bool {
        let mut kept = self.kept();
        let goes_on = kept.drain();
        self.0
            .there
            .store(!kept.bytes.is_empty(), Ordering::Relaxed);
        goes_on
    }
}

impl Kept {
    /// False when nobody can print any more. A kernel that prints all the time keeps nobody here.
    fn drain(&mut self) -> bool {
        let mut part = [0; 4096];
        for _ in 0..MOST / part.len() {
            match self.source.read(&mut part) {
                Ok(0) => return false,
                Ok(count) => {
                    if let Some(copy) = &mut self.copy {
                        // A log that is gone is no reason to end.
                        let _ = copy.write_all(&part[..count]);
                    }
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

/// Keeps the pipes empty, so that no printing waits for the client.
fn watch(outputs: &[Output]) {
    let Ok(mut watched) = outputs
        .iter()
        .map(|output| Ok((output, output.kept().source.try_clone()?)))
        .collect::<std::io::Result<Vec<_>>>()
    else {
        return;
    };
    while !watched.is_empty() {
        let mut waited: Vec<_> = watched
            .iter()
            .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
            .collect();
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        watched.retain(|(output, _)| output.empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed() -> (Output, File) {
        let (read, write) = pipe().unwrap();
        let output = Output::new(read, None);
        let watched = [output.clone()];
        std::thread::spawn(move || watch(&watched));
        (output, write.into())
    }

    /// What has been printed on this one, beside one on which nothing is.
    fn take_one(printed: &Output) -> Vec<u8> {
        let (silent, _write) = pipe().unwrap();
        let [bytes, none] = take_of(&[printed.clone(), Output::new(silent, None)]);
        assert!(none.is_empty());
        bytes
    }

    #[test]
    fn what_was_printed_is_taken_once() {
        let (printed, mut write) = printed();
        write.write_all(b"one\n").unwrap();
        assert_eq!(take_one(&printed), b"one\n");
        assert_eq!(take_one(&printed), b"");
        write.write_all(b"two\nthree\n").unwrap();
        drop(write);
        assert_eq!(take_one(&printed), b"two\nthree\n");
    }

    /// More than a pipe and than the buffer hold: printing neither waits nor takes memory without an end.
    #[test]
    fn printing_waits_for_nobody_and_is_bounded() {
        let (printed, mut write) = printed();
        for _ in 0..3 * MOST / 4096 {
            write.write_all(&[b'x'; 4096]).unwrap();
        }
        assert_eq!(take_one(&printed).len(), MOST);
        write.write_all(b"afterwards").unwrap();
        assert_eq!(take_one(&printed), b"afterwards");
    }

    #[test]
    fn only_images_that_cannot_print_are_known_not_to() {
        let ptx =
            b".version 7.0\n.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);";
        assert!(may_print(ptx));
        assert!(!may_print(
            b".version 7.0\n.target sm_50\n.visible .entry f() { ret; }\0"
        ));
        assert!(!may_print(b"\x7fELF\x02\x01\0\0.text.kernel\0"));
        assert!(may_print(b"\x7fELF\x02\x01\0\0.text.kernel\0vprintf\0"));
        // A container, whose parts may be compressed.
        assert!(may_print(&[0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0]));
    }

    #[test]
    fn a_process_without_a_session_has_printed_nothing() {
        assert_eq!(take(), [vec![], vec![]]);
    }
}
