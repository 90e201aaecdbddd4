//! Rights that no later call gives back, and bounds of what the process may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
pub use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::Error;

/// A user without files, processes or groups, by convention.
pub const NOBODY: u32 = 65534;

/// No program that is executed gives the process rights that it does not have.
pub fn no_new() -> Result<(), Error> {
    rustix::thread::set_no_new_privs(true).map_err(|error| Error::of("no_new_privs", error))
}

/// Lowers a limit, for good. One that is lower already stays.
pub fn limit(resource: Resource, most: u64) -> Result<(), Error> {
    let now = getrlimit(resource);
    let most = now.maximum.map_or(most, |maximum| maximum.min(most));
    let limit = Rlimit {
        current: Some(now.current.map_or(most, |current| current.min(most))),
        maximum: Some(most),
    };
    setrlimit(resource, limit).map_err(|error| Error::of("a limit", error))
}

/// What is in this process's memory is not written anywhere when it crashes.
pub fn no_core() -> Result<(), Error> {
    limit(Resource::Core, 0)
}

/// All threads become this user's, in its group of the same number and no others but these. The system library tells the other threads.
pub fn become_user(user: u32, groups: &[u32]) -> Result<(), Error> {
    // SAFETY: numbers, and a list of the length that is named.
    let became = unsafe {
        libc::setgroups(groups.len(), groups.as_ptr()) == 0
            && libc::setresgid(user, user, user) == 0
            && libc::setresuid(user, user, user) == 0
    };
    match became {
        true => Ok(()),
        false => Err(Error::last("another user")),
    }
}

/// Of the capabilities that this process has, it keeps these. A program that root executes gets all of them again, as far as the bounding set has
/// them: workers start their drivers as root.
pub fn keep_capabilities(kept: CapabilitySet) -> Result<(), Error> {
    let failed = |error| Error::of("capabilities", error);
    let now = capabilities(None).map_err(failed)?;
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)
}

/// Whether this process may become another user.
pub fn may_change_user() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|now| now.effective.contains(needed))
}
