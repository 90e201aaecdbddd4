//! The plugin's life: taking up what was left, offering every resource, reconciling, and a quiet end that leaves pods their leases.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Server};
use crate::handout::Handout;
use crate::health::{self, random, spread, stopped};
use crate::keeper::Keeper;
use crate::kubelet::{Offer, Watch};
use crate::pods::Pods;
use crate::pool::Pool;
use crate::state::Store;

/// Where things are on the node.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name: part of who holds a lease.
    pub node: String,
    /// The folder with kubelet's socket for plugins.
    pub device_plugins: PathBuf,
    /// Kubelet's socket that tells which pods have which devices.
    pub pod_resources: PathBuf,
    /// What must outlast the plugin.
    pub state: PathBuf,
    /// What pods get as files.
    pub handout: PathBuf,
}

/// Between looks whether an earlier plugin has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop` says so. `ready` is called when every server has been asked once and the resources begin to be offered.
///
/// # Errors
/// Where the node's folders cannot be used.
pub async fn serve<P: Pool>(
    config: Config,
    options: Options,
    pool: impl Fn(&Server) -> P,
    mut stop: watch::Receiver<bool>,
    ready: impl FnOnce() -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let store = Store::open(&options.state)
        .with_context(|| format!("--state {}", options.state.display()))?;
    let Some(_alone) = alone(&options.state, &mut stop).await? else {
        return Ok(());
    };
    let handout = Handout::open(&options.handout)
        .with_context(|| format!("--handout {}", options.handout.display()))?;
    let keeper = Keeper::new(options.node, config, pool, handout, store)
        .with_context(|| format!("--state {}", options.state.display()))?;
    let keeper = Arc::new(keeper);
    if let Err(error) = keeper.library() {
        tracing::warn!("{error}; until then no pod gets a device");
    }
    let watch = Watch::over(&options.device_plugins)
        .with_context(|| format!("--device-plugins {}", options.device_plugins.display()))?;
    let pods = Pods::at(&options.pod_resources)
        .with_context(|| format!("--pod-resources {}", options.pod_resources.display()))?;
    health::first(&keeper).await;
    let mut all = JoinSet::new();
    for (name, _) in keeper.pools() {
        all.spawn(health::watch(keeper.clone(), name.clone(), stop.clone()));
    }
    all.spawn(reconcile(keeper.clone(), pods, stop.clone()));
    for profile in &keeper.config().profiles {
        let offer = Offer {
            keeper: keeper.clone(),
            resource: profile.resource.clone(),
            folder: options.device_plugins.clone(),
            pokes: watch.pokes.clone(),
            stop: stop.clone(),
        };
        all.spawn(offer.run());
    }
    ready()?;
    all.join_all().await;
    tracing::info!("ended; leases of running pods stay");
    Ok(())
}

/// The lock of a state folder: two plugins with one state would take each other's leases away. Waits until an earlier plugin has ended.
async fn alone(folder: &Path, stop: &mut watch::Receiver<bool>) -> anyhow::Result<Option<File>> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let mut is_told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        if !is_told {
            tracing::info!(lock = %path.display(), "another plugin is running with this state; waiting for its end");
            is_told = true;
        }
        if tokio::time::timeout(LOCK_PAUSE, stopped(stop))
            .await
            .is_ok()
        {
            return Ok(None);
        }
    }
}

/// Holds what the servers have granted against what kubelet lists, again and again.
async fn reconcile<P: Pool>(keeper: Arc<Keeper<P>>, pods: Pods, mut stop: watch::Receiver<bool>) {
    let mut was_told = false;
    loop {
        let listed = match pods.list(keeper.config()).await {
            Ok(listed) => {
                was_told = false;
                Some(listed)
            }
            Err(status) => {
                if !was_told {
                    tracing::warn!(
                        error = status.message(),
                        "kubelet does not say which pods have devices; nothing is released meanwhile"
                    );
                    was_told = true;
                }
                None
            }
        };
        keeper.reconcile(listed.as_ref()).await;
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(spread(keeper.poll(), random())) => {}
        }
    }
}
