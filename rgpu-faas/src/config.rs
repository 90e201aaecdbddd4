//! What the runner is told once, at its start.

use crate::function::StorageProviders;
use crate::runner::engine::{Choice, Pull};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a function's GPU comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// Functions get no GPU.
    None,
    /// The remote GPUs of these servers, through the client library in `library`.
    Remote {
        servers: Vec<String>,
        token_file: Option<PathBuf>,
        library: PathBuf,
    },
    /// A folder with a libcuda.so.1 that runs in the function's own process; `SOFTGPU_*` variables are passed on.
    Direct {
        library: PathBuf,
        variables: Vec<(OsString, OsString)>,
    },
}

/// The runner's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds everything: see the methods below.
    pub data: PathBuf,
    pub gpu: Gpu,
    /// Variables given to every function (the function's own win).
    pub variables: Vec<(OsString, OsString)>,
    /// Jobs that run at the same time, of all functions together.
    pub max_jobs: usize,
    /// How long running jobs may go on after a request to stop.
    pub grace: Duration,
    /// Bytes of output kept of each attempt.
    pub log_limit: u64,
    /// How long a file must have been left alone before it counts as complete.
    pub settle: Duration,
    /// The storage is scanned this often even if no event came, in case one was lost.
    pub rescan: Duration,
    /// The program that is started as `supervise` for each job: this one.
    pub supervisor: PathBuf,
    /// The GPU servers' tokens for profiles that functions may ask for.
    pub profiles: BTreeMap<String, PathBuf>,
    /// Jobs are removed so long after their end; zero: never.
    pub keep_jobs: Duration,
    /// Bytes of one event's body, and of all that are kept.
    pub max_body: u64,
    pub max_payloads: u64,
    /// Bytes of output files that are kept for whoever waits for a job.
    pub max_result: u64,
    /// Whether programs are told of the span that they run in.
    pub traces: bool,
    /// Where the GPU server's administration is, which has its accounts, and the file with a token for it.
    pub usage_url: Option<String>,
    pub usage_token_file: Option<PathBuf>,
    /// How long `/run` waits for a job if nobody says.
    pub run_timeout: Duration,
    /// Where jobs run unless their function says.
    pub engine: Choice,
    /// Functions may ask to run outside a sandbox.
    pub allow_process: bool,
    /// podman's program, if it is not to be found in PATH.
    pub podman: Option<PathBuf>,
    pub pull: Pull,
    /// Folders of this machine that every sandbox and container shows.
    pub sandbox_reads: Vec<PathBuf>,
    /// Whether others than the operator may register functions.
    pub has_users: bool,
    /// Stores that definitions may name without defining them.
    pub storage_providers: StorageProviders,
    /// Bytes of an input that is fetched from another store.
    pub max_input: u64,
    /// How long an attempt tries to publish in a store that does not answer.
    pub store_patience: Duration,
}

impl Config {
    /// The defaults, for a data folder.
    pub fn new(data: PathBuf, supervisor: PathBuf) -> Config {
        Config {
            data,
            gpu: Gpu::None,
            variables: Vec::new(),
            max_jobs: 64,
            grace: Duration::from_secs(10),
            log_limit: 1 << 20,
            settle: Duration::from_millis(100),
            rescan: Duration::from_secs(60),
            supervisor,
            profiles: BTreeMap::new(),
            // OSCAR's.
            keep_jobs: Duration::from_secs(30 * 86_400),
            max_body: 64 << 20,
            max_payloads: 4 << 30,
            max_result: 64 << 20,
            traces: false,
            usage_url: None,
            usage_token_file: None,
            run_timeout: Duration::from_secs(300),
            storage_providers: StorageProviders::default(),
            max_input: 16 << 30,
            store_patience: Duration::from_secs(300),
            engine: Choice::default(),
            allow_process: false,
            podman: None,
            pull: Pull::default(),
            sandbox_reads: Vec::new(),
            has_users: false,
        }
    }

    /// The folder of the library that gives functions their GPU.
    pub fn library(&self) -> Option<&Path> {
        match &self.gpu {
            Gpu::None => None,
            Gpu::Remote { library, .. } | Gpu::Direct { library, .. } => Some(library),
        }
    }

    /// Buckets: `storage/<bucket>/<path>`.
    pub fn storage(&self) -> PathBuf {
        self.data.join("storage")
    }

    /// YAML files dropped here are registered.
    pub fn functions(&self) -> PathBuf {
        self.data.join("functions")
    }

    /// One folder for each running attempt.
    pub fn work(&self) -> PathBuf {
        self.data.join("work")
    }

    /// Bodies of events whose jobs are there.
    pub fn payloads(&self) -> PathBuf {
        self.data.join("payloads")
    }

    /// Output files of jobs that someone waited for.
    pub fn results(&self) -> PathBuf {
        self.data.join("results")
    }

    /// One file for each secret that functions may name.
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    pub fn journal(&self) -> PathBuf {
        self.data.join("journal.db")
    }

    /// The folder of one attempt, removed when it ends.
    pub fn attempt_folder(&self, job: &str, attempt: u32) -> PathBuf {
        self.work().join(format!("{job}-{attempt}"))
    }

    /// The log of one attempt, kept; inside the data folder.
    pub fn log(function: &str, job: &str, attempt: u32) -> PathBuf {
        Path::new("logs")
            .join(function)
            .join(format!("{job}.{attempt}.log"))
    }

    /// The path of a storage key.
    pub fn stored(&self, key: &OsStr) -> PathBuf {
        self.storage().join(Path::new(key))
    }
}
