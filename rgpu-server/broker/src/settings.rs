//! Command line over environment over file over default; checked before anything is opened.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, Subcommand};
use rgpu_content::store::Owner;
use rgpu_quota::Entitlement;
use rgpu_transport::Endpoint;
use serde::Deserialize;

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
    /// Sessions use a device in turns, by their weights; off: at the same time, as the device shares itself out
    #[arg(long, env = "RGPUD_TIME_SHARING")]
    time_sharing: Option<Switch>,
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
    },
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
enum Switch {
    On,
    Off,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    driver: Option<PathBuf>,
    listen: Option<Vec<String>>,
    token_file: Option<PathBuf>,
    max_sessions: Option<u32>,
    ready_workers: Option<u32>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    cache_memory: Option<u64>,
    cache_dir: Option<PathBuf>,
    cache_disk: Option<u64>,
    time_sharing: Option<Switch>,
    #[serde(default)]
    tenant: Vec<FileTenant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTenant {
    name: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    /// Device memory of each session.
    memory_mib: Option<u64>,
    /// Compute share of each session, percent.
    share: Option<u32>,
    /// Sessions at once.
    sessions: Option<u32>,
}

/// Reads a configuration file. Errors are `LINE:COLUMN: what`, without the line itself or a value: it may be a token.
fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let message = match error.message().rsplit_once(", expected ") {
            Some((what, instead)) if what.starts_with("invalid type: ") => {
                format!("wrong type, expected {instead}")
            }
            _ => error.message().to_owned(),
        };
        format!("{line}:{column}: {message}")
    })
}

/// A tenant; its token is kept as a hash only.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub name: String,
    /// Its token came without a name.
    is_unnamed: bool,
    token: blake3::Hash,
    pub entitlement: Entitlement,
}

impl Tenant {
    /// Whose content the sessions of this function leave and are given. Those who hold the tokens of one name have it in common; who holds a token without
    /// a name has nothing in common with others, though they count as one tenant.
    pub fn owner(&self, function: &str) -> Owner {
        match self.is_unnamed {
            // No name is like this: in a configuration it would be too long, and has no spaces in a token file.
            true => Owner::new(&format!("the holder of token {}", self.token), function),
            false => Owner::new(&self.name, function),
        }
    }
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

#[derive(Debug)]
pub struct Settings {
    pub driver: PathBuf,
    pub listen: Vec<Endpoint>,
    pub tenants: Vec<Tenant>,
    pub max_sessions: u32,
    pub ready_workers: u32,
    pub cache: Cache,
    /// Whether sessions use a device in turns.
    pub time_sharing: bool,
    pub greeting_timeout: Duration,
    pub worker_program: Option<PathBuf>,
    pub tls: TlsFiles,
}

impl Settings {
    pub fn resolve(cli: Cli) -> Result<Settings> {
        let file = match &cli.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--config {}", path.display()))?;
                parse(&text).map_err(|error| anyhow!("--config {}:{error}", path.display()))?
            }
            None => File::default(),
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
        let tls = match (cli.tls_cert.or(file.tls_cert), cli.tls_key.or(file.tls_key)) {
            (Some(certificate), Some(key)) => TlsFiles::Both { certificate, key },
            (None, None) => TlsFiles::None,
            _ => bail!("--tls-cert and --tls-key belong together: give both or none"),
        };
        let mut tenants = Vec::new();
        if let Some(path) = cli.token_file.or(file.token_file) {
            tenants.extend(token_file(&path)?);
        }
        for tenant in file.tenant {
            tenants.push(tenant.resolve()?);
        }
        ensure!(
            !tenants.is_empty(),
            "no tokens, so nobody could connect: give --token-file FILE (make one with: head -c 32 /dev/urandom | base64 > FILE && \
             chmod 600 FILE) or tenants in --config"
        );
        for (at, tenant) in tenants.iter().enumerate() {
            if let Some(other) = tenants[..at]
                .iter()
                .find(|other| other.token == tenant.token)
            {
                bail!(
                    "tenants {} and {} have the same token",
                    other.name,
                    tenant.name
                );
            }
        }
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
        Ok(Settings {
            ready_workers,
            cache,
            time_sharing: cli.time_sharing.or(file.time_sharing) == Some(Switch::On),
            driver,
            listen,
            tenants,
            max_sessions,
            greeting_timeout: Duration::from_millis(cli.greeting_timeout_ms.unwrap_or(5000)),
            worker_program: cli.worker_program,
            tls,
        })
    }

    /// How many there are that have content of their own.
    pub fn keepers(&self) -> usize {
        let owners = self.tenants.iter().map(|tenant| tenant.owner(""));
        let keepers: HashSet<_> = owners.collect();
        match self.cache.memory {
            0 => 0,
            _ => keepers.len(),
        }
    }

    /// The tenant of a token. Every hash is compared, each in constant time.
    pub fn tenant(&self, token: &[u8]) -> Option<&Tenant> {
        let hash = blake3::hash(token);
        self.tenants.iter().fold(None, |found, tenant| {
            if tenant.token == hash {
                Some(tenant)
            } else {
                found
            }
        })
    }
}

/// Most workers that wait for sessions: each has a driver loaded.
const MAX_READY: u32 = 16;
/// Shortest token that is taken: shorter ones can be guessed.
const SHORTEST_TOKEN: usize = 16;

fn tenant(name: Option<&str>, token: &str, entitlement: Entitlement) -> Result<Tenant> {
    let (is_unnamed, name) = (name.is_none(), name.unwrap_or("default"));
    ensure!(
        token.len() >= SHORTEST_TOKEN && token.len() <= rgpu_proto::handshake::MAX_TOKEN,
        "tenant {name}: a token has {SHORTEST_TOKEN} to {} characters",
        rgpu_proto::handshake::MAX_TOKEN
    );
    Ok(Tenant {
        name: name.to_owned(),
        is_unnamed,
        token: blake3::hash(token.as_bytes()),
        entitlement,
    })
}

impl FileTenant {
    fn resolve(self) -> Result<Tenant> {
        let name = &self.name;
        ensure!(
            !name.is_empty() && name.len() <= 64,
            "a tenant's name has 1 to 64 characters"
        );
        ensure!(
            self.share.is_none_or(|share| (1..=100).contains(&share)),
            "tenant {name}: share is 1 to 100 percent"
        );
        let token = match (&self.token, &self.token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(path)) => read_secret(path)?,
            _ => bail!("tenant {name}: one of token and token_file"),
        };
        let memory = self
            .memory_mib
            .map(|mib| {
                mib.checked_mul(1 << 20)
                    .with_context(|| format!("tenant {name}: memory_mib is too large"))
            })
            .transpose()?;
        let entitlement = Entitlement {
            memory,
            share_percent: self.share,
            sessions: self.sessions,
        };
        tenant(Some(name), token.trim(), entitlement)
    }
}

fn token_file(path: &Path) -> Result<Vec<Tenant>> {
    let text = read_secret(path)?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tenants = lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let token = words.next().unwrap_or_default();
            let name = words.next();
            ensure!(
                words.next().is_none(),
                "{}: a line is TOKEN or TOKEN TENANT",
                path.display()
            );
            tenant(name, token, Entitlement::default())
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(!tenants.is_empty(), "{}: no token in it", path.display());
    Ok(tenants)
}

/// Reads a file that others must not read.
fn read_secret(path: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{:o}", mode & 0o777), "others can read the token file; chmod 600 it");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_map_to_tenants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(
            &path,
            "# comment\n0123456789abcdef alice\nfedcba9876543210\nfedcba9876543211\n0123456789abcdeg alice\n",
        )
        .unwrap();
        let tenants = token_file(&path).unwrap();
        let settings = Settings {
            driver: PathBuf::new(),
            listen: Vec::new(),
            tenants,
            max_sessions: 1,
            ready_workers: 0,
            time_sharing: true,
            cache: Cache {
                memory: 1,
                ..Cache::default()
            },
            greeting_timeout: Duration::ZERO,
            worker_program: None,
            tls: TlsFiles::None,
        };
        assert_eq!(settings.tenant(b"0123456789abcdef").unwrap().name, "alice");
        assert_eq!(
            settings.tenant(b"fedcba9876543210").unwrap().name,
            "default"
        );
        assert!(settings.tenant(b"").is_none());
        let owner = |token: &[u8]| settings.tenant(token).unwrap().owner("f");
        assert_eq!(owner(b"0123456789abcdef"), owner(b"0123456789abcdeg"));
        assert_ne!(owner(b"fedcba9876543210"), owner(b"fedcba9876543211"));
        assert_ne!(owner(b"fedcba9876543210"), Owner::new("default", "f"));
        assert_eq!(settings.keepers(), 3);
        std::fs::write(&path, "short\n").unwrap();
        assert!(token_file(&path).is_err());
    }

    #[test]
    fn errors_say_where_and_do_not_show_a_token() {
        let secret = "9223372036854775";
        for (line, place) in [
            ("tokne = \"SECRET\"", "2:1: unknown field `tokne`"),
            ("token = \"SECRET", "2:"),
            ("token = 'SECRET", "2:"),
            ("token = \"\"\"SECRET", "3:1: "),
            ("token = SECRETSECRET", "2:9: wrong type, expected "),
            ("token = SECRET", "2:9: wrong type, expected a string"),
            ("token = SECRETx", "2:"),
            ("token = xSECRET", "2:"),
            ("token = \"SECRET\" \"", "2:"),
            ("token = \"SECRET\\q\"", "2:"),
            ("token \"SECRET\"", "2:"),
            (
                "token = \"SECRET\"\ntoken = \"SECRET\"",
                "3:1: duplicate key",
            ),
            ("sessions = true\ntoken = \"SECRET\"", "2:12: "),
        ] {
            let text = format!("[[tenant]]\n{}\n", line.replace("SECRET", secret));
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(place), "{line}: {error}");
            assert!(!error.contains(secret), "{line}: {error}");
        }
    }

    #[test]
    fn what_belongs_to_quic_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (driver, token) = (file("driver.so", ""), file("token", "0123456789abcdef"));
        let resolve = |more: &[&str]| {
            let given = ["rgpud", "--driver", &driver, "--token-file", &token];
            Settings::resolve(Cli::parse_from([&given, more].concat()))
        };
        let pinned = format!("quic://127.0.0.1:0?pin=sha256:{}", "0".repeat(64));
        let listen = ["--listen", "quic://127.0.0.1:0"];
        for (more, says) in [
            (&["--listen", &pinned][..], "the pin is for clients"),
            (
                &[listen[0], listen[1], "--tls-cert", "x"],
                "belong together",
            ),
            (&[listen[0], listen[1], "--tls-key", "x"], "belong together"),
        ] {
            let error = resolve(more).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(resolve(&listen).unwrap().tls, TlsFiles::None);
        let files = ["--tls-cert", "c", "--tls-key", "k"];
        let settings = resolve(&[listen, [files[0], files[1]], [files[2], files[3]]].concat());
        let (certificate, key) = ("c".into(), "k".into());
        assert_eq!(settings.unwrap().tls, TlsFiles::Both { certificate, key });
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(parse("driver = \"x\"\nlisten_on = []").is_err());
        let file =
            parse("[[tenant]]\nname = \"a\"\ntoken = \"0123456789abcdef\"\nmemory_mib = 512")
                .unwrap();
        let tenant = file.tenant.into_iter().next().unwrap().resolve().unwrap();
        assert_eq!(tenant.entitlement.memory, Some(512 << 20));
    }
}
