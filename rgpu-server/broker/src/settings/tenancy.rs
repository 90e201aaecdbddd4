//! Who may have what: all of the configuration that can be put in another's place while the daemon runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use blake3::Hash;
use rgpu_content::store::Owner;
use rgpu_proto::control::HostDevice;
use rgpu_quota::{Bounds, Entitlement, Policy, Profile};

use super::check;
use super::file::{File, FilePolicy, Role, Source};
use super::tokens::{Credential, token_file};
use crate::residency::Limits;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
    /// Its token came without a name: the token's hash.
    pub unnamed: Option<Hash>,
    pub entitlement: Entitlement,
    pub role: Role,
}

impl Tenant {
    /// One of an earlier configuration, who has nothing but what it was granted then.
    pub fn former(name: &str) -> Tenant {
        Tenant {
            name: name.to_owned(),
            unnamed: None,
            entitlement: Entitlement::default(),
            role: Role::default(),
        }
    }

    /// Whose content the sessions of this function leave and are given. Those who hold the tokens of one name have it in common; who holds a token without
    /// a name has nothing in common with others, though they count as one tenant.
    pub fn owner(&self, function: &str) -> Owner {
        match &self.unnamed {
            // No name is like this: in a configuration it would be too long, and has no spaces in a token file.
            Some(token) => Owner::new(&format!("the holder of token {token}"), function),
            None => Owner::new(&self.name, function),
        }
    }
}

/// Who has shown a token.
#[derive(Clone, Debug)]
pub struct Known {
    pub tenant: Rc<Tenant>,
    pub token: Hash,
    /// The lease that the token is of.
    pub lease: Option<String>,
}

impl Known {
    /// Which sessions of the tenant have one vGPU: those that say the same, and those of one lease. What is said is never as long as the latter.
    pub fn group(&self, said: &str) -> String {
        match &self.lease {
            Some(id) => format!("the vGPU that is kept for those who show the token of lease {id}"),
            None => said.to_owned(),
        }
    }
}

/// A profile, and where its memory is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub profile: Profile,
    pub memory_at: String,
}

/// Where a daemon's tenants come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub config: Option<PathBuf>,
    /// Where the command line or the environment names one.
    pub token_file: Option<PathBuf>,
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error("no token was given")]
    Missing,
    #[error("the token is not known here")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error("the token has been revoked")]
    Revoked,
}

#[derive(Clone, Debug)]
pub struct Tenancy {
    pub profiles: Vec<Placed>,
    /// Where something is said that has no effect unless sessions use devices in turns, and what.
    pub timed: Vec<String>,
    pub credentials: Vec<Credential>,
    pub revoked: HashSet<Hash>,
    pub queue: Bounds,
    /// Longest that a session waits in the queue.
    pub wait: Duration,
    pub policy: Policy,
    pub overcommit_percent: u32,
    /// Where memory of idle sessions goes.
    pub away: Limits,
}

impl Tenancy {
    pub fn read(origin: &Origin) -> Result<Tenancy> {
        let (source, file) = match &origin.config {
            Some(path) => {
                let (source, file) = Source::read(path)?;
                (Some(source), file)
            }
            None => (None, File::default()),
        };
        let tenancy = Tenancy::of(source.as_ref(), &file, origin.token_file.as_deref())?;
        tenancy.check_tokens()?;
        Ok(tenancy)
    }

    pub fn check_tokens(&self) -> Result<()> {
        anyhow::ensure!(
            !self.credentials.is_empty(),
            "no tokens, so nobody could connect: give --token-file FILE (make one with: head -c 32 /dev/urandom | base64 > FILE && \
             chmod 600 FILE) or tenants in --config"
        );
        Ok(())
    }

    /// `tokens`: a file of tokens that goes over the one that the configuration names.
    pub fn of(source: Option<&Source>, file: &File, tokens: Option<&Path>) -> Result<Tenancy> {
        let mut tenancy = Tenancy::default();
        if let Some(source) = source {
            check::profiles(source, file, &mut tenancy)?;
            check::tenants(source, file, &mut tenancy)?;
            check::admission(source, file, &mut tenancy)?;
            check::overcommit(source, file, &mut tenancy)?;
        }
        if let Some(path) = tokens.or(file.token_file.as_deref()) {
            let credentials = token_file(path, &tenancy.credentials)?;
            tenancy.credentials.splice(0..0, credentials);
        }
        check::tokens_differ(&tenancy.credentials)?;
        tenancy.policy = match file.placement.policy {
            None | Some(FilePolicy::BinPack) => Policy::BinPack,
            Some(FilePolicy::Spread) => Policy::Spread,
            Some(FilePolicy::Affinity) => Policy::Affinity,
        };
        Ok(tenancy)
    }

    /// Whether what a profile promises is there. `devices`: as their driver describes them.
    pub fn check_devices(&self, devices: &[HostDevice]) -> Result<()> {
        let most = devices
            .iter()
            .map(|device| device.memory)
            .max()
            .unwrap_or(0);
        for Placed {
            profile, memory_at, ..
        } in &self.profiles
        {
            let memory = profile.memory.unwrap_or(0);
            anyhow::ensure!(
                memory <= most,
                "{memory_at}: profile {}: {} MiB are more than a device has: the largest has {} MiB",
                profile.name,
                memory >> 20,
                most >> 20
            );
        }
        Ok(())
    }

    /// What is promised of these devices beyond what they have, and one vGPU more, since one leaves before another comes back: (bytes, bytes that may be
    /// away), where that is too little. Then sessions may wait for memory that cannot come.
    pub fn lacks_stores(&self, devices: &[HostDevice]) -> Option<(u64, u64)> {
        let movable = self.profiles.iter().map(|it| &it.profile);
        let movable = movable.filter(|it| it.overcommit);
        let largest = movable.filter_map(|it| it.memory).max()?;
        let beyond = u64::from(self.overcommit_percent.saturating_sub(100));
        if beyond == 0 || devices.is_empty() {
            return None;
        }
        let total: u128 = devices.iter().map(|it| u128::from(it.memory)).sum();
        let needs = total * u128::from(beyond) / 100 + u128::from(largest);
        let needs = u64::try_from(needs).unwrap_or(u64::MAX);
        let stores = self.away.all();
        (stores < needs).then_some((needs, stores))
    }

    /// Says so once for each configuration: sessions may use less than they are promised, so it is none that must not be.
    pub fn warn_of_stores(&self, devices: &[HostDevice]) {
        if let Some((needs, stores)) = self.lacks_stores(devices) {
            tracing::warn!(
                needs_mib = needs >> 20,
                stores_mib = stores >> 20,
                "[overcommit] host_mib and disk_mib are together less than what may have to be away: sessions may wait for memory that is promised to \
                 them, and be told that there is none"
            );
        }
    }

    /// Parts of a device's time need sessions that use it in turns; so does memory that may be moved away: by that it is known who does nothing.
    pub fn check_time_sharing(&self, is_on: bool) -> Result<()> {
        match self.timed.first() {
            Some(said) if !is_on => anyhow::bail!(
                "{said} needs time_sharing = \"on\", from the daemon's start on: give that, or leave this out"
            ),
            _ => Ok(()),
        }
    }

    /// The tenant of a token.
    pub fn tenant(&self, token: &[u8], now: SystemTime) -> Result<Known, BadToken> {
        if token.is_empty() {
            return Err(BadToken::Missing);
        }
        let token = blake3::hash(token);
        let tenant = self.holder(&token, now)?;
        Ok(Known {
            tenant,
            token,
            lease: None,
        })
    }

    /// The tenant of a token with this hash. Every hash is compared, each in constant time.
    pub fn holder(&self, hash: &Hash, now: SystemTime) -> Result<Rc<Tenant>, BadToken> {
        let known = self.credentials.iter().fold(None, |found, credential| {
            if credential.hash == *hash {
                Some(credential)
            } else {
                found
            }
        });
        let revoked = self.revoked.iter();
        let revoked = revoked.fold(false, |found, it| found | (it == hash));
        match known {
            _ if revoked => Err(BadToken::Revoked),
            None => Err(BadToken::Unknown),
            Some(known) if known.has_expired(now) => Err(BadToken::Expired),
            Some(known) => Ok(known.tenant.clone()),
        }
    }

    /// How many there are that have content of their own.
    pub fn keepers(&self) -> usize {
        let owners = self.credentials.iter().map(|it| it.tenant.owner(""));
        owners.collect::<HashSet<_>>().len()
    }

    pub fn tenants(&self) -> Vec<&Rc<Tenant>> {
        let mut seen = HashSet::new();
        let all = self.credentials.iter().map(|it| &it.tenant);
        all.filter(|it| seen.insert(&it.name)).collect()
    }
}

impl Default for Tenancy {
    fn default() -> Tenancy {
        Tenancy {
            profiles: Vec::new(),
            timed: Vec::new(),
            credentials: Vec::new(),
            revoked: HashSet::new(),
            queue: Bounds {
                all: 1024,
                of_tenant: 64,
            },
            wait: Duration::ZERO,
            policy: Policy::BinPack,
            overcommit_percent: 100,
            away: Limits::default(),
        }
    }
}
