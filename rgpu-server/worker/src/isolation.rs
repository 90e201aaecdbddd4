//! What a worker may do. It takes the rest away from itself in three steps: what needs no driver when it starts, files before the driver is loaded,
//! whose threads have the same rules from then on, and with its session what the driver needed for its start alone. No byte that a client has
//! sent by itself is read before.

use std::path::{Path, PathBuf};

use rgpu_sandbox::{Argument, Calls, Confinement, Error, Files, Filters, Prepared, rights};
use rustix::process::Resource;

/// What every program reads when it starts, and drivers ask of the system.
const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/run/opengl-driver",
    "/etc/OpenCL",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/nvidia",
    "/etc/passwd",
    // What tells of other processes' memory and files asks for more rights than a worker has.
    "/proc",
    "/sys",
];
/// Beside the GPUs' own.
const DEVICES: &[&str] = &[
    "/dev/full",
    "/dev/null",
    "/dev/random",
    // NVIDIA's driver has the state of events for several processes there.
    "/dev/shm",
    "/dev/urandom",
    "/dev/zero",
];
const GPU: &str = "nvidia";
/// Which way the system's killer of processes is pointed when memory is short: at workers before the broker and others.
const OOM_SCORE: &str = "500";
/// Most threads of a worker: the client's, and a driver's.
const THREADS: u64 = 8192;
const OPEN_FILES: u64 = 1 << 16;

/// What a session never needs, besides what no process here does: other programs.
const PROGRAMS: &[libc::c_long] = &[libc::SYS_execve, libc::SYS_execveat];
/// Nor another user, when it has its own.
const USERS: &[libc::c_long] = &[
    libc::SYS_capset,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
];
/// Calls that name a process by this argument; only the caller itself may be meant.
const OF_PROCESSES: &[(libc::c_long, u8)] = &[
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_move_pages, 0),
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
];

/// The first step.
pub fn begin(memory: Option<u64>) -> Result<(), Error> {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::debug!(%error, "the worker stays in its folder");
    }
    // Without /proc it is as likely to be killed as others.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    rights::no_core()?;
    rights::limit(Resource::Nofile, OPEN_FILES)?;
    if let Some(bytes) = memory {
        rights::limit(Resource::Data, bytes)?;
    }
    Ok(())
}

/// The second step: from here on no files but those that a driver may need to start. `more`: what it is told to use.
pub fn before_driver(driver: &Path, more: &[PathBuf]) -> Result<Confinement, Error> {
    // Of the devices those that are made now, too.
    let files = system(driver, more).use_of("/dev");
    files.confine()
}

fn system(driver: &Path, more: &[PathBuf]) -> Files {
    let mut files = Files {
        used: more.to_vec(),
        read: READ.iter().map(PathBuf::from).collect(),
    };
    // For a backtrace.
    files.read.extend(std::env::current_exe());
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    folders.extend(driver.parent().map(Path::to_owned));
    let real = driver.canonicalize().unwrap_or_default();
    folders.extend(real.parent().map(Path::to_owned));
    folders
        .iter()
        .filter(|folder| folder.is_absolute())
        .fold(files, |files, folder| files.libraries_of(folder))
        .read_of(driver)
        .read_of(real)
}

/// The third step, with everything that takes time done ahead.
pub struct Session {
    files: Prepared,
    /// `None`: the kernel has none.
    filters: Option<Filters>,
}

impl Session {
    pub fn prepare(driver: &Path, more: &[PathBuf]) -> Result<Session, Error> {
        let mut files = system(driver, more);
        files.used.extend(DEVICES.iter().map(PathBuf::from));
        let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let gpus = devices.filter(|it| it.file_name().to_string_lossy().starts_with(GPU));
        files.used.extend(gpus.map(|it| it.path()));
        Ok(Session {
            files: files.prepare()?,
            filters: match rgpu_sandbox::has_filters() {
                true => Some(calls()?.compile()?),
                false => None,
            },
        })
    }

    /// `user`: who this process is from now on.
    pub fn enter(self, user: Option<u32>) -> Result<(), Error> {
        if let Some(user) = user {
            rights::become_user(user, &groups())?;
            // Nobody else is that user.
            rights::limit(Resource::Nproc, THREADS)?;
        }
        self.files.confine()?;
        match self.filters {
            Some(filters) => filters.refuse_to_all_threads(),
            None => Ok(()),
        }
    }
}

/// The groups that may use the GPUs, where not everybody may.
fn groups() -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let gpus = devices.filter(|it| it.file_name().to_string_lossy().starts_with(GPU));
    let mut groups: Vec<u32> = gpus
        .filter_map(|it| Some(it.metadata().ok()?.gid()))
        .filter(|group| *group != 0)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn calls() -> Result<Calls, Error> {
    let own = std::process::id();
    let unix = libc::AF_UNIX as u32;
    // Drivers hand descriptors to each other by sockets of this host, and those of a network have no way to be made.
    let mut calls = Calls::common()?
        .and(PROGRAMS)
        .and(USERS)
        .only_threads()?
        .where_argument(libc::SYS_socket, Argument::Not(0, [unix; 2]))?;
    for (call, number) in OF_PROCESSES {
        calls = calls.where_argument(*call, Argument::Not(*number, [0, own]))?;
    }
    Ok(calls)
}
