//! Programs in podman's containers: the function's image, and of this machine what the [`Program`] names, in the same places.
//!
//! `podman run` is a wrapping below the supervisor like any other; the container's own processes come to that supervisor too, so it watches
//! and ends them. What podman itself remembers of a container is removed here.

use super::{Kind, NotReady, Program, find_program};
use crate::beneath;
use crate::config::Config;
use crate::runner::environment::Folder;
use crate::runner::supervise::Wrapper;
use rustix::fs::Mode;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::process::Command;

/// podman's own failure, as an exit code.
pub const FAILED: i32 = 125;
/// How podman is asked which control groups it has.
const CONTROLLERS: [&str; 3] = ["info", "--format", "{{.Host.CgroupControllers}}"];
/// What marks our containers; the value says whose data folder they work for.
const LABEL: &str = "io.rgpu.faas";
/// For semaphores and what processes share.
const SHARED_MEMORY: &str = "256m";
/// Variables of the daemon that tell podman where its things are.
const OWN_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Libraries that are also put where every loader looks, because scripts reset LD_LIBRARY_PATH.
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];
/// The file with a program's environment, in its folder.
const ENVIRONMENT: &str = ".environment";
/// Longer lines are not read by podman from a file of variables.
const MAX_LINE: usize = 32 << 10;
/// What an image's name may be: it becomes an argument.
const MAX_IMAGE: usize = 512;

/// When images are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// Those that are not here.
    #[default]
    Missing,
    /// Before each job.
    Always,
    /// Never: an image that is not here fails its job.
    Never,
}

/// podman, as it works here.
#[derive(Debug)]
pub struct Podman {
    program: PathBuf,
    config: Arc<Config>,
    /// The value of our label.
    owner: String,
    /// Which limits the control groups here can keep.
    controllers: OnceLock<HashSet<String>>,
    /// Images that are here, as far as known.
    present: Mutex<HashSet<String>>,
    /// One pull of an image at a time.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Podman {
    /// Finds podman; why not, if it is not here.
    pub fn open(config: Arc<Config>) -> Result<Podman, String> {
        let program = match &config.podman {
            Some(program) => program.clone(),
            None => find_program("podman").ok_or("podman is not installed (no podman in PATH)")?,
        };
        let owner = blake3::hash(config.data.as_os_str().as_encoded_bytes());
        Ok(Podman {
            program,
            owner: owner.to_hex()[..32].to_owned(),
            config,
            controllers: OnceLock::new(),
            present: Mutex::default(),
            pulls: Mutex::default(),
        })
    }

    /// Asks podman what it can do here. Blocks.
    pub fn look(&self) -> Result<(), String> {
        let said = self.command(&CONTROLLERS).output();
        self.learn(said.map_err(|error| self.failed(&error))?)
    }

    fn learn(&self, said: Output) -> Result<(), String> {
        if !said.status.success() {
            return Err(format!("podman does not work here: {}", last_line(&said)));
        }
        let text = String::from_utf8_lossy(&said.stdout);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let _ = self.controllers.set(words.map(str::to_owned).collect());
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.program.display())
    }

    /// podman with these arguments and nothing of a function's.
    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(own_variables())
            .stdin(Stdio::null());
        command
    }

    fn present(&self) -> MutexGuard<'_, HashSet<String>> {
        self.present.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sees to it that a program's image is here. When the future is dropped, so is the download.
    pub async fn ready(&self, program: &Program) -> Result<(), NotReady> {
        let image = image(program)?;
        if !self.mark().exists() {
            std::fs::write(self.mark(), "")?;
        }
        if self.controllers.get().is_none() {
            let said = self.ask(&CONTROLLERS).await?;
            self.learn(said).map_err(NotReady::for_now)?;
        }
        let pull = self.config.pull;
        if pull == Pull::Never || pull == Pull::Missing && self.present().contains(image) {
            return Ok(());
        }
        let turn = {
            let mut pulls = self.pulls.lock().unwrap_or_else(|e| e.into_inner());
            pulls.entry(image.to_owned()).or_default().clone()
        };
        let _turn = turn.lock().await;
        let exists = ["image", "exists", image];
        if pull == Pull::Missing && self.ask(&exists).await?.status.success() {
            self.present().insert(image.to_owned());
            return Ok(());
        }
        tracing::info!(image, "fetching the image");
        let output = self.ask(&["pull", "--quiet", image]).await?;
        if output.status.success() {
            self.present().insert(image.to_owned());
            return Ok(());
        }
        Err(NotReady::for_now(format!(
            "the image {image} could not be fetched: {}",
            last_line(&output)
        )))
    }

    async fn ask(&self, arguments: &[&str]) -> Result<Output, NotReady> {
        let asked = Command::from(self.command(arguments))
            .kill_on_drop(true)
            .output()
            .await;
        asked.map_err(|error| NotReady::for_now(self.failed(&error)))
    }

    /// The command that starts a program in its container. Its environment is left in a file in its folder.
    pub fn wrap(&self, program: &Program) -> Result<Wrapper, NotReady> {
        let image = image(program)?;
        let function = &program.function;
        let mut words: Vec<OsString> = vec![self.program.clone().into()];
        let mut say = |word: &OsStr| words.push(word.to_owned());
        for word in ["run", "--rm", "--pull=never", "--log-driver=none"] {
            say(word.as_ref());
        }
        say(format!("--name={}", container(&program.name)).as_ref());
        say(format!("--label={LABEL}={}", self.owner).as_ref());
        say(format!("--label={LABEL}.job={}", program.job).as_ref());
        let network = if function.place.network {
            "host"
        } else {
            "none"
        };
        say(format!("--network={network}").as_ref());
        // Nobody in particular outside, and inside one who can read whatever the image has.
        for word in [
            "--user=0:0",
            "--cap-drop=all",
            "--cap-add=DAC_OVERRIDE",
            "--security-opt=no-new-privileges",
            "--security-opt=label=disable",
        ] {
            say(word.as_ref());
        }
        say(format!("--shm-size={SHARED_MEMORY}").as_ref());
        let controllers = self.controllers.get();
        let has = |name: &str| controllers.is_some_and(|it| it.contains(name));
        if has("pids") {
            say(format!("--pids-limit={}", function.place.processes).as_ref());
        }
        if let Some(memory) = function.memory.filter(|_| has("memory")) {
            say(format!("--memory={memory}b").as_ref());
        }
        if let Some(cpu) = function.cpu.filter(|_| has("cpu")) {
            say(format!("--cpus={cpu}").as_ref());
        }
        for mount in self.mounts(program)? {
            say(&mount);
        }
        say("--workdir".as_ref());
        say(program.folder.as_os_str());
        for word in self.environment(program)? {
            say(&word);
        }
        // The image's own entry point is not what the function says.
        say("--entrypoint=".as_ref());
        say("--".as_ref());
        say(image.as_ref());
        let mut environment = own_variables();
        environment.push(("JOB_UUID".into(), program.job.clone().into()));
        Ok(Wrapper {
            command: words,
            hidden: None,
            environment,
            is_shield: true,
        })
    }

    /// What of this machine is in the container.
    fn mounts(&self, program: &Program) -> Result<Vec<OsString>, NotReady> {
        let data = &self.config.data;
        let mut mounts = Vec::new();
        let shown = self.config.sandbox_reads.iter().chain(&program.reads);
        let mut shown: Vec<&PathBuf> = shown.filter(|path| path.exists()).collect();
        shown.sort();
        shown.dedup();
        for path in shown {
            // podman cannot leave out what lies below.
            if data.starts_with(path) {
                tracing::warn!(path = %path.display(), "not shown to the container, as the data folder is below it");
                continue;
            }
            mounts.push(mount(path, path, "ro")?);
        }
        for path in program.writes.iter().filter(|path| path.exists()) {
            mounts.push(mount(path, path, "rw")?);
        }
        mounts.push(mount(&program.folder, &program.folder, "rw")?);
        let temporary = program.folder.join(Folder::TEMPORARY);
        mounts.push(mount(&temporary, Path::new("/tmp"), "rw")?);
        if let Some(library) = &program.library {
            for name in LIBRARIES {
                let file = library.join(name);
                if !file.exists() {
                    continue;
                }
                for place in loader_places() {
                    mounts.push(mount(&file, &place.join(name), "ro")?);
                }
            }
        }
        Ok(mounts)
    }

    /// Options that give the program its variables: a file with those that a file can have, the others among the arguments.
    fn environment(&self, program: &Program) -> Result<Vec<OsString>, NotReady> {
        let mut text = Vec::new();
        let mut options = Vec::new();
        for (name, value) in &program.environment {
            let mut line = name.clone();
            line.push("=");
            line.push(value);
            let bytes = line.as_encoded_bytes();
            let is_plain = !bytes.contains(&b'\n') && !bytes.contains(&b'\r');
            if is_plain && bytes.len() < MAX_LINE {
                text.extend_from_slice(bytes);
                text.push(b'\n');
                continue;
            }
            let name = name.to_string_lossy();
            if program.function.secrets.contains_key(name.as_ref()) {
                return Err(NotReady::for_good(format!(
                    "the secret {name} has line breaks or is very long, and cannot be given to a container without showing it to the users of this machine"
                )));
            }
            let mut option = OsString::from("--env=");
            option.push(line);
            options.push(option);
        }
        let folder = beneath::root(&program.folder)?;
        let name = OsStr::new(ENVIRONMENT);
        beneath::remove(&folder, Path::new(name))?;
        beneath::create(&folder, name, Mode::RUSR | Mode::WUSR)?.write_all(&text)?;
        let mut file = OsString::from("--env-file=");
        file.push(program.folder.join(ENVIRONMENT));
        options.push(file);
        Ok(options)
    }

    /// Removes what podman remembers of a program that was ended from outside.
    pub async fn forget(&self, program: &Program) {
        let name = container(&program.name);
        let arguments = ["rm", "--force", "--ignore", "--time=0", "--", &name];
        match self.ask(&arguments).await {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                tracing::error!(container = %name, error = %last_line(&output), "cannot be removed");
            }
            Err(error) => {
                tracing::error!(container = %name, error = %error.reason, "cannot be removed")
            }
        }
    }

    /// An image that was here may have been removed by somebody else.
    pub fn doubt(&self, program: &Program) {
        if let Some(image) = &program.function.image {
            self.present().remove(image);
        }
    }

    /// A file that says that podman was used for this data folder.
    fn mark(&self) -> PathBuf {
        self.config.data.join("podman")
    }

    /// Removes the containers of an earlier runner with this data.
    pub fn clear(&self) -> io::Result<()> {
        if !self.mark().exists() {
            return Ok(());
        }
        let run = |arguments: &[&str]| {
            let output = self.command(arguments).output()?;
            match output.status.success() {
                true => Ok(output),
                false => Err(io::Error::other(last_line(&output))),
            }
        };
        let filter = format!("--filter=label={LABEL}={}", self.owner);
        let listed = run(&["ps", "--all", "--quiet", "--no-trunc", &filter])?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let mut arguments = vec!["rm", "--force", "--ignore", "--time=0"];
        let fixed = arguments.len();
        arguments.extend(listed.split_whitespace());
        if arguments.len() > fixed {
            tracing::warn!(
                containers = arguments.len() - fixed,
                "an earlier runner left containers; they are removed"
            );
            run(&arguments)?;
        }
        Ok(())
    }
}

/// The name of a program's container.
fn container(name: &str) -> String {
    format!("rgpu-{name}")
}

fn image(program: &Program) -> Result<&str, NotReady> {
    let image = program
        .function
        .image
        .as_deref()
        .map(str::trim)
        .unwrap_or("");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    let reason = match image {
        "" => format!("the function has no `image`, which {} needs", Kind::Podman),
        image
            if image.len() > MAX_IMAGE
                || image.starts_with('-')
                || !image.bytes().all(is_plain) =>
        {
            "the function's `image` is no image's name".to_owned()
        }
        image => return Ok(image),
    };
    Err(NotReady::for_good(reason))
}

/// Where loaders look by themselves: Debian's and its kin's folder, and that of the others.
fn loader_places() -> [PathBuf; 2] {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    [Path::new("/usr/lib").join(triplet), "/usr/lib64".into()]
}

fn mount(from: &Path, to: &Path, mode: &str) -> Result<OsString, NotReady> {
    let has = |byte: u8| {
        let both = [from, to].map(|path| path.as_os_str().as_encoded_bytes());
        both.iter().any(|path| path.contains(&byte))
    };
    let mut word;
    if !has(b':') {
        word = OsString::from("--volume=");
        word.push(from);
        word.push(":");
        word.push(to);
        word.push(":");
        word.push(mode);
    } else if !has(b',') && !has(b'"') {
        word = OsString::from("--mount=type=bind,src=");
        word.push(from);
        word.push(",dst=");
        word.push(to);
        word.push(if mode == "ro" {
            ",ro=true"
        } else {
            ",ro=false"
        });
    } else {
        return Err(NotReady::for_good(format!(
            "{}: a path with a colon and a comma or quote cannot be shown to a container",
            from.display()
        )));
    }
    Ok(word)
}

fn own_variables() -> Vec<(OsString, OsString)> {
    let value = |name: &&str| Some((OsString::from(name), std::env::var_os(name)?));
    OWN_VARIABLES.iter().filter_map(value).collect()
}

/// Where the reason of a failure stands.
fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .next_back()
        .unwrap_or("it did not say why")
        .chars()
        .take(500)
        .collect()
}
