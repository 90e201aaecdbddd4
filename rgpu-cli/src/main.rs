//! The `rgpu` command: runs programs on a remote GPU, and says what there is.

mod admin;
mod connect;
mod function;
mod loader;
mod program;
mod run;
mod top;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, CommandFactory, Parser, Subcommand};
use rgpu_transport::{Endpoint, ServerList};

#[derive(Parser)]
#[command(name = "rgpu", version, about = "GPUs for machines that have none")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program that sees the remote GPUs
    Run {
        #[command(flatten)]
        target: Target,
        /// Use only servers that are reached so; by default each as its address says
        #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "unix", "tcp", "quic", "rdma"])]
        transport: String,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// List the servers' devices
    Devices {
        #[command(flatten)]
        target: Target,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check settings and servers, and say what to do
    Doctor {
        #[command(flatten)]
        target: Target,
        /// Also what this program would load
        program: Option<String>,
    },
    /// Show what a server's sessions, tenants and devices do: q quits, s sorts, arrows choose, k ends the chosen session
    Top {
        #[command(flatten)]
        target: admin::AdminTarget,
        /// Print once, as plain text with tabs between columns
        #[arg(long)]
        once: bool,
        /// Seconds between two looks
        #[arg(long, default_value = "2", value_parser = interval)]
        interval: Duration,
    },
    /// Who used how much, when, and at what price
    Usage(usage::Usage),
    /// Functions that files and calls trigger, at a function runner
    Function(function::Function),
    /// Write man pages and shell completions below a folder; when a release is made
    #[command(hide = true)]
    Pages { share: PathBuf },
    /// Carry a program's connections to a quic:// or rdma:// server; started by the client library
    #[command(hide = true)]
    Relay {
        server: Endpoint,
        /// Certificate authorities (PEM) that may vouch for the server
        #[arg(long)]
        ca_file: Option<PathBuf>,
    },
}

/// Which servers, and with what token.
#[derive(Args)]
pub struct Target {
    /// tcp://HOST:PORT, quic://HOST:PORT?pin=sha256:HEX, rdma://HOST:PORT or unix:///PATH, with /ORDINAL behind it for one device; several are one list of devices
    #[arg(long, env = "RGPU_SERVERS", value_delimiter = ',')]
    server: Vec<String>,
    /// File that holds the token; goes before RGPU_TOKEN and RGPU_TOKEN_FILE
    #[arg(long)]
    token_file: Option<PathBuf>,
}

impl Target {
    /// The list that the program would use.
    fn list(&self) -> Result<ServerList> {
        ensure!(
            self.server.iter().any(|server| !server.trim().is_empty()),
            "no server: give --server, or set RGPU_SERVERS"
        );
        Ok(ServerList::parse(self.server.iter().map(String::as_str))?)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "seconds, as 2 or 0.5".to_owned())?;
    match (0.2..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("0.2 to 3600 seconds".to_owned()),
    }
}

/// Exit status when `rgpu run` itself fails, so that it is told apart from the program's (as with env and container engines).
const RUN_FAILED: u8 = 125;

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run {
            target,
            transport,
            command,
        } => run::run(&target, &transport, &command).or_else(|error| {
            eprintln!("rgpu: {error:#}");
            Ok(ExitCode::from(RUN_FAILED))
        }),
        Command::Pages { share } => {
            cli_pages::write(Cli::command(), &share)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Relay { server, ca_file } => {
            rgpu_relay::client::run(&server, ca_file)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Top {
            target,
            once,
            interval,
        } => top::top(&target.client()?, interval, once),
        Command::Function(function) => function.run(),
        Command::Usage(usage) => usage.run(),
        Command::Devices { target, json } => connect::devices(&target, json),
        Command::Doctor { target, program } => connect::doctor(&target, program.as_deref()),
    }
}
