//! Command line over environment over file over default; checked before anything is opened.

mod check;
mod file;
mod reload;
mod tenancy;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rgpu_accounts::Config;
use rgpu_admin::Address;
use rgpu_transport::Endpoint;
use serde::Deserialize;

use crate::isolation::{Clear, Sharing, Users, Wanted};
use file::{File, Source};
pub use reload::Changes;
pub use tenancy::{BadToken, Known, Origin, Tenancy, Tenant};
pub use tokens::hash as hash_token;

use crate::accounts;

/// The daemon of a GPU host: runs CUDA calls that are forwarded from programs elsewhere.
#[derive(Parser)]
#[command(name = "rgpud", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The driver to use: NVIDIA's libcuda.so.1, or softgpu's
    #[arg(long, env = "RGPUD_DRIVER")]
    driver: Option<PathBuf>,
    /// Where to listen: tcp://HOST:PORT, quic://HOST:PORT, rdma://HOST:PORT or unix:///PATH (may be repeated)
    #[arg(long, env = "RGPUD_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// Where the administration listens: tcp://HOST:PORT or unix:///PATH (may be repeated); nowhere otherwise
    #[arg(long, env = "RGPUD_ADMIN", value_delimiter = ',')]
    admin: Vec<Address>,
    /// Configuration file (TOML)
    #[arg(long, env = "RGPUD_CONFIG")]
    config: Option<PathBuf>,
    /// Tokens, one a line: TOKEN, or TOKEN TENANT
    #[arg(long, env = "RGPUD_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Most sessions at once
    #[arg(long, env = "RGPUD_MAX_SESSIONS")]
    max_sessions: Option<u32>,
    /// Workers that are started before a session needs one
    #[arg(long, env = "RGPUD_READY_WORKERS")]
    ready_workers: Option<u32>,
    /// MiB of content that is kept in memory for each tenant, so that it need not be sent again; 0: none
    #[arg(long, env = "RGPUD_CACHE_MEMORY")]
    cache_memory: Option<u64>,
    /// Folder for such content, which then outlasts the daemon
    #[arg(long, env = "RGPUD_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// MiB of it on disk for each tenant
    #[arg(long, env = "RGPUD_CACHE_DISK")]
    cache_disk: Option<u64>,
    /// Sessions use a device in turns, by their weights; off: at the same time, as the device shares itself out. On where there are profiles
    #[arg(long, env = "RGPUD_TIME_SHARING")]
    time_sharing: Option<Switch>,
    /// Database of who used how much (SQLite); made if need be. Without it there are no accounts
    #[arg(long, env = "RGPUD_ACCOUNTS")]
    accounts: Option<PathBuf>,
    /// Folder by which a daemon that was killed is followed by one that takes its sessions over
    #[arg(long, env = "RGPUD_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// How long sessions go on without a daemon; 0: not at all
    #[arg(long, env = "RGPUD_ORPHAN_SECONDS")]
    orphan_seconds: Option<u32>,
    /// How long sessions may go on after SIGTERM
    #[arg(long, env = "RGPUD_DRAIN_SECONDS")]
    drain_seconds: Option<u32>,
    /// How long a peer may take for its greeting
    #[arg(long, env = "RGPUD_GREETING_TIMEOUT_MS", hide = true)]
    greeting_timeout_ms: Option<u64>,
    /// Program that plays the worker, in tests; this one otherwise
    #[arg(long, env = "RGPUD_WORKER_PROGRAM", hide = true)]
    worker_program: Option<PathBuf>,
    /// Certificate (PEM) of quic:// addresses, with those that lead to an authority behind it; one is made at each start otherwise
    #[arg(long, env = "RGPUD_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "RGPUD_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Users that workers become, FIRST-LAST, or none (needs root)
    #[arg(long, env = "RGPUD_WORKER_UIDS")]
    worker_uids: Option<String>,
    /// Whose workers share a user: each session has its own, or a tenant's sessions one
    #[arg(long, env = "RGPUD_WORKER_UID_OF", value_enum)]
    worker_uid_of: Option<Sharing>,
    /// Further files and folders that the driver uses (may be repeated)
    #[arg(long, env = "RGPUD_WORKER_FILES", value_delimiter = ',')]
    worker_files: Vec<PathBuf>,
    /// MiB of the host's memory that a worker may take for itself
    #[arg(long, env = "RGPUD_WORKER_MEMORY")]
    worker_memory: Option<u64>,
    /// Whether memory of devices is cleared before a session uses it; auto: where the driver has opened a device
    #[arg(long, env = "RGPUD_CLEAR_MEMORY", value_enum)]
    clear_memory: Option<Clear>,
    /// Log as JSON
    #[arg(long, env = "RGPUD_LOG_JSON")]
    pub log_json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve one session; started by rgpud itself
    #[command(hide = true)]
    Worker {
        #[arg(long)]
        driver: PathBuf,
        #[arg(long)]
        files: Vec<PathBuf>,
        #[arg(long)]
        memory: Option<u64>,
        #[arg(long)]
        clears: Option<bool>,
    },
    /// Print the hash of the token on standard input, for token_hash and revoked in a configuration
    HashToken,
    /// Write man pages and shell completions below a folder; when a release is made
    #[command(hide = true)]
    Pages { share: PathBuf },
    /// Carry the connections of a quic:// address; started by rgpud itself
    #[command(hide = true)]
    Relay,
    /// Carry the connections of an rdma:// address; started by rgpud itself
    #[cfg(feature = "rdma")]
    #[command(hide = true)]
    RdmaRelay {
        address: std::net::SocketAddr,
        connections: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

/// Certificate and key of quic:// addresses: files, or made for this start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFiles {
    None,
    Both { certificate: PathBuf, key: PathBuf },
}

/// What is kept of sessions, in bytes for each tenant.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub memory: u64,
    pub disk: u64,
    /// None: in memory alone.
    pub folder: Option<PathBuf>,
}

/// How sessions outlive their daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Afterlife {
    /// None: they do not.
    pub folder: Option<PathBuf>,
    /// The folder was asked for; otherwise a daemon goes on without.
    pub is_asked_for: bool,
    pub seconds: u32,
}

impl Afterlife {
    /// Where nobody has named a folder: that of the service, or one of this user's by the addresses, which the next daemon has too. Addresses that the system
    /// chooses the next one does not have.
    fn resolve(asked: Option<PathBuf>, seconds: u32, listen: &[Endpoint]) -> Afterlife {
        let is_asked_for = asked.is_some();
        let is_found_again = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp { port, .. } => *port != 0,
            Endpoint::Unix(_) => true,
            // Their sessions end with the daemon's relay.
            Endpoint::Quic { .. } | Endpoint::Rdma { .. } => false,
        };
        let by_itself = || {
            if let Some(folders) = std::env::var_os("RUNTIME_DIRECTORY") {
                // Of several the first.
                let mut folders = std::env::split_paths(&folders);
                return Some(folders.next()?.join("state"));
            }
            let base = match std::env::var_os("XDG_RUNTIME_DIR") {
                Some(folder) => PathBuf::from(folder),
                None if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
                None => return None,
            };
            let addresses: Vec<_> = listen.iter().map(Endpoint::to_string).collect();
            let name = blake3::hash(addresses.join(",").as_bytes()).to_hex();
            Some(base.join(format!("rgpud-{}", &name[..8])))
        };
        let found_again = listen.iter().any(is_found_again);
        let folder = asked.or_else(|| by_itself().filter(|_| found_again));
        Afterlife {
            folder: folder.filter(|_| seconds > 0),
            is_asked_for,
            seconds,
        }
    }
}

#[derive(Debug)]
pub struct Settings {
    pub driver: PathBuf,
    pub listen: Vec<Endpoint>,
    pub admin: Vec<Address>,
    /// As it was at the start: [`crate::server::Server::tenancy`] is what holds.
    pub tenancy: Tenancy,
    pub origin: Origin,
    pub max_sessions: u32,
    pub ready_workers: u32,
    pub cache: Cache,
    pub accounts: Option<accounts::Options>,
    /// Whether sessions use a device in turns.
    pub time_sharing: bool,
    pub afterlife: Afterlife,
    /// How long sessions may go on after SIGTERM.
    pub drain: Duration,
    pub greeting_timeout: Duration,
    pub worker_program: Option<PathBuf>,
    pub tls: TlsFiles,
    pub isolation: Wanted,
}

impl Settings {
    pub fn resolve(cli: Cli) -> Result<Settings> {
        let (source, file) = match &cli.config {
            Some(path) => {
                let (source, file) = Source::read(path)?;
                (Some(source), file)
            }
            None => (None, File::default()),
        };
        // Checked even where no accounts are kept.
        let config = accounts_in(source.as_ref(), &file);
        // What is wrong with the rest is said first.
        let tenancy = Tenancy::of(source.as_ref(), &file, cli.token_file.as_deref());
        let origin = Origin {
            config: cli.config.clone(),
            token_file: cli.token_file,
        };
        let driver = cli
            .driver
            .or(file.driver)
            .context("no driver: give --driver PATH/libcuda.so.1 (NVIDIA's, or softgpu's)")?;
        ensure!(
            driver.is_file(),
            "--driver {}: no such file",
            driver.display()
        );
        let driver = std::path::absolute(&driver)?;
        let listen = if cli.listen.is_empty() {
            file.listen.unwrap_or_default()
        } else {
            cli.listen
        };
        ensure!(
            !listen.is_empty(),
            "nowhere to listen: give --listen tcp://HOST:PORT, --listen quic://HOST:PORT or --listen unix:///PATH"
        );
        let listen = listen
            .iter()
            .map(|text| {
                let endpoint = Endpoint::parse(text).context("--listen")?;
                let is_pinned = matches!(endpoint, Endpoint::Quic { pin: Some(_), .. });
                ensure!(
                    !is_pinned,
                    "--listen {endpoint}: the pin is for clients; it follows from --tls-cert, and rgpud prints it"
                );
                Ok(endpoint)
            })
            .collect::<Result<Vec<_>>>()?;
        let admin = match file.admin {
            Some(admin) if cli.admin.is_empty() => admin.parse()?,
            _ => cli.admin,
        };
        let tls = match (cli.tls_cert.or(file.tls_cert), cli.tls_key.or(file.tls_key)) {
            (Some(certificate), Some(key)) => TlsFiles::Both { certificate, key },
            (None, None) => TlsFiles::None,
            _ => bail!("--tls-cert and --tls-key belong together: give both or none"),
        };
        let tenancy = tenancy?;
        tenancy.check_tokens()?;
        let max_sessions = cli.max_sessions.or(file.max_sessions).unwrap_or(1024);
        ensure!(
            max_sessions > 0,
            "--max-sessions 0: nobody could connect; give 1 or more"
        );
        let ready_workers = cli.ready_workers.or(file.ready_workers).unwrap_or(1);
        ensure!(
            ready_workers <= MAX_READY,
            "--ready-workers {ready_workers}: at most {MAX_READY}"
        );
        let mib = |mib: u64| mib.saturating_mul(1 << 20);
        let cache = Cache {
            memory: mib(cli.cache_memory.or(file.cache_memory).unwrap_or(256)),
            disk: mib(cli.cache_disk.or(file.cache_disk).unwrap_or(4096)),
            folder: cli
                .cache_dir
                .or(file.cache_dir)
                .map(std::path::absolute)
                .transpose()?,
        };
        // What profiles promise of device time needs it; otherwise the figures that would make it the rule are still to be taken.
        let time_sharing = match cli.time_sharing.or(file.time_sharing) {
            Some(said) => said == Switch::On,
            None => !tenancy.profiles.is_empty() || !tenancy.timed.is_empty(),
        };
        tenancy.check_time_sharing(time_sharing)?;
        let config = config?;
        let database = cli.accounts.or(file.accounts.database);
        let accounts = database.map(std::path::absolute).transpose()?;
        let orphan_seconds = cli.orphan_seconds.or(file.orphan_seconds).unwrap_or(60);
        let state_dir = cli.state_dir.or(file.state_dir);
        let drain_seconds = cli.drain_seconds.or(file.drain_seconds).unwrap_or(30);
        let users = cli.worker_uids.or(file.worker_uids);
        let worker_files = match cli.worker_files.is_empty() {
            true => file.worker_files.unwrap_or_default(),
            false => cli.worker_files,
        };
        let isolation = Wanted {
            users: users.map_or(Ok(Users::Default), |text| Users::parse(&text))?,
            sharing: cli.worker_uid_of.or(file.worker_uid_of).unwrap_or_default(),
            files: worker_files
                .iter()
                .map(std::path::absolute)
                .collect::<Result<_, _>>()?,
            memory: cli.worker_memory.or(file.worker_memory).map(mib),
            clear: cli.clear_memory.or(file.clear_memory).unwrap_or_default(),
        };
        Ok(Settings {
            isolation,
            ready_workers,
            cache,
            time_sharing,
            accounts: accounts.map(|database| accounts::Options { database, config }),
            afterlife: Afterlife::resolve(state_dir, orphan_seconds, &listen),
            drain: Duration::from_secs(drain_seconds.into()),
            driver,
            listen,
            admin,
            tenancy,
            origin,
            max_sessions,
            greeting_timeout: Duration::from_millis(cli.greeting_timeout_ms.unwrap_or(5000)),
            worker_program: cli.worker_program,
            tls,
        })
    }

    /// How many there are that have content of their own.
    pub fn keepers(&self) -> usize {
        match self.cache.memory {
            0 => 0,
            _ => self.tenancy.keepers(),
        }
    }
}

/// What the configuration says of accounts now.
pub fn accounts_of(origin: &Origin) -> Result<Config> {
    match &origin.config {
        Some(path) => {
            let (source, file) = Source::read(path)?;
            accounts_in(Some(&source), &file)
        }
        None => Ok(Config::default()),
    }
}

/// Without a source there is nothing to be wrong.
fn accounts_in(source: Option<&Source>, file: &File) -> Result<Config> {
    let config = file.accounts.resolve(&file.price);
    config.map_err(|wrong| match source {
        Some(source) => source.wrong(source.find(&wrong.key), wrong),
        None => anyhow::Error::msg(wrong.to_string()),
    })
}

/// Most workers that wait for sessions: each has a driver loaded.
const MAX_READY: u32 = 16;
