//! The server's half takes its privileges away from itself before it reads a byte of a client's: it has its sockets, and needs nothing more.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// A user without files, processes or groups, by convention.
const NOBODY: u32 = 65534;

/// What a relay never does, once it has its sockets: open or make files, sockets, processes and threads, or look into others or signal them. Not a
/// list of all that it may do, which a newer system library would break.
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
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_tkill,
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

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

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
    for filter in filters(calls)? {
        if let Err(error) = seccompiler::apply_filter(&filter) {
            tracing::warn!(%error, "the relay runs without a filter of system calls");
        }
    }
    Ok(())
}

/// Each refuses its calls; what none refuses may be done.
fn filters(calls: &[libc::c_long]) -> Result<Vec<BpfProgram>> {
    let refusal = |rules: Rules, errno: i32| -> Result<BpfProgram> {
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            std::env::consts::ARCH.try_into()?,
        )?;
        Ok(filter.try_into()?)
    };
    let mut forbidden: Rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    // `abort` signals its own process with it.
    let other = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        std::process::id().into(),
    )?;
    forbidden.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![other])?]);
    // As a kernel that does not know it would: the system library then asks for `clone`. Its arguments are in memory, where no filter sees them.
    let unknown = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let mut filters = vec![
        refusal(forbidden, libc::EPERM)?,
        refusal(unknown, libc::ENOSYS)?,
    ];
    if cfg!(target_arch = "x86_64") {
        filters.push(no_x32());
    }
    Ok(filters)
}

/// Refuses the second numbers that every call has in the x32 ABI, by which the lists above could be gone around.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jf: u8, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    vec![
        // The call's number is the first field of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
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
