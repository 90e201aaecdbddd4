//! `rgpud`: accepts clients, authenticates and admits them, starts a worker for each session, and passes the connection on. It
//! never touches a GPU and is off the data path.

mod connection;
mod listen;
mod log;
mod server;
mod settings;
mod worker;

use anyhow::{Context, Result};
use clap::Parser;
use settings::{Cli, Command, Settings};

fn main() -> Result<()> {
    let cli = Cli::parse();
    log::init(cli.log_json);
    if let Some(Command::Worker { driver }) = cli.command {
        return rgpu_worker::run(rgpu_worker::WorkerArgs { driver });
    }
    let settings = Settings::resolve(cli)?;
    log::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, server::serve(settings))
}
