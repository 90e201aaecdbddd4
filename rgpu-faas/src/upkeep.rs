//! What stores need now and then: buckets and folders for functions that were registered, and the removal of what killed processes left.

use crate::function::Function;
use crate::service::Service;
use crate::stores;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SWEEP_EVERY: Duration = Duration::from_secs(86_400);
/// No transfer takes so long.
const OLD: Duration = Duration::from_secs(86_400);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A folder of a store: the provider's address and its definition's mark, and the path.
type Place = (String, Option<[u8; 32]>, String);

/// A task for each folder that functions name, until told to stop.
pub async fn run(service: Arc<Service>, mut stopping: watch::Receiver<bool>) {
    let mut changes = service.changed.subscribe();
    let mut keeping: BTreeMap<Place, JoinHandle<()>> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let mut wanted = wanted(&service);
        keeping.retain(|place, task| {
            let stays = wanted.remove(place).is_some();
            if !stays {
                task.abort();
            }
            stays
        });
        for (place, (function, provider)) in wanted {
            let path = place.2.clone();
            let task = tokio::spawn(keep(service.clone(), function, provider, path));
            keeping.insert(place, task);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    for task in keeping.values() {
        task.abort();
    }
}

fn wanted(service: &Service) -> BTreeMap<Place, (Arc<Function>, String)> {
    let mut wanted = BTreeMap::new();
    for entry in service.registry.all() {
        let function = entry.function;
        for channel in function.input.iter().chain(&function.output) {
            let provider = &channel.storage_provider;
            let Some(address) = service.stores.address(&function, provider) else {
                continue;
            };
            let mark = service.stores.mark(&function, provider);
            let place = (address, mark.map(|it| *it.as_bytes()), channel.path.clone());
            wanted
                .entry(place)
                .or_insert((function.clone(), provider.clone()));
        }
    }
    wanted
}

/// Makes a folder, tries until that is done, and sweeps it each day.
async fn keep(service: Arc<Service>, function: Arc<Function>, provider: String, path: String) {
    let mut wait = FIRST_WAIT;
    let mut is_made = false;
    loop {
        match once(&service, &function, (&provider, &path), is_made).await {
            Ok(swept) => {
                if swept > 0 {
                    tracing::info!(%provider, %path, swept, "removed what publications left that never ended");
                }
                is_made = true;
                wait = FIRST_WAIT;
                tokio::time::sleep(SWEEP_EVERY).await;
            }
            Err(why) => {
                tracing::warn!(function = %function.name, ?wait, "{path}: cannot be prepared, or swept: {why}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

async fn once(
    service: &Service,
    function: &Function,
    (provider, path): (&str, &str),
    is_made: bool,
) -> Result<u64, String> {
    let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
    let folder = rgpu_faas_storage::Folder::parse(folder).map_err(|error| error.to_string())?;
    loop {
        let opened = service.stores.open(function, provider, bucket)?;
        let made = match is_made {
            true => Ok(()),
            false => opened.store.prepare(&folder).await,
        };
        let done = match made {
            Ok(()) => opened.store.sweep(&folder, OLD).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(swept) => return Ok(swept),
            Err(error) if service.stores.is_stale(&opened, &error) => {}
            // What cannot be swept in a store that has no such thing is nothing to come back to.
            Err(error) if is_made && !stores::may_recover(&error.problem) => {
                tracing::debug!(%error, "not swept");
                return Ok(0);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
