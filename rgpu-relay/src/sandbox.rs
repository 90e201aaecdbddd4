//! The server's half takes its privileges away from itself before it reads a byte of a client's: it has its sockets, and needs nothing more.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr};
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
    without_files().context("landlock")?;
    forbid(FORBIDDEN)
}

/// What no later call gives back. Nobody's files are still there.
pub fn drop_rights() -> Result<()> {
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

/// For a relay with a thread for each connection, whose devices are open: the kernel's RDMA interface takes writes only from who has opened it, and
/// landlock would make another of this process. Where no file can be opened any more, landlock has little left to do.
#[cfg(feature = "rdma")]
pub fn enter_with_threads() -> Result<()> {
    let calls: Vec<_> = FORBIDDEN
        .iter()
        .copied()
        .filter(|call| *call != libc::SYS_clone)
        .collect();
    forbid(&calls)
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

/// No file can be opened and no TCP connection be made, as far as the kernel knows these rules.
fn without_files() -> Result<(), landlock::RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .create()?
        .restrict_self()?;
    tracing::debug!(landlock = ?status.ruleset, "the relay's files");
    Ok(())
}
