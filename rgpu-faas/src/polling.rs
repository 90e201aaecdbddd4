//! Stores that send no notifications are asked what is new. One listing of a folder serves all functions that read it.

use crate::event::{self, Event, Input, Object, Trigger};
use crate::function::{Channel, Function};
use crate::journal::Polled;
use crate::service::{Service, ServiceError};
use crate::stores;
use crate::time::Timestamp;
use rgpu_faas_storage::{Entry, Folder, Found, PollOptions, Poller, Problem, Seen, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A watch that ended, since its store cannot be opened or the journal not be written, begins again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Pages that are on their way to the journal.
const PAGES: usize = 2;

/// A folder of a store, for one owner's functions: others may not be allowed to know what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The provider's.
    address: String,
    /// `bucket/folder`.
    path: String,
    owner: String,
}

impl Place {
    /// Under which address the journal has it.
    fn kept_as(&self) -> String {
        match self.owner.is_empty() {
            true => self.address.clone(),
            false => format!("{} for {}", self.address, self.owner),
        }
    }
}

/// Who is told of a folder's objects.
#[derive(Clone, Debug, PartialEq)]
struct Watch {
    interval: Duration,
    /// Functions, with what they want of it: one that wants something else has seen nothing.
    members: BTreeMap<String, String>,
    /// The function whose definition of the provider is used, what it calls that, and what tells of changes in it.
    by: Arc<Function>,
    provider: String,
    mark: Option<blake3::Hash>,
}

impl Watch {
    /// The same listing for the same functions.
    fn is(&self, other: &Watch) -> bool {
        (self.interval, &self.members, &self.provider, self.mark)
            == (other.interval, &other.members, &other.provider, other.mark)
    }
}

/// Keeps a watch on each folder that is to be polled, until told to stop.
pub async fn run(service: Arc<Service>, mut stopping: watch::Receiver<bool>) {
    let mut changes = service.changed.subscribe();
    let mut running: BTreeMap<Place, (Watch, JoinHandle<()>)> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let mut wanted = wanted(&service);
        running.retain(|place, (watch, task)| {
            let stays = wanted.get(place).is_some_and(|new| new.is(watch)) && !task.is_finished();
            match stays {
                true => drop(wanted.remove(place)),
                false => task.abort(),
            }
            stays
        });
        for (place, watch) in wanted {
            let task = tokio::spawn(follow(service.clone(), place.clone(), watch.clone()));
            running.insert(place, (watch, task));
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(AGAIN) => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    for (_, task) in running.values() {
        task.abort();
    }
}

/// What a function wants of a folder, as text.
fn wish(channel: &Channel) -> String {
    let text = format!("{:?} {:?}", channel.prefix, channel.suffix);
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

fn wanted(service: &Service) -> BTreeMap<Place, Watch> {
    let mut wanted: BTreeMap<Place, Watch> = BTreeMap::new();
    for entry in service.registry.all() {
        let function = entry.function;
        for channel in &function.input {
            let provider = &channel.storage_provider;
            let address = service.stores.address(&function, provider);
            let (Some(interval), Some(address)) = (channel.poll, address) else {
                continue;
            };
            let watch = wanted
                .entry(Place {
                    address,
                    path: channel.path.clone(),
                    owner: entry.owner.clone(),
                })
                .or_insert_with(|| Watch {
                    interval,
                    members: BTreeMap::new(),
                    by: function.clone(),
                    provider: provider.clone(),
                    mark: service.stores.mark(&function, provider),
                });
            watch.interval = watch.interval.min(interval);
            let wishes = watch.members.entry(function.name.clone()).or_default();
            wishes.push_str(&wish(channel));
        }
    }
    wanted
}

/// Watches one folder.
async fn follow(service: Arc<Service>, place: Place, watch: Watch) {
    if let Err(error) = try_to_follow(&service, &place, &watch).await {
        tracing::warn!(provider = %watch.provider, path = %place.path, "not polled for now: {error}");
    }
}

async fn try_to_follow(service: &Arc<Service>, place: &Place, watch: &Watch) -> Result<(), String> {
    let (address, path) = (place.kept_as(), &place.path);
    let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
    let folder = Folder::parse(folder).map_err(|error| error.to_string())?;
    let opened = service.stores.open(&watch.by, &watch.provider, bucket)?;
    let store = &opened.store;
    let text = |error: ServiceError| error.to_string();
    let kept = service.journal.polled(&address, path);
    let kept = kept.map_err(|error| error.to_string())?;
    let everyone: Vec<String> = watch.members.keys().cloned().collect();
    let members: Vec<String> = watch
        .members
        .iter()
        .map(|(name, wish)| format!("{name} {wish}"))
        .collect();
    let mut seen = Seen::nothing();
    if let Some(kept) = kept {
        let is_new =
            |(name, wish): &(&String, &String)| !kept.members.contains(&format!("{name} {wish}"));
        let new = watch.members.iter().filter(is_new);
        let new: Vec<String> = new.map(|(name, _)| name.clone()).collect();
        if !new.is_empty() {
            // They are told of all that is there; the others go on where they were.
            let listing = Listing::new(store, &folder, watch.interval, Seen::nothing());
            listing
                .run(service, &opened, place, &new, |_| Ok(false))
                .await?;
        }
        seen = kept.seen;
    }
    // Most passes find nothing, and nothing is written then.
    let last = Mutex::new(None);
    let keep = |seen: Seen| {
        let mut last = last.lock().unwrap_or_else(|e| e.into_inner());
        if last.as_ref() == Some(&seen) {
            return Ok(true);
        }
        *last = Some(seen.clone());
        let polled = Polled {
            seen,
            members: members.clone(),
        };
        service
            .journal
            .keep_polled(&address, path, &polled)
            .map_err(|error| text(error.into()))?;
        Ok(true)
    };
    let listing = Listing::new(store, &folder, watch.interval, seen);
    listing.run(service, &opened, place, &everyone, keep).await
}

struct Listing {
    poller: Poller,
}

impl Listing {
    fn new(store: &Store, folder: &Folder, interval: Duration, seen: Seen) -> Listing {
        let options = PollOptions {
            interval,
            ..PollOptions::default()
        };
        Listing {
            poller: Poller::new(store.clone(), folder.clone(), options, seen),
        }
    }

    /// Tells `functions` of what is new, for as long as `keep` says after each pass.
    async fn run(
        self,
        service: &Arc<Service>,
        opened: &stores::Opened,
        place: &Place,
        functions: &[String],
        keep: impl Fn(Seen) -> Result<bool, String>,
    ) -> Result<(), String> {
        let (tell, mut told) = mpsc::channel(PAGES);
        let mut polling = tokio::task::JoinSet::new();
        polling.spawn(self.poller.run(tell));
        let mut unusable_before = 0;
        while let Some(found) = told.recv().await {
            match found {
                Found::New(entries) => {
                    let (service, place) = (service.clone(), place.clone());
                    let functions = functions.to_vec();
                    let submit = move || submit(&service, &place, &functions, &entries);
                    let done = tokio::task::spawn_blocking(submit).await;
                    done.map_err(|error| error.to_string())?
                        .map_err(|error| error.to_string())?;
                }
                Found::Pass {
                    seen,
                    unusable,
                    example,
                    ..
                } => {
                    if unusable != unusable_before {
                        let example = example.unwrap_or_default();
                        tracing::warn!(path = %place.path, unusable, "names that cannot be used are passed over: {example}");
                        unusable_before = unusable;
                    }
                    if !keep(seen)? {
                        return Ok(());
                    }
                }
                Found::Trouble { error, again } => {
                    if matches!(error.problem, Problem::Denied { .. }) {
                        // Credentials that are replaced are found when it is opened again.
                        service.stores.is_stale(opened, &error);
                        return Err(error.to_string());
                    }
                    tracing::warn!(path = %place.path, ?again, "cannot be polled: {error}");
                }
            }
        }
        Ok(())
    }
}

/// Makes jobs of what was found.
fn submit(
    service: &Service,
    place: &Place,
    functions: &[String],
    entries: &[Entry],
) -> Result<(), ServiceError> {
    let Place { address, path, .. } = place;
    let bucket = path.split('/').next().unwrap_or_default();
    for name in functions {
        let Some(entry) = service.registry.get(name) else {
            continue;
        };
        let function = &entry.function;
        for found in entries {
            let key = format!("{bucket}/{}", found.key);
            let wants = |channel: &&Channel| {
                channel.path == *path
                    && service
                        .stores
                        .address(function, &channel.storage_provider)
                        .as_ref()
                        == Some(address)
                    && event::matches(channel, Path::new(&key))
            };
            let Some(channel) = function.input.iter().find(wants) else {
                continue;
            };
            let object = Object {
                provider: channel.storage_provider.clone(),
                address: address.clone(),
                key,
                etag: found.meta.etag.clone().filter(|etag| !etag.is_empty()),
                size: Some(found.meta.size),
                modified: Some(found.meta.modified),
            };
            let time = match found.meta.modified {
                // It does not say.
                0 => Timestamp::now(),
                millis => Timestamp(millis.saturating_mul(1000)),
            };
            let event = Event {
                input: Input::Object(object),
                time,
                // It is the object's.
                ..Event::new(Trigger::Poll, "")
            };
            match service.submit(name, event) {
                Ok(_) | Err(ServiceError::NoSuchFunction(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
