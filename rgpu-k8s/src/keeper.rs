//! Leases for devices: claimed when kubelet gives one away, renewed while a pod has it, released when none has.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::v1beta1::{ContainerAllocateResponse, Device};
use crate::api::{HEALTHY, UNHEALTHY};
use crate::choose;
use crate::config::{Config, Find, Profile, Server, is_label};
use crate::container::{self, Container};
use crate::handout::Handout;
use crate::ledger::{Key, Ledger, Listing, Rules, Task, What};
use crate::pool::{Lease, Pool, PoolError, Wish};
use crate::state::Store;

/// Longest name of a holder that servers take, in bytes.
const MAX_HOLDER: usize = 256;

/// Why a device is not given to a pod; kubelet shows it with the pod.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0} is no device of this node")]
    Unknown(Key),
    #[error(
        "a container was given {0} vGPUs, and can use one: ask for 1, or for a resource with a larger profile"
    )]
    Several(usize),
    #[error("no vGPU of profile {profile} is to be had: {why}")]
    None { profile: String, why: String },
    #[error("{0}")]
    Node(String),
}

/// The devices of this node, and what they hold.
pub struct Keeper<P> {
    node: String,
    config: Config,
    pools: HashMap<String, P>,
    handout: Handout,
    store: Store,
    ledger: Mutex<Ledger>,
    /// Whoever changes what a device holds has its lock, from before the first question to a server on.
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    well: Mutex<HashMap<String, bool>>,
    kubelet: Mutex<Instant>,
    changes: watch::Sender<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Pool> Keeper<P> {
    /// Takes up what an earlier run has left.
    ///
    /// # Errors
    /// Where the state cannot be read.
    pub fn new(
        node: String,
        config: Config,
        pool: impl Fn(&Server) -> P,
        handout: Handout,
        store: Store,
    ) -> io::Result<Keeper<P>> {
        let servers = config.servers.iter();
        let pools: HashMap<String, P> = servers
            .map(|server| (server.name.clone(), pool(server)))
            .collect();
        let entries = store.load()?.into_iter().filter(|(key, server, _)| {
            let is_known = pools.contains_key(server) && is_label(&key.device);
            if !is_known {
                tracing::warn!(device = %key, server, "forgotten: the configuration has no such server");
            }
            is_known
        });
        // Without the token, as when the machine has been started anew, a lease is of no use to its pod.
        let entries = entries.map(|(key, server, lease)| {
            let lease = lease.filter(|_| handout.has(&key));
            (key, server, lease)
        });
        let now = Instant::now();
        let ledger = Ledger::restore(entries, now);
        Ok(Keeper {
            node,
            config,
            pools,
            handout,
            store,
            ledger: Mutex::new(ledger),
            locks: Mutex::default(),
            well: Mutex::default(),
            kubelet: Mutex::new(now),
            changes: watch::Sender::new(0),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn pools(&self) -> impl Iterator<Item = (&String, &P)> {
        self.pools.iter()
    }

    /// Hears of everything that may change [`Keeper::devices`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Kubelet has just begun, or has just been found.
    pub fn kubelet_began(&self) {
        *locked(&self.kubelet) = Instant::now();
    }

    /// What is known of a server; until something is, it is not well.
    pub fn set_well(&self, server: &str, is_well: bool) {
        locked(&self.well).insert(server.to_owned(), is_well);
        self.changes.send_modify(|count| *count += 1);
    }

    fn is_well(&self, server: &str) -> bool {
        locked(&self.well).get(server).copied().unwrap_or(false)
    }

    /// The devices of a resource, each as well as the server that holds it, or would.
    pub fn devices(&self, profile: &Profile) -> Vec<Device> {
        let ledger = locked(&self.ledger);
        let devices = profile.devices.iter().map(|(device, home)| {
            let key = Key {
                resource: profile.resource.clone(),
                device: device.clone(),
            };
            let server = ledger.get(&key).map_or(home, |holding| &holding.server);
            let health = match self.is_well(server) {
                true => HEALTHY,
                false => UNHEALTHY,
            };
            Device {
                id: device.clone(),
                health: health.to_owned(),
            }
        });
        devices.collect()
    }

    /// The devices that kubelet had better take.
    pub fn preferred(
        &self,
        profile: &Profile,
        available: &[String],
        must: &[String],
        size: usize,
    ) -> Vec<String> {
        let counts = locked(&self.ledger).counts();
        let is_well = |server: &str| self.is_well(server);
        choose::preferred(profile, counts, is_well, &self.node, available, must, size)
    }

    /// Leases for the devices of one container; what the container gets.
    ///
    /// # Errors
    /// Where the pod cannot have it. Nothing is held then.
    pub async fn allocate(
        &self,
        resource: &str,
        devices: &[String],
    ) -> Result<ContainerAllocateResponse, Refusal> {
        let [device] = devices else {
            return Err(Refusal::Several(devices.len()));
        };
        let key = Key {
            resource: resource.to_owned(),
            device: device.clone(),
        };
        let profile = self.config.profile(resource);
        let Some((profile, home)) = profile.and_then(|it| Some((it, it.devices.get(device)?)))
        else {
            return Err(Refusal::Unknown(key));
        };
        let present = container::libraries(&self.config.library).map_err(Refusal::Node)?;
        let lock = self.lock(&key);
        let _guard = lock.lock().await;
        self.take_back(&key).await;
        let (server, lease) = self.claim_somewhere(&key, profile, home).await?;
        match self.hand_out(&key, server, &lease, &present) {
            Ok(answer) => {
                tracing::info!(device = %key, server = server.name, lease = lease.id, "allocated");
                Ok(answer)
            }
            Err(refusal) => {
                self.give_up(&key, &server.name, &lease).await;
                Err(refusal)
            }
        }
    }

    /// What the device's earlier pod held: that pod is gone, or kubelet would not give the device away.
    /// (An init container's device is given to its pod's next one too. Nothing of that pod runs yet, and the next token comes to the same place.)
    async fn take_back(&self, key: &Key) {
        let earlier = locked(&self.ledger).get(key).cloned();
        let earlier = earlier.and_then(|held| Some((self.pools.get(&held.server)?, held.lease?)));
        if let Some((pool, id)) = earlier
            && let Err(error) = pool.release(&id).await
        {
            tracing::warn!(device = %key, lease = id, %error, "the earlier lease is not released; it ends by itself");
        }
        if let Err(error) = self.handout.remove(key) {
            tracing::warn!(device = %key, %error, "the earlier token is there still");
        }
    }

    /// At the device's own server, or else at another that has the profile.
    async fn claim_somewhere(
        &self,
        key: &Key,
        profile: &Profile,
        home: &String,
    ) -> Result<(&Server, Lease), Refusal> {
        let mut names: Vec<&String> = profile.servers.iter().collect();
        names.sort_by_key(|name| (!self.is_well(name), *name != home));
        let (mut why, mut may_be_held) = (Vec::new(), false);
        for name in names {
            let server = self
                .config
                .servers
                .iter()
                .find(|server| server.name == *name);
            let (Some(server), Some(pool)) = (server, self.pools.get(name)) else {
                continue;
            };
            // Written down first: whatever ends this program now, what it has claimed is found again.
            self.record(|ledger| ledger.begin(key, name, Instant::now()))?;
            match self.claim_at(pool, key, &profile.name).await {
                Ok(lease) => return Ok((server, lease)),
                Err(error) => {
                    tracing::warn!(device = %key, server = *name, %error, "no lease");
                    why.push(format!("{name}: {error}"));
                    may_be_held =
                        matches!(error, PoolError::Unreachable(_) | PoolError::Strange(_));
                }
            }
        }
        // An answer that was lost may have been a lease: the device stays written down, and who reconciles looks there.
        if !may_be_held {
            self.record(|ledger| ledger.remove(key))?;
        }
        Err(Refusal::None {
            profile: profile.name.clone(),
            why: why.join("; "),
        })
    }

    /// A holder has one lease: what a crash has left there goes first.
    async fn claim_at(&self, pool: &P, key: &Key, profile: &str) -> Result<Lease, PoolError> {
        let holder = self.holder(key);
        for id in pool.held(&holder).await? {
            pool.release(&id).await?;
        }
        let wish = Wish {
            profile: profile.to_owned(),
            holder,
            ttl: self.config.ttl,
        };
        pool.claim(&wish).await
    }

    fn hand_out(
        &self,
        key: &Key,
        server: &Server,
        lease: &Lease,
        present: &[String],
    ) -> Result<ContainerAllocateResponse, Refusal> {
        let address = server.address.as_ref().or(lease.address.as_ref());
        let address = address.ok_or_else(|| {
            Refusal::Node(format!(
                "neither the configuration nor the lease says where clients find server {}: give its [[server]] an address",
                server.name
            ))
        })?;
        let failed =
            |error: io::Error| Refusal::Node(format!("the token cannot be handed out: {error}"));
        let folder = self.handout.put(key, &lease.token).map_err(failed)?;
        let preload = match self.config.find.contains(&Find::Preload) {
            true => {
                let libraries = container::preloaded(present);
                Some(self.handout.preload(&libraries).map_err(failed)?)
            }
            false => None,
        };
        self.record(|ledger| ledger.claimed(key, &lease.id, Instant::now()))?;
        let container = Container {
            library: &self.config.library,
            present,
            find: &self.config.find,
            preload,
            address,
            lease: &folder,
            group: &self.group(key),
        };
        Ok(container.answer())
    }

    async fn give_up(&self, key: &Key, server: &str, lease: &Lease) {
        if let Some(pool) = self.pools.get(server)
            && let Err(error) = pool.release(&lease.id).await
        {
            tracing::warn!(device = %key, lease = lease.id, %error, "not released; it ends by itself");
        }
        let _ = self.handout.remove(key);
        let _ = self.record(|ledger| ledger.remove(key));
    }

    /// Does what is to be done, now that pods have these devices; `None`: kubelet does not say.
    pub async fn reconcile(self: &Arc<Self>, listed: Option<&Listing>) {
        let rules = Rules {
            ttl: self.config.ttl,
            grace: self.config.grace,
            gone: self.config.poll.min(self.config.grace),
        };
        let kubelet = *locked(&self.kubelet);
        let home = |key: &Key| {
            let profile = self.config.profile(&key.resource)?;
            profile.devices.get(&key.device).cloned()
        };
        let tasks = locked(&self.ledger).plan(Instant::now(), listed, kubelet, &rules, home);
        let mut by_server: HashMap<String, Vec<Task>> = HashMap::new();
        for task in tasks {
            by_server.entry(task.server.clone()).or_default().push(task);
        }
        let mut all = JoinSet::new();
        for tasks in by_server.into_values() {
            let keeper = self.clone();
            all.spawn(async move { keeper.perform_all(tasks).await });
        }
        all.join_all().await;
    }

    /// One server's tasks, as long as it answers.
    async fn perform_all(&self, tasks: Vec<Task>) {
        for task in tasks {
            let Err(error) = self.perform(&task).await else {
                continue;
            };
            tracing::warn!(device = %task.key, server = task.server, what = ?task.what, %error, "to be tried again");
            let lapsed =
                locked(&self.ledger).has_lapsed(&task.key, Instant::now(), self.config.ttl);
            if lapsed && task.what == What::Release {
                // The server has ended it by itself.
                let _ = self.record(|ledger| ledger.remove(&task.key));
            }
            if matches!(error, PoolError::Unreachable(_)) {
                return;
            }
        }
    }

    async fn perform(&self, task: &Task) -> Result<(), PoolError> {
        let (key, lock) = (&task.key, self.lock(&task.key));
        // Who has it is allocating the device anew.
        let Ok(_guard) = lock.try_lock() else {
            return Ok(());
        };
        let turn = locked(&self.ledger).get(key).map(|held| held.turn);
        let (true, Some(pool)) = (turn == Some(task.turn), self.pools.get(&task.server)) else {
            return Ok(());
        };
        match &task.what {
            What::Renew(id) => match pool.renew(id, self.config.ttl).await {
                Ok(()) => {
                    locked(&self.ledger).renewed(key, Instant::now());
                    Ok(())
                }
                Err(PoolError::Gone) => {
                    tracing::warn!(device = %key, lease = id, "the server does not know the lease any more");
                    self.noted(|ledger| ledger.lost(key))
                }
                Err(error) => Err(error),
            },
            What::Claim => self.claim_again(pool, key).await,
            What::Release => self.release(pool, key).await,
        }
    }

    /// For a pod that lives, at the server that it knows.
    async fn claim_again(&self, pool: &P, key: &Key) -> Result<(), PoolError> {
        let Some(profile) = self.config.profile(&key.resource) else {
            return Ok(());
        };
        let lease = self.claim_at(pool, key, &profile.name).await?;
        if let Err(error) = self.handout.put(key, &lease.token) {
            pool.release(&lease.id).await?;
            return Err(PoolError::Refused(format!(
                "the token cannot be handed out: {error}"
            )));
        }
        tracing::info!(device = %key, lease = lease.id, "claimed again");
        self.noted(|ledger| ledger.claimed(key, &lease.id, Instant::now()))
    }

    async fn release(&self, pool: &P, key: &Key) -> Result<(), PoolError> {
        // First what the pod has left on this node: the server may be away.
        if let Err(error) = self.handout.remove(key) {
            tracing::warn!(device = %key, %error, "the token is there still");
        }
        let held = locked(&self.ledger).get(key).cloned();
        if let Some(id) = held.as_ref().and_then(|held| held.lease.as_ref()) {
            pool.release(id).await?;
        } else {
            for id in pool.held(&self.holder(key)).await? {
                pool.release(&id).await?;
            }
        }
        let pod = held.and_then(|held| held.pod);
        tracing::info!(device = %key, pod = pod.as_deref().unwrap_or("never seen"), "released");
        self.noted(|ledger| ledger.remove(key))
    }

    fn record(&self, change: impl FnOnce(&mut Ledger)) -> Result<(), Refusal> {
        let mut ledger = locked(&self.ledger);
        change(&mut ledger);
        let saved = self.store.save(&ledger);
        drop(ledger);
        self.changes.send_modify(|count| *count += 1);
        saved.map_err(|error| Refusal::Node(format!("the state cannot be written: {error}")))
    }

    /// The same behind a server's back: it has done its part, and the state is written with the next change at the latest.
    fn noted(&self, change: impl FnOnce(&mut Ledger)) -> Result<(), PoolError> {
        if let Err(error) = self.record(change) {
            tracing::error!(%error, "leases may not be found again after a restart");
        }
        Ok(())
    }

    fn lock(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        locked(&self.locks).entry(key.clone()).or_default().clone()
    }

    /// Who holds a device's lease, in the server's books.
    fn holder(&self, key: &Key) -> String {
        let holder = format!("k8s/{}/{key}", self.node);
        match holder.len() <= MAX_HOLDER {
            true => holder,
            false => format!("k8s/{}", blake3::hash(holder.as_bytes())),
        }
    }

    /// The same for every lease of a device: a pod's variables stay as they are.
    fn group(&self, key: &Key) -> String {
        let hash = blake3::hash(self.holder(key).as_bytes());
        format!("k8s-{}", &hash.to_hex()[..16])
    }

    /// Whether the client library is there, for the log at the start.
    pub fn library(&self) -> Result<&Path, String> {
        container::libraries(&self.config.library).map(|_| self.config.library.as_path())
    }

    /// How often it is reconciled.
    pub fn poll(&self) -> Duration {
        self.config.poll
    }
}
