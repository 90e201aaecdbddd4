//! The server's half takes its privileges away from itself before it reads a byte of a client's: it has its sockets, and needs nothing more.

use anyhow::Result;
use rgpu_sandbox::{Calls, Files, rights};

/// What a relay never does, once it has its sockets, besides what no process here does: open or make files, sockets, processes and threads.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_clone,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_listen,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_socket,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// What the kernel does not know of is left out; the log says so.
pub fn enter() -> Result<()> {
    drop_rights()?;
    Files::default().confine()?;
    forbid(FORBIDDEN)
}

/// What no later call gives back. Nobody's files are still there.
fn drop_rights() -> Result<()> {
    rights::no_new()?;
    // The server's key is in this memory.
    rights::no_core()?;
    if rustix::process::geteuid().is_root()
        && let Err(error) = rights::become_user(rights::NOBODY, &[])
    {
        // In a user namespace that has no such user root's rights mean little.
        tracing::warn!(%error, "the relay keeps the user that it was started by");
    }
    Ok(())
}

/// The first half of [`enter`] for a relay that uses RDMA devices, before it opens them: the kernel's interface takes writes only from the
/// credentials that have opened it, which both of these calls change.
#[cfg(feature = "rdma")]
pub fn enter_for_devices() -> Result<()> {
    drop_rights()?;
    Files::default()
        .use_of("/dev/infiniband")
        .read_of("/sys")
        .confine()?;
    Ok(())
}

/// The second half, with the devices open. It has a thread and an event channel for each connection, so it must make threads and open that.
#[cfg(feature = "rdma")]
pub fn forbid_all_but_connections() -> Result<()> {
    let needed = [libc::SYS_clone, libc::SYS_openat];
    let calls = FORBIDDEN.iter().filter(|call| !needed.contains(call));
    forbid(&calls.copied().collect::<Vec<_>>())
}

fn forbid(calls: &[libc::c_long]) -> Result<()> {
    if let Err(error) = Calls::common()?.and(calls).refuse() {
        tracing::warn!(%error, "the relay runs without a filter of system calls");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    /// Does it in a child that is confined; returns how that ends.
    fn confined(act: impl FnOnce() -> i32) -> std::process::ExitStatus {
        use std::os::unix::process::ExitStatusExt;
        // SAFETY: the child does what is tested and ends, without a look at what other threads have left behind.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = enter().map_or(99, |()| act());
            // SAFETY: as above.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: the child from above, and room for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        std::process::ExitStatus::from_raw(status)
    }

    /// What a call is answered with; 0 where it succeeds.
    fn answer(call: libc::c_long, first: libc::c_long, second: libc::c_long) -> i32 {
        // SAFETY: numbers and null pointers, which the kernel checks.
        match unsafe { libc::syscall(call, first, second, 0, 0, 0) } {
            -1 => Error::last_os_error().raw_os_error().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn others_are_not_signalled_and_nothing_is_started() {
        let parent = libc::c_long::from(std::process::id());
        let status = confined(|| {
            let own = libc::c_long::from(std::process::id());
            let checks = [
                (libc::SYS_kill, parent, 0, libc::EPERM),
                (libc::SYS_tkill, parent, 0, libc::EPERM),
                (libc::SYS_tgkill, parent, parent, libc::EPERM),
                (libc::SYS_tgkill, own, own, 0),
                (libc::SYS_rt_sigqueueinfo, parent, 0, libc::EPERM),
                (libc::SYS_rt_tgsigqueueinfo, parent, parent, libc::EPERM),
                (libc::SYS_pidfd_send_signal, -1, 0, libc::EPERM),
                (libc::SYS_clone3, 0, 0, libc::ENOSYS),
                (libc::SYS_socket, 1, 1, libc::EPERM),
                #[cfg(target_arch = "x86_64")]
                (0x4000_0000 | libc::SYS_getpid, 0, 0, libc::EPERM),
            ];
            for (number, (call, first, second, expected)) in (1..).zip(checks) {
                if answer(call, first, second) != expected {
                    return number;
                }
            }
            let thread = std::thread::Builder::new().spawn(|| ());
            if thread.is_ok() { 50 } else { 0 }
        });
        assert!(status.success(), "the check of this number: {status}");
    }

    #[test]
    fn an_abort_is_still_one() {
        use std::os::unix::process::ExitStatusExt;
        let status = confined(|| std::process::abort());
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }
}
