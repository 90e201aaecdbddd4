//! `rgpu function`: what a function runner (`rgpu-faas serve`) has and does, from a terminal.

mod apply;
mod events;
mod jobs;
mod progress;
mod results;
mod run;
mod target;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use target::Target;

#[derive(Args)]
pub struct Function {
    #[command(subcommand)]
    command: Command,
}

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// As the runner says it
    Json,
}

/// What every command that asks a runner takes.
#[derive(Args)]
struct Asking {
    #[command(flatten)]
    target: Target,
    /// How answers are written
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Create functions, or change them, from definition files; scripts go with them
    Apply {
        #[command(flatten)]
        asking: Asking,
        /// Definitions (YAML, as OSCAR's FDL)
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Say the functions' new tokens, which nobody can ask for later
        #[arg(long)]
        show_tokens: bool,
    },
    /// Read definition files and say what is wrong with them; no runner is asked
    Check {
        /// Definitions
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How functions are written
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// List functions
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// Show a function's definition (JSON)
    Get {
        #[command(flatten)]
        asking: Asking,
        name: String,
    },
    /// Call a function, show its log as it comes, and write what it makes.
    ///
    /// Exit status: 0 it succeeded; 1 its job failed; 124 it takes longer than the time limit and goes on; 125 it could not be called, or its result not be had; 130 interrupted or cancelled.
    Run(run::Run),
    /// Call a function without waiting; prints the job's name
    Job {
        #[command(flatten)]
        asking: Asking,
        #[command(flatten)]
        call: run::Call,
    },
    /// Print what a job has printed
    Logs {
        #[command(flatten)]
        asking: Asking,
        job: String,
        /// Go on as it is written, through all attempts, until the job has ended
        #[arg(long, short)]
        follow: bool,
        /// Of this attempt, not the last
        #[arg(long)]
        attempt: Option<u32>,
    },
    /// List jobs, the newest last; or show one with its attempts and outputs
    Jobs(jobs::Jobs),
    /// Cancel jobs
    Cancel {
        #[command(flatten)]
        asking: Asking,
        #[arg(required = true)]
        jobs: Vec<String>,
    },
    /// Do jobs again that failed for good
    Replay {
        #[command(flatten)]
        asking: Asking,
        #[arg(required_unless_present = "function", conflicts_with = "function")]
        jobs: Vec<String>,
        /// All of this function's
        #[arg(long)]
        function: Option<String>,
    },
    /// Remove functions; their waiting and running jobs are cancelled
    Delete {
        #[command(flatten)]
        asking: Asking,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List a function's versions, or make an earlier one the newest
    Versions {
        #[command(flatten)]
        asking: Asking,
        name: String,
        /// The version that is wanted again
        #[arg(long)]
        restore: Option<u32>,
    },
}

/// Exit status where a call itself fails, so that it is told apart from the job's end (as with `rgpu run`).
const FAILED: u8 = 125;

impl Function {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Apply {
                asking,
                files,
                show_tokens,
            } => apply::apply(asking, files, *show_tokens),
            Command::Check { files, output } => apply::check(files, *output),
            Command::List { asking } => apply::list(asking),
            Command::Get { asking, name } => apply::get(asking, name),
            Command::Run(run) => run.run().or_else(|error| {
                eprintln!("rgpu: {error:#}");
                Ok(ExitCode::from(FAILED))
            }),
            Command::Job { asking, call } => run::job(asking, call),
            Command::Logs {
                asking,
                job,
                follow,
                attempt,
            } => jobs::logs(asking, job, *follow, *attempt),
            Command::Jobs(jobs) => jobs.run(),
            Command::Cancel { asking, jobs } => jobs::cancel(asking, jobs),
            Command::Replay {
                asking,
                jobs,
                function,
            } => jobs::replay(asking, jobs, function.as_deref()),
            Command::Delete { asking, names } => apply::delete(asking, names),
            Command::Versions {
                asking,
                name,
                restore,
            } => apply::versions(asking, name, *restore),
        }
    }
}
