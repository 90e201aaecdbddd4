//! Warm functions: instances that have imported and loaded what they need, and take one job after another.
//!
//! `choice` decides which instances there are and who gets them, and `protocol` is what is said to them; both are pure. `supervise` is the
//! process beside each instance, `instance` follows it from the runner, `pool` puts choice and instances together, and a job is taken
//! through one by `runner::warm`.

pub mod choice;
mod instance;
mod pool;
pub mod protocol;
pub mod supervise;

use crate::config::Config;
use crate::registry::Entry;
use crate::runner::engine::Engines;
use crate::runner::gpu::Devices;
pub(crate) use instance::{Answer, folder_left, sweep};
pub(crate) use pool::{Lease, Place};
use pool::{Means, Pool, Stamp};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long instances may take to end with the runner.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A job's right to an instance.
#[derive(Clone)]
pub struct Claim {
    pool: Arc<Pool>,
    /// How many more of its owner's jobs were in the queue.
    backlog: usize,
}

impl Claim {
    pub(crate) fn arrive(&self, owner: &str) -> Place {
        Place::take(&self.pool, owner, self.backlog)
    }
}

/// The pools of all warm functions.
pub struct Warm {
    means: Means,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    /// Where instances are followed. Nothing is started before the runner has seen to what an earlier one left, and nothing when
    /// it stops.
    runtime: Option<Handle>,
    current: HashMap<String, Arc<Pool>>,
    /// Of earlier versions, as long as they have something to do.
    earlier: Vec<Arc<Pool>>,
}

impl Pools {
    fn retire(&mut self, function: &str) {
        self.earlier.retain(|pool| !pool.is_over());
        if let Some(pool) = self.current.remove(function) {
            pool.drain();
            self.earlier.push(pool);
        }
    }
}

impl Warm {
    pub fn new(config: Arc<Config>, devices: Arc<Devices>, engines: Arc<Engines>) -> Warm {
        Warm {
            means: Means {
                config,
                devices,
                engines,
            },
            pools: Mutex::default(),
        }
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// From now on instances are started. To be called where tasks are run.
    pub fn open(&self, entries: &[Entry]) {
        self.pools().runtime = Some(Handle::current());
        for entry in entries {
            self.follow(entry);
        }
    }

    /// The pool of a function as it is now, if it is kept warm; that of another version ends by and by.
    fn follow(&self, entry: &Entry) -> Option<Arc<Pool>> {
        let (function, name) = (&entry.function, &entry.function.name);
        let mut pools = self.pools();
        let runtime = pools.runtime.clone()?;
        let stamp = Stamp::of(function);
        if let Some(pool) = pools.current.get(name) {
            if pool.is_of(function, &entry.owner, &stamp) {
                return Some(pool.clone());
            }
            pools.retire(name);
        }
        let warm = function.warm.as_ref()?;
        let pool = Pool::start(runtime, self.means.clone(), entry, warm, stamp);
        pools.current.insert(name.clone(), pool.clone());
        Some(pool)
    }

    /// A function has been registered.
    pub fn registered(&self, entry: &Entry) {
        self.follow(entry);
    }

    /// A function is no more.
    pub fn removed(&self, function: &str) {
        self.pools().retire(function);
    }

    /// What a job of this function needs to get an instance. `backlog`: how many more are in the queue.
    pub fn claim(&self, entry: &Entry, backlog: usize) -> Option<Claim> {
        let pool = self.follow(entry)?;
        Some(Claim { pool, backlog })
    }

    /// The instances of a function, those of earlier versions too; None if it is not kept warm.
    pub fn describe(&self, entry: &Entry) -> Option<Value> {
        entry.function.warm.as_ref()?;
        let pools = self.pools();
        let name = &entry.function.name;
        let earlier = pools
            .earlier
            .iter()
            .filter(|pool| pool.function().name == *name);
        let all = earlier.chain(pools.current.get(name));
        Some(all.flat_map(|pool| pool.describe()).collect())
    }

    /// Ends all instances, in order, and waits for that. To be called when no job runs any more.
    pub async fn stop(&self) {
        let all = {
            let mut pools = self.pools();
            pools.runtime = None;
            let names: Vec<String> = pools.current.keys().cloned().collect();
            for name in names {
                pools.retire(&name);
            }
            pools.earlier.clone()
        };
        let ended = async {
            for pool in all {
                pool.over().await;
            }
        };
        if tokio::time::timeout(END_PATIENCE, ended).await.is_err() {
            tracing::warn!(
                "instances of warm functions have not ended in time; they end with this process"
            );
        }
    }
}
