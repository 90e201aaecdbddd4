//! What another configuration changes, in words that a person can check.

use std::collections::{BTreeMap, BTreeSet};

use rgpu_quota::Profile;
use serde::Serialize;

use super::tenancy::{Tenancy, Tenant};

/// By name, what is new, gone, or another than before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

/// What a reload has done. Sessions that run keep what they were granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub profiles: Difference,
    pub tenants: Difference,
    /// Tokens that let somebody in before, and nobody now.
    pub tokens_gone: usize,
    pub tokens_added: usize,
    /// Something about the queue or about placement.
    pub admission: bool,
}

impl Changes {
    pub fn between(old: &Tenancy, new: &Tenancy) -> Changes {
        let tokens = |it: &Tenancy| -> BTreeSet<[u8; 32]> {
            let valid = it.credentials.iter();
            let valid = valid.filter(|credential| !it.revoked.contains(&credential.hash));
            valid
                .map(|credential| *credential.hash.as_bytes())
                .collect()
        };
        let (before, after) = (tokens(old), tokens(new));
        let rest = |it: &Tenancy| {
            let placement = (it.policy, it.overcommit_percent, it.away.clone());
            (it.queue, it.wait, placement)
        };
        Changes {
            profiles: difference(&profiles(old), &profiles(new)),
            tenants: difference(&tenants(old), &tenants(new)),
            tokens_gone: before.difference(&after).count(),
            tokens_added: after.difference(&before).count(),
            admission: rest(old) != rest(new),
        }
    }
}

impl Changes {
    /// A line for each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, it) in [("profile", &self.profiles), ("tenant", &self.tenants)] {
            for (names, how) in [
                (&it.added, "is new"),
                (&it.removed, "is gone"),
                (&it.changed, "has changed"),
            ] {
                lines.extend(names.iter().map(|name| format!("{what} {name} {how}")));
            }
        }
        for (count, of_one, of_several) in [
            (
                self.tokens_gone,
                "lets nobody in any more",
                "let nobody in any more",
            ),
            (self.tokens_added, "is new", "are new"),
        ] {
            match count {
                0 => {}
                1 => lines.push(format!("1 token {of_one}")),
                _ => lines.push(format!("{count} tokens {of_several}")),
            }
        }
        if self.admission {
            lines.push("the queue or the placement has changed".into());
        }
        lines
    }
}

fn profiles(of: &Tenancy) -> BTreeMap<&str, &Profile> {
    let all = of.profiles.iter().map(|it| &it.profile);
    all.map(|it| (it.name.as_str(), it)).collect()
}

fn tenants(of: &Tenancy) -> BTreeMap<&str, &Tenant> {
    let all = of.tenants().into_iter();
    all.map(|it| (it.name.as_str(), &**it)).collect()
}

fn difference<T: PartialEq>(old: &BTreeMap<&str, &T>, new: &BTreeMap<&str, &T>) -> Difference {
    let names = |of: &BTreeMap<&str, &T>, keep: &dyn Fn(&str, &T) -> bool| {
        let kept = of.iter().filter(|(name, it)| keep(name, it));
        kept.map(|(name, _)| (*name).to_owned()).collect()
    };
    Difference {
        added: names(new, &|name, _| !old.contains_key(name)),
        removed: names(old, &|name, _| !new.contains_key(name)),
        changed: names(new, &|name, it| {
            old.get(name).is_some_and(|before| **before != *it)
        }),
    }
}
