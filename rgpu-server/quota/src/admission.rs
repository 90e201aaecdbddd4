//! The live sessions of a server, and the vGPUs that they have.

use std::collections::{BTreeSet, HashMap};

use crate::placement::Placement;
use crate::profile::{Denied, Entitlement, Grant, Profile, Request, mib};
use crate::queue::Ahead;

/// Most sessions of one vGPU: as many rows as its page has.
pub const MAX_ROWS: u32 = 256;
/// Functions whose last device is remembered.
const MAX_LAST: usize = 4096;

#[derive(Debug)]
struct Vgpu {
    tenant: String,
    group: String,
    function: String,
    profile: Profile,
    device: Option<u32>,
    /// Of its sessions.
    rows: BTreeSet<u32>,
    /// It stays without sessions.
    kept: bool,
}

impl Vgpu {
    fn free_row(&self) -> Result<u32, Denied> {
        let limit = self.profile.sessions.unwrap_or(MAX_ROWS).min(MAX_ROWS);
        let free = (0..limit).find(|row| !self.rows.contains(row));
        let full = self.rows.len() >= limit as usize;
        free.filter(|_| !full).ok_or(Denied::OfVgpu { limit })
    }
}

/// What a vGPU has, for who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VgpuState {
    pub id: u64,
    pub tenant: String,
    pub group: String,
    pub profile: String,
    pub memory: Option<u64>,
    pub device: Option<u32>,
    pub sessions: u32,
}

#[derive(Debug)]
pub struct Admission {
    limit: u32,
    by_tenant: HashMap<String, u32>,
    vgpus: HashMap<u64, Vgpu>,
    pub placement: Placement,
    /// Where a tenant's function was last.
    last: HashMap<(String, String), u32>,
}

impl Admission {
    /// At most `limit` sessions at once.
    pub fn new(limit: u32) -> Admission {
        Admission {
            limit,
            by_tenant: HashMap::new(),
            vgpus: HashMap::new(),
            placement: Placement::default(),
            last: HashMap::new(),
        }
    }

    pub fn sessions(&self) -> u32 {
        self.by_tenant.values().sum()
    }

    pub fn vgpus(&self) -> Vec<VgpuState> {
        let mut all: Vec<_> = self
            .vgpus
            .iter()
            .map(|(&id, it)| VgpuState {
                id,
                tenant: it.tenant.clone(),
                group: it.group.clone(),
                profile: it.profile.name.clone(),
                memory: it.profile.memory,
                device: it.device,
                sessions: it.rows.len() as u32,
            })
            .collect();
        all.sort_by_key(|it| it.id);
        all
    }

    /// Those for which nothing is reserved.
    pub fn open(&self) -> Vec<u64> {
        let open = self.vgpus.iter().filter(|(_, it)| it.device.is_none());
        open.map(|(&id, _)| id).collect()
    }

    pub fn is_open(&self, vgpu: u64) -> bool {
        self.vgpus.get(&vgpu).is_some_and(|it| it.device.is_none())
    }

    /// What a vGPU is, and which group's.
    pub fn vgpu(&self, vgpu: u64) -> Option<(&Profile, &str)> {
        let found = self.vgpus.get(&vgpu)?;
        Some((&found.profile, &found.group))
    }

    /// The vGPU of a tenant's group.
    fn of_group(&self, tenant: &str, group: &str) -> Option<(u64, &Vgpu)> {
        let named = || self.vgpus.iter().filter(|_| !group.is_empty());
        named()
            .find(|(_, it)| it.tenant == tenant && it.group == group)
            .map(|(&id, it)| (id, it))
    }

    /// Where the group's vGPU is, or one would go now.
    pub fn device_of(&self, tenant: &str, entitlement: &Entitlement, group: &str) -> Option<u32> {
        if let Some((_, vgpu)) = self.of_group(tenant, group) {
            return vgpu.device;
        }
        let mut own = self.vgpus.values().filter(|it| it.tenant == tenant);
        let request = Request::default();
        let would = || self.choose(tenant, &entitlement.profile, &request).ok();
        own.find_map(|it| it.device).or_else(|| would().flatten())
    }

    fn choose(
        &self,
        tenant: &str,
        profile: &Profile,
        request: &Request,
    ) -> Result<Option<u32>, Denied> {
        if !profile.placed {
            return Ok(None);
        }
        let last = self
            .last
            .get(&(tenant.to_owned(), request.function.clone()));
        let near = |device| {
            let there = self.vgpus.values().filter(|it| it.device == Some(device));
            let of_tenant = there.filter(|it| it.tenant == tenant);
            let score = of_tenant.fold(0_u64, |sum, it| {
                sum + if it.function == request.function {
                    1 << 32
                } else {
                    2
                }
            });
            score + u64::from(last == Some(&device))
        };
        let bytes = profile.memory.unwrap_or(0);
        self.placement
            .choose(bytes, profile.overcommit, near)
            .map(Some)
    }

    /// Takes a session in; [`Admission::release`] gives it back. `id`: for a new vGPU, unlike any other.
    pub fn admit(
        &mut self,
        id: u64,
        tenant: &str,
        entitlement: &Entitlement,
        request: &Request,
        ahead: Ahead,
    ) -> Result<Grant, Denied> {
        let held = self.by_tenant.get(tenant).copied().unwrap_or(0);
        // What can never be is said first.
        let profile = request.within(&entitlement.profile)?;
        if let Some(limit) = entitlement.sessions.filter(|limit| held >= *limit) {
            return Err(Denied::Sessions { limit });
        }
        if ahead.place || self.sessions() >= self.limit {
            return Err(Denied::Full { limit: self.limit });
        }
        let grant = match self.of_group(tenant, &request.group) {
            Some((vgpu, of)) => {
                // It was made for another request.
                let made = Request {
                    memory: request.memory,
                    ..Request::default()
                };
                made.within(&of.profile)?;
                Grant {
                    vgpu,
                    profile: of.profile.clone(),
                    device: of.device,
                    row: of.free_row()?,
                }
            }
            None => self.new_vgpu(id, tenant, entitlement, profile, request, ahead)?,
        };
        *self.by_tenant.entry(tenant.to_owned()).or_default() += 1;
        if let Some(vgpu) = self.vgpus.get_mut(&grant.vgpu) {
            vgpu.rows.insert(grant.row);
        }
        Ok(grant)
    }

    fn new_vgpu(
        &mut self,
        id: u64,
        tenant: &str,
        entitlement: &Entitlement,
        profile: Profile,
        request: &Request,
        ahead: Ahead,
    ) -> Result<Grant, Denied> {
        let held = self.vgpus.values().filter(|it| it.tenant == tenant);
        let held = held.count();
        if let Some(limit) = entitlement.vgpus.filter(|limit| held >= *limit as usize) {
            return Err(Denied::Vgpus { limit });
        }
        let device = self.choose(tenant, &profile, request)?;
        let bytes = profile.memory.unwrap_or(0);
        if ahead.room && device.is_some() {
            return Err(Denied::NoRoom { wanted: mib(bytes) });
        }
        if let Some(device) = device {
            self.placement.reserve(device, bytes, profile.overcommit);
            let key = (tenant.to_owned(), request.function.clone());
            if self.last.len() < MAX_LAST || self.last.contains_key(&key) {
                self.last.insert(key, device);
            }
        }
        let vgpu = Vgpu {
            tenant: tenant.to_owned(),
            group: request.group.clone(),
            function: request.function.clone(),
            profile: profile.clone(),
            device,
            rows: BTreeSet::new(),
            kept: false,
        };
        self.vgpus.insert(id, vgpu);
        Ok(Grant {
            vgpu: id,
            profile,
            device,
            row: 0,
        })
    }

    /// Counts a session again that was granted this before, by another: it has its place, whatever the limits are now. `request`: its group and function.
    pub fn readmit(&mut self, tenant: &str, grant: &Grant, request: &Request) {
        *self.by_tenant.entry(tenant.to_owned()).or_default() += 1;
        let Grant {
            vgpu,
            profile,
            device,
            row,
        } = grant;
        let vgpu = self.vgpus.entry(*vgpu).or_insert_with(|| {
            if let Some(device) = *device {
                let bytes = profile.memory.unwrap_or(0);
                self.placement
                    .reserve_again(device, bytes, profile.overcommit);
            }
            Vgpu {
                tenant: tenant.to_owned(),
                group: request.group.clone(),
                function: request.function.clone(),
                profile: profile.clone(),
                device: *device,
                rows: BTreeSet::new(),
                kept: false,
            }
        });
        vgpu.rows.insert(*row);
    }

    /// A session is over. Whether its vGPU is, too.
    pub fn release(&mut self, tenant: &str, vgpu: u64, row: u32) -> bool {
        if let Some(held) = self.by_tenant.get_mut(tenant) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_tenant.remove(tenant);
            }
        }
        let Some(of) = self.vgpus.get_mut(&vgpu) else {
            return true;
        };
        of.rows.remove(&row);
        self.remove_if_over(vgpu)
    }

    /// Makes a vGPU that stays without sessions until [`Admission::let_go`]. `id`: unlike any other; sessions of `group` have it.
    pub fn keep(
        &mut self,
        id: u64,
        tenant: &str,
        entitlement: &Entitlement,
        group: &str,
        ahead: Ahead,
    ) -> Result<(), Denied> {
        let request = Request {
            group: group.to_owned(),
            ..Request::default()
        };
        let profile = entitlement.profile.clone();
        self.new_vgpu(id, tenant, entitlement, profile, &request, ahead)?;
        if let Some(vgpu) = self.vgpus.get_mut(&id) {
            vgpu.kept = true;
        }
        Ok(())
    }

    /// The vGPU is over with its last session. Whether it is now.
    pub fn let_go(&mut self, vgpu: u64) -> bool {
        if let Some(of) = self.vgpus.get_mut(&vgpu) {
            of.kept = false;
        }
        self.remove_if_over(vgpu)
    }

    fn remove_if_over(&mut self, vgpu: u64) -> bool {
        let of = self.vgpus.get(&vgpu);
        if of.is_some_and(|of| of.kept || !of.rows.is_empty()) {
            return false;
        }
        if let Some(gone) = self.vgpus.remove(&vgpu)
            && let Some(device) = gone.device
        {
            let bytes = gone.profile.memory.unwrap_or(0);
            self.placement
                .release(device, bytes, gone.profile.overcommit);
        }
        true
    }
}
