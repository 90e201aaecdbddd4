//! What a process that someone's program started must do first.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Leaves the program that started this process alone: no child that it must wait for, no part in its terminal's signals, none of its
/// descriptors. Returns what was standard input. Before any thread exists.
pub fn detach() -> io::Result<OwnedFd> {
    default_signals();
    close_from(3);
    // SAFETY: there is one thread; both processes go on in Rust code alone.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: no exit handler of the parent's half need run.
        _ => unsafe { libc::_exit(0) },
    }
    rustix::process::setsid()?;
    let _ = rustix::thread::set_name(c"rgpu-relay");
    standard_input(&[1, 2])
}

/// Takes standard input's descriptor away from there, and puts `/dev/null` behind these numbers and it.
fn standard_input(silenced: &[i32]) -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for number in [0].iter().chain(silenced) {
        // SAFETY: standard input, output and error, which nothing here uses.
        if unsafe { libc::dup2(null.as_raw_fd(), *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(taken)
}

/// Standard input and output, which the server has put sockets in the place of. Other descriptors that were inherited are closed: before
/// anything here has one.
pub fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    close_from(3);
    let output = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    Ok((standard_input(&[1])?, output))
}

/// A program may have blocked or ignored any signal, which a child inherits. A write to a closed socket is an error here, and no signal.
fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: dispositions without a handler; an invalid number is refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: as above, and an empty set of signals.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Closes all descriptors from this number on: one of the program's pipes, held open here, would never end for its reader.
fn close_from(first: i32) {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number >= first)
        .collect();
    for number in open {
        // SAFETY: nothing in this process owns a descriptor yet; the folder's own is closed already, which is no matter.
        unsafe { libc::close(number) };
    }
}
