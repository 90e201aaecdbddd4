//! What runner and agent say to each other, below `/agent/ATTEMPT/` of the runner, each request with `Authorization: Bearer` and the
//! attempt's token, and `X-Agent` with a name that the agent has made up for itself:
//!
//! | request | |
//! |---|---|
//! | `GET bundle` | a tar stream: [`Work`] as [`WORK`], then the attempt's files |
//! | `POST started` | [`Started`] |
//! | `POST log?offset=N` | bytes of output from N on, now and then none; answered, also with 409, by [`Progress`] |
//! | `PUT outputs` | a tar stream: `output/…` and what the script says of itself |
//! | `POST ended` | [`Report`]; the last |
//!
//! 404 and 410 mean that the attempt is no longer wanted from this agent, 400 and 413 that a request is refused for good. Anything else that is
//! not a success is tried again. Every request may come twice.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;

/// The name of [`Work`] in a bundle.
pub const WORK: &str = "work.json";
/// The folder of outputs, in the attempt's folder and in the archive.
pub const OUTPUT: &str = "output";
/// The script's own report of its phases, beside its outputs.
pub const PHASES: &str = ".phases.json";
/// Where the GPU client writes its counts.
pub const STATS: &str = "rgpu-stats.json";
/// The header that tells agents of one attempt apart.
pub const AGENT: &str = "x-agent";

/// The longest [`Work`], in bytes.
pub const MAX_WORK: u64 = 16 << 20;
/// The longest body of the small requests, in bytes.
pub const MAX_SMALL: usize = 64 << 10;
/// The longest piece of a log in one request, in bytes.
pub const MAX_PIECE: usize = 256 << 10;
/// What a log may have beyond its limit: the line that says how much was left out.
pub const LOG_SLACK: u64 = 256;
/// Bytes of the end of the output that go into a failure's reason.
pub const TAIL: usize = 2048;

/// What the agent is to run, in the attempt's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub argv: Vec<OsString>,
    /// On top of what the container has.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables whose values are files of the secrets' folder.
    pub secrets: Vec<String>,
    pub log_limit: u64,
    pub timeout_ms: u64,
    /// Between SIGTERM and SIGKILL.
    pub term_grace_ms: u64,
}

/// The script runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// In the pod's own namespace.
    pub pid: u32,
}

/// How many bytes of the log are there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub next: u64,
    /// The script is to end, and its end to be reported.
    #[serde(default)]
    pub stop: bool,
}

/// How the script ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Why it could not be started.
    pub not_started: Option<String>,
    /// The kernel has ended a process of the container for its memory.
    pub over_memory: bool,
    pub timed_out: bool,
    /// The agent was asked to end, by kubelet.
    pub terminated: bool,
    /// The last lines of its output.
    pub tail: String,
    /// What kept its outputs from being sent.
    pub outputs_error: Option<String>,
    /// Links and special files that were left out, some of them.
    pub skipped: Vec<String>,
}

impl Report {
    /// Whether outputs are published, and so must have come.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0) && !self.timed_out && !self.terminated
    }
}
