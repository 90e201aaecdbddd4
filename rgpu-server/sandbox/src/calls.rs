//! Filters of system calls. They name what is refused, not what is allowed: a newer system library or driver would break the latter.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::Error;

/// What no process here has a need for: to look into others or signal them, to change the system, to have the kernel do work that no filter
/// sees, and to enter namespaces.
const NEVER: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Signals for others. The process may still signal itself.
const SIGNALS: &[libc::c_long] = &[
    libc::SYS_kill,
    // `abort` signals its own process with it.
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// When a call is refused, by one of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The argument of this number is neither of these.
    Not(u8, [u32; 2]),
    /// The argument of this number has none of these bits.
    Without(u8, u64),
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What a process may not ask of the kernel. Refused with EPERM.
pub struct Calls {
    rules: Rules,
}

impl Calls {
    /// What no process here has a need for.
    pub fn common() -> Result<Calls, Error> {
        let own = std::process::id();
        let mut calls = Calls::none().and(NEVER).and(&[libc::SYS_tkill]);
        for call in SIGNALS {
            calls = calls.where_argument(*call, Argument::Not(0, [own; 2]))?;
        }
        Ok(calls)
    }

    pub fn none() -> Calls {
        Calls {
            rules: Rules::new(),
        }
    }

    /// These as well, whatever their arguments.
    pub fn and(mut self, calls: &[libc::c_long]) -> Calls {
        self.rules
            .extend(calls.iter().map(|call| (*call, Vec::new())));
        self
    }

    /// This one as well, for such an argument.
    pub fn where_argument(
        mut self,
        call: libc::c_long,
        argument: Argument,
    ) -> Result<Calls, Error> {
        let condition = |number, length, operator, value| {
            SeccompCondition::new(number, length, operator, value)
        };
        let conditions = match argument {
            Argument::Not(number, values) => values
                .map(|value| {
                    condition(
                        number,
                        SeccompCmpArgLen::Dword,
                        SeccompCmpOp::Ne,
                        value.into(),
                    )
                })
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?,
            Argument::Without(number, bits) => vec![condition(
                number,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(bits),
                0,
            )?],
        };
        self.rules.insert(call, vec![SeccompRule::new(conditions)?]);
        Ok(self)
    }

    /// No process but this one's threads can be made by `clone`, `fork` and their like.
    pub fn only_threads(self) -> Result<Calls, Error> {
        let thread = libc::CLONE_THREAD as u64;
        let calls = self.where_argument(libc::SYS_clone, Argument::Without(0, thread))?;
        #[cfg(target_arch = "x86_64")]
        let calls = calls.and(&[libc::SYS_fork, libc::SYS_vfork]);
        Ok(calls)
    }

    /// The calling thread, and those that it makes later, have no more.
    pub fn refuse(self) -> Result<(), Error> {
        for filter in self.compile()?.0 {
            seccompiler::apply_filter(&filter)?;
        }
        Ok(())
    }

    pub fn compile(self) -> Result<Filters, Error> {
        let refusal = |rules: Rules, errno: i32| -> Result<BpfProgram, Error> {
            let filter = SeccompFilter::new(
                rules,
                SeccompAction::Allow,
                SeccompAction::Errno(errno as u32),
                std::env::consts::ARCH.try_into()?,
            )?;
            Ok(filter.try_into()?)
        };
        // As a kernel that does not know it would: the system library then asks for `clone`. Its arguments are in memory, where no filter sees
        // them.
        let unknown = Rules::from([(libc::SYS_clone3, Vec::new())]);
        let mut filters = vec![
            refusal(self.rules, libc::EPERM)?,
            refusal(unknown, libc::ENOSYS)?,
        ];
        if cfg!(target_arch = "x86_64") {
            filters.push(no_x32());
        }
        Ok(Filters(filters))
    }
}

/// Each refuses its calls; what none refuses may be done.
pub struct Filters(Vec<BpfProgram>);

impl Filters {
    /// All threads of this process have no more.
    pub fn refuse_to_all_threads(&self) -> Result<(), Error> {
        for filter in &self.0 {
            seccompiler::apply_filter_all_threads(filter)?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights;

    /// Does it in a child that has no more than these calls; how that ends.
    fn refused(calls: Calls, act: impl FnOnce() -> i32) -> std::process::ExitStatus {
        use std::os::unix::process::ExitStatusExt;
        let filtered = || rights::no_new().and_then(|()| calls.refuse());
        // SAFETY: the child does what is tested and ends, without a look at what other threads have left behind.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = filtered().map_or(99, |()| act());
            // SAFETY: as above.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: the child from above, and room for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        std::process::ExitStatus::from_raw(status)
    }

    fn answer(call: libc::c_long, first: libc::c_long, second: libc::c_long) -> i32 {
        // SAFETY: numbers and null pointers, which the kernel checks.
        match unsafe { libc::syscall(call, first, second, 0, 0, 0) } {
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn arguments_decide() {
        let calls = Calls::none()
            .where_argument(libc::SYS_socket, Argument::Not(0, [1, 1]))
            .and_then(|calls| calls.where_argument(libc::SYS_getpriority, Argument::Not(1, [0, 7])))
            .and_then(Calls::only_threads)
            .unwrap();
        let status = refused(calls, || {
            let stream = libc::c_long::from(libc::SOCK_STREAM);
            let checks = [
                (libc::SYS_socket, 1, stream, 0),
                (libc::SYS_socket, 2, stream, libc::EPERM),
                (libc::SYS_socket, 10, stream, libc::EPERM),
                (libc::SYS_socket, 16, 3, libc::EPERM),
                (libc::SYS_getpriority, 0, 0, 0),
                (libc::SYS_getpriority, 0, 1, libc::EPERM),
                (libc::SYS_clone, 17, 0, libc::EPERM),
                (libc::SYS_clone3, 0, 0, libc::ENOSYS),
            ];
            for (number, (call, first, second, expected)) in (1..).zip(checks) {
                if answer(call, first, second) != expected {
                    return number;
                }
            }
            let thread = std::thread::Builder::new().spawn(|| ());
            if thread.is_err() { 50 } else { 0 }
        });
        assert!(status.success(), "the check of this number: {status}");
    }

    #[test]
    fn all_threads_are_refused_it() {
        let status = refused(Calls::none(), || {
            let (say, heard) = std::sync::mpsc::channel::<()>();
            let other = std::thread::spawn(move || {
                let _ = heard.recv();
                answer(libc::SYS_ptrace, 0, 0)
            });
            let calls = Calls::common().and_then(Calls::compile);
            let calls = calls.and_then(|filters| filters.refuse_to_all_threads());
            drop(say);
            match (calls, other.join()) {
                (Ok(()), Ok(libc::EPERM)) => 0,
                _ => 1,
            }
        });
        assert!(status.success(), "{status}");
    }
}
