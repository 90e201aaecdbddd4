//! Leases of vGPUs: kept for somebody before their sessions come, which are let in by the lease's own token.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use blake3::Hash;
use rgpu_admin::data::{GrantedLease, Lease, LeaseWish};
use rgpu_admin::{Failure, Identity, Role};
use rgpu_quota::leases::{self, LeaseDenied, Leases};
use rgpu_quota::{Ahead, Denied};
use tokio::sync::Notify;

use crate::server::{End, Server};
use crate::settings::{Known, Tenant};

/// What the daemon's tasks share of them.
pub struct Kept {
    leases: RefCell<Leases>,
    /// By lease: whose it is, with its profile; and its vGPU.
    held: RefCell<HashMap<String, (Rc<Tenant>, u64)>>,
    began: Instant,
    changed: Notify,
}

impl Kept {
    pub fn new() -> Kept {
        Kept {
            leases: RefCell::default(),
            held: RefCell::default(),
            began: Instant::now(),
            changed: Notify::new(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Who shows this token, if it is that of a lease which lives.
    pub fn holder(&self, token: &Hash) -> Option<Known> {
        let leases = self.leases.borrow();
        let (id, _) = leases.by_token(self.now(), token.as_bytes())?;
        let (tenant, _) = self.held.borrow().get(id)?.clone();
        Some(Known {
            tenant,
            token: *token,
            lease: Some(id.to_owned()),
        })
    }

    /// The lease that a vGPU is kept for.
    pub fn of_vgpu(&self, vgpu: u64) -> Option<String> {
        let held = self.held.borrow();
        let found = held.iter().find(|(_, (_, other))| *other == vgpu);
        found.map(|(id, _)| id.clone())
    }

    /// How many each tenant has.
    pub fn by_tenant(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for (_, lease) in self.leases.borrow().iter() {
            *counts.entry(lease.tenant.clone()).or_default() += 1;
        }
        counts
    }
}

/// Closes leases whose time is over.
pub async fn watch(server: Rc<Server>) {
    let kept = &server.kept;
    loop {
        let next = kept.leases.borrow().next_end();
        let late = async {
            match next {
                Some(at) => tokio::time::sleep_until((kept.began + at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => {}
            () = kept.changed.notified() => {}
        }
        let over = kept.leases.borrow().expired(kept.now());
        for id in over {
            tracing::info!(lease = id, "a lease was not renewed in time");
            server.close_lease(&id);
        }
    }
}

impl Server {
    pub fn leases_of(&self, of: Option<&str>, holder: Option<&str>) -> Vec<Lease> {
        let leases = self.kept.leases.borrow();
        let seen = leases.iter().filter(|(_, it)| {
            of.is_none_or(|of| it.tenant == of) && holder.is_none_or(|holder| it.holder == holder)
        });
        seen.map(|(id, it)| self.told(id, it)).collect()
    }

    pub async fn grant_lease(
        self: &Rc<Self>,
        by: &Identity,
        wish: LeaseWish,
    ) -> Result<GrantedLease, Failure> {
        if self.stopping() {
            return Err(Failure::Unavailable("the daemon is stopping".into()));
        }
        let tenant = self.lessee(by, wish.profile.as_deref())?;
        let profile = &tenant.entitlement.profile;
        if profile.placed && self.devices().await.is_none() {
            return Err(Failure::Unavailable(
                "the server's driver does not tell what devices it has".into(),
            ));
        }
        let (id, token) = (random::<16>()?, random::<32>()?);
        let may = self
            .kept
            .leases
            .borrow()
            .may_have_one(&tenant.name, tenant.entitlement.vgpus);
        may.map_err(|denied| match denied {
            LeaseDenied::Tenant { .. } => Failure::Limit(denied.to_string()),
            LeaseDenied::Full => Failure::NoCapacity(denied.to_string()),
        })?;
        let known = Known {
            tenant: tenant.clone(),
            token: blake3::hash(token.as_bytes()),
            lease: Some(id.clone()),
        };
        // Nobody who waits for memory of a device is overtaken.
        let ahead = Ahead {
            room: self.desk.waits_for_room(),
            ..Ahead::default()
        };
        let vgpu = self.next_id();
        self.survey();
        let kept = self.admission.borrow_mut().keep(
            vgpu,
            &tenant.name,
            &tenant.entitlement,
            &known.group(""),
            ahead,
        );
        self.share_out();
        kept.map_err(|denied| match denied {
            Denied::Vgpus { .. } | Denied::Sessions { .. } => Failure::Limit(denied.to_string()),
            denied => Failure::NoCapacity(denied.to_string()),
        })?;
        let ttl = Duration::from_secs(wish.ttl_seconds);
        let lease = leases::Lease {
            tenant: tenant.name.clone(),
            profile: (!profile.name.is_empty()).then(|| profile.name.clone()),
            holder: wish.holder,
            token: *known.token.as_bytes(),
            ttl,
            ends: self.kept.now() + ttl,
            sessions: 0,
            closed: false,
        };
        let (name, holder) = (&lease.tenant, &lease.holder);
        tracing::info!(lease = id, tenant = name, holder, vgpu, "a vGPU is leased");
        let granted = GrantedLease {
            id: id.clone(),
            token,
            server: self.address_for_others(),
            expires: self.told(&id, &lease).expires,
        };
        self.kept.leases.borrow_mut().insert(id.clone(), lease);
        self.kept.held.borrow_mut().insert(id, (tenant, vgpu));
        self.kept.changed.notify_one();
        Ok(granted)
    }

    pub fn renew_lease(
        &self,
        id: &str,
        of: Option<&str>,
        ttl: Option<u64>,
    ) -> Result<Lease, Failure> {
        let (now, ttl) = (self.kept.now(), ttl.map(Duration::from_secs));
        let mut leases = self.kept.leases.borrow_mut();
        let is_own = |it: &leases::Lease| of.is_none_or(|of| it.tenant == of);
        let renewed = match leases.get(id).is_some_and(is_own) {
            true => leases.renew(now, id, ttl),
            false => None,
        };
        let told = renewed.map(|it| self.told(id, it));
        self.kept.changed.notify_one();
        told.ok_or_else(|| no_lease(id))
    }

    /// Ends a lease and its sessions.
    pub fn end_lease(self: &Rc<Self>, id: &str, of: Option<&str>) -> Result<Lease, Failure> {
        let told = {
            let leases = self.kept.leases.borrow();
            let lease = leases
                .get(id)
                .filter(|it| of.is_none_or(|of| it.tenant == of));
            lease.map(|it| self.told(id, it))
        };
        let told = told.ok_or_else(|| no_lease(id))?;
        tracing::info!(lease = id, tenant = told.tenant, "a lease is given back");
        if let Some(vgpu) = self.close_lease(id) {
            let end = End {
                result: 46,
                reason: "the lease of its vGPU has ended".into(),
            };
            for session in self.sessions.borrow().values() {
                if session.vgpu == vgpu {
                    session.stop.send_replace(Some(end.clone()));
                }
            }
        }
        Ok(told)
    }

    /// Its token lets nobody in any more; what it holds is free when its last session is gone. The vGPU.
    fn close_lease(self: &Rc<Self>, id: &str) -> Option<u64> {
        self.kept.leases.borrow_mut().close(id)?;
        let (_, vgpu) = self.kept.held.borrow_mut().remove(id)?;
        if self.admission.borrow_mut().let_go(vgpu) {
            self.desk.forget(vgpu);
        }
        // Those of its sessions that wait have lost what they wait for.
        self.recheck();
        self.serve_queue();
        Some(vgpu)
    }

    /// For whom a lease is: the caller, and an administrator may name any profile.
    fn lessee(&self, by: &Identity, profile: Option<&str>) -> Result<Rc<Tenant>, Failure> {
        let tenancy = self.tenancy();
        let tenants = tenancy.tenants();
        let tenant = tenants.into_iter().find(|it| it.name == by.tenant);
        let tenant = tenant.ok_or_else(|| Failure::NotFound("the tenant is gone".into()))?;
        let own = &tenant.entitlement.profile.name;
        match profile {
            None => Ok(tenant.clone()),
            // What has no profile is told by the tenant's name.
            Some(wanted) if wanted == own || (own.is_empty() && wanted == tenant.name) => {
                Ok(tenant.clone())
            }
            Some(wanted) if by.role == Role::Admin => {
                let mut profiles = tenancy.profiles.iter().map(|it| &it.profile);
                let found = profiles.find(|it| it.name == wanted);
                let found =
                    found.ok_or_else(|| Failure::NotFound(format!("no profile {wanted}")))?;
                let mut with_it = Tenant::clone(tenant);
                with_it.entitlement.profile = found.clone();
                Ok(Rc::new(with_it))
            }
            Some(wanted) => Err(Failure::Forbidden(format!(
                "tenant {} does not have profile {wanted}",
                tenant.name
            ))),
        }
    }

    fn told(&self, id: &str, lease: &leases::Lease) -> Lease {
        let left = lease.ends.saturating_sub(self.kept.now());
        let ends = (SystemTime::now() + left).duration_since(SystemTime::UNIX_EPOCH);
        let vgpu = self.kept.held.borrow().get(id).map(|(_, vgpu)| *vgpu);
        let vgpus = self.admission.borrow().vgpus();
        let own = vgpus.iter().find(|it| Some(it.id) == vgpu);
        Lease {
            id: id.to_owned(),
            tenant: lease.tenant.clone(),
            profile: lease.profile.clone(),
            holder: lease.holder.clone(),
            ttl_seconds: lease.ttl.as_secs(),
            expires: ends.unwrap_or_default().as_secs(),
            sessions: own.map_or(0, |it| it.sessions),
        }
    }

    /// Where others find this server, as far as its own addresses say so; else nothing: who has asked knows how.
    fn address_for_others(&self) -> String {
        let of_here = [
            "//0.0.0.0:",
            "//[::]:",
            "//127.",
            "//[::1]:",
            "//localhost:",
        ];
        let addresses = self.settings.listen.iter().map(ToString::to_string);
        let mut seen = addresses.filter(|it| it.starts_with("tcp://") && !it.ends_with(":0"));
        let found = seen.find(|it| !of_here.iter().any(|here| it.contains(here)));
        found.unwrap_or_default()
    }
}

fn no_lease(id: &str) -> Failure {
    Failure::NotFound(format!("there is no lease {id}"))
}

/// Random bytes in hexadecimal digits.
fn random<const N: usize>() -> Result<String, Failure> {
    let mut bytes = [0; N];
    let count = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    match count {
        Ok(count) if count == N => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => Err(Failure::Internal("the system has no random numbers".into())),
    }
}
