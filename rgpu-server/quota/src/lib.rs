//! What a tenant may have, and what its sessions hold of it. Pure: no I/O, no clock.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// A tenant's entitlement; it holds for each of its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entitlement {
    /// Device memory of one session in bytes; `None`: as much as the device has.
    pub memory: Option<u64>,
    /// Compute share of one session in percent; `None`: no cap.
    pub share_percent: Option<u32>,
    /// Sessions at once; `None`: as many as the server takes.
    pub sessions: Option<u32>,
}

/// What a client asks for; less than the entitlement, or nothing in particular.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub memory: Option<u64>,
    pub share_percent: Option<u32>,
}

/// What a session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub memory: Option<u64>,
    pub share_percent: Option<u32>,
}

/// Why a session is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the tenant has {limit} sessions, as many as it may")]
    Sessions { limit: u32 },
    #[error("the server has {limit} sessions, as many as it takes")]
    Full { limit: u32 },
    #[error("{wanted} MiB of device memory were asked for; the tenant's sessions get {limit} MiB")]
    Memory { wanted: u64, limit: u64 },
    #[error("a share of {wanted} % was asked for; the tenant's sessions get {limit} %")]
    Share { wanted: u32, limit: u32 },
}

/// The live sessions of a server.
#[derive(Debug)]
pub struct Admission {
    limit: u32,
    by_tenant: HashMap<String, u32>,
}

impl Admission {
    /// At most `limit` sessions at once.
    pub fn new(limit: u32) -> Admission {
        Admission {
            limit,
            by_tenant: HashMap::new(),
        }
    }

    pub fn sessions(&self) -> u32 {
        self.by_tenant.values().sum()
    }

    /// Takes a session in; [`Admission::release`] gives it back.
    pub fn admit(
        &mut self,
        tenant: &str,
        entitlement: &Entitlement,
        request: &Request,
    ) -> Result<Grant, Denied> {
        const MIB: u64 = 1 << 20;
        let held = self.by_tenant.get(tenant).copied().unwrap_or(0);
        if let Some(limit) = entitlement.sessions.filter(|limit| held >= *limit) {
            return Err(Denied::Sessions { limit });
        }
        if self.sessions() >= self.limit {
            return Err(Denied::Full { limit: self.limit });
        }
        let memory = match (request.memory, entitlement.memory) {
            (Some(wanted), Some(limit)) if wanted > limit => {
                return Err(Denied::Memory {
                    wanted: wanted / MIB,
                    limit: limit / MIB,
                });
            }
            (Some(wanted), _) => Some(wanted),
            (None, limit) => limit,
        };
        let share_percent = match (request.share_percent, entitlement.share_percent) {
            (Some(wanted), Some(limit)) if wanted > limit => {
                return Err(Denied::Share { wanted, limit });
            }
            (Some(wanted), _) => Some(wanted),
            (None, limit) => limit,
        };
        *self.by_tenant.entry(tenant.to_owned()).or_default() += 1;
        Ok(Grant {
            memory,
            share_percent,
        })
    }

    /// A session of the tenant is over.
    pub fn release(&mut self, tenant: &str) {
        if let Some(held) = self.by_tenant.get_mut(tenant) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_what_it_asks_for_within_the_entitlement() {
        let mut admission = Admission::new(10);
        let entitlement = Entitlement {
            memory: Some(512 << 20),
            share_percent: None,
            sessions: Some(2),
        };
        let less = Request {
            memory: Some(64 << 20),
            share_percent: Some(25),
        };
        let grant = admission.admit("a", &entitlement, &less).unwrap();
        assert_eq!(grant.memory, Some(64 << 20));
        let more = Request {
            memory: Some(1 << 30),
            share_percent: None,
        };
        assert_eq!(
            admission.admit("a", &entitlement, &more),
            Err(Denied::Memory {
                wanted: 1024,
                limit: 512
            })
        );
        let plain = admission.admit("a", &entitlement, &Request::default());
        assert_eq!(plain.unwrap().memory, Some(512 << 20));
        assert_eq!(
            admission.admit("a", &entitlement, &Request::default()),
            Err(Denied::Sessions { limit: 2 })
        );
        admission.release("a");
        assert!(
            admission
                .admit("a", &entitlement, &Request::default())
                .is_ok()
        );
    }

    #[test]
    fn the_server_is_full_at_its_limit() {
        let mut admission = Admission::new(1);
        let open = Entitlement::default();
        admission.admit("a", &open, &Request::default()).unwrap();
        assert_eq!(
            admission.admit("b", &open, &Request::default()),
            Err(Denied::Full { limit: 1 })
        );
        admission.release("a");
        assert_eq!(admission.sessions(), 0);
    }
}
