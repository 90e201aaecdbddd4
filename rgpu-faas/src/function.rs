//! A function, checked: every value is in range, so that the rest of the program need not ask again.

mod check;
mod place;
mod providers;
mod timers;
mod warm;

use crate::fdl::{self, Fault, FdlError};
use crate::retry::{RetryPolicy, seconds};
pub use place::Place;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use warm::{Runs, Warm};

pub use providers::{StorageProviders, mask};
pub use timers::Timetable;

/// Variables that the runner sets; a function may not claim them.
pub const RESERVED_VARIABLES: [&str; 20] = [
    "INPUT_FILE_PATH",
    "TMP_INPUT_DIR",
    "TMP_OUTPUT_DIR",
    "STORAGE_OBJECT_KEY",
    "EVENT_TIME",
    "EVENT",
    "JOB_UUID",
    "OSCAR_SERVICE_NAME",
    "RGPU_FUNCTION_DIR",
    "RGPU_GROUP_FILE",
    "RGPU_SERVERS",
    "RGPU_TOKEN",
    "RGPU_TOKEN_FILE",
    "RGPU_VGPU",
    "RGPU_VGPU_MEMORY",
    "RGPU_VGPU_SHARE",
    "RGPU_STATS",
    "RGPU_JOB",
    "RGPU_WARM",
    "RGPU_WARM_FD",
];

/// What the embedded storage is called.
pub const EMBEDDED: &str = "local";

/// What a job executes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// A file on this machine, run where it is, so that `$(dirname "$0")` finds its neighbours.
    File(PathBuf),
    /// Text that came with the definition, written into the job's folder.
    Inline(String),
}

/// A folder of the storage, with name filters. Empty lists match everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Channel {
    /// `local` for the embedded storage, or a provider: `minio.default`, `s3.archive`.
    pub storage_provider: String,
    /// `bucket/folder/…`, relative, no `..`, no hidden parts.
    pub path: String,
    /// The name must end with one of these.
    pub suffix: Vec<String>,
    /// The path inside the folder must start with one of these.
    pub prefix: Vec<String>,
    /// Of an input: how often its store is asked what is new.
    #[serde(
        serialize_with = "some_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub poll: Option<Duration>,
}

/// Whether a job runs without its vGPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The script finds out, as it would with a card of its own.
    #[default]
    Unsaid,
    /// It does not begin without one.
    Required,
    /// Where there is none, it runs on the CPU.
    Preferred,
}

/// The GPU share that a job asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Vgpu {
    /// What the servers call it; its token is the runner's to give.
    pub profile: Option<String>,
    /// Device memory, MiB.
    pub memory_mib: Option<u64>,
    /// Compute share, percent.
    pub share: Option<u32>,
    /// Devices that the job sees; None: all.
    pub count: Option<u32>,
    pub need: Need,
    /// How long a server may take to have room, before the need decides.
    #[serde(serialize_with = "some_seconds")]
    pub wait: Option<Duration>,
}

impl Vgpu {
    /// Whether servers are asked before a job begins.
    pub fn is_asked_for(&self) -> bool {
        self.need != Need::Unsaid || self.wait.is_some() || self.count.is_some()
    }
}

fn some_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Another function whose jobs make this one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    pub function: String,
    pub mode: Mode,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A job for each file that one of its jobs published.
    EachFile,
    /// One job when all jobs that came from one are over.
    WhenAll,
}

/// A checked function definition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub name: String,
    pub image: Option<String>,
    /// Secrets of a cluster with registries' credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Empty: `/bin/sh`.
    pub command: Vec<String>,
    pub script: Option<Script>,
    pub directory: Option<PathBuf>,
    /// Bytes of anonymous memory that all of a job's processes may hold together.
    pub memory: Option<u64>,
    pub cpu: Option<f64>,
    /// False only when `enable_gpu: false` stands in the definition.
    pub enable_gpu: bool,
    /// Whether it says that it wants one: a cluster gives none unasked.
    #[serde(skip)]
    pub asks_gpu: bool,
    pub variables: BTreeMap<String, String>,
    /// Variables whose values are files in the secrets folder, by the files' names.
    pub secrets: BTreeMap<String, String>,
    pub input: Vec<Channel>,
    pub output: Vec<Channel>,
    pub log_level: String,
    pub vgpu: Vgpu,
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    pub retry: RetryPolicy,
    /// Jobs of this function that run at the same time.
    pub concurrency: u32,
    /// What all of them together may have, as OSCAR says it: it bounds how many run.
    pub total_memory: Option<u64>,
    pub total_cpu: Option<f64>,
    /// Among the functions of one owner; more goes first.
    pub priority: i32,
    /// Starts in any minute.
    pub rate: Option<u32>,
    pub depends_on: Option<Dependency>,
    /// Calls of `/run` that are waited for at the same time; 0: any number.
    pub synchronous_max: u32,
    /// Its jobs are run by instances that stay.
    pub warm: Option<Warm>,
    /// The script fetches its input itself.
    pub file_stage_in: bool,
    /// The stores that it names itself.
    pub storage_providers: StorageProviders,
    #[serde(rename = "schedule")]
    pub timetables: Vec<Timetable>,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub place: Place,
    /// What is accepted but has no effect here.
    pub warnings: Vec<String>,
}

impl Function {
    /// How many of its jobs may run at the same time.
    pub fn limit(&self) -> u32 {
        let by_memory = match (self.total_memory, self.memory) {
            (Some(total), Some(each)) => u32::try_from(total / each.max(1)).unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        let by_cpu = match (self.total_cpu, self.cpu) {
            // A little more, so that 3 × 0.1 fits into 0.3.
            (Some(total), Some(each)) => (total / each + 1e-6) as u32,
            _ => u32::MAX,
        };
        self.concurrency.min(by_memory).min(by_cpu)
    }
}

impl Channel {
    /// Whether a file with this path inside the folder passes the filters (case-sensitive, as OSCAR does it).
    pub fn accepts(&self, relative: &[u8]) -> bool {
        let any = |list: &[String], test: &dyn Fn(&[u8]) -> bool| {
            list.is_empty() || list.iter().any(|item| test(item.as_bytes()))
        };
        any(&self.prefix, &|prefix| relative.starts_with(prefix))
            && any(&self.suffix, &|suffix| relative.ends_with(suffix))
    }

    /// Whether it is a folder of the embedded storage.
    pub fn is_embedded(&self) -> bool {
        self.storage_provider == EMBEDDED
    }

    fn contains(&self, other: &Channel) -> bool {
        self.storage_provider == other.storage_provider
            && Path::new(&other.path).starts_with(&self.path)
    }
}

/// Which stores a definition may name beside its own.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// These: it is read where it is to run.
    Here(&'a StorageProviders),
    /// Those of the server that it will be sent to, which is not asked.
    Elsewhere,
}

/// [`parse_with`] without any stores but the definition's own and the embedded storage.
pub fn parse(
    text: &str,
    origin: &str,
    directory: Option<&Path>,
) -> Result<Vec<Function>, FdlError> {
    let none = StorageProviders::default();
    parse_with(text, origin, directory, Known::Here(&none))
}

/// Reads and checks a definition. `origin` names it in errors; `directory` is the folder that its paths are relative
/// to, None when the text came over the network (then the script itself must be inlined).
pub fn parse_with(
    text: &str,
    origin: &str,
    directory: Option<&Path>,
    known: Known<'_>,
) -> Result<Vec<Function>, FdlError> {
    let mut functions: Vec<Function> = Vec::new();
    let written = fdl::read(text, origin)?;
    for raw in written.functions {
        let place = raw.name.referenced;
        let of_file = written.providers.as_ref();
        let function =
            check::check(raw, directory, of_file, known).map_err(|fault| fault.named(origin))?;
        if functions.iter().any(|f| f.name == function.name) {
            let message = format!("the function `{}` is defined twice", function.name);
            return Err(Fault(place, message).named(origin));
        }
        functions.push(function);
    }
    Ok(functions)
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
