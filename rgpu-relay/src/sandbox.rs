//! The server's half takes its privileges away from itself before it reads a byte of a client's: it has its sockets, and needs nothing more.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// A user without files, processes or groups, by convention.
const NOBODY: u32 = 65534;

/// What a relay never does, once it has its sockets: open or make files, sockets and processes, or look into others. Not a list of all that it may
/// do, which a newer system library would break.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_clone,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_listen,
    libc::SYS_mount,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
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
    only_files(&[], &[])?;
    forbid(FORBIDDEN)
}

/// What no later call gives back. Nobody's files are still there.
fn drop_rights() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context("no_new_privs")?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // The server's key is in this memory.
    setrlimit(Resource::Core, none).context("no core dumps")?;
    if rustix::process::geteuid().is_root() {
        become_nobody();
    }
    Ok(())
}

/// The first half of [`enter`] for a relay that uses RDMA devices, before it opens them: the kernel's interface takes writes only from the
/// credentials that have opened it, which both of these calls change.
#[cfg(feature = "rdma")]
pub fn enter_for_devices() -> Result<()> {
    drop_rights()?;
    only_files(&["/dev/infiniband"], &["/sys"])
}

/// The second half, with the devices open. It has a thread and an event channel for each connection, so it must make threads and open that.
#[cfg(feature = "rdma")]
pub fn forbid_all_but_connections() -> Result<()> {
    let needed = [libc::SYS_clone, libc::SYS_openat];
    let calls = FORBIDDEN.iter().filter(|call| !needed.contains(call));
    forbid(&calls.copied().collect::<Vec<_>>())
}

fn forbid(calls: &[libc::c_long]) -> Result<()> {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        refuse,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    if let Err(error) = seccompiler::apply_filter(&program) {
        tracing::warn!(%error, "the relay runs without a filter of system calls");
    }
    Ok(())
}

/// Root's rights go; in a user namespace that has no such user they mean little.
fn become_nobody() {
    // SAFETY: numbers, and an empty list. There is one thread.
    let became = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    if !became {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "the relay keeps the user that it was started by");
    }
}

/// No file but these, or below them, can be opened, and no TCP connection be made, as far as the kernel knows such rules.
fn only_files(used: &[&str], read: &[&str]) -> Result<()> {
    let all = AccessFs::from_all(ABI::V5);
    let restrict = || -> Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(all)?
            .handle_access(AccessNet::from_all(ABI::V5))?
            .create()?
            .add_rules(path_beneath_rules(used, all))?
            .add_rules(path_beneath_rules(read, AccessFs::from_read(ABI::V5)))?
            .restrict_self()
    };
    let status = restrict().context("landlock")?;
    tracing::debug!(landlock = ?status.ruleset, "the relay's files");
    Ok(())
}
