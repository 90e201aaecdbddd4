//! Where programs run: what every place is given, and what it answers.
//!
//! A [`Program`] says what is to run and what it may see. An [`Engine`] runs it to its end. On this machine that is [`Local`]: processes
//! below a supervisor, plain or inside a wrapping, which can also be started alone ([`Local::start`]) by whoever keeps them alive.

mod choice;
mod etc;
pub(super) mod groups;
mod kubernetes;
mod loader;
mod local;
mod podman;
mod ready;
mod sandbox;

use super::Stop;
use crate::function::Function;
use crate::journal::JournalError;
pub use choice::{Choice, Engines};
pub use kubernetes::Kubernetes;
pub use local::{Local, Started};
pub use podman::Pull;
pub(crate) use ready::sweep;
pub use ready::{Ready, Supervisor};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A process of this machine, with the daemon's rights.
    Process,
    /// A process that sees little of this machine.
    Sandbox,
    /// A container of the function's image, on this machine.
    Podman,
    /// A Job of a Kubernetes cluster.
    Kubernetes,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Process, Kind::Sandbox, Kind::Podman, Kind::Kubernetes];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Sandbox => "sandbox",
            Kind::Podman => "podman",
            Kind::Kubernetes => "kubernetes",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is to run, wherever that is. Its limits, image and vGPU are its function's.
#[derive(Clone, Debug)]
pub struct Program {
    /// Like no other that runs or ran: `<job>-<attempt>`, or what a process that outlives a job is called.
    pub name: String,
    /// `JOB_UUID` of its processes, by which they are found after a crash.
    pub job: String,
    pub function: Arc<Function>,
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working folder, where it may write.
    pub folder: PathBuf,
    /// Files and folders that it may read beside what the place itself has.
    pub reads: Vec<PathBuf>,
    /// Folders outside its own that it may write to.
    pub writes: Vec<PathBuf>,
    /// The folder whose libraries (libcuda.so.1, …) it finds, whatever becomes of its variables.
    pub library: Option<PathBuf>,
    /// Where its output is kept, inside the data folder.
    pub log: PathBuf,
    /// How far it stands back on the CPU.
    pub nice: u8,
}

/// What goes between a program and whoever waits for it.
pub struct Following<'a> {
    /// None: no limit.
    pub timeout: Option<Duration>,
    pub stop: &'a mut watch::Receiver<Option<Stop>>,
    /// To be called once, when the program runs; with its process, where it has one on this machine.
    pub started: &'a (dyn Fn(Option<u32>) -> Result<(), JournalError> + Sync),
    /// To be called with what there is to know before that.
    pub note: &'a (dyn Fn(Note<'_>) -> Result<(), JournalError> + Sync),
}

/// What a place says of a program that does not run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// Why.
    Waiting(&'a str),
    /// It will run on the CPU, as it preferred a vGPU and there is none.
    WithoutGpu,
}

/// Why a program was ended before its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    Stop(Stop),
    Timeout,
}

/// A limit that ended a program, and how much of it was in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// Bytes of memory.
    Memory(u64),
    Processes(u32),
    /// Processes and threads, of which the kernel allowed no more.
    Tasks(u32),
    /// Bytes on disk.
    Disk(u64),
    /// Folders in folders.
    Depth,
    /// The folder was kept in a state that cannot be counted.
    Uncountable,
}

/// How a program's run went.
#[derive(Clone, Debug, PartialEq)]
pub enum Ran {
    Ended {
        exit_code: Option<i32>,
        signal: Option<i32>,
        excess: Option<Excess>,
        /// The last lines of its output.
        tail: String,
        forced: Option<Forced>,
    },
    /// It never began.
    NotStarted { reason: String, retry: bool },
    /// Asked to stop before it began.
    Stopped(Stop),
    /// What watched it is gone; its processes have been ended.
    Lost,
}

/// Why a program cannot be started as things are.
#[derive(Debug)]
pub struct NotReady {
    pub reason: String,
    /// Whether another try could help.
    pub retry: bool,
}

impl NotReady {
    fn for_now(reason: String) -> NotReady {
        NotReady {
            reason,
            retry: true,
        }
    }

    fn for_good(reason: impl Into<String>) -> NotReady {
        NotReady {
            reason: reason.into(),
            retry: false,
        }
    }
}

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> NotReady {
        NotReady::for_now(error.to_string())
    }
}

/// What is not the program's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The place cannot be used.
    #[error(transparent)]
    Place(#[from] io::Error),
}

/// An answer that comes later. Boxed, because the engine is chosen as jobs begin.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place where programs run.
pub trait Engine: Send + Sync {
    fn kind(&self) -> Kind;

    /// The same as a place of this machine, where processes can be kept.
    fn local(&self) -> Option<&Local> {
        None
    }

    /// Runs a program to its end. Whatever that is, also if the future is dropped, nothing of it runs afterwards for long.
    fn run<'a>(
        &'a self,
        program: &'a Program,
        following: Following<'a>,
    ) -> Later<'a, Result<Ran, Failure>>;

    /// Ends what programs of an earlier runner with this data left that no process of this machine shows. Blocks; to be called before
    /// anything runs.
    fn clear(&self) -> io::Result<()> {
        Ok(())
    }

    /// Lets go of what it keeps for jobs to come.
    fn stop(&self) -> Later<'_, ()> {
        Box::pin(async {})
    }
}

/// A program's file, as a shell would find it.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    places.find_map(|folder| {
        let file = folder.join(name);
        file.is_file().then_some(file)
    })
}
