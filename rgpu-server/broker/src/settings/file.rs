//! The configuration file as it is written, with the place of what may be wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rgpu_accounts::{FileAccounts, FilePrice};
use rgpu_admin::Address;
pub use rgpu_admin::Role;
use rgpu_quota::Priority;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::Switch;
use crate::isolation::{Clear, Sharing};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub driver: Option<PathBuf>,
    pub listen: Option<Vec<String>>,
    pub admin: Option<Addresses>,
    pub token_file: Option<PathBuf>,
    pub max_sessions: Option<u32>,
    pub ready_workers: Option<u32>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub cache_memory: Option<u64>,
    pub cache_dir: Option<PathBuf>,
    pub cache_disk: Option<u64>,
    pub time_sharing: Option<Switch>,
    pub state_dir: Option<PathBuf>,
    pub orphan_seconds: Option<u32>,
    pub drain_seconds: Option<u32>,
    pub worker_uids: Option<String>,
    pub worker_uid_of: Option<Sharing>,
    pub worker_files: Option<Vec<PathBuf>>,
    pub worker_memory: Option<u64>,
    pub clear_memory: Option<Clear>,
    #[serde(default)]
    pub accounts: FileAccounts,
    #[serde(default)]
    pub price: Vec<FilePrice>,
    #[serde(default)]
    pub admission: FileAdmission,
    #[serde(default)]
    pub placement: FilePlacement,
    #[serde(default)]
    pub overcommit: FileOvercommit,
    #[serde(default)]
    pub profile: Vec<FileProfile>,
    #[serde(default)]
    pub tenant: Vec<FileTenant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAdmission {
    /// Sessions that may wait, in all and of each tenant.
    pub queue: Option<Spanned<usize>>,
    pub queue_per_tenant: Option<Spanned<usize>>,
    pub wait_seconds: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlacement {
    pub policy: Option<FilePolicy>,
    /// How much more than a device has may be reserved of it for vGPUs whose memory may be moved away.
    pub overcommit: Option<Spanned<f64>>,
}

/// Where memory of idle sessions goes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOvercommit {
    /// In the host's memory, of all sessions together.
    pub host_mib: Option<Spanned<u64>>,
    /// Where the rest of it goes.
    pub folder: Option<Spanned<PathBuf>>,
    pub disk_mib: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilePolicy {
    BinPack,
    Spread,
    Affinity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileProfile {
    pub name: Spanned<String>,
    /// Device memory of a vGPU.
    pub memory_mib: Spanned<u64>,
    pub weight: Option<Spanned<u32>>,
    /// Percent of the device.
    pub cap: Option<Spanned<u32>>,
    /// Milliseconds.
    pub burst: Option<Spanned<u32>>,
    /// Sessions of one vGPU at once.
    pub sessions: Option<Spanned<u32>>,
    pub host_memory_mib: Option<Spanned<u64>>,
    pub cache_mib: Option<Spanned<u64>>,
    pub kernel_time_limit_ms: Option<Spanned<u32>>,
    #[serde(default)]
    pub priority: Priority,
    pub overcommit: Option<Spanned<bool>>,
}

/// One address, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Addresses {
    One(String),
    Several(Vec<String>),
}

impl Addresses {
    pub fn parse(self) -> Result<Vec<Address>> {
        let list = match self {
            Addresses::One(one) => vec![one],
            Addresses::Several(several) => several,
        };
        let parse = |text: String| {
            let address = text.parse();
            address.map_err(|error| anyhow!("--config: admin: {error}"))
        };
        list.into_iter().map(parse).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTenant {
    pub name: Spanned<String>,
    pub token: Option<Spanned<String>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub token_hash: Option<Spanned<String>>,
    #[serde(default)]
    pub tokens: Vec<FileToken>,
    /// Hashes of tokens that are taken no more, whoever has them.
    #[serde(default)]
    pub revoked: Vec<Spanned<String>>,
    pub profile: Option<Spanned<String>>,
    /// vGPUs at once.
    pub vgpus: Option<Spanned<u32>>,
    /// Sessions at once.
    pub sessions: Option<Spanned<u32>>,
    #[serde(default)]
    pub role: Role,
    /// Device memory of each vGPU, where there is no profile.
    pub memory_mib: Option<Spanned<u64>>,
    /// Compute share of each vGPU in percent, where there is no profile.
    pub share: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileToken {
    pub token: Option<Spanned<String>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub token_hash: Option<Spanned<String>>,
    pub expires: Option<Spanned<Datetime>>,
}

/// A file with its text, to say where something is.
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    pub fn read(path: &Path) -> Result<(Source, File)> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--config {}", path.display()))?;
        Source::parse(path, text)
    }

    /// Errors are `PATH:LINE:COLUMN: what`, without the line itself or a value: it may be a token.
    pub fn parse(path: &Path, text: String) -> Result<(Source, File)> {
        let path = path.to_owned();
        let source = Source { path, text };
        let file = toml::from_str(&source.text).map_err(|error| {
            let message = match error.message().rsplit_once(", expected ") {
                Some((what, instead)) if what.starts_with("invalid type: ") => {
                    format!("wrong type, expected {instead}")
                }
                _ => error.message().to_owned(),
            };
            source.wrong(error.span().unwrap_or(0..0), message)
        })?;
        Ok((source, file))
    }

    /// Where a key is, as `price.0.gpu_second`; or, if it is not there, the last on the way to it that is.
    pub fn find(&self, key: &str) -> Range<usize> {
        let Ok(table) = DeTable::parse(&self.text) else {
            return 0..0;
        };
        let root = DeValue::Table(table.into_inner());
        let (mut value, mut span) = (&root, 0..0);
        for step in key.split('.') {
            let found = match step.parse::<usize>() {
                Ok(at) => value.get(at),
                Err(_) => value.get(step),
            };
            let Some(found) = found else { break };
            (value, span) = (found.get_ref(), found.span());
        }
        span
    }

    /// An error at a place of the file.
    pub fn wrong(&self, span: Range<usize>, message: impl std::fmt::Display) -> anyhow::Error {
        anyhow!("{}: {message}", self.place(span))
    }

    /// `--config PATH:LINE:COLUMN`.
    pub fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("--config {}:{line}:{column}", self.path.display())
    }
}
