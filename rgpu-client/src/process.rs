//! Manners of a library in someone's process: fork and exit.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rgpu_transport::{MAX_SERVERS, Pipe};

use crate::log;

static FORKED: AtomicBool = AtomicBool::new(false);
static EXITING: AtomicBool = AtomicBool::new(false);
/// Descriptors of a session.
const EACH: usize = 4;
/// The places of the control connection's and the bulk connection's among them.
const CONTROL: usize = EACH - 2;
const BULK: usize = EACH - 1;
/// The sessions' descriptors, for the forked child to close.
static SOCKETS: [AtomicI32; EACH * MAX_SERVERS] =
    [const { AtomicI32::new(-1) }; EACH * MAX_SERVERS];
static HOOKS: Once = Once::new();

/// Whether this process is a child that was forked after its parent's cuInit: CUDA cannot be used in it.
pub fn is_forked_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Whether exit handlers run: CUDA answers DEINITIALIZED from then on.
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Remembers the descriptors that a forked child must not keep open, or the server would not see the parent's end.
pub fn remember_sockets(server: usize, data: &Pipe) {
    let places = SOCKETS[EACH * server..][..CONTROL].iter();
    for (place, descriptor) in places.zip(data.descriptors()) {
        place.store(descriptor.as_raw_fd(), Ordering::Relaxed);
    }
}

/// The same for the control connection, of which there may be another later. `None`, before one is closed: its number may then be anything's.
pub fn remember_control(server: usize, control: Option<&Pipe>) {
    let descriptor = control.map_or(-1, |control| control.as_fd().as_raw_fd());
    SOCKETS[EACH * server + CONTROL].store(descriptor, Ordering::Relaxed);
}

/// The same for a bulk connection, which comes later.
pub fn remember_bulk(server: usize, bulk: &Pipe) {
    SOCKETS[EACH * server + BULK].store(bulk.as_fd().as_raw_fd(), Ordering::Relaxed);
}

pub fn install_hooks() {
    HOOKS.call_once(|| {
        // SAFETY: both handlers are `extern "C"`, live as long as the library, and the library is never unloaded (nodelete).
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
            libc::atexit(at_exit);
        }
    });
}

/// Only async-signal-safe work: the child may have been forked from a process with many threads.
extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
    for socket in &SOCKETS {
        let fd = socket.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the child's own copy of the descriptor; its OwnedFd is never dropped in the child, since the session is static.
            unsafe { libc::close(fd) };
        }
    }
}

extern "C" fn at_exit() {
    if EXITING.swap(true, Ordering::Relaxed) || is_forked_child() {
        return;
    }
    crate::trace::end();
    if let Some(file) = std::env::var_os("RGPU_STATS")
        && let Some(servers) = crate::servers::existing()
        && let Err(error) = std::fs::write(&file, servers.any().stats.json())
    {
        log::error(&format!("RGPU_STATS: {}: {error}", file.to_string_lossy()));
    }
}
