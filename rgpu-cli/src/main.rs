//! The `rgpu` command: runs programs on a remote GPU, and says what there is.

mod connect;
mod loader;
mod program;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
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
        Command::Relay { server, ca_file } => {
            rgpu_relay::client::run(&server, ca_file)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Devices { target, json } => connect::devices(&target, json),
        Command::Doctor { target, program } => connect::doctor(&target, program.as_deref()),
    }
}
