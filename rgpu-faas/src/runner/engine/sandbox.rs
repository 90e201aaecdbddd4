//! Programs that see little of this machine: bubblewrap's namespaces around a process.
//!
//! What is shown is named here, and nothing else is there: the system's programs and libraries, of `/etc` what programs look up and no
//! secret, and what the [`Program`] names. All of it is read-only but the attempt's own folder, whose `tmp` is its `/tmp`.

use super::loader::{Caches, SYSTEM_CACHE};
use super::{Program, find_program};
use crate::config::Config;
use crate::runner::environment::Folder;
use crate::runner::supervise::Wrapper;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The system's programs and libraries.
const SYSTEM: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt",
];
/// What programs look up in `/etc`. Keys, passwords and other services' settings are not among it.
const LOOKED_UP: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "machine-id",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];
/// The same, with a version after it.
const BY_VERSION: &[&str] = &["python3", "java-", "ImageMagick-"];
/// What programs ask about cores and memory.
const MACHINE: &str = "/sys/devices/system";
/// For semaphores and what processes share; PyTorch's loaders use it. It is memory, which no limit of ours counts.
const SHARED_MEMORY: u64 = 256 << 20;
/// Of folders that only lead to others.
const SKELETON: u64 = 1 << 20;

/// The namespaces of every sandbox.
const NAMESPACES: &[&str] = &[
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
    "--clearenv",
];

/// bubblewrap, as it works here.
#[derive(Debug)]
pub struct Sandbox {
    program: PathBuf,
    caches: Caches,
    config: Arc<Config>,
    /// What is the same for every program.
    base: Vec<OsString>,
}

impl Sandbox {
    /// Finds bubblewrap and tries it; why not, if it does not work.
    pub fn open(config: Arc<Config>) -> Result<Sandbox, String> {
        let program =
            find_program("bwrap").ok_or("bubblewrap is not installed (no bwrap in PATH)")?;
        let caches = Caches::new(config.data.join("sandbox"));
        // Namespaces inside namespaces are what most attacks on the kernel need; bubblewrap before 0.8 cannot forbid them.
        let with = base(&["--disable-userns"]);
        let base = match attempt(&program, &with) {
            Ok(()) => with,
            Err(_) => {
                let without = base(&[]);
                attempt(&program, &without)?;
                without
            }
        };
        let sandbox = Sandbox {
            program,
            caches,
            config,
            base,
        };
        // Now, so that the first job does not wait for it.
        let library = sandbox.config.library();
        let kept = library.and_then(|library| sandbox.cache(library));
        if let Err(error) = sandbox.caches.forget_others(kept.as_deref()) {
            tracing::warn!(%error, "the loader's lists of an earlier runner stay");
        }
        Ok(sandbox)
    }

    /// The loader's list for a library folder, where there can be one.
    fn cache(&self, library: &Path) -> Option<PathBuf> {
        match self.caches.with(library) {
            Ok(cache) => cache,
            Err(error) => {
                tracing::warn!(%error, "scripts that reset LD_LIBRARY_PATH will not find the GPU library");
                None
            }
        }
    }

    /// What starts a program in its sandbox.
    pub fn wrap(&self, program: &Program) -> Wrapper {
        let mut environment = vec![("JOB_UUID".into(), program.job.clone().into())];
        environment.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
        Wrapper {
            command: vec![self.program.clone().into()],
            hidden: Some(self.arguments(program)),
            environment,
            is_shield: true,
        }
    }

    /// The arguments that make the sandbox. They have the environment in them, which is nobody else's to see.
    fn arguments(&self, program: &Program) -> Vec<OsString> {
        let mut list = List(self.base.clone());
        if let Some(cache) = program.library.as_deref().and_then(|it| self.cache(it)) {
            list.path("--ro-bind", &cache, Path::new(SYSTEM_CACHE));
        }
        if !program.function.place.network {
            list.word("--unshare-net");
        }
        let temporary = program.folder.join(Folder::TEMPORARY);
        list.path("--bind", &temporary, Path::new("/tmp"));
        let data = &self.config.data;
        // A folder above the data folder must not show it, so what is inside that comes later.
        let is_inside = |path: &&PathBuf| path.starts_with(data);
        let (inside, outside): (Vec<_>, Vec<_>) = program.reads.iter().partition(is_inside);
        let more = self.config.sandbox_reads.iter();
        for path in more.chain(outside) {
            list.same("--ro-bind-try", path);
        }
        for path in &program.writes {
            list.same("--bind-try", path);
        }
        list.words(["--size", &SKELETON.to_string(), "--perms", "0755"]);
        list.word("--tmpfs");
        list.word(data);
        for path in inside.iter().filter(|path| **path != data) {
            list.same("--ro-bind-try", path);
        }
        list.same("--bind", &program.folder);
        list.word("--remount-ro");
        list.word(data);
        for place in ["/dev", "/"] {
            list.words(["--remount-ro", place]);
        }
        for (name, value) in &program.environment {
            list.word("--setenv");
            list.word(name);
            list.word(value);
        }
        list.word("--chdir");
        list.word(&program.folder);
        list.0
    }
}

/// What every sandbox has.
fn base(more: &[&str]) -> Vec<OsString> {
    let mut list = List(Vec::new());
    list.words(NAMESPACES.iter().chain(more));
    for path in SYSTEM.map(Path::new) {
        match std::fs::read_link(path) {
            Ok(target) => list.path("--symlink", &target, path),
            Err(_) if path.is_dir() => list.same("--ro-bind", path),
            Err(_) => {}
        }
    }
    // Folders that bubblewrap makes on the way would be its user's alone.
    for folder in [
        "/etc",
        "/etc/ssl",
        "/etc/pki",
        "/etc/pki/tls",
        "/run",
        "/sys",
        "/var",
    ] {
        list.words(["--perms", "0755", "--dir", folder]);
    }
    for name in LOOKED_UP {
        let path = Path::new("/etc").join(name);
        if path.exists() {
            list.same("--ro-bind-try", &path);
        }
    }
    let all = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    for name in all.map(|entry| entry.file_name()) {
        let text = name.to_string_lossy();
        if BY_VERSION.iter().any(|start| text.starts_with(start)) {
            list.same("--ro-bind-try", &Path::new("/etc").join(&name));
        }
    }
    list.words(["--proc", "/proc", "--dev", "/dev"]);
    let size = SHARED_MEMORY.to_string();
    list.words(["--size", &size, "--perms", "1777", "--tmpfs", "/dev/shm"]);
    list.words(["--ro-bind-try", MACHINE, MACHINE]);
    list.words(["--symlink", "/tmp", "/var/tmp"]);
    list.0
}

/// Runs a shell that does nothing.
fn attempt(program: &Path, base: &[OsString]) -> Result<(), String> {
    let output = Command::new(program)
        .args(base)
        .args(["--", "/bin/sh", "-c", ":"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it did not say why");
    Err(format!("bubblewrap does not work here: {last}"))
}

/// Arguments as they are collected.
struct List(Vec<OsString>);

impl List {
    fn word(&mut self, word: impl AsRef<OsStr>) {
        self.0.push(word.as_ref().to_owned());
    }

    fn words<T: AsRef<OsStr>>(&mut self, words: impl IntoIterator<Item = T>) {
        for word in words {
            self.word(word);
        }
    }

    fn path(&mut self, option: &str, from: &Path, to: &Path) {
        self.word(option);
        self.word(from);
        self.word(to);
    }

    /// In its own place.
    fn same(&mut self, option: &str, path: &Path) {
        self.path(option, path, path);
    }
}
