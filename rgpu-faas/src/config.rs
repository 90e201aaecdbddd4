//! What the runner is told once, at its start.

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
}

impl Config {
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
