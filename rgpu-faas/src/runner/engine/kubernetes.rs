//! Programs as Jobs of a Kubernetes cluster: what a [`Program`] is here, in the words of `rgpu-faas-kubernetes`.
//!
//! Nothing of this machine is seen there. The attempt's folder goes along, under another path; the image's own PATH and libraries stay; the
//! GPU comes from the cluster's device plugin, which says by itself how its servers are reached.

use super::{Engine, Excess, Failure, Following, Forced, Kind, Later, Note, Program, Ran};
use crate::beneath;
use crate::config::Config;
use crate::function::{Function, Need, Script};
use crate::journal::JournalError;
use crate::runner::blocking;
use crate::runner::environment::Folder;
use rgpu_faas_kubernetes::attempt::{Attempt, Vgpu};
use rgpu_faas_kubernetes::{Cluster, Ended, Follower, protocol, spec};
use rustix::fs::{AtFlags, Mode, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// A script that is a file of this machine, in the attempt's folder.
const SCRIPT: &str = "script";
/// Variables that the device plugin gives a container, or that are of this machine.
const ELSEWHERE: [&str; 6] = [
    "LD_LIBRARY_PATH",
    "RGPU_FUNCTION_DIR",
    "RGPU_SERVERS",
    "RGPU_TOKEN",
    "RGPU_TOKEN_FILE",
    "RGPU_VGPU",
];
/// Variables of which an image has its own, unless the function says.
const IMAGES: [&str; 2] = ["PATH", "LANG"];

/// A cluster.
pub struct Kubernetes {
    config: Arc<Config>,
    cluster: Arc<Cluster>,
}

impl Kubernetes {
    pub fn new(config: Arc<Config>, cluster: Arc<Cluster>) -> Kubernetes {
        Kubernetes { config, cluster }
    }

    async fn follow(&self, program: &Program, following: Following<'_>) -> Result<Ran, Failure> {
        let (describing, config) = (program.clone(), self.config.clone());
        let described = blocking(move || {
            let attempt = describe(&describing, &config, &describing.function)?;
            Ok::<_, Unfit>((attempt, create_log(&config, &describing.log)?))
        });
        let (attempt, log) = match described.await? {
            Ok(described) => described,
            Err(Unfit::Function(reason)) => {
                return Ok(Ran::NotStarted {
                    reason,
                    retry: false,
                });
            }
            Err(Unfit::Here(error)) => return Err(error.into()),
        };
        let attempt = Attempt {
            timeout: following.timeout.unwrap_or(Duration::MAX),
            ..attempt
        };
        let (tell, mut told) = mpsc::unbounded_channel();
        let follower = Arc::new(Ears {
            tell,
            log: Mutex::new(log),
        });
        let mut asked = following.stop.clone();
        let (give_up, mut gives_up) = watch::channel(false);
        let stop = async move {
            let asked = async {
                if asked.wait_for(Option::is_some).await.is_err() {
                    std::future::pending().await
                }
            };
            let gives_up = async {
                if gives_up.wait_for(|is_so| *is_so).await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = asked => {}
                () = gives_up => {}
            }
        };
        let mut running = std::pin::pin!(self.cluster.run(&attempt, follower, stop));
        let (mut has_started, mut failure) = (false, None);
        let mut note = |heard| {
            let noted: Result<(), JournalError> = match heard {
                Heard::Waiting(reason) => (following.note)(Note::Waiting(&reason)),
                Heard::WithoutGpu => (following.note)(Note::WithoutGpu),
                Heard::Started if has_started => Ok(()),
                Heard::Started => {
                    has_started = true;
                    (following.started)(None)
                }
            };
            if let Err(error) = noted {
                // Nothing may run that the journal does not know of.
                failure.get_or_insert(error);
                give_up.send_replace(true);
            }
        };
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                Some(heard) = told.recv() => note(heard),
            }
        };
        // What was said before the end comes before it.
        while let Ok(heard) = told.try_recv() {
            note(heard);
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
        let why = *following.stop.borrow();
        Ok(ran(ended, has_started, why, &program.function))
    }
}

impl Engine for Kubernetes {
    fn kind(&self) -> Kind {
        Kind::Kubernetes
    }

    fn run<'a>(
        &'a self,
        program: &'a Program,
        following: Following<'a>,
    ) -> Later<'a, Result<Ran, Failure>> {
        Box::pin(self.follow(program, following))
    }
}

/// What a run is told, in the order in which it happened.
enum Heard {
    Waiting(String),
    Started,
    WithoutGpu,
}

struct Ears {
    tell: mpsc::UnboundedSender<Heard>,
    log: Mutex<File>,
}

impl Follower for Ears {
    fn waiting(&self, reason: &str) {
        let _ = self.tell.send(Heard::Waiting(reason.to_owned()));
    }

    fn started(&self, _: u32) {
        let _ = self.tell.send(Heard::Started);
    }

    fn without_gpu(&self) {
        let _ = self.tell.send(Heard::WithoutGpu);
    }

    fn log(&self, bytes: &[u8]) {
        let mut log = self.log.lock().unwrap_or_else(|error| error.into_inner());
        if let Err(error) = log.write_all(bytes) {
            tracing::warn!(%error, "the job's log cannot be written");
        }
    }
}

/// What the end of an attempt is to the runner.
fn ran(
    ended: Ended,
    has_started: bool,
    stop: Option<crate::runner::Stop>,
    function: &Function,
) -> Ran {
    let forced = |forced| Ran::Ended {
        exit_code: None,
        signal: None,
        excess: None,
        tail: String::new(),
        forced: Some(forced),
    };
    match ended {
        Ended::Failed { reason, retry } => Ran::NotStarted { reason, retry },
        Ended::Timeout => forced(Forced::Timeout),
        Ended::Stopped => {
            let why = stop.unwrap_or(crate::runner::Stop::Shutdown);
            match has_started {
                true => forced(Forced::Stop(why)),
                false => Ran::Stopped(why),
            }
        }
        Ended::Script(report) => {
            if let Some(reason) = report.not_started {
                return Ran::NotStarted {
                    reason,
                    retry: true,
                };
            }
            if let (true, Some(why)) = (report.exit_code == Some(0), &report.outputs_error) {
                return Ran::NotStarted {
                    reason: format!("the outputs did not come back: {why}"),
                    retry: true,
                };
            }
            let of_memory = report.over_memory && report.exit_code != Some(0);
            Ran::Ended {
                exit_code: report.exit_code,
                signal: report.signal,
                excess: of_memory.then(|| Excess::Memory(function.memory.unwrap_or(0))),
                tail: report.tail,
                forced: report.timed_out.then_some(Forced::Timeout),
            }
        }
    }
}

/// Why a program cannot be made an attempt.
#[derive(Debug)]
enum Unfit {
    /// Its function asks for what there is not.
    Function(String),
    Here(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Unfit {
        Unfit::Here(error)
    }
}

/// A program as an attempt; its time limit is not known here.
fn describe(program: &Program, config: &Config, function: &Function) -> Result<Attempt, Unfit> {
    let unfit = |what: &str| Unfit::Function(format!("engine kubernetes: {what}"));
    let Some(image) = function.image.clone() else {
        return Err(unfit("the function has no `image`"));
    };
    if !function.place.network {
        return Err(unfit(
            "`network: false` is not kept here: a NetworkPolicy of the cluster can",
        ));
    }
    let number = program.name.strip_prefix(program.job.as_str());
    let number = number.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
    let folder = beneath::root(&program.folder)?;
    let mut argv = program.argv.clone();
    // As the image has it.
    if let (Some(said), Some(first)) = (function.command.first(), argv.first_mut()) {
        *first = said.into();
    }
    if let (Some(Script::File(path)), Some(last)) = (&function.script, argv.last_mut()) {
        *last = bring_script(path, &folder)?;
    }
    let mut attempt = Attempt {
        function: function.name.clone(),
        job: program.job.clone(),
        number: number.unwrap_or(0),
        image,
        pull_secrets: function.image_pull_secrets.clone(),
        labels: function.labels.clone(),
        annotations: function.annotations.clone(),
        variables: Vec::new(),
        environment: Vec::new(),
        secrets: Vec::new(),
        argv: argv
            .iter()
            .map(|word| moved(word, &program.folder))
            .collect(),
        files: files(&folder)?,
        folder: Arc::new(folder),
        cpu: function.cpu,
        memory: function.memory,
        scratch: function.place.disk,
        vgpu: vgpu(function).map_err(unfit)?,
        timeout: Duration::MAX,
        log_limit: config.log_limit,
        term_grace: TERM_GRACE,
    };
    for (name, value) in &program.environment {
        sort(&mut attempt, (name, value), program, config, function);
    }
    if attempt.vgpu.is_some() {
        accounts(&mut attempt, program, function);
    }
    Ok(attempt)
}

fn vgpu(function: &Function) -> Result<Option<Vgpu>, &'static str> {
    if !function.enable_gpu || !function.asks_gpu {
        return Ok(None);
    }
    let asked = &function.vgpu;
    if asked.count.is_some_and(|count| count > 1) {
        return Err("vgpu.count: a pod has one vGPU, of one server");
    }
    let is_bounded = asked.wait.is_some() || asked.need == Need::Preferred;
    Ok(Some(Vgpu {
        profile: asked.profile.clone(),
        wait: is_bounded.then(|| asked.wait.unwrap_or(crate::runner::gpu::WAIT)),
        preferred: asked.need == Need::Preferred,
    }))
}

/// Puts a variable where it belongs.
fn sort(
    attempt: &mut Attempt,
    (name, value): (&OsString, &OsString),
    program: &Program,
    config: &Config,
    function: &Function,
) {
    let text = name.to_string_lossy();
    let own = function.variables.get(text.as_ref());
    let is_said = own.is_some() || config.variables.iter().any(|(said, _)| said == name);
    if function.secrets.contains_key(text.as_ref()) {
        attempt
            .secrets
            .push((text.into_owned(), value.clone().into_vec()));
        return;
    }
    if ELSEWHERE.contains(&text.as_ref()) {
        // Of these a function may have its own value of the first, without what this machine puts before it.
        if let Some(own) = own {
            attempt.variables.push((text.into_owned(), own.clone()));
        }
        return;
    }
    if IMAGES.contains(&text.as_ref()) && !is_said {
        return;
    }
    match value.to_str() {
        Some(value) if is_said => attempt
            .variables
            .push((text.into_owned(), value.to_owned())),
        _ => attempt
            .environment
            .push((name.clone(), moved(value, &program.folder))),
    }
}

/// What the GPU's client says of the job to its server, and where it leaves its counts.
fn accounts(attempt: &mut Attempt, program: &Program, function: &Function) {
    let mut set = |name: &str, value: String| {
        let is_there = attempt.variables.iter().any(|(said, _)| said == name)
            || attempt.environment.iter().any(|(said, _)| said == name);
        if !is_there {
            attempt.environment.push((name.into(), value.into()));
        }
    };
    set("RGPU_JOB", program.job.clone());
    set("RGPU_FUNCTION", function.name.clone());
    set("RGPU_STATS", format!("{}/{}", spec::FOLDER, Folder::STATS));
    if let Some(memory) = function.vgpu.memory_mib {
        set("RGPU_VGPU_MEMORY", memory.to_string());
    }
    if let Some(share) = function.vgpu.share {
        set("RGPU_VGPU_SHARE", share.to_string());
    }
}

/// A path in the attempt's folder, as it is in the container; other values as they are.
fn moved(value: &OsStr, folder: &Path) -> OsString {
    let (bytes, folder) = (value.as_bytes(), folder.as_os_str().as_bytes());
    match bytes.strip_prefix(folder) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => {
            let mut path = spec::FOLDER.as_bytes().to_vec();
            path.extend_from_slice(rest);
            OsString::from_vec(path)
        }
        _ => value.to_owned(),
    }
}

/// Copies a script of this machine into the attempt's folder; its path in the container.
fn bring_script(path: &Path, folder: &OwnedFd) -> io::Result<OsString> {
    let name = path.file_name().unwrap_or_default();
    let into = beneath::make_folder(folder, Path::new(SCRIPT))?;
    let mut copy = beneath::create(into, name, Mode::from(0o666))?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    Ok(Path::new(spec::FOLDER).join(SCRIPT).join(name).into())
}

/// What of the attempt's folder goes along: all but what the script is to make.
fn files(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let names = beneath::list(folder)?.into_iter();
    let names = names.filter_map(|(name, _)| name.into_string().ok());
    Ok(names
        .filter(|name| ![protocol::OUTPUT, Folder::TEMPORARY].contains(&name.as_str()))
        .collect())
}

/// A new file, whatever another job may have put in its place.
fn create_log(config: &Config, path: &Path) -> io::Result<File> {
    let data = beneath::root(&config.data)?;
    let (folder, name) = beneath::make_parent(&data, path)?;
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    beneath::create(&folder, name, Mode::from(0o666))
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
