//! What the kernel offers, and this process may use.

use std::fmt;

/// What there is to confine a process with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The version of landlock's rules; 0: none.
    pub landlock: u32,
    pub filters: bool,
    /// Whether this process may make user namespaces.
    pub namespaces: bool,
}

impl Kernel {
    /// Asks. Before any other thread exists: a child looks whether it may have a namespace.
    pub fn ask() -> Kernel {
        Kernel {
            landlock: landlock(),
            filters: has_filters(),
            namespaces: may_make_namespaces(),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            0 => write!(f, "no landlock")?,
            version => write!(f, "landlock {version}")?,
        }
        write!(
            f,
            "{}",
            if self.filters {
                ", seccomp"
            } else {
                ", no seccomp"
            }
        )
    }
}

fn landlock() -> u32 {
    /// LANDLOCK_CREATE_RULESET_VERSION
    const VERSION: libc::c_ulong = 1;
    // SAFETY: no rules, but the question which there may be.
    let version = unsafe {
        let none = std::ptr::null::<libc::c_void>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Whether the kernel knows filters of system calls. Asks it to set none: one that knows filters complains about the address.
pub fn has_filters() -> bool {
    // SAFETY: the kernel checks the null pointer.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::null::<libc::c_void>(),
        )
    };
    answer == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn may_make_namespaces() -> bool {
    let map = namespace_map();
    // SAFETY: the child makes system calls only, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = if map.enter() { 0 } else { 1 };
        // SAFETY: as above.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the child from above, and room for its status.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    child > 0 && waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// How a user namespace is made in which this process's user and group are what they are, and nobody else is.
#[derive(Clone)]
pub struct NamespaceMap {
    users: String,
    groups: String,
}

/// Made beforehand, since a forked child must not take memory.
pub fn namespace_map() -> NamespaceMap {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    NamespaceMap {
        users: format!("{0} {0} 1", user.as_raw()),
        groups: format!("{0} {0} 1", group.as_raw()),
    }
}

impl NamespaceMap {
    /// Moves a process of one thread into a namespace of its own; makes system calls only. False: it stays where it is, or is in one where it
    /// is nobody.
    pub fn enter(&self) -> bool {
        // SAFETY: no pointers.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) } != 0 {
            return false;
        }
        write(c"/proc/self/setgroups", b"deny")
            && write(c"/proc/self/uid_map", self.users.as_bytes())
            && write(c"/proc/self/gid_map", self.groups.as_bytes())
    }
}

/// Writes to a file that there is, by system calls only, as a forked child must.
pub fn write(path: &std::ffi::CStr, text: &[u8]) -> bool {
    // SAFETY: a path and bytes that live meanwhile; the descriptor is closed here.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        libc::close(file);
        written == text.len() as isize
    }
}
