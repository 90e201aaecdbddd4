//! `rgpud`: accepts clients, authenticates and admits them, starts a worker for each session, and passes the connection on. It
//! never touches a GPU and is off the data path.

mod accounts;
mod admin;
mod adopt;
mod cgroups;
mod connection;
mod contents;
mod desk;
mod devices;
mod gauges;
mod isolation;
mod kept;
mod leases;
mod lend;
mod listen;
mod log;
mod notify;
mod open;
mod pool;
mod process;
mod relay;
mod residency;
mod room;
mod server;
mod settings;
mod spawner;
mod state;
mod tally;
mod trace;
mod worker;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use isolation::Isolation;
use settings::{Cli, Command, Settings};
use spawner::Spawner;

/// A file that must not grow is an error to whoever writes it, and no reason to die.
fn outlive_limits() {
    // SAFETY: before any other thread exists; no handler of ours is called.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// So that a configuration need not have the token itself.
fn hash_token() -> Result<()> {
    use std::io::Write;
    let text = std::io::read_to_string(std::io::stdin()).context("the token on stdin")?;
    let hash = settings::hash_token(&text).map_err(anyhow::Error::msg)?;
    writeln!(std::io::stdout(), "{hash}").context("the hash on stdout")
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    log::init(cli.log_json);
    outlive_limits();
    match cli.command {
        Some(Command::Worker {
            driver,
            files,
            memory,
            clears,
        }) => {
            return rgpu_worker::run(rgpu_worker::WorkerArgs {
                driver,
                files,
                memory,
                clears,
            });
        }
        Some(Command::HashToken) => return hash_token(),
        Some(Command::Pages { share }) => return Ok(cli_pages::write(Cli::command(), &share)?),
        Some(Command::Relay) => return rgpu_relay::server::run(),
        #[cfg(feature = "rdma")]
        Some(Command::RdmaRelay {
            address,
            connections,
        }) => return rgpu_relay::rdma::server::run(address, connections),
        None => {}
    }
    let mut settings = Settings::resolve(cli)?;
    let files = room::raise_limit();
    let administration = match settings.admin.is_empty() {
        true => 0,
        false => admin::DESCRIPTORS,
    };
    let room = room::Room::within(files.saturating_sub(administration), settings.keepers());
    anyhow::ensure!(
        room.sessions > 0,
        "the limit on open files ({files}) leaves no room for a session: raise it (LimitNOFILE= of a systemd unit, ulimit -Hn)"
    );
    if settings.max_sessions > room.sessions {
        tracing::warn!(
            max_sessions = settings.max_sessions,
            room = room.sessions,
            files,
            "the limit on open files has no room for so many sessions; taking fewer: raise it (LimitNOFILE= of a systemd unit, ulimit -Hn), or \
             give a smaller --max-sessions"
        );
        settings.max_sessions = room.sessions;
    }
    if room.segments == 0 && settings.cache.memory > 0 {
        tracing::warn!(
            files,
            "the limit on open files has no room for content of so many tenants; none is kept: raise it, or give --cache-memory 0"
        );
    }
    // One more watches the devices for the administration.
    let monitors = server::MAX_MONITORS + 1;
    let most = settings.max_sessions.saturating_add(monitors);
    let isolation = Isolation::new(&settings.isolation, most)?;
    tracing::info!(%isolation, "what keeps workers apart");
    isolation::drop_rights();
    let spawner = Spawner::start().context("a thread to start workers")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, server::serve(settings, room, isolation, spawner))
}
