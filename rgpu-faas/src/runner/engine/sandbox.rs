//! Programs that see little of this machine: bubblewrap's namespaces around a process.
//!
//! What is shown is named here, and nothing else is there: the system's programs and libraries, of `/etc` what [`Etc`] has, and what the
//! [`Program`] names. All of it is read-only but the attempt's own folder, whose `tmp` is its `/tmp`.

use super::etc::{self, Etc};
use super::loader::{Caches, SYSTEM_CACHE};
use super::{Program, find_program};
use crate::config::Config;
use crate::runner::environment::Folder;
use crate::runner::supervise::Wrapper;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The system's programs and libraries.
const SYSTEM: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt",
];
const ETC: &str = "/etc";
const PROC: &str = "/proc";
/// Folders with settings that bubblewrap makes read-only by itself, as whoever may write in them sees.
const COVERED: [&str; 2] = ["irq", "bus"];
/// How deep settings are looked for.
const SETTING_DEPTH: u32 = 4;
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
    /// None if there is no place for it.
    etc: Option<Etc>,
    caches: Caches,
    config: Arc<Config>,
    /// What is the same for every program, with that.
    base: Vec<OsString>,
    /// The same without, for programs that are shown more of `/etc`: what is read-only has no room for it.
    apart: Vec<OsString>,
    features: Features,
}

/// What this bubblewrap can.
#[derive(Clone, Copy, Debug)]
struct Features {
    /// Forbid namespaces inside its own, which most attacks on the kernel need; from 0.8.
    closes: bool,
    /// Bound a file system of memory; from 0.7.
    bounds: bool,
}

/// The best first.
const FEATURES: [Features; 3] = [
    Features {
        closes: true,
        bounds: true,
    },
    Features {
        closes: false,
        bounds: true,
    },
    Features {
        closes: false,
        bounds: false,
    },
];

impl Sandbox {
    /// Finds bubblewrap and tries it; why not, if it does not work.
    pub fn open(config: Arc<Config>) -> Result<Sandbox, String> {
        let program =
            find_program("bwrap").ok_or("bubblewrap is not installed (no bwrap in PATH)")?;
        let folder = config.data.join("sandbox");
        let caches = Caches::new(folder.join("libraries"));
        let etc = Etc::open(Path::new(ETC), folder.join("etc"))
            .inspect_err(|error| {
                tracing::warn!(%error, "/etc is shown to sandboxes file by file, which takes longer");
            })
            .ok();
        let mut why = String::new();
        let works = FEATURES
            .into_iter()
            .map(|features| (features, base_of(features, etc.as_ref())))
            .find(|(_, base)| attempt(&program, base).map_err(|error| why = error).is_ok());
        let Some((features, base)) = works else {
            return Err(why);
        };
        let sandbox = Sandbox {
            program,
            etc,
            caches,
            config,
            base,
            apart: base_of(features, None),
            features,
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

    fn has_more_of_etc(&self, program: &Program) -> bool {
        let shown = self.config.sandbox_reads.iter().chain(&program.reads);
        let mut all = shown
            .chain(&program.writes)
            .chain([&program.folder, &self.config.data]);
        all.any(|path| path.starts_with(ETC))
    }

    /// The arguments that make the sandbox. They have the environment in them, which is nobody else's to see.
    fn arguments(&self, program: &Program) -> Vec<OsString> {
        let base = match &self.etc {
            Some(etc) if !self.has_more_of_etc(program) => {
                etc.renew();
                &self.base
            }
            _ => &self.apart,
        };
        let mut list = List(base.clone());
        let system = Path::new(SYSTEM_CACHE);
        match program.library.as_deref().and_then(|it| self.cache(it)) {
            Some(cache) => list.path("--ro-bind", &cache, system),
            None => list.same("--ro-bind-try", system),
        }
        if !program.function.place.network {
            list.word("--unshare-net");
        }
        let temporary = program.folder.join(Folder::TEMPORARY);
        list.path("--bind", &temporary, Path::new("/tmp"));
        let data = &self.config.data;
        let more = self.config.sandbox_reads.iter().chain(&program.reads);
        let reads = more.map(|path| ("--ro-bind-try", path));
        let writes = program.writes.iter().map(|path| ("--bind-try", path));
        // A folder above the data folder must not show it, so what is inside that comes later.
        let (inside, outside): (Vec<_>, Vec<_>) = reads
            .chain(writes)
            .filter(|(_, path)| *path != data)
            .partition(|(_, path)| path.starts_with(data));
        for (option, path) in outside {
            list.same(option, path);
        }
        list.memory(self.features, SKELETON, "0755", data);
        for (option, path) in inside {
            list.same(option, path);
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
fn base_of(features: Features, etc: Option<&Etc>) -> Vec<OsString> {
    let mut list = List(Vec::new());
    list.words(NAMESPACES);
    if features.closes {
        list.word("--disable-userns");
    }
    for path in SYSTEM.map(Path::new) {
        match std::fs::read_link(path) {
            Ok(target) => list.path("--symlink", &target, path),
            Err(_) if path.is_dir() => list.same("--ro-bind", path),
            Err(_) => {}
        }
    }
    // Folders that bubblewrap makes on the way would be its user's alone.
    let mut folders = vec!["/run", "/sys", "/var"];
    if etc.is_none() {
        folders.extend([ETC, "/etc/ssl", "/etc/pki", "/etc/pki/tls"]);
    }
    for folder in folders {
        list.words(["--perms", "0755", "--dir", folder]);
    }
    if let Some(etc) = etc {
        list.path("--ro-bind", etc.folder(), Path::new(ETC));
        for folder in etc.folders() {
            list.same("--ro-bind-try", &folder);
        }
    } else {
        for name in etc::names(Path::new(ETC)) {
            list.same("--ro-bind-try", &Path::new(ETC).join(name));
        }
    }
    list.words(["--proc", PROC]);
    // The kernel asks who opens a setting, not what rights are left to them: a job of root's is root there.
    if rustix::process::geteuid().is_root() {
        for path in settings(Path::new(PROC)) {
            list.same("--ro-bind-try", &path);
        }
    }
    list.words(["--dev", "/dev"]);
    list.memory(features, SHARED_MEMORY, "1777", Path::new("/dev/shm"));
    list.words(["--ro-bind-try", MACHINE, MACHINE]);
    list.words(["--symlink", "/tmp", "/var/tmp"]);
    list.0
}

/// What of a file system of the kernel's is not of processes and has something to write in it.
fn settings(proc: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            let is_covered = COVERED.iter().any(|covered| name == *covered);
            !is_process && !is_covered && is_setting(&entry.path(), SETTING_DEPTH)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether a file can be written, or one in a folder. Links lead to what is looked at by itself.
fn is_setting(path: &Path, depth: u32) -> bool {
    let Ok(found) = path.symlink_metadata() else {
        return false;
    };
    if found.is_file() {
        return found.mode() & 0o222 != 0;
    }
    let entries = || std::fs::read_dir(path).into_iter().flatten().flatten();
    // What lies too deep to be looked at counts.
    found.is_dir() && (depth == 0 || entries().any(|entry| is_setting(&entry.path(), depth - 1)))
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

    /// A file system of memory.
    fn memory(&mut self, features: Features, bytes: u64, mode: &str, path: &Path) {
        if features.bounds {
            self.words(["--size", &bytes.to_string()]);
        }
        self.words(["--perms", mode, "--tmpfs"]);
        self.word(path);
    }

    /// In its own place.
    fn same(&mut self, option: &str, path: &Path) {
        self.path(option, path, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function;

    /// The arguments of a program of this function, and where each stands.
    fn arguments(fields: &str, change: impl FnOnce(&mut Program)) -> Vec<String> {
        let config = Config {
            sandbox_reads: vec!["/srv".into()],
            ..Config::new("/srv/data".into(), "/nowhere".into())
        };
        let root = tempfile::tempdir().unwrap();
        let sandbox = Sandbox {
            program: "/bwrap".into(),
            etc: Etc::open(Path::new("/nowhere"), root.path().join("etc")).ok(),
            caches: Caches::new("/srv/data/sandbox".into()),
            config: config.into(),
            base: vec!["--base".into()],
            apart: vec!["--apart".into()],
            features: FEATURES[0],
        };
        let text = format!("name: f\ncommand: [x]\n{fields}\n");
        let mut program = Program {
            name: "j-1".into(),
            job: "j".into(),
            function: function::parse(&text, "f", None).unwrap().remove(0).into(),
            argv: vec!["x".into()],
            environment: vec![("A".into(), "b c".into()), ("EMPTY".into(), "".into())],
            folder: "/srv/data/work/j-1".into(),
            reads: vec!["/srv/data/functions".into(), "/opt/model".into()],
            writes: Vec::new(),
            library: None,
            log: "logs/f/j.1.log".into(),
            nice: 0,
        };
        change(&mut program);
        let wrapper = sandbox.wrap(&program);
        assert_eq!(wrapper.command, ["/bwrap"]);
        let environment = wrapper.environment.iter().map(|(name, _)| name);
        assert!(
            environment
                .into_iter()
                .all(|name| name == "JOB_UUID" || name == "PATH")
        );
        let words = wrapper.hidden.unwrap().into_iter();
        words.map(|word| word.into_string().unwrap()).collect()
    }

    fn position(words: &[String], wanted: &[&str]) -> usize {
        let found = words.windows(wanted.len()).position(|some| some == wanted);
        found.unwrap_or_else(|| panic!("no {wanted:?} in {words:?}"))
    }

    #[test]
    fn the_data_folder_is_covered_before_what_is_shown_of_it() {
        let words = arguments("", |program| {
            program.writes.push("/srv/data/softgpu".into())
        });
        let above = position(&words, &["--ro-bind-try", "/srv", "/srv"]);
        let cover = position(&words, &["--tmpfs", "/srv/data"]);
        let inside = [
            "--ro-bind-try",
            "/srv/data/functions",
            "/srv/data/functions",
        ];
        let inside = position(&words, &inside);
        let written = position(
            &words,
            &["--bind-try", "/srv/data/softgpu", "/srv/data/softgpu"],
        );
        let own = position(
            &words,
            &["--bind", "/srv/data/work/j-1", "/srv/data/work/j-1"],
        );
        let closed = position(&words, &["--remount-ro", "/srv/data"]);
        assert!(above < cover && cover < inside && inside < own && own < closed);
        assert!(cover < written && written < closed);
        position(&words, &["--ro-bind-try", "/opt/model", "/opt/model"]);
        position(&words, &["--bind", "/srv/data/work/j-1/tmp", "/tmp"]);
        position(
            &words,
            &["--setenv", "A", "b c", "--setenv", "EMPTY", "", "--chdir"],
        );
        assert_eq!(words[0], "--base");
    }

    #[test]
    fn what_can_be_written_is_found_however_deep() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (name, mode) in [
            ("sys/kernel/core_pattern", 0o644),
            ("a/b/c/d/e/f", 0o444),
            ("sysrq-trigger", 0o200),
            ("cpuinfo", 0o444),
            ("tty/drivers", 0o444),
            ("17/oom_score_adj", 0o644),
        ] {
            make(name, mode);
        }
        std::os::unix::fs::symlink("17", root.path().join("self")).unwrap();
        let expected = ["a", "sys", "sysrq-trigger"].map(|name| root.path().join(name));
        assert_eq!(settings(root.path()), expected);
    }

    #[test]
    fn a_path_below_etc_has_room_there() {
        let more = |program: &mut Program| program.reads.push("/etc/rgpu/token".into());
        let words = arguments("", more);
        assert_eq!(words[0], "--apart");
        position(
            &words,
            &["--ro-bind-try", "/etc/rgpu/token", "/etc/rgpu/token"],
        );
    }

    #[test]
    fn the_data_folder_itself_is_never_shown() {
        let words = arguments("", |program| program.reads.push("/srv/data".into()));
        let shown = ["--ro-bind-try", "/srv/data", "/srv/data"];
        assert!(!words.windows(3).any(|some| some == shown), "{words:?}");
    }

    #[test]
    fn the_network_is_taken_on_request() {
        let has = |words: Vec<String>| words.iter().any(|word| word == "--unshare-net");
        assert!(!has(arguments("", |_| {})));
        assert!(has(arguments("network: false", |_| {})));
    }
}
