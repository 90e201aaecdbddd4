//! What keeps workers apart from each other and from the daemon, as far as this machine permits it: a user of its own for each session where the
//! daemon is root, else a user namespace for each worker. The rest workers do themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rgpu_sandbox::rights::{self, CapabilitySet};
use rgpu_sandbox::{Kernel, NamespaceMap, namespace_map};
use serde::Deserialize;

use crate::cgroups::{Cgroups, Group};

/// Users that systemd's table of user numbers keeps for nobody.
const USERS: RangeInclusive<u32> = 1_879_100_000..=1_879_165_535;
/// What the daemon itself may need of root's rights when it serves: workers and relays become other users and are ended, its files may be another's, and
/// limits are raised.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_RESOURCE);
/// Most threads of a worker in a namespace of its own.
const THREADS: u64 = 8192;

/// Which users the workers of a root daemon become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// Nobody has said anything: [`USERS`], where they are to be had.
    #[default]
    Default,
    Range(RangeInclusive<u32>),
    /// The daemon's own.
    None,
}

impl Users {
    /// `FIRST-LAST` or `none`.
    pub fn parse(text: &str) -> Result<Users> {
        if text == "none" {
            return Ok(Users::None);
        }
        let range = text.split_once('-').and_then(|(first, last)| {
            Some(first.trim().parse().ok()?..=last.trim().parse::<u32>().ok()?)
        });
        let range = range.with_context(|| {
            format!("worker_uids {text:?} is neither FIRST-LAST, as \"100000-100999\", nor none")
        })?;
        ensure!(
            !range.is_empty() && *range.start() > 0 && *range.end() < u32::MAX,
            "worker_uids {text:?}: the first is 1 or more, and not above the last"
        );
        Ok(Users::Range(range))
    }
}

/// Whose sessions share a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    #[default]
    Session,
    /// The sessions of one tenant: NVIDIA's driver lends events, and memory that it has placed itself, only among processes of one user.
    Tenant,
}

/// Whether workers clear memory of devices before their sessions use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Clear {
    /// Where the driver has opened a device.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the configuration says of it.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub users: Users,
    pub sharing: Sharing,
    /// Files and folders that workers' drivers use, besides those that the environment names.
    pub files: Vec<PathBuf>,
    /// Bytes of memory of its own that a worker may have; `None`: half of the host's.
    pub memory: Option<u64>,
    pub clear: Clear,
}

/// What this daemon's workers have.
pub struct Isolation {
    kernel: Kernel,
    apart: Apart,
    files: Vec<PathBuf>,
    memory: u64,
    clear: Clear,
    cgroups: Option<Cgroups>,
}

enum Apart {
    Users(Rc<RefCell<Pool>>),
    Namespace(NamespaceMap),
    /// Why.
    Nothing(&'static str),
}

impl Isolation {
    /// Looks what is permitted. Before any other thread exists. `most`: how many workers there may be that serve somebody.
    pub fn new(wanted: &Wanted, most: u32) -> Result<Isolation> {
        let kernel = Kernel::ask();
        let memory = wanted.memory.unwrap_or_else(half_of_memory);
        Ok(Isolation {
            // A software device's memory is its workers', too.
            cgroups: Cgroups::delegated(memory.max(half_of_memory())),
            apart: apart(wanted, most, kernel)?,
            kernel,
            files: files(&wanted.files),
            memory,
            clear: wanted.clear,
        })
    }

    /// A new worker has it from its start. Its control group, which goes with what is returned.
    pub fn apply(&self, command: &mut Command) -> Result<Option<Group>> {
        for path in &self.files {
            command.arg("--files").arg(path);
        }
        command.arg("--memory").arg(self.memory.to_string());
        match self.clear {
            Clear::Auto => {}
            Clear::Always => _ = command.args(["--clears", "true"]),
            Clear::Never => _ = command.args(["--clears", "false"]),
        }
        let group = self.cgroups.as_ref().map(Cgroups::new_group).transpose();
        let group = group.context("no control group for a worker")?;
        if let Some(group) = &group {
            // SAFETY: system calls only.
            unsafe { command.pre_exec(group.entry()) };
        }
        // Afterwards, as a group's files are the daemon's user's outside.
        if let Apart::Namespace(map) = &self.apart {
            let map = map.clone();
            // SAFETY: system calls only; everything that they need has been made before.
            unsafe { command.pre_exec(move || in_namespace(&map)) };
        }
        Ok(group)
    }

    /// Who a session's worker becomes.
    pub fn user_for(&self, tenant: &str) -> Result<Option<User>> {
        let Apart::Users(pool) = &self.apart else {
            return Ok(None);
        };
        let mut users = pool.borrow_mut();
        let number = users.take(tenant);
        let number = number.context("all users of worker_uids are taken: give more of them")?;
        Ok(Some(User {
            number,
            pool: pool.clone(),
        }))
    }

    /// A worker that an earlier daemon has started is this user, for this tenant.
    pub fn note(&self, user: u32, tenant: &str) -> Option<User> {
        let Apart::Users(pool) = &self.apart else {
            return None;
        };
        let is_known = pool.borrow_mut().note(user, tenant);
        is_known.then(|| User {
            number: user,
            pool: pool.clone(),
        })
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.apart {
            Apart::Users(pool) => {
                let pool = pool.borrow();
                let of = match pool.sharing {
                    Sharing::Session => "session",
                    Sharing::Tenant => "tenant",
                };
                let (first, last) = (pool.range.start(), pool.range.end());
                write!(f, "a user for each {of} ({first}-{last})")?;
            }
            Apart::Namespace(_) => write!(f, "a user namespace for each worker")?,
            Apart::Nothing(why) => {
                write!(
                    f,
                    "no user and no namespace of their own for workers ({why})"
                )?;
            }
        }
        write!(f, ", {}, {} MiB", self.kernel, self.memory >> 20)?;
        match self.cgroups.as_ref().and_then(Cgroups::memory) {
            Some(bytes) => write!(f, ", a control group of {} MiB", bytes >> 20),
            None => write!(f, ", no control groups"),
        }
    }
}

/// In a forked child.
fn in_namespace(map: &NamespaceMap) -> std::io::Result<()> {
    if !map.enter() {
        return Err(std::io::Error::last_os_error());
    }
    let threads = libc::rlimit {
        rlim_cur: THREADS,
        rlim_max: THREADS,
    };
    // Counted in the namespace alone. A lower limit stays.
    // SAFETY: a struct that lives meanwhile.
    unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &threads) };
    Ok(())
}

fn apart(wanted: &Wanted, most: u32, kernel: Kernel) -> Result<Apart> {
    let is_root = rustix::process::geteuid().is_root();
    let range = match &wanted.users {
        Users::Default => USERS,
        Users::Range(range) => range.clone(),
        Users::None => return Ok(Apart::Nothing("worker_uids is none")),
    };
    if rights::may_change_user() && are_known(&range) {
        let enough = u64::from(range.end() - range.start()) + 1 >= u64::from(most);
        ensure!(
            enough || wanted.sharing == Sharing::Tenant,
            "worker_uids has fewer users than there may be workers ({most}): give more, or fewer max_sessions"
        );
        return Ok(Apart::Users(Pool::new(range, wanted.sharing)));
    }
    if let Users::Range(_) = wanted.users {
        bail!(
            "worker_uids: this daemon may not start programs as those users; run it as root, or leave that out"
        );
    }
    Ok(match kernel.namespaces {
        true if !is_root => Apart::Namespace(namespace_map()),
        true => Apart::Nothing("root without the right to change users"),
        false => Apart::Nothing("the system permits none"),
    })
}

/// Whether there are such users in the daemon's namespace.
fn are_known(range: &RangeInclusive<u32>) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let words: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let [first, _, count] = words[..] else {
            return false;
        };
        (first..first + count).contains(&u64::from(*range.start()))
            && (first..first + count).contains(&u64::from(*range.end()))
    })
}

/// What the daemon's own environment names to drivers, and their folders that they make when they start.
fn files(configured: &[PathBuf]) -> Vec<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let home = std::env::var_os("SOFTGPU_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("softgpu"),
        None => format!("/tmp/softgpu-{}", rustix::process::geteuid().as_raw()).into(),
    });
    let mut builder = std::fs::DirBuilder::new();
    if let Err(error) = builder.recursive(true).mode(0o700).create(&home) {
        tracing::debug!(folder = %home.display(), %error, "not made");
    }
    let named = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        ["CUDA_", "SOFTGPU_", "NVIDIA_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    let named = named.map(|(_, value)| PathBuf::from(value));
    let named = named.filter(|path| path.is_absolute() && path.exists());
    let mut files: Vec<PathBuf> = named.chain([home]).collect();
    files.extend(configured.iter().cloned());
    files.sort();
    files.dedup();
    files
}

fn half_of_memory() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram as u64 * u64::from(system.mem_unit) / 2
}

/// What the daemon does not need once it has started.
pub fn drop_rights() {
    if let Err(error) = rights::keep_capabilities(KEPT) {
        tracing::warn!(%error, "the daemon keeps all rights that it was started with");
    }
}

/// Users of workers, each for one session, or one tenant's.
struct Pool {
    range: RangeInclusive<u32>,
    sharing: Sharing,
    /// Where to look next: one that has just become free may have left something behind.
    next: u32,
    /// With how many sessions each has.
    taken: HashMap<u32, u32>,
    tenants: HashMap<String, u32>,
}

impl Pool {
    fn new(range: RangeInclusive<u32>, sharing: Sharing) -> Rc<RefCell<Pool>> {
        Rc::new(RefCell::new(Pool {
            next: *range.start(),
            range,
            sharing,
            taken: HashMap::new(),
            tenants: HashMap::new(),
        }))
    }

    fn take(&mut self, tenant: &str) -> Option<u32> {
        let known = self.tenants.get(tenant).copied();
        let number = match known.filter(|_| self.sharing == Sharing::Tenant) {
            Some(number) => number,
            None => self.free()?,
        };
        if self.sharing == Sharing::Tenant {
            self.tenants.insert(tenant.to_owned(), number);
        }
        *self.taken.entry(number).or_default() += 1;
        Some(number)
    }

    fn free(&mut self) -> Option<u32> {
        let mut found = self.next;
        for _ in 0..=self.taken.len() {
            let after = match found == *self.range.end() {
                true => *self.range.start(),
                false => found + 1,
            };
            if !self.taken.contains_key(&found) {
                self.next = after;
                return Some(found);
            }
            found = after;
        }
        None
    }

    /// Whether it is one of these.
    fn note(&mut self, number: u32, tenant: &str) -> bool {
        let is_known = self.range.contains(&number);
        if is_known {
            *self.taken.entry(number).or_default() += 1;
            if self.sharing == Sharing::Tenant {
                self.tenants.entry(tenant.to_owned()).or_insert(number);
            }
        }
        is_known
    }

    fn give_back(&mut self, number: u32) {
        if let Some(sessions) = self.taken.get_mut(&number) {
            *sessions -= 1;
            if *sessions == 0 {
                self.taken.remove(&number);
                self.tenants.retain(|_, user| *user != number);
            }
        }
    }
}

/// A user of workers, until the session's is gone.
pub struct User {
    pub number: u32,
    pool: Rc<RefCell<Pool>>,
}

impl Drop for User {
    fn drop(&mut self) {
        self.pool.borrow_mut().give_back(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let range = |first, last| Users::Range(first..=last);
        assert_eq!(
            Users::parse("100000-100999").unwrap(),
            range(100_000, 100_999)
        );
        assert_eq!(Users::parse("7 - 7").unwrap(), range(7, 7));
        assert_eq!(Users::parse("none").unwrap(), Users::None);
        for bad in [
            "",
            "5",
            "0-9",
            "9-8",
            "-",
            "1-4294967295",
            "1-4294967296",
            "a-b",
        ] {
            let error = Users::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("worker_uids"), "{bad}: {error}");
        }
    }

    #[test]
    fn no_two_sessions_are_one_user_and_one_that_is_free_is_used_last() {
        let pool = Pool::new(10..=12, Sharing::Session);
        let mut pool = pool.borrow_mut();
        assert_eq!(pool.take("a"), Some(10));
        assert_eq!(pool.take("a"), Some(11));
        pool.give_back(10);
        assert_eq!(pool.take("b"), Some(12));
        assert_eq!(pool.take("b"), Some(10));
        assert_eq!(pool.take("b"), None);
        pool.give_back(11);
        assert!(pool.note(11, "a") && !pool.note(99, "a"));
        assert_eq!(pool.take("b"), None, "an earlier daemon's worker has it");
        pool.give_back(11);
        assert_eq!(pool.take("b"), Some(11));
    }

    #[test]
    fn the_sessions_of_a_tenant_may_be_one_user() {
        let pool = Pool::new(10..=11, Sharing::Tenant);
        let mut pool = pool.borrow_mut();
        assert_eq!(pool.take("a"), Some(10));
        assert_eq!(pool.take("a"), Some(10));
        assert_eq!(pool.take("b"), Some(11));
        assert_eq!(pool.take("c"), None);
        pool.give_back(10);
        assert_eq!(pool.take("c"), None);
        pool.give_back(10);
        assert_eq!(pool.take("c"), Some(10));
        assert_eq!(pool.take("a"), None);
    }
}
