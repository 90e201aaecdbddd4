//! Leases: vGPUs that are kept for somebody before their sessions come. Pure; `now` is time since any fixed moment, on a clock that does not jump.
//!
//! A lease lives until its end or until it is closed. After that its token lets nobody in, but what it holds is only free when its last session
//! is gone: else a vGPU could be given to two.

use std::collections::BTreeMap;
use std::time::Duration;

/// Most leases of a server.
pub const MAX_LEASES: usize = 4096;
/// A hash of the token.
pub type TokenHash = [u8; 32];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub tenant: String,
    /// `None`: what the tenant's sessions have anyway.
    pub profile: Option<String>,
    /// In the words of whoever has asked for it.
    pub holder: String,
    pub token: TokenHash,
    /// How long it lives without a renewal.
    pub ttl: Duration,
    /// Since the clock's fixed moment.
    pub ends: Duration,
    /// Those that its token has let in and that still run.
    pub sessions: u32,
    /// Its token lets nobody in any more.
    pub closed: bool,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseDenied {
    #[error("the tenant has {limit} leases, as many as it may")]
    Tenant { limit: u32 },
    #[error("the server has {MAX_LEASES} leases, as many as it keeps")]
    Full,
}

/// The leases of a server, by their names.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<String, Lease>);

impl Leases {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Lease)> {
        self.0.iter().map(|(id, lease)| (id.as_str(), lease))
    }

    pub fn get(&self, id: &str) -> Option<&Lease> {
        self.0.get(id).filter(|lease| !lease.closed)
    }

    /// How many a tenant has, those included that are closed but still hold something.
    pub fn of_tenant(&self, tenant: &str) -> u32 {
        self.0
            .values()
            .filter(|lease| lease.tenant == tenant)
            .count() as u32
    }

    /// Whether there is room for one more; `limit`: how many the tenant may have.
    pub fn may_have_one(&self, tenant: &str, limit: Option<u32>) -> Result<(), LeaseDenied> {
        match limit {
            Some(limit) if self.of_tenant(tenant) >= limit => Err(LeaseDenied::Tenant { limit }),
            _ if self.0.len() >= MAX_LEASES => Err(LeaseDenied::Full),
            _ => Ok(()),
        }
    }

    /// Takes one in. Its name must be new; the caller has made sure of its room.
    pub fn insert(&mut self, id: String, lease: Lease) {
        self.0.insert(id, lease);
    }

    /// The lease whose token has this hash, while it lives.
    pub fn by_token(&self, now: Duration, token: &TokenHash) -> Option<(&str, &Lease)> {
        let lives = |lease: &Lease| !lease.closed && now < lease.ends;
        self.iter()
            .find(|(_, lease)| lease.token == *token && lives(lease))
    }

    /// A session has been let in by its token.
    pub fn begin(&mut self, id: &str) {
        if let Some(lease) = self.0.get_mut(id) {
            lease.sessions += 1;
        }
    }

    /// A session of it is over. The lease, if nothing of it is left.
    pub fn end(&mut self, id: &str) -> Option<Lease> {
        let lease = self.0.get_mut(id)?;
        lease.sessions = lease.sessions.saturating_sub(1);
        let is_over = lease.closed && lease.sessions == 0;
        is_over.then(|| self.0.remove(id)).flatten()
    }

    /// Lives on from now. One that has ended cannot be brought back.
    pub fn renew(&mut self, now: Duration, id: &str, ttl: Option<Duration>) -> Option<&Lease> {
        let lease = self.0.get_mut(id)?;
        if lease.closed || now >= lease.ends {
            return None;
        }
        lease.ttl = ttl.unwrap_or(lease.ttl);
        lease.ends = now.saturating_add(lease.ttl);
        Some(lease)
    }

    /// Lets nobody in by it any more. The lease as it was, and whether nothing of it is left.
    pub fn close(&mut self, id: &str) -> Option<(Lease, bool)> {
        let lease = self.0.get_mut(id).filter(|lease| !lease.closed)?;
        lease.closed = true;
        let told = lease.clone();
        let is_over = told.sessions == 0;
        if is_over {
            self.0.remove(id);
        }
        Some((told, is_over))
    }

    /// Names of those whose time is over, and that are to be closed.
    pub fn expired(&self, now: Duration) -> Vec<String> {
        let over = self.0.iter().filter(|(_, it)| !it.closed && now >= it.ends);
        over.map(|(id, _)| id.clone()).collect()
    }

    /// When the next one's time is over.
    pub fn next_end(&self) -> Option<Duration> {
        self.0
            .values()
            .filter(|it| !it.closed)
            .map(|it| it.ends)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn lease(tenant: &str, token: u8, ends: u64) -> Lease {
        Lease {
            tenant: tenant.into(),
            profile: None,
            holder: "a pod".into(),
            token: [token; 32],
            ttl: S(10),
            ends: S(ends),
            sessions: 0,
            closed: false,
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends() {
        let mut leases = Leases::default();
        leases.insert("a".into(), lease("t", 1, 10));
        leases.insert("b".into(), lease("t", 2, 20));
        assert_eq!(leases.next_end(), Some(S(10)));
        assert!(leases.by_token(S(9), &[1; 32]).is_some());
        assert!(leases.by_token(S(10), &[1; 32]).is_none());
        assert_eq!(leases.expired(S(10)), ["a"]);
        assert!(leases.renew(S(10), "a", None).is_none());
        assert_eq!(leases.renew(S(10), "b", None).unwrap().ends, S(20));
        assert_eq!(leases.renew(S(10), "b", Some(S(60))).unwrap().ends, S(70));
        let (closed, is_over) = leases.close("a").unwrap();
        assert!(is_over && closed.holder == "a pod");
        assert!(leases.close("a").is_none());
        assert_eq!(leases.next_end(), Some(S(70)));
    }

    #[test]
    fn what_a_closed_lease_holds_is_free_when_its_last_session_is_gone() {
        let mut leases = Leases::default();
        leases.insert("a".into(), lease("t", 1, 10));
        leases.begin("a");
        leases.begin("a");
        assert!(!leases.close("a").unwrap().1);
        assert!(leases.get("a").is_none() && leases.by_token(S(0), &[1; 32]).is_none());
        assert_eq!(leases.of_tenant("t"), 1);
        assert!(leases.end("a").is_none());
        assert!(leases.end("a").is_some());
        assert_eq!(leases.of_tenant("t"), 0);
        assert!(leases.end("a").is_none());
    }

    #[test]
    fn leases_are_bounded() {
        let mut leases = Leases::default();
        leases.insert("a".into(), lease("t", 1, 10));
        let one = Some(1);
        assert_eq!(
            leases.may_have_one("t", one),
            Err(LeaseDenied::Tenant { limit: 1 })
        );
        assert_eq!(leases.may_have_one("u", one), Ok(()));
        for number in 1..MAX_LEASES {
            leases.insert(format!("more {number}"), lease("v", 0, 10));
        }
        assert_eq!(leases.may_have_one("u", None), Err(LeaseDenied::Full));
    }
}
