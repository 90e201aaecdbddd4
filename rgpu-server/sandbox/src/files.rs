//! Which files a process may open from now on, by landlock: besides its own, those that are named. No TCP either, and no signal for a process
//! outside.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use crate::Error;

/// The newest rules that are asked for; an older kernel keeps those that it knows.
const NEWEST: ABI = ABI::V6;

/// Files, or folders with all below. What is not there is left out.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// May be written, made and removed.
    pub used: Vec<PathBuf>,
    /// May be read and executed.
    pub read: Vec<PathBuf>,
}

/// How much of it the kernel has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    Whole,
    /// An older kernel: files, but not all that is said here.
    Partly,
    None,
}

impl Files {
    pub fn use_of(mut self, path: impl Into<PathBuf>) -> Files {
        self.used.push(path.into());
        self
    }

    pub fn read_of(mut self, path: impl Into<PathBuf>) -> Files {
        self.read.push(path.into());
        self
    }

    /// The libraries of a folder, and nothing else there: it may hold secrets.
    pub fn libraries_of(mut self, folder: &Path) -> Files {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        self.read.extend(paths.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".so") || name.contains(".so.")
        }));
        self
    }

    /// Rules that can be set later without opening anything.
    pub fn prepare(&self) -> Result<Prepared, Error> {
        let all = AccessFs::from_all(NEWEST);
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .handle_access(AccessNet::from_all(NEWEST))?
            // Not abstract sockets: drivers hand descriptors to each other by those.
            .scope(Scope::Signal)?
            .create()?
            .no_new_privs(true)
            .add_rules(path_beneath_rules(&self.used, all))?
            .add_rules(path_beneath_rules(&self.read, AccessFs::from_read(NEWEST)))?;
        Ok(Prepared(ruleset))
    }

    /// From here on, for this thread and those that it makes later.
    pub fn confine(&self) -> Result<Confinement, Error> {
        self.prepare()?.confine()
    }
}

/// Rules with all their files open.
pub struct Prepared(RulesetCreated);

impl Prepared {
    /// From here on, for this thread and those that it makes later.
    pub fn confine(self) -> Result<Confinement, Error> {
        let status = self.0.restrict_self()?;
        tracing::debug!(landlock = ?status.ruleset, "files");
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Confinement::Whole,
            RulesetStatus::PartiallyEnforced => Confinement::Partly,
            RulesetStatus::NotEnforced => Confinement::None,
        })
    }
}
